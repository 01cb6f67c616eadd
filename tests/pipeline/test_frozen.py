import json
from pathlib import Path

import pytest

from tests.pipeline.frozen import WORLDS, digest
from tests.worlds import SMALL

FROZEN = json.loads(Path(__file__).with_name("frozen.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("size", WORLDS)
@pytest.mark.parametrize("strategy", SMALL)
def test_rows_are_those_that_were_mined_before(size, strategy, tmp_path):
    assert digest(size, strategy, tmp_path) == FROZEN[f"{size}: {strategy}"]
