"""The one table of kinds of cached directories is the only place that names them."""

import ast
from pathlib import Path

import pytest

import hf_hardneg
from hf_hardneg.errors import UnknownNameError
from hf_hardneg.store import directories, kinds

PACKAGE = Path(hf_hardneg.__file__).parent
TAKES_A_KIND = {"obtain": 1, "place": 1, "exists": 1, "publish": 1, "of_corpus": 1, "_stored": 0, "Manifest": None}
"""Functions of the store and those that hand on to it, and which of their arguments is a kind."""


def literals_of(tree):
    """The literal kinds of a module: given to the store, compared with a kind, or begun as a name of a directory."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            place = TAKES_A_KIND.get(name)
            asked = [word.value for word in node.keywords if word.arg == "kind" and name in TAKES_A_KIND]
            asked += [] if place is None else node.args[place : place + 1]
            yield from (value.value for value in asked if isinstance(value, ast.Constant) and value.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            kind, dash, rest = node.value.strip().partition("-")
            if dash and kind.removeprefix(".") in kinds.KINDS and (rest == "" or rest[0] in "*{[0123456789"):
                yield node.value


def test_no_literal_kind_stands_elsewhere():
    found = {
        str(path.relative_to(PACKAGE)): list(literals_of(ast.parse(path.read_text()))) for path in PACKAGE.rglob("*.py")
    }
    assert {path: literals for path, literals in found.items() if literals} == {}


@pytest.mark.parametrize(
    "code",
    [
        'directories.obtain(root, "bm25", {}, build)',
        'Manifest(kind="scores", parameters={}, files={})',
        'folder.glob("encoder-*")',
        'root / f"vectors-{digest}"',
        'self._stored("candidates", origin, rows, search)',
    ],
)
def test_a_literal_kind_would_be_seen(code):
    assert list(literals_of(ast.parse(code)))


@pytest.mark.parametrize(
    "kind", ["bm25", "thing", None, kinds.Kind(name="bm25", holds="", depends_on="", renewed_by=())]
)
def test_the_store_takes_no_kind_that_is_not_in_the_table(kind, tmp_path):
    for ask in (directories.place, directories.exists):
        with pytest.raises(UnknownNameError):
            ask(tmp_path, kind, {})
    with pytest.raises(UnknownNameError):
        directories.obtain(tmp_path / "cache", kind, {}, lambda directory: None)
    assert not (tmp_path / "cache").exists()


def test_the_table_is_in_words():
    changes = {change for kind in kinds.KINDS.values() for change in (*kind.renewed_by, *kind.extended_by)}
    assert changes <= set(kinds.CHANGES)
    for name, kind in kinds.KINDS.items():
        assert str(kind) == name and name.isalnum() and name == name.lower()
        assert kind.holds and kind.depends_on and not set(kind.renewed_by) & set(kind.extended_by)


def test_what_is_there_is_told_without_building(tmp_path):
    assert not directories.exists(tmp_path / "cache", kinds.BM25, {"a": 1})
    assert not (tmp_path / "cache").exists()
    directories.obtain(tmp_path, kinds.BM25, {"a": 1}, lambda path: (path / "x").write_text("x"))
    assert directories.exists(tmp_path, kinds.BM25, {"a": 1})
    assert not directories.exists(tmp_path, kinds.BM25, {"a": 2})
    assert not directories.exists(tmp_path, kinds.DENSE, {"a": 1})
