"""Several processes encode one corpus: the same bytes as one, also when killed, and nothing finished is done again."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hf_hardneg.models.embeddings import Shards
from tests.distributed.job import SHARD, TEXTS, build
from tests.models.test_encoder import tiny
from tests.worlds import encode

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DISTINCT = list(dict.fromkeys(TEXTS))


class Logged:
    """An encoder that writes down every text with its rank, and kills its process at a given call."""

    digest = "logged"

    def __init__(self, log, die_at=None):
        self.log, self.die_at, self.calls = log, die_at, 0

    def __call__(self, texts):
        self.calls += 1
        with open(self.log, "a") as stream:
            stream.writelines(f"{os.environ['RANK']} {text}\n" for text in texts)
        if self.calls == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(texts)


def _rank(rank, port, cache, encoder):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    os.environ["OMP_NUM_THREADS"] = "1"
    build(cache, encoder)


def launch(cache, log, die_at=None):
    """Run two ranks to their end; the exit codes. Like a launcher, it kills the other when one has died."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_rank, args=(rank, port, cache, Logged(log, die_at))) for rank in range(2)]
    for rank in ranks:
        rank.start()
    multiprocessing.connection.wait([rank.sentinel for rank in ranks])
    for rank in ranks:
        rank.join(timeout=60 if die_at is None else 1)
        rank.kill()
        rank.join()
    return [rank.exitcode for rank in ranks]


def index_bytes(cache):
    (index,) = Path(cache).glob("dense-*/index.faiss")
    return index.read_bytes()


def encoded(log):
    return [line.split(" ", 1) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    cache = tmp_path_factory.mktemp("alone")
    build(cache, encode)
    return index_bytes(cache)


def test_two_ranks_encode_their_shards_and_build_the_index_of_one(tmp_path, alone):
    assert launch(tmp_path / "cache", tmp_path / "log") == [0, 0]
    assert index_bytes(tmp_path / "cache") == alone
    shard_of = {text: position // SHARD for position, text in enumerate(DISTINCT)}
    lines = encoded(tmp_path / "log")
    assert sorted(text for _, text in lines) == sorted(DISTINCT)
    assert all(int(rank) == shard_of[text] % 2 for rank, text in lines)


def test_a_built_index_is_reused_by_all_ranks(tmp_path, alone):
    launch(tmp_path / "cache", tmp_path / "log")
    assert launch(tmp_path / "cache", tmp_path / "again") == [0, 0]
    assert not (tmp_path / "again").exists()


def test_twenty_kills_lose_no_finished_shard(tmp_path, alone):
    cache, kills = tmp_path / "cache", 0
    for run in range(100):
        finished = {
            text
            for folder in cache.glob("vectors-*")
            for number in Shards(folder=folder, count=len(DISTINCT), size=SHARD, half_above=0).paths()
            for text in DISTINCT[number * SHARD : (number + 1) * SHARD]
        }
        log = tmp_path / f"log-{run}"
        codes = launch(cache, log, die_at=2)
        assert not finished & {text for _, text in encoded(log)}
        if codes == [0, 0]:
            break
        kills += -signal.SIGKILL in codes
    assert kills >= 20
    assert index_bytes(cache) == alone


def torchrun(script, *arguments):
    """Run a script of this folder by the real launcher; nothing it started survives."""
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "tests/distributed" / script)
    launcher = subprocess.Popen([*command, script, *map(str, arguments)], env=environment, start_new_session=True)
    try:
        return launcher.wait(timeout=120)
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()


def test_torchrun_with_a_transformers_model(tmp_path):
    _, model = tiny(tmp_path)
    assert torchrun("job.py", tmp_path / "two", model) == 0
    build(tmp_path / "one", str(model))
    assert index_bytes(tmp_path / "two") == index_bytes(tmp_path / "one")
    names = [{path.name for path in (tmp_path / cache).glob("vectors-*/*.npy")} for cache in ("one", "two")]
    assert names[0] == names[1] and len(names[0]) == -(-len(DISTINCT) // SHARD)
