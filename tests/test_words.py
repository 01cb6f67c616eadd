"""The word list: what a name must not be, and what a docstring must not say, room by room."""

import ast
import re
from pathlib import Path

import pytest

import hf_hardneg
from tests.test_imports import ROOMS

PACKAGE = Path(hf_hardneg.__file__).parent
VAGUE = {"one", "made", "given", "there", "own", "found", "dear"}
"""Words that say nothing of a thing when they stand alone as its name."""

UNCLEAR = re.compile(r"\b(those of|what of|such a one|dear)\b|^(Back|The same)[.;]", re.IGNORECASE)
"""What a docstring must not say: words without a noun, and sentences without a verb."""


def names_of(node):
    """The identifiers that a node of a syntax tree binds or reads."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=asname):
            yield from (name, asname)


def vague_names(tree):
    return [(node.lineno, name) for node in ast.walk(tree) for name in names_of(node) if name in VAGUE]


def unclear_docstrings(tree):
    """Line and words of every string that stands alone, as docstrings of modules, functions and values do."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for match in UNCLEAR.finditer(" ".join(node.value.value.split())):
                yield node.lineno, match[0]


def files_of(room):
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("room", [*ROOMS, "__init__"])
def test_names_and_docstrings_keep_the_word_list(room):
    files = files_of(room)
    assert files
    for file in files:
        tree = ast.parse(file.read_text())
        assert [*vague_names(tree), *unclear_docstrings(tree)] == [], file.relative_to(PACKAGE)


def test_the_word_list_finds_what_it_is_for():
    tree = ast.parse('def one(given: int, *, own=1):\n    """Those\n    of a batch."""\n    found.made = there\n')
    assert {name for _, name in vague_names(tree)} == VAGUE - {"dear"}
    assert [words for _, words in unclear_docstrings(tree)] == ["Those of"]
    clear = ast.parse('def hits(query_ids):\n    """Return the hits of each query."""\n    one_hit = query_ids[0]\n')
    assert not vague_names(clear) and not list(unclear_docstrings(clear))
