"""Workers of `mine(num_proc=)`: one that dies is an error, none outlives its parent, and what they raise comes out."""

import contextlib
import multiprocessing
import os
import signal
import time

import pytest
from datasets import Dataset, load_from_disk

from hf_hardneg import HardNegatives, mine
from hf_hardneg.errors import ConfigError, DataError, HardNegError, WorkerError
from hf_hardneg.store import directories
from hf_hardneg.store.row_parts import map_rows
from tests.worlds import SMALL, world

FORK = multiprocessing.get_context("fork")
WITHIN = 20
"""Seconds, on a busy machine, for what takes one."""


@pytest.fixture
def rows():
    return Dataset.from_dict({"number": list(range(10))}).with_format("arrow")


def doubled(table):
    return table.set_column(0, "number", [[2 * number.as_py() for number in table.column("number")]])


def mapped(rows, function, folder, num_proc=2):
    map_rows(rows, function, folder, batch_size=2, num_proc=num_proc, desc="Doubling")
    parts = [Dataset.from_file(str(path)) for path in sorted(folder.glob("*.arrow"))]
    return [number for part in parts for number in part["number"]]


@pytest.mark.parametrize("num_proc", [None, 0, 1, 2, 3, 50])
def test_rows_keep_their_order_with_any_number_of_workers(rows, tmp_path, num_proc):
    assert mapped(rows, doubled, tmp_path, num_proc) == list(range(0, 20, 2))
    assert len(list(tmp_path.iterdir())) == min(num_proc or 1, 10)


def killing(how):
    def function(table):
        if table.column("number")[0].as_py() == 7:
            how()
        return doubled(table)

    return function


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            lambda: os.kill(os.getpid(), signal.SIGKILL),
            r"signal 9 \(SIGKILL\), as the system does where memory runs out",
        ),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), r"signal 15 \(SIGTERM\) before it was done"),
        (lambda: os._exit(3), "ended with exit code 3"),
        (lambda: os._exit(0), "ended with exit code 0"),
    ],
)
def test_a_worker_that_dies_is_an_error_that_says_how(rows, tmp_path, how, said):
    with pytest.raises(WorkerError, match=f"Doubling: worker 2 of 2, process [0-9]+, .*{said}") as caught:
        mapped(rows, killing(how), tmp_path)
    assert isinstance(caught.value, HardNegError)
    assert not multiprocessing.active_children()


class Odd(Exception):
    """One that comes out of a pickle in another way than it went in."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("error", "arguments", "kind", "said"),
    [(DataError, ["row 7 is odd"], DataError, "row 7 is odd"), (Odd, [1, 2], RuntimeError, "^Odd: 1 and 2$")],
)
def test_what_a_worker_raises_comes_through_with_where(rows, tmp_path, error, arguments, kind, said):
    def how():
        raise error(*arguments)

    with pytest.raises(kind, match=said) as caught:
        mapped(rows, killing(how), tmp_path)
    assert "in how" in str(caught.value.__cause__)


def test_workers_of_workers_are_refused(rows, tmp_path):
    function = killing(lambda: mapped(rows, doubled, tmp_path))
    with pytest.raises(ConfigError, match="num_proc=2 in a worker of a pool: .* Use num_proc=1 there"):
        mapped(rows, function, tmp_path)


def in_time(happens):
    deadline = time.monotonic() + WITHIN
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.1)
    return happens()


def _job(folder, verb):
    os.setsid()
    pairs, corpus = load_from_disk(folder / "pairs"), load_from_disk(folder / "corpus")

    def how():
        with open(folder / "workers", "a") as stream:
            stream.write(f"{os.getpid()}\n")
        time.sleep(600)

    class Slow(HardNegatives):
        def __call__(self, batch):
            super().__call__(batch)
            how()

    if verb == "map":
        pairs.map(Slow(corpus, SMALL["bm25"], cache_dir=str(folder / "cache")), batched=True, batch_size=3, num_proc=2)
    else:
        map_rows(pairs, lambda batch: how(), folder, batch_size=3, num_proc=2, desc="Waiting")


def is_there(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stream:
        return stream.read().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.mark.parametrize("verb", ["map_rows", "map"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_parent(tmp_path, verb, end):
    """Neither ours nor those of `Dataset.map(HardNegatives(...), num_proc=)`."""
    for name, table in zip(("pairs", "corpus"), world(3), strict=True):
        table.save_to_disk(tmp_path / name)
    job = FORK.Process(target=_job, args=(tmp_path, verb))
    job.start()
    try:
        workers = tmp_path / "workers"
        assert in_time(lambda: workers.exists() and len(workers.read_text().split()) == 2)
        pids = list(map(int, workers.read_text().split()))
        assert all(map(is_there, pids))
        os.kill(job.pid, end)
        assert in_time(lambda: job.exitcode is not None) and job.exitcode
        assert in_time(lambda: not any(map(is_there, pids)))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)  # `datasets` leaves the process that serves its queue


def _mine_and_die(cache):
    """Mine with workers, and be killed when the first of them searches."""
    pairs, corpus = world(11)
    parent = os.getpid()

    def search(self, batch):
        os.kill(parent, signal.SIGKILL)
        time.sleep(600)

    from hf_hardneg.pipeline.retrieval import Retrieval

    Retrieval.__call__ = search
    mine(pairs, corpus, SMALL["bm25"], num_proc=2, cache_dir=str(cache))


def test_mining_goes_on_at_once_where_a_killed_parent_had_workers(tmp_path):
    pairs, corpus = world(11)
    child = FORK.Process(target=_mine_and_die, args=(tmp_path / "killed",))
    child.start()
    assert in_time(lambda: child.exitcode is not None) and child.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "killed").glob(".candidates-*.lock"))) == 1
    again, fresh = (mine(pairs, corpus, SMALL["bm25"], cache_dir=str(tmp_path / name)) for name in ("killed", "fresh"))
    assert again[:] == fresh[:]
    for path in (tmp_path / "killed").glob("[!.]*"):
        directories.check(path)
