"""Jobs and workers that are killed or told to end, at any moment, alone and beside others on the same cache.

A job runs in a child with a session of its own. After the kill nothing of it may be left within seconds, and the same
job run again must give, in bounded time, the rows of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import json
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np
from datasets import Dataset, disable_progress_bars

from hf_hardneg import HardNegatives, mine
from hf_hardneg.generate import SyntheticNegatives
from hf_hardneg.store import directories
from hf_hardneg.store.inventory import prune
from hf_hardneg.store.locks import Lock
from tests.faults.campaign import Row
from tests.worlds import SMALL, needed, world

SECONDS, GONE, COMPILING = 60.0, 15.0, 300.0
LONGER, STILL = 5, 10.0
"""How many times as long a job may take that still computes, and the seconds in which that is looked at."""
INNERMOST = 12
"""Lines of a stack that are told."""
REPLY = {
    "why_it_looks_relevant": "It is about the same words.",
    "why_it_does_not_answer": "It names no cause.",
    "negative_passage": "A passage of several plain words that nobody has put into the corpus before today.",
}


def writer(prompts: list[str]) -> list[str]:
    """A model that takes its time."""
    time.sleep(0.02)
    return [json.dumps(REPLY)] * len(prompts)


def _mine(strategy: str, num_proc: int | None, folder: Path) -> Dataset:
    pairs, corpus = world(4)
    chosen = SMALL[strategy]
    return mine(pairs, corpus, chosen, **needed(chosen), num_proc=num_proc, batch_size=5, cache_dir=str(folder))


def _map(num_proc: int | None, folder: Path) -> Dataset:
    pairs, corpus = world(4)
    miner = HardNegatives(corpus, SMALL["bm25"], cache_dir=str(folder))
    return pairs.map(miner, batched=True, batch_size=5, num_proc=num_proc)


def _write(folder: Path) -> Dataset:
    pairs, _ = world(4)
    negatives = SyntheticNegatives(writer, rate=1, known_positives=[pairs], cache_dir=str(folder))
    return pairs.map(negatives, batched=True, batch_size=5)


def _refresh(folder: Path) -> Dataset:
    from hf_hardneg.training import Refresher, Schedule
    from tests.worlds import encode

    pairs, corpus = world(4)
    refresher = Refresher(pairs, corpus, SMALL["dense"], encoder=encode, directory=folder / "run", warm_start="random")
    refresher.at(10, Schedule(every=10))
    return Dataset.from_list([pairs.with_transform(refresher.negatives)[row] for row in range(0, len(pairs), 5)])


WITH_WORKERS: dict[str, Callable[[Path], Dataset]] = {
    f"{name} by 2 processes": functools.partial(_mine, name, 2) for name in ("bm25", "dense", "denoised", "hybrid")
}
JOBS: dict[str, Callable[[Path], Dataset]] = {
    **{
        name: functools.partial(_mine, name, None)
        for name in ("bm25", "dense", "splade", "colbert", "denoised", "positive_aware")
    },
    **WITH_WORKERS,
    "Dataset.map": functools.partial(_map, None),
    "written negatives": _write,
    "a refresh": _refresh,
}
MAPPED = "Dataset.map by 2 processes"
EVERY_JOB = {**JOBS, MAPPED: functools.partial(_map, 2)}


class Job:
    """A job that runs in a child."""

    def __init__(self, name: str, cache: Path, result: Path) -> None:
        self.result, self.stacks = result, result.with_suffix(".stacks")
        self.pid = os.fork()
        if not self.pid:
            _run(EVERY_JOB[name], cache, self.result, self.stacks)
        self.code: int | None = None

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends in that time, or goes on computing, as on a busy machine; it is killed where it does not."""
        began = looked = time.monotonic()
        computed, computes = 0.0, True
        while self.code is None and time.monotonic() - began < (LONGER * seconds if computes else seconds):
            if time.monotonic() > looked + STILL:
                before, computed, looked = computed, computing(self.pid), time.monotonic()
                computes = computed > before + 0.3
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.02)
        if self.code is None:
            os.killpg(self.pid, signal.SIGUSR1)
            time.sleep(1)
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        return self.code is not None

    @property
    def said(self) -> str:
        """The digest of its rows, its error, or where it and its workers were when their time was over."""
        if self.result.exists():
            return self.result.read_text()
        stacks = self.stacks.read_text().split("\n\n") if self.stacks.exists() else []
        return "\n".join(
            [f"nothing, exit code {self.code}", *("\n".join(one.split("\n")[:INNERMOST]) for one in stacks)]
        )


def _run(work: Callable[[Path], Dataset], cache: Path, result: Path, stacks: Path) -> None:
    code = 1
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        faulthandler.register(signal.SIGUSR1, stacks.open("w"))
        warnings.simplefilter("ignore")
        disable_progress_bars()
        said = _digest(work(cache))
        code = 0
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(BaseException):
            result.write_text(said)
        os._exit(code)


def _digest(rows: Dataset) -> str:
    return blake2b(repr(rows.to_list()).encode(), digest_size=16).hexdigest()


@functools.cache
def undisturbed(name: str) -> tuple[str, float]:
    """What a job gives, and the seconds it takes where its kernels are compiled, which the first run may have to do."""
    for seconds in (COMPILING, SECONDS):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            job = Job(name, Path(folder, "cache"), Path(folder, "result"))
            assert job.ends_within(seconds) and job.code == 0, f"{name}: {job.said}"
            said, took = job.said, time.monotonic() - began
    return said, took


def again(name: str, folder: Path) -> str | None:
    """What is wrong with the job's second run."""
    job = Job(name, folder / "cache", folder / "again")
    if not job.ends_within(SECONDS):
        return f"{name}: the second run hangs, says {job.said}"
    if job.said != undisturbed(name)[0]:
        return f"{name}: the second run says {job.said}"
    left = [path.name for path in (folder / "cache").glob(".*.lock") if not Lock(path).try_acquire()]
    return f"{name}: {left} are still locked" if left else None


def children(pid: int) -> list[int]:
    """Processes that another has started, and those have."""
    with contextlib.suppress(OSError):
        tasks = [int(one) for one in os.listdir(f"/proc/{pid}/task")]
        lists = [Path(f"/proc/{pid}/task/{task}/children").read_text().split() for task in tasks]
        own = [int(one) for listed in lists for one in listed]
        return own + [deeper for one in own for deeper in children(one)]
    return []


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def computing(pid: int) -> float:
    """Seconds of processor time that a process, those below it and those that they have seen end took so far."""
    ticks = 0
    for each in [pid, *children(pid)]:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def left_over(pids: list[int]) -> list[int]:
    """Those of some processes that do not end by themselves; they are ended here."""
    deadline = time.monotonic() + GONE
    while any(map(_lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    living = [pid for pid in pids if _lives(pid)]
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    return living


def _ended(names: list[str], ends: list[signal.Signals], random: np.random.Generator, folder: Path) -> str | None:
    name, end = names[random.integers(len(names))], ends[random.integers(len(ends))]
    expected, seconds = undisturbed(name)
    job = Job(name, folder / "cache", folder / "first")
    time.sleep(random.uniform(0, seconds))
    started = children(job.pid)
    with contextlib.suppress(ProcessLookupError):
        to_all = end is signal.SIGINT and random.random() < 0.5
        os.killpg(job.pid, end) if to_all else os.kill(job.pid, end)
    if not job.ends_within(SECONDS):
        return f"{name} goes on after {end.name}"
    if job.code == 0 and job.said != expected:
        return f"{name} gives other rows"
    living = left_over(started)
    if living and name != MAPPED:
        return f"{name}: {len(living)} processes outlive the one that started them, which got {end.name}"
    return again(name, folder)


def killed(random: np.random.Generator, folder: Path) -> str | None:
    """The process of a job is killed."""
    return _ended(list(EVERY_JOB), [signal.SIGKILL], random, folder)


def told_to_end(random: np.random.Generator, folder: Path) -> str | None:
    """A job gets the signal of a batch system, or Ctrl-C, alone or with all that it started."""
    return _ended(list(JOBS), [signal.SIGTERM, signal.SIGINT], random, folder)


def worker_killed(random: np.random.Generator, folder: Path) -> str | None:
    """One of the workers of a job is killed: it is told of by name, or was done."""
    name = list(WITH_WORKERS)[random.integers(len(WITH_WORKERS))]
    expected, seconds = undisturbed(name)
    job = Job(name, folder / "cache", folder / "first")
    deadline = time.monotonic() + random.uniform(0, seconds)
    workers: list[int] = []
    while not (workers and time.monotonic() > deadline) and time.monotonic() < deadline + seconds:
        workers = children(job.pid)
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers[random.integers(len(workers))], signal.SIGKILL)
    if not job.ends_within(SECONDS):
        return f"{name} waits for a worker that was killed"
    if job.said != expected and "was killed by signal 9" not in job.said:
        return f"{name}: {job.said} where a worker was killed"
    if left_over(workers):
        return f"{name}: workers are left"
    return again(name, folder)


def raced(random: np.random.Generator, folder: Path) -> str | None:
    """Several processes run one job on one cache, and the first is killed; the others are none the worse."""
    name = list(JOBS)[random.integers(len(JOBS) - 1)]
    expected, seconds = undisturbed(name)
    jobs = [Job(name, folder / "cache", folder / f"{number}") for number in range(3)]
    time.sleep(random.uniform(0, seconds))
    os.kill(jobs[0].pid, signal.SIGKILL)
    jobs[0].ends_within(SECONDS)
    for job in jobs[1:]:
        if not job.ends_within(SECONDS):
            return f"{name} hangs beside one that was killed"
        if job.said != expected:
            return f"{name} says {job.said} beside one that was killed"
    return again(name, folder)


def pruned(random: np.random.Generator, folder: Path) -> str | None:
    """Another process prunes everything, again and again, while a job runs."""
    name = list(JOBS)[random.integers(len(JOBS) - 1)]
    cache = folder / "cache"
    cache.mkdir()
    other = os.fork()
    if not other:
        with contextlib.suppress(BaseException):
            warnings.simplefilter("ignore")
            while True:
                prune(cache, everything=True)
                time.sleep(random.uniform(0, 0.01))
        os._exit(1)
    try:
        job = Job(name, cache, folder / "first")
        if not job.ends_within(SECONDS):
            return f"{name} hangs beside a prune"
        if job.said != undisturbed(name)[0]:
            return f"{name} says {job.said} beside a prune"
        if os.waitpid(other, os.WNOHANG)[0]:
            return "prune fails beside a job"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(other, 0)
    return again(name, folder)


def whole(random: np.random.Generator, folder: Path) -> str | None:
    """What lies in a cache after a kill is whole."""
    said = killed(random, folder)
    for path in (folder / "cache").glob("*-*"):
        if (path / directories.MANIFEST).exists() and path.name.partition("-")[0] not in ("vectors", "scores"):
            directories.check(path)
    return said


ROWS = [
    Row("kill -9 of a job, run again", 80, whole),
    Row("kill -9 of one of its workers", 40, worker_killed),
    Row("SIGTERM and Ctrl-C", 40, told_to_end),
    Row("three processes on one cache, one killed", 30, raced),
    Row("prune without pause beside a job", 30, pruned),
]
