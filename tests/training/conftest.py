import pytest
from accelerate.state import AcceleratorState, GradientState


@pytest.fixture(autouse=True)
def own_accelerate():
    """Accelerate knows one launch for each process; a test leaves none behind for those that fork their own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
