"""The shape of the house: sizes of functions, and names that stand for one thing."""

import ast
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

import hf_hardneg

PACKAGE = Path(hf_hardneg.__file__).parent
FILES = {str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
DEFINED = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(node, text):
    """The numbers of the lines of code in a node: none that are blank, comments or docstrings."""
    strings = [each for each in ast.walk(node) if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)]
    documented = {line for each in strings for line in range(each.lineno, each.end_lineno + 1)}
    lines = enumerate(text.split("\n")[node.lineno - 1 : node.end_lineno], node.lineno)
    written = [number for number, line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [number for number in written if number not in documented]


def defined(kind):
    """Every class or function of the package: its file, its node."""
    trees = {file: ast.parse(text) for file, text in FILES.items()}
    return [(file, node) for file, tree in trees.items() for node in ast.walk(tree) if isinstance(node, kind)]


def test_functions_fit_a_screen():
    sizes = {(file, node.name): len(code_lines(node, FILES[file])) for file, node in defined(ast.FunctionDef)}
    assert {name: size for name, size in sizes.items() if size > 50} == {}
    assert 5 <= median(sizes.values()) <= 8


FOREIGN = {("compat/drop_in.py", "mine_hard_negatives"): 30}
"""Functions whose arguments are another library's, in its order, so that its calls work as they stand."""


def test_functions_take_at_most_ten_arguments():
    counts = {}
    for file, node in defined(ast.FunctionDef):
        named = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        counts[file, node.name] = len([name for name in named if name not in ("self", "cls")])
    assert {name: count for name, count in counts.items() if count > (16 if name[1] == "__init__" else 10)} == FOREIGN


def test_dataclasses_take_at_most_seventeen_arguments():
    def is_field(statement):
        if not isinstance(statement, ast.AnnAssign):
            return False
        return not any(word in ast.unparse(statement) for word in ("ClassVar", "KW_ONLY", "init=False"))

    counts = {(file, node.name): sum(map(is_field, node.body)) for file, node in defined(ast.ClassDef)}
    assert {name: count for name, count in counts.items() if count > 17} == {}


def test_every_class_has_a_name_of_its_own():
    names = Counter(node.name for file, node in defined(ast.ClassDef) if not file.startswith("metrics/"))
    assert [name for name, count in names.items() if count > 1] == []


METRICS = {"hardness", "retrieval"}
"""Files that `evaluate` finds by the name of their metric, as it names a metric by its class."""
EVERY_ROOM = {"__init__", "base"}


def test_every_file_has_a_name_of_its_own():
    names = Counter(Path(file).stem for file in FILES)
    assert {name for name, count in names.items() if count > 1} <= EVERY_ROOM | METRICS


@pytest.mark.parametrize("text", ["def f():\n    '''Said.'''\n    # why\n\n    return 1\n"])
def test_lines_of_code_are_counted_without_words(text):
    assert code_lines(ast.parse(text).body[0], text) == [1, 5]
