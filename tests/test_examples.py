"""The examples run, each a few steps with a tiny model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_from_disk
from transformers import BertForMaskedLM

from tests.models.test_encoder import tiny
from tests.models.test_model_identity import small_body
from tests.worlds import world

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def run(script, model, out, *arguments):
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "examples" / script),
        "--model",
        str(model),
        "--out",
        str(out),
    ]
    small = ["--documents", "150", "--steps", "6", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"ACCELERATE_USE_CPU": "true", "HF_DATASETS_CACHE": str(out / "datasets")}
    return subprocess.check_output([*command, *small], env=environment, text=True, timeout=180)


REFRESHED = ("--refresh-every", "2")


def test_accelerate_and_its_resumption(tmp_path):
    _, model = tiny(tmp_path)
    printed = run("train_accelerate.py", model, tmp_path / "out", "--batch-size", "8", *REFRESHED)
    lines = [line.partition(":")[0] for line in printed.splitlines()]
    assert lines == ["step 0", "step 2", "step 4", "step 6", "step 6"]
    assert (tmp_path / "out/model/model.safetensors").exists()
    again = run("train_accelerate.py", model, tmp_path / "out", "--batch-size", "8", "--resume", *REFRESHED)
    assert again.splitlines()[0].startswith("step 6: MRR@10") and again.splitlines()[-1] == printed.splitlines()[-1]


def test_sentence_transformers(tmp_path):
    _, model = tiny(tmp_path)
    assert "3 generations of negatives" in run("train_sentence_transformers.py", model, tmp_path / "out", *REFRESHED)


def test_sparse(tmp_path):
    model = small_body(tmp_path / "masked", BertForMaskedLM)
    printed = run("train_sparse.py", model, tmp_path / "out", "--refresh-every", "4", "--steps", "5")
    assert "1 generations of negatives" in printed


def test_lightning(tmp_path):
    pytest.importorskip("lightning.pytorch")
    _, model = tiny(tmp_path)
    assert "3 generations of negatives" in run("train_lightning.py", model, tmp_path / "out", *REFRESHED)


def test_adore(tmp_path):
    _, model = tiny(tmp_path)
    printed = run("train_adore.py", model, tmp_path / "out").splitlines()
    assert [line.partition(" 0.")[0] for line in printed] == ["step 0: MRR@10", "step 6: loss", "step 6: MRR@10"]
    assert (tmp_path / "out/query-model/model.safetensors").exists()


def on_path(folder):
    """An environment in which `hf-hardneg` is this tree."""
    command = folder / "bin/hf-hardneg"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W ignore -m hf_hardneg.cli "$@"\n')
    command.chmod(0o755)
    return os.environ | {
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
    }


def test_shards_in_a_loop_and_as_tasks_of_an_array(tmp_path):
    """Slurm runs the script for each task, with its number in the environment; what it does besides is not tried."""
    pairs, corpus = (f"{tmp_path}/{name}.parquet" for name in ("pairs", "corpus"))
    for rows, path in zip(world(1), (pairs, corpus), strict=True):
        rows.to_parquet(path)
    environment = on_path(tmp_path)
    loop = ["bash", str(ROOT / "examples/shards.sh"), pairs, corpus, f"{tmp_path}/loop", "3"]
    subprocess.run(loop, env=environment, check=True, timeout=180)
    for task in ("1", "2"):
        names = {"PAIRS": pairs, "CORPUS": corpus, "CACHE": f"{tmp_path}/cache", "OUT": f"{tmp_path}/array"}
        environment |= {**names, "SHARDS": "2", "SLURM_ARRAY_TASK_ID": task}
        subprocess.run(["bash", str(ROOT / "examples/shards.sbatch")], env=environment, check=True, timeout=180)
    merging = ["hf-hardneg", "merge", f"{tmp_path}/array.parts", "--out", f"{tmp_path}/array", "-q"]
    subprocess.run(merging, env=environment, check=True, timeout=180)
    loop, array = (load_from_disk(f"{tmp_path}/{name}")[:] for name in ("loop", "array"))
    assert loop == array and len(loop["query"]) == 36
