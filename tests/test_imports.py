import ast
import functools
import graphlib
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import hf_hardneg

PACKAGE = Path(hf_hardneg.__file__).parent
ROOMS = [
    "errors",
    "runtime",
    "arrays",
    "draws",
    "identity",
    "text",
    "store",
    "corpus",
    "index",
    "models",
    "candidates",
    "retrievers",
    "signals",
    "filters",
    "samplers",
    "strategies",
    "formats",
    "pipeline",
    "hard_negatives",
    "recipes",
    "planning",
    "steps",
    "mining",
    "reports",
    "compat",
    "metrics",
    "audits",
    "training",
    "generate",
    "hub",
    "engines",
    "demo",
    "cli",
]
"""From the bottom up: folders of the package, and the files at its top. Each imports only from those above it here."""

HEAVY = ("torch", "transformers", "faiss", "sentence_transformers", "datasets", "pandas", "bm25s", "numba", "pyarrow")


@functools.cache
def modules():
    every = pkgutil.walk_packages([str(PACKAGE)], "hf_hardneg.")
    return sorted(module.name.removeprefix("hf_hardneg.") for module in every)


@functools.cache
def imported(module):
    """The modules of the package that one names in an import, wherever in its file that stands."""
    file = PACKAGE / (module.replace(".", "/") + ".py")
    tree, names = ast.parse((file if file.exists() else file.with_suffix("") / "__init__.py").read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_hardneg"):
            name = node.module.removeprefix("hf_hardneg").lstrip(".")
            nested = {f"{name}.{alias.name}" for alias in node.names if f"{name}.{alias.name}" in modules()}
            names |= nested or {name}
    return names


def test_a_room_imports_only_from_rooms_below():
    for module in modules():
        room = module.split(".")[0]
        below = ROOMS[: ROOMS.index(room) + 1]
        assert [name for name in imported(module) if name.split(".")[0] not in below] == [], module


def test_no_file_imports_itself_through_others():
    order = graphlib.TopologicalSorter({module: imported(module) - {module} for module in modules()})
    assert len(list(order.static_order())) == len(modules())


def test_the_house_stays_small():
    files = sorted(path.stem for path in PACKAGE.glob("*.py"))
    folders = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    assert len(files) <= 10 and len(folders) <= 25
    assert sorted([*files, *folders]) == sorted([*ROOMS, "__init__"])


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, hf_hardneg; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_mining_with_bm25_loads_no_torch_transformers_or_faiss():
    code = (
        "import sys; from hf_hardneg import HardNegatives, mine; "
        "print([name for name in ('torch', 'transformers', 'faiss', 'sentence_transformers') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("room", ["", ".audits", ".generate", ".hub", ".models", ".training"])
def test_every_public_name_resolves_and_is_documented(room):
    package = importlib.import_module(f"hf_hardneg{room}")
    for name in package.__all__:
        assert getattr(package, name).__doc__
    assert list(package.__all__) == sorted(package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Minecraft'"):
        _ = package.Minecraft


def test_only_gathering_talks_to_other_ranks():
    users = [path.stem for path in PACKAGE.glob("training/*.py") if "import torch.distributed" in path.read_text()]
    assert users == ["gather"]


def test_there_are_two_families_of_hashes():
    """BLAKE2b of 128 bits names what is on disk; SplitMix64, in a file of its own, is for draws and sets in memory."""
    for path in PACKAGE.rglob("*.py"):
        tree, name = ast.parse(path.read_text()), str(path.relative_to(PACKAGE))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "hashlib":
                assert [alias.name for alias in node.names] == ["blake2b"], name
            if isinstance(node, ast.Call) and "blake2b" in (getattr(node.func, f, "") for f in ("id", "attr")):
                sizes = [word.value.value for word in node.keywords if word.arg == "digest_size"]
                assert sizes == [16], f"{name}:{node.lineno}"
            others = ("zlib", "xxhash", "md5", "sha1", "sha256", "crc32", "hash")
            called = getattr(node, "func", None)
            assert not (isinstance(called, ast.Name) and called.id in others), f"{name}:{node.lineno}"
            assert not (isinstance(called, ast.Attribute) and called.attr in others[1:-1]), f"{name}:{node.lineno}"
            wide = isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value >> 56
            assert not wide or name in ("arrays/hashing.py", "index/bm25/kernel.py"), f"{name}:{node.lineno}"
