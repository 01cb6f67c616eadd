"""`hf-hardneg mine` that Ctrl-C, SIGTERM or kill -9 ends at any moment, and that is run again.

It prints no traceback, says what is kept, gives the rows of an undisturbed run, and searches a twentieth twice at most.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets, disable_progress_bars, load_from_disk

from hf_hardneg.cli import main
from hf_hardneg.pipeline.retrieval import Retrieval
from tests.faults.campaign import Row
from tests.faults.kills import COMPILING, SECONDS, Job, left_over
from tests.worlds import encode, world

TIMES, PARTS = 60, 20
"""How many times the pairs of a small world stand in a job, and the parts of which a kill costs one."""
JOBS = {
    "bm25": ["--strategy=bm25"],
    "bm25 by 2 processes": ["--strategy=bm25", "--num-proc=2"],
    "dense": ["--strategy=margin", "--columns", "vector=v", "query_vector=w"],
    "bm25 in small batches": ["--strategy=bm25+rank_zone", "--set", "rank_zone.start=1", "rank_zone.end=20"],
}


@functools.cache
def _files() -> tempfile.TemporaryDirectory:
    """Pairs and a corpus as files, with vectors."""
    folder = tempfile.TemporaryDirectory()
    pairs, corpus = world(4)
    corpus = corpus.add_column("v", encode(corpus["text"]).tolist())
    pairs = concatenate_datasets([pairs.add_column("w", encode(pairs["query"]).tolist())] * TIMES)
    for name, rows in (("pairs", pairs), ("corpus", corpus)):
        Dataset.from_dict(rows[:]).to_parquet(f"{folder.name}/{name}.parquet")
    return folder


class Command(Job):
    """A command in a child, which notes how many rows it searches and what it says."""

    def __init__(self, data: str, options: list[str], folder: Path, result: str) -> None:
        self.searched, self.printed = folder / f"{result}.searched", folder / f"{result}.said"
        self.result, self.stacks = folder / f"{result}.digest", folder / f"{result}.stacks"
        self.code: int | None = None
        arguments = [f"--{each}={data}/{each}.parquet" for each in ("pairs", "corpus")]
        arguments += [f"--cache-dir={folder}/cache", f"--out={folder}/out", "--overwrite", "-q", *options]
        self.pid = os.fork()
        if not self.pid:
            self._run(["mine", *arguments])

    @classmethod
    def small(cls, name: str, folder: Path, result: str) -> Command:
        """One of the jobs of a small world."""
        return cls(_files().name, JOBS[name], folder, result)

    def _run(self, arguments: list[str]) -> None:
        code = 1
        with contextlib.suppress(BaseException):
            os.setsid()
            said = os.open(self.printed, os.O_WRONLY | os.O_CREAT)
            for descriptor in (1, 2):
                os.dup2(said, descriptor)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            warnings.simplefilter("ignore")
            disable_progress_bars()
            search = Retrieval.__call__

            def noted(retrieval: Retrieval, batch: object) -> object:
                with self.searched.open("a") as stream:
                    stream.write(f"{batch.num_rows}\n")
                return search(retrieval, batch)

            Retrieval.__call__ = noted
            code = main(arguments)
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    @property
    def rows(self) -> int:
        """The rows that it began to search."""
        return sum(map(int, self.searched.read_text().split())) if self.searched.exists() else 0


@functools.cache
def _undisturbed(name: str) -> tuple[list, int, float]:
    """The rows of a job, how many it searches, and the seconds it takes once its kernels are compiled."""
    for seconds in (COMPILING, SECONDS):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            job = Command.small(name, Path(folder), "first")
            assert job.ends_within(seconds) and job.code == 0, f"{name}: {job.printed.read_text()}"
            took, rows = time.monotonic() - began, load_from_disk(f"{folder}/out").to_list()
    return rows, len(rows), took


def stopped(random: np.random.Generator, folder: Path) -> str | None:
    """A command is stopped at any moment, and run again."""
    name = list(JOBS)[random.integers(len(JOBS))]
    end = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL][random.integers(3)]
    expected, total, seconds = _undisturbed(name)
    job = Command.small(name, folder, "first")
    time.sleep(random.uniform(0, seconds))
    to_all = end is signal.SIGINT and random.random() < 0.5
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, end) if to_all else os.kill(job.pid, end)
    if not job.ends_within(SECONDS):
        return f"{name} goes on after {end.name}"
    left_over([job.pid])
    said = job.printed.read_text() if job.printed.exists() else ""
    if "Traceback" in said or "Exception" in said:
        return f"{name} says after {end.name}: {said[-500:]}"
    if job.code not in (0, 128 + end, -end):
        return f"{name} ends with {job.code} after {end.name}: {said[-500:]}"
    if job.code == 128 + end and "the same command goes on from there" not in said and said.strip():
        return f"{name} does not say what is kept after {end.name}: {said[-500:]}"
    again = Command.small(name, folder, "again")
    if not again.ends_within(SECONDS) or again.code != 0:
        return f"{name}: the second run ends with {again.code}, says {again.printed.read_text()[-500:]}"
    if load_from_disk(str(folder / "out")).to_list() != expected:
        return f"{name}: the second run gives other rows after {end.name}"
    twice = job.rows + again.rows - total
    return f"{name}: {twice} of {total} rows were searched twice" if job.code and twice > total / PARTS else None


ROWS = [Row("Ctrl-C, SIGTERM or kill -9 of hf-hardneg mine, run again", 40, stopped)]
