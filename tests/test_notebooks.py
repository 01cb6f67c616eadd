"""The notebooks run from a new kernel; their committed outputs are whole and tell nothing of a machine."""

import re
from pathlib import Path

import nbformat
import pytest

from notebooks.run import METADATA, executed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PRIVATE = re.compile(r"/home/|/root|/tmp|/work/|/Users/|site-packages|127\.0\.0\.1|hf_secret|Warning")


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """What kinds of output a cell has: a stale one shows in them."""
    return [(output.output_type, output.get("name"), sorted(output.get("data", ()))) for output in cell.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_what_is_committed(path):
    committed, fresh = nbformat.read(path, as_version=4), executed(path)
    assert [kinds(cell) for cell in code(fresh)] == [kinds(cell) for cell in code(committed)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed_and_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA and not any(cell.metadata for cell in notebook.cells)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert any({"image/png", "image/svg+xml"} & set(output.get("data", ())) for output in outputs)
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    shown = nbformat.writes(notebook)
    assert not PRIVATE.search(re.sub(r'"image/png": "[^"]*"', "", shown))


def test_the_readme_lists_them():
    readme = (ROOT / "README.md").read_text()
    assert all(f"(notebooks/{path.name})" in readme for path in NOTEBOOKS)
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02d}_" for number in range(1, len(NOTEBOOKS) + 1)]
