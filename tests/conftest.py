import pytest

from tests.hub import LISTENER  # first: it names the tests' own Hub before anything reads its address

# isort: split
from datasets import Dataset, disable_progress_bars
from hypothesis import settings

from tests.hub.server import serving

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_ignore_collect(collection_path, config):
    """Leave out of `make test-fast` the files that are slow as a whole: to import all of them takes half its time."""
    if config.option.markexpr == "not slow" and collection_path.suffix == ".py":
        return "\npytestmark = pytest.mark.slow\n" in collection_path.read_text() or None


def pytest_itemcollected(item):
    """Refuse a test that each process calls otherwise: several processes could not share the tests out."""
    if " at 0x" in item.nodeid:
        raise pytest.UsageError(f"{item.nodeid} has an address in its name. Give its parameters ids=.")


@pytest.fixture(autouse=True, scope="session")
def quiet():
    disable_progress_bars()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Every test has its own datasets cache, so nothing is reused by accident."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="session")
def running():
    """The Hub of the tests."""
    with serving(LISTENER) as hub:
        yield hub


@pytest.fixture
def dataset():
    return Dataset.from_dict
