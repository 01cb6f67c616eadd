"""The README's Python blocks run as written, in order."""

import re
from pathlib import Path

import pytest

from hf_hardneg.errors import HardNegWarning
from hf_hardneg.formats import layouts
from hf_hardneg.strategies import table

pytestmark = pytest.mark.slow

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_blocks_run(capsys):
    names = {}
    with pytest.warns(HardNegWarning, match="rows are left out of the layout"):
        for block in BLOCKS:
            exec(block, names)
    shown = capsys.readouterr().out
    assert "negatives" in shown and "retrieved" in shown
    assert len(names["mined"]) > 1000
    assert names["triplets"].column_names == ["query", "positive", "negative"]


def test_the_first_screen_is_short():
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) <= 12 and README.index("```python") < 600


def test_the_table_of_strategies_is_the_generated_one():
    """Where it is not: `python -c 'from hf_hardneg.strategies import table; print(table())'`, and paste."""
    section = README.split("## Strategies")[1].split("##")[0]
    assert "\n".join(line for line in section.splitlines() if line.startswith("|")) == table()


def test_the_table_of_layouts_is_the_generated_one():
    """Where it is not: `python -c 'from hf_hardneg.formats.layouts import table; print(table())'`, and paste."""
    section = README.split("## To a trainer")[1].split("##")[0]
    assert "\n".join(line for line in section.splitlines() if line.startswith("|")) == layouts.table()
    assert "`list`" in section
