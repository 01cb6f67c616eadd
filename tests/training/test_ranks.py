"""Two processes refresh together: the same generation as one, and never a hang where one is killed."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import PartialState
from accelerate.utils import set_seed
from datasets import Dataset
from torch.utils.data import DataLoader

from hf_hardneg.errors import RanksError
from hf_hardneg.models import embeddings
from hf_hardneg.models.embeddings import Shards
from hf_hardneg.models.encoder import TransformersEncoder
from hf_hardneg.store import directories, disk
from hf_hardneg.training import FreshNegatives, Generations, HardNegativePlugin, Schedule, refresh
from hf_hardneg.training.refresh import Refresher
from tests.training.job import STEPS
from tests.training.loop import EVERY, FIRST, Run
from tests.training.world import live_model, refresher, shift

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TEN = Schedule(every=10)
STOPS_WITHIN = 20
"""Seconds from a kill until the others have stopped with their error; what remains of their own work included."""


def _rank(rank, port, log, work, arguments):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    PartialState._reset_state()
    try:
        work(rank, *arguments)
    except BaseException:
        (log / f"error-{rank}").write_text(traceback.format_exc())
        raise


def launch(log, work, *arguments, within=120):
    """Run two ranks, with nobody who would kill the one when the other has died; exit codes and seconds."""
    log.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_rank, args=(rank, port, log, work, arguments)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    multiprocessing.connection.wait([rank.sentinel for rank in ranks])
    died = time.monotonic()
    for rank in ranks:
        rank.join(timeout=within)
        rank.kill()
        rank.join()
    return [rank.exitcode for rank in ranks], time.monotonic() - died


def small_parts():
    """So many shards and blocks that each rank has several."""
    embeddings.SHARD = refresh.BLOCK = 8


def refreshed(rank, directory, die=None):
    """Two refreshes with changing weights; `die` arms a kill for the second."""
    small_parts()
    made = refresher(directory, live_model())
    shift(made.encoder, 1)
    made.at(10, TEN)
    if die is not None:
        die(rank)
    shift(made.encoder, 2)
    made.at(20, TEN)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD", 8)
    monkeypatch.setattr(refresh, "BLOCK", 8)


@pytest.fixture
def alone(tmp_path, small):
    refreshed(0, tmp_path / "alone")
    return tmp_path / "alone"


def contents(directory):
    """Every file of generations and indexes, besides the times in manifests."""
    found = {}
    for path in sorted([*directory.glob("gen-*/**/*"), *directory.glob("index-*/**/*"), directory / "CURRENT"]):
        if path.name == directories.MANIFEST:
            manifest = json.loads(path.read_text())
            content = {**manifest, "files": {n: f["blake2b"] for n, f in manifest["files"].items()}}
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(directory))] = content
    return found


def test_two_ranks_make_the_generations_of_one(tmp_path, alone):
    codes, _ = launch(tmp_path / "log", refreshed, tmp_path / "two")
    assert codes == [0, 0]
    assert contents(tmp_path / "two") == contents(alone)


def killed_after(owner, name, call, rank, before=True):
    """Kills the process of a rank at a call of a method."""

    def arm(this):
        if this != rank:
            return
        method, calls = getattr(owner, name), []

        def deadly(*arguments, **options):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments, **options)

        setattr(owner, name, deadly)

    return arm


KILLS = {
    "encoding, rank 1": killed_after(TransformersEncoder, "encode", 2, 1),
    "encoding, rank 0": killed_after(TransformersEncoder, "encode", 3, 0),
    "building the index": killed_after(Shards, "gather", 2, 0),
    "searching, rank 1": killed_after(Refresher, "_mined", 2, 1),
    "before publishing": killed_after(Generations, "publish", 1, 0),
    "while publishing": killed_after(disk, "sync", 3, 0),
    "before the switch": killed_after(Generations, "switch", 1, 0),
    "the other, before the switch": killed_after(Generations, "holds", 1, 1),
}


@pytest.mark.parametrize("point", KILLS)
def test_a_killed_rank_stops_the_other_with_an_error(tmp_path, alone, point):
    codes, seconds = launch(tmp_path / "log", refreshed, tmp_path / "two", KILLS[point])
    assert -signal.SIGKILL in codes and codes != [-signal.SIGKILL] * 2
    survivor = 1 - codes.index(-signal.SIGKILL)
    assert seconds < STOPS_WITHIN
    error = (tmp_path / "log" / f"error-{survivor}").read_text()
    assert f"{RanksError.__name__}: Rank {survivor} of 2 cannot reach another" in error
    generations = Generations(tmp_path / "two")
    assert generations.current == 1
    directories.check(generations.place(1))
    codes, _ = launch(tmp_path / "log", refreshed, tmp_path / "two")
    assert codes == [0, 0]
    assert contents(tmp_path / "two") == contents(alone)


def test_a_rank_that_hangs_is_waited_for_as_long_as_the_process_group_allows(tmp_path):
    def work(rank):
        PartialState(cpu=True, timeout=timedelta(seconds=4))
        small_parts()
        made = refresher(tmp_path / "run", live_model())
        if rank == 1:
            made._mined = lambda *_: os.kill(os.getpid(), signal.SIGSTOP)
        made.at(10, TEN)

    codes, _ = launch(tmp_path / "log", work, within=1)
    assert codes == [1, -signal.SIGKILL]
    assert "RanksError: Rank 0 of 2 cannot reach another" in (tmp_path / "log" / "error-0").read_text()
    assert Generations(tmp_path / "run").current == 0


def test_ranks_that_accelerate_does_not_know_are_refused(tmp_path):
    """As torch.multiprocessing.spawn starts them, or Lightning on CPUs."""

    def work(rank):
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            del os.environ[name]
        meeting = f"file://{tmp_path / 'store'}"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
        refresher(tmp_path / "run", live_model()).at(10, TEN)

    assert launch(tmp_path / "log", work)[0] == [1, 1]
    error = (tmp_path / "log" / "error-1").read_text()
    assert "RanksError: 2 processes train together, and Accelerate knows 1 of them, so each would mine" in error


def test_ranks_that_disagree_are_named(tmp_path):
    def work(rank):
        made = refresher(tmp_path / "run", live_model(seed=rank))
        made.at(10, TEN)

    codes, _ = launch(tmp_path / "log", work)
    assert codes == [1, 1]
    error = (tmp_path / "log" / "error-0").read_text()
    assert "RanksError: The weights differ between the 2 processes: " in error


def trained(rank, folder, start=None):
    run = Run(folder / "negatives")
    if start is not None:
        run.resume(folder, start)
    run.train(STEPS, save=(FIRST + 1,) if start is None else (), folder=folder)
    (folder / f"{start}-{rank}.json").write_text(json.dumps({"losses": run.losses, "seen": run.seen}))


def results(folder, name):
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]


def test_a_run_of_two_ranks_and_its_resumption(tmp_path):
    """All ranks switch at the same step, and a resumed run is the unbroken one."""
    assert launch(tmp_path / "log", trained, tmp_path)[0] == [0, 0]
    assert launch(tmp_path / "log", trained, tmp_path, FIRST + 1)[0] == [0, 0]
    schedule = Schedule(every=EVERY, first=FIRST)
    for whole, again in zip(results(tmp_path, None), results(tmp_path, FIRST + 1), strict=True):
        for step, batches in whole["seen"].items():
            assert {row[1] for batch in batches for row in batch} == {schedule.number(int(step))}
        later = {step for step in whole["losses"] if int(step) > FIRST}
        assert again == {key: {step: whole[key][step] for step in later} for key in whole}


def visited(rank, folder, name, start=None, **options):
    """The rows that each step of an epoch takes, with new negatives after every second one."""
    set_seed(5)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, **options))
    loader = accelerator.prepare(DataLoader(torch.arange(42), batch_size=4, shuffle=True))
    plugin = HardNegativePlugin(accelerator, refresher(folder / "negatives", live_model()), refresh_every=2)
    if start is not None:
        accelerator.load_state(str(folder / f"step-{start}"))
    steps = {}
    for rows in plugin.batches(loader):
        steps[plugin.steps] = rows.tolist()
        plugin.step()
        if start is None and name == "two" and plugin.steps == 3:
            accelerator.save_state(str(folder / "step-3"))
    (folder / f"{name}-{rank}.json").write_text(json.dumps(steps))


def test_a_resumed_run_on_fewer_ranks_takes_the_rows_that_remain(tmp_path):
    assert launch(tmp_path / "log", visited, tmp_path, "two")[0] == [0, 0]
    visited(0, tmp_path, "one", start=3)
    before = [row for rank in results(tmp_path, "two") for step in "012" for row in rank[step]]
    after = [row for rows in json.loads((tmp_path / "one-0.json").read_text()).values() for row in rows]
    assert sorted(before + after) == list(range(42))


def fresh_rows(rank, folder, name, start=(0, 0), workers=0):
    """The negatives of every row in each epoch, from an epoch's batch on: a keyed part of six, other ones each time."""
    set_seed(5)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
    mined = Dataset.from_dict(
        {
            "query": [f"q{row}" for row in range(24)],
            "negatives": [[f"{row} {n}" for n in range(6)] for row in range(24)],
        }
    )
    fresh = FreshNegatives(2)
    options = {"num_workers": workers, "persistent_workers": workers > 0, "collate_fn": fresh.of_rows}
    loader = accelerator.prepare(DataLoader(mined, batch_size=4, shuffle=True, **options))
    shown = []
    for epoch in range(start[0], 3):
        fresh.set_epoch(epoch)
        loader.set_epoch(epoch)
        skipped = start[1] if epoch == start[0] else 0
        for batch in accelerator.skip_first_batches(loader, skipped) if skipped else loader:
            shown += [[epoch, row["query"], row["negatives"]] for row in batch]
    (folder / f"{name}-{rank}.json").write_text(json.dumps(shown))


def test_fresh_negatives_are_equal_over_ranks_workers_and_resumption(tmp_path):
    fresh_rows(0, tmp_path, "one")
    alone = json.loads((tmp_path / "one-0.json").read_text())
    for row in range(24):
        of_row = [negatives for _, query, negatives in alone if query == f"q{row}"]
        assert sorted(name for negatives in of_row for name in negatives) == [f"{row} {n}" for n in range(6)]
    assert launch(tmp_path / "log", fresh_rows, tmp_path, "two")[0] == [0, 0]
    whole = results(tmp_path, "two")
    assert sorted(whole[0] + whole[1]) == sorted(alone)
    assert launch(tmp_path / "log", fresh_rows, tmp_path, "again", (1, 2), 2)[0] == [0, 0]
    for unbroken, resumed in zip(whole, results(tmp_path, "again"), strict=True):
        assert resumed == unbroken[12 + 2 * 4 :]


def dispatched(rank, folder):
    visited(rank, folder, "dispatched", dispatch_batches=True)


def test_batches_that_rank_zero_dispatches_are_taken_once(tmp_path):
    assert launch(tmp_path / "log", dispatched, tmp_path)[0] == [0, 0]
    rows = [row for rank in results(tmp_path, "dispatched") for rows in rank.values() for row in rows]
    assert sorted(rows) == list(range(42))


def test_torchrun(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "-m", "tests.training.job", tmp_path], env=environment, check=True, timeout=120, cwd=ROOT)
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    schedule = Schedule(every=EVERY, first=FIRST)
    for step in map(str, range(STEPS)):
        rows = [row for one in (first, second) for batch in one["seen"][step] for row in batch]
        assert {row[1] for row in rows} == {schedule.number(int(step))} and len(rows) == 8
    assert first["losses"] != second["losses"]
