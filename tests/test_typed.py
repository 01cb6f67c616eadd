"""What type checkers, editors and `help()` know of the package as it is installed: built into a wheel, and unpacked."""

import inspect
import os
import pydoc
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jedi
import pytest

import hf_hardneg
from hf_hardneg import HardNegatives, mine, plan
from hf_hardneg.hub import mined_dataset_card, push_mined_dataset, reproduce
from hf_hardneg.hub.card import CardOptions
from hf_hardneg.hub.push import PushOptions
from hf_hardneg.pipeline.options import MinerOptions, PlanOptions, RefresherOptions, RunOptions
from hf_hardneg.training import Refresher

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SCRIPT = """
from pathlib import Path

from datasets import Dataset

from hf_hardneg import BM25, Columns, HardNegatives, RankWindow, Strategy, mine, plan, sweep
from hf_hardneg.generate import SyntheticNegatives
from hf_hardneg.hub import push_mined_dataset, reproduce
from hf_hardneg.models import load_cross_encoder
from hf_hardneg.training import Refresher, train_denoiser

pairs = Dataset.from_dict({"question": ["red"], "answer": ["red cat"]})
corpus = Dataset.from_dict({"text": ["red cat", "red dog"]})
columns: Columns = {"query": "question", "positive": "answer", "text": ["title", "text"]}
strategy = Strategy([BM25(20)], [RankWindow(2)])
miner = HardNegatives(corpus, strategy, num_negatives=4, on_shortage="pad_next", columns=columns)
mined = mine(pairs, corpus, "bm25", num_negatives=4, on_shortage="drop_row", columns=columns, num_proc=2)
costs: float = plan(pairs, corpus, num_negatives=4, known_positives=[pairs]).seconds
settings = sweep(pairs, corpus, "bm25", options={"columns": columns}, relative_margin=[0.0, 0.1])
commit = push_mined_dataset(pairs, "user/mined", license="mit", private=True)
same: bool = reproduce("user/mined", num_proc=2).identical
refresher = Refresher(pairs, corpus, encoder=len, directory="run", num_negatives=4)
anything = [mine([{"query": "red", "positive": "red cat"}], {"a": "red cat"}), mine({"red": "red cat"}, ["red cat"])]
places = [mine(Path("pairs.csv"), "corpus/*.jsonl"), mine("pairs.csv", "bm25"), mine("scifact")]
"""
WRONG = {
    "mine(pairs, corpus, num_negative=4)": 'Unexpected keyword argument "num_negative" for "mine"',
    'mine(pairs, corpus, num_negatives="4")': '"num_negatives" to "mine" has incompatible type "str"; expected "int"',
    'mine(pairs, corpus, on_shortage="pad")': "incompatible type \"Literal['pad']\"; expected \"Literal['keep_fewer'",
    'mine(pairs, corpus, columns={"qurey": "question"})': 'Argument "columns" to "mine" has incompatible type',
    "mine(pairs, 5)": 'Argument 2 to "mine" has incompatible type "int"; expected "Table | Frame | str',
    "mine(5, corpus)": 'Argument 1 to "mine" has incompatible type "int"; expected "Table | Frame | str',
    "HardNegatives(corpus, num_negative=4)": 'Unexpected keyword argument "num_negative"',
    'HardNegatives(corpus, on_shortage="pad")': "expected \"Literal['keep_fewer'",
    "HardNegatives(5)": 'Argument 1 to "HardNegatives" has incompatible type "int"; expected "Table | Frame | str',
    "plan(pairs, corpus, num_negative=4)": 'Unexpected keyword argument "num_negative" for "plan"',
    "plan(pairs, [object()])": 'Argument 2 to "plan" has incompatible type "list[object]"; expected "Table | Frame',
    'sweep(pairs, corpus, options={"num_negative": 4}, top=[1])': 'Argument "options" to "sweep" has incompatible type',
    'push_mined_dataset(pairs, "user/mined", licence="mit")': 'Unexpected keyword argument "licence"',
    'push_mined_dataset(pairs, "user/mined", create_pr="yes")': '"create_pr" to "push_mined_dataset"',
    'reproduce("user/mined", num_procs=2)': 'Unexpected keyword argument "num_procs" for "reproduce"',
    'Refresher(pairs, corpus, encoder=len, directory="run", seed="x")': '"seed" to "Refresher"',
}
"""Calls with a mistake, and what mypy says of each."""
SETTINGS = """
[mypy]
strict = true
[mypy-datasets.*]
ignore_missing_imports = true
[mypy-torch.*,transformers.*,numpy.*,accelerate.*,sentence_transformers.*]
follow_imports = skip
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what the wheel holds."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "hf_hardneg", source / "hf_hardneg", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def errors_of(installed, folder, lines):
    """What mypy says of a user's script, by the number of the line."""
    (folder / "script.py").write_text(lines)
    (folder / "mypy.ini").write_text(SETTINGS)
    command = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", f"--cache-dir={installed}/cache", "script.py"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    said = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout
    return [line for line in said.splitlines() if ": error: " in line]


def test_mypy_accepts_a_script_and_refuses_what_is_wrong_in_it(installed, tmp_path):
    assert errors_of(installed, tmp_path, SCRIPT) == []
    start = len(SCRIPT.splitlines()) + 1
    said = errors_of(installed, tmp_path, SCRIPT + "\n".join(WRONG))
    for number, (call, message) in enumerate(WRONG.items(), start=start):
        assert [line for line in said if line.startswith(f"script.py:{number}:") and message in line], (call, said)
    assert len(said) == len(WRONG)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("mine(pairs, corpus, ", {"num_negatives=", "columns=", "on_shortage=", "num_proc=", "cache_dir="}),
        ("HardNegatives(corpus, ", {"num_negatives=", "columns=", "on_shortage=", "index=", "cache_dir="}),
    ],
)
def test_editors_complete_names_and_arguments(installed, call, arguments, tmp_path_factory, monkeypatch):
    parsed = tmp_path_factory.getbasetemp() / "parsed"  # two processes break one cache
    monkeypatch.setattr(jedi.settings, "cache_directory", str(parsed))
    project = jedi.Project(installed, sys_path=[str(installed), *sys.path], load_unsafe_extensions=False)
    script = jedi.Script("import hf_hardneg\nhf_hardneg.", project=project)
    assert set(hf_hardneg.__all__) <= {name.name for name in script.complete()}
    script = jedi.Script(f"from hf_hardneg import HardNegatives, mine, plan\n{call}", project=project)
    assert arguments <= {name.name for name in script.complete()}
    (signature,) = script.get_signatures()
    assert str(signature.module_path or installed).startswith(str(installed))


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (HardNegatives, MinerOptions),
        (mine, MinerOptions),
        (plan, PlanOptions),
        (Refresher, RefresherOptions),
        (reproduce, RunOptions),
        (push_mined_dataset, PushOptions),
        (mined_dataset_card, CardOptions),
    ],
)
def test_help_shows_every_option(function, options):
    shown = pydoc.render_doc(function, renderer=pydoc.plaintext)
    assert [name for name in options.__annotations__ if f"{name}: " not in shown] == []


def test_the_options_of_types_are_those_of_the_miner():
    """What `Unpack` says in `mine`, `plan` and the others is what `HardNegatives` takes, with the same types."""
    taken = {name: part.annotation for name, part in inspect.signature(HardNegatives).parameters.items()}
    told = {name: hint.__forward_arg__ for name, hint in PlanOptions.__annotations__.items()}
    assert told == {
        name: kind.removeprefix("InitVar[").removesuffix("]") if kind.startswith("InitVar[") else kind
        for name, kind in taken.items()
        if name not in ("corpus", "strategy")
    }
