import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hf_hardneg.errors import HardNegWarning
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.score_store import FIRST_CHUNK, pair_keys, stored
from hf_hardneg.store.directories import digest_of
from hf_hardneg.store.inventory import inventory, prune
from tests.cross_encoders import cross_encoder

QUERIES = [f"query {i % 7}" for i in range(300)]
DOCUMENTS = [f"document {'x' * (i % 11)} {i % 150}" for i in range(300)]
"""300 rows over fewer distinct pairs."""
DISTINCT = len(set(zip(QUERIES, DOCUMENTS, strict=True)))


class Counting:
    """A scorer that writes each pair it scores to a file."""

    kind = "ce_logit"

    def __init__(self, log, seconds=0.0, digest="counting"):
        self.log, self.seconds, self.digest = log, seconds, digest

    def score(self, queries, documents):
        time.sleep(self.seconds * len(queries))
        with open(self.log, "a") as log:
            log.writelines(f"{query}|{document}\n" for query, document in zip(queries, documents, strict=True))
        return truth(queries, documents)


def truth(queries, documents):
    """A number made of both texts."""
    pairs = zip(queries, documents, strict=True)
    return np.float32([int(digest_of({"q": q, "d": d})[:6], 16) / 1e3 - 5e3 for q, d in pairs])


def scored(log):
    return Path(log).read_text().splitlines() if Path(log).exists() else []


def test_each_pair_is_scored_once_ever(tmp_path):
    log = tmp_path / "log"
    found = stored(Counting(log), tmp_path).score(QUERIES, DOCUMENTS)
    assert np.array_equal(found, truth(QUERIES, DOCUMENTS)) and found.dtype == np.float32
    lines = scored(log)
    assert len(lines) == len(set(lines)) == DISTINCT
    again = stored(Counting(log), tmp_path).score([*QUERIES[::-1], "new"], [*DOCUMENTS[::-1], "pair"])
    assert np.array_equal(again, truth([*QUERIES[::-1], "new"], [*DOCUMENTS[::-1], "pair"]))
    assert scored(log)[DISTINCT:] == ["new|pair"]
    stored(Counting(log, digest="another"), tmp_path).score(QUERIES[:1], DOCUMENTS[:1])
    assert len(scored(log)) == DISTINCT + 2
    assert stored(Counting(log), tmp_path).score([], []).shape == (0,)


def test_pairs_are_told_apart_by_both_texts():
    keys = pair_keys(["a", "ab", "a", "b"], ["bc", "c", "b", "a"])
    assert len(set(keys.tolist())) == 4


def test_missing_pairs_are_sorted_by_length_over_all(tmp_path):
    log = tmp_path / "log"
    stored(Counting(log), tmp_path).score(QUERIES, DOCUMENTS)
    lengths = [len(line) for line in scored(log)]
    assert lengths == sorted(lengths, reverse=True)


def test_nan_is_stored_as_an_answer(tmp_path):
    log = tmp_path / "log"

    class NoAnswer(Counting):
        def score(self, queries, documents):
            return np.full_like(super().score(queries, documents), np.nan)

    for _ in range(2):
        assert np.isnan(stored(NoAnswer(log), tmp_path).score(["a"], ["b"])).all()
    assert len(scored(log)) == 1


JOB = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.models.test_score_store import Counting, DOCUMENTS, QUERIES, stored
stored(Counting({log!r}, seconds=0.01), Path({cache!r})).score(QUERIES, DOCUMENTS)
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_loses_only_the_chunk_at_work(tmp_path, monkeypatch):
    log, cache = tmp_path / "log", tmp_path / "cache"
    code = JOB.format(root=str(Path(__file__).parents[2]), log=str(log), cache=str(cache))
    job = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
    deadline = time.monotonic() + 60
    while not list(cache.glob("scores-*/*.npy")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    before = scored(log)
    assert FIRST_CHUNK <= len(before) < DISTINCT
    found = stored(Counting(log), cache).score(QUERIES, DOCUMENTS)
    assert np.array_equal(found, truth(QUERIES, DOCUMENTS))
    lines = scored(log)
    assert len(set(lines)) == DISTINCT and len(lines) - DISTINCT <= len(before) - FIRST_CHUNK


def _score_part(cache, log, part):
    stored(Counting(log, seconds=0.001), cache).score(QUERIES[part], DOCUMENTS[part])


def test_several_processes_write_one_store(tmp_path):
    context = multiprocessing.get_context("fork")
    jobs = [
        context.Process(target=_score_part, args=(tmp_path / "cache", tmp_path / f"log-{n}", slice(n, None, 3)))
        for n in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    log = tmp_path / "log"
    assert np.array_equal(
        stored(Counting(log), tmp_path / "cache").score(QUERIES, DOCUMENTS), truth(QUERIES, DOCUMENTS)
    )
    assert scored(log) == []


def test_altered_shards_are_scored_again(tmp_path):
    log = tmp_path / "log"
    stored(Counting(log), tmp_path / "a").score(QUERIES, DOCUMENTS)
    shards = sorted((tmp_path / "a").glob("scores-*/*.npy"))
    content = bytearray(shards[0].read_bytes())
    content[-1] ^= 1
    shards[0].write_bytes(content)
    shards[1].write_bytes(b"\x93NUMPY")
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.warns(HardNegWarning, match="was altered or truncated") as caught:
        for _ in range(2):
            found = stored(Counting(log), tmp_path / "b").score(QUERIES, DOCUMENTS)
            assert np.array_equal(found, truth(QUERIES, DOCUMENTS))
    assert len(caught) == 2
    assert DISTINCT < len(scored(log)) < 2 * DISTINCT


def test_the_cache_lists_and_prunes_scores_also_while_they_are_used(tmp_path):
    scorer = stored(load_cross_encoder(cross_encoder(tmp_path / "model"), cache_dir=tmp_path), tmp_path / "cache")
    first = scorer.score(["a", "b"], ["c", "d"])
    (entry,) = inventory(tmp_path / "cache")
    assert entry.kind == "scores" and "max_length=128" in entry.verbose and "damaged" not in str(entry)
    assert [one.kind for one in prune(tmp_path / "cache", kinds=["scores"]).removed] == ["scores"]
    assert np.array_equal(scorer.score(["a", "b"], ["c", "d"]), first)
    assert len(inventory(tmp_path / "cache")) == 1


def test_scores_are_kept_under_a_scorer_not_around_a_store(tmp_path):
    scorer = stored(Counting(tmp_path / "log"), tmp_path)
    assert stored(scorer, tmp_path) is scorer
    assert (scorer.digest, scorer.kind) == ("counting", "ce_logit")
