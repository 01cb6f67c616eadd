"""What lies in the cache is listed as it is, and only what was asked for goes."""

import json
import multiprocessing
import os
import signal
import sys
import time
from contextlib import contextmanager

import pytest
from datasets import Dataset

from hf_hardneg import HardNegatives, mine
from hf_hardneg.errors import UnknownNameError
from hf_hardneg.store import directories, kinds, leases
from hf_hardneg.store.inventory import inventory, prune
from hf_hardneg.store.locks import Lock
from tests.worlds import encode, world

FORK = multiprocessing.get_context("fork")
DAY = 86400


def filled(root, strategy="bm25", **options):
    pairs, corpus = world(3)
    return mine(pairs, corpus, strategy, cache_dir=str(root), **options)


def aged(path, days):
    when = time.time() - days * DAY
    os.utime(path / directories.MANIFEST, (when, when))


def by_kind(root):
    return {entry.kind: entry for entry in inventory(root)}


def test_every_directory_is_listed_with_its_size_and_what_it_was_built_from(tmp_path):
    start = time.time() - 2
    filled(tmp_path, "dense", encoder=encode)
    found = by_kind(tmp_path)
    assert {"corpus", "keys", "positives", "dense", "vectors"} <= set(found)
    for entry in found.values():
        on_disk = sum(
            os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(entry.path) for name in names
        )
        assert entry.size == on_disk > 0
        assert start < entry.used < time.time() + 2
        assert entry.path.name in entry.verbose and entry.path.name not in str(entry)
    assert "similarity=cosine" in found["dense"].built_from
    assert found["dense"].about == "corpus: 60 documents; model: encode"
    assert found["candidates"].about == "corpus: 60 documents; model: encode; pairs: 36 rows"
    assert [entry.used for entry in inventory(tmp_path)] == sorted(entry.used for entry in inventory(tmp_path))


def test_what_is_not_ours_is_neither_listed_nor_removed(tmp_path):
    for name in ("data", ".hidden.partial", "bm25-notes", "vectors-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / directories.MANIFEST).write_text("{}")
    assert inventory(tmp_path) == []
    prune(tmp_path, everything=True)
    assert len(list(tmp_path.iterdir())) == 4
    assert inventory(tmp_path / "missing") == []


def test_only_remains_of_dead_builds_go_unasked(tmp_path):
    filled(tmp_path)
    before = by_kind(tmp_path)
    partial = tmp_path / f".bm25-{'0' * 32}.partial"
    partial.mkdir()
    (partial / "data").write_bytes(b"12345")
    result = prune(tmp_path)
    assert [entry.path for entry in result.removed] == [partial] and result.removed[0].size == 5
    assert "freed 5 B in 1 directories" in str(result)
    assert by_kind(tmp_path) == before and not partial.exists()


def _use(root, pipe, strategy, **options):
    """Another process: it opens what is built already, and reads it when it is told to."""
    miner = HardNegatives(*world(3)[1:], strategy, cache_dir=str(root), **options)
    pipe.send("opened")
    pipe.recv()
    sys.exit(len(miner(world(3)[0][:3])["negatives"]) - 3)


@contextmanager
def in_use(root, strategy="bm25", **options):
    """A process that made a miner, and mines with it afterwards; it must find what it needs."""
    ours, its = FORK.Pipe()
    process = FORK.Process(target=_use, args=(root, its, strategy), kwargs=options)
    process.start()
    assert ours.recv() == "opened"
    yield process
    ours.send("read")
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize(("strategy", "options"), [("bm25", {}), ("dense", {"encoder": encode})])
def test_what_another_process_has_opened_stays_and_serves_it(tmp_path, strategy, options):
    filled(tmp_path, strategy, **options)
    with in_use(tmp_path, strategy, **options) as process:
        result = prune(tmp_path, everything=True)
        kept = {entry.kind for entry in result.in_use}
        assert {"corpus", "keys", strategy} <= kept and "candidates" not in kept
        assert {entry.kind for entry in inventory(tmp_path)} == kept
        assert str(result).count(f"in use by process {process.pid} on ") == len(kept)
        assert prune(tmp_path, everything=True, dry_run=True).in_use == result.in_use
    assert {entry.kind for entry in prune(tmp_path, everything=True).removed} == kept


def test_what_a_killed_process_had_open_goes_and_nothing_is_left_of_it(tmp_path):
    filled(tmp_path)
    with pytest.raises(AssertionError), in_use(tmp_path) as process:
        process.kill()
    assert [path.name for path in tmp_path.glob(f"{leases.FILES}{process.pid}-*")]
    assert prune(tmp_path, everything=True).in_use == ()
    assert {path.name.rpartition("-")[0] for path in tmp_path.iterdir()} <= {f"{leases.FILES}{os.getpid()}"}


def test_what_a_child_of_a_dead_process_reads_stays(tmp_path):
    """The child was forked after its parent had opened the index."""
    filled(tmp_path)
    pipe = os.pipe()
    parent = os.fork()
    if not parent:
        HardNegatives(*world(3)[1:], "bm25", cache_dir=str(tmp_path))
        child = os.fork()
        if child:
            os.write(pipe[1], f"{child}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    child = int(os.read(pipe[0], 100))
    os.waitpid(parent, 0)
    try:
        assert "bm25" in {entry.kind for entry in prune(tmp_path, everything=True).in_use}
    finally:
        os.kill(child, signal.SIGKILL)


def _prune(root, going):
    while not going.is_set():
        prune(root, everything=True)


@pytest.mark.slow
def test_pruning_all_the_time_takes_nothing_from_who_mines(tmp_path):
    pairs, corpus = world(3)
    expected = filled(tmp_path / "quiet")[:]
    going = FORK.Event()
    other = FORK.Process(target=_prune, args=(tmp_path / "shared", going))
    other.start()
    try:
        for number in range(8):
            rows = pairs.add_column("other", [number] * len(pairs))
            mined = mine(rows, corpus, "bm25", cache_dir=str(tmp_path / "shared"))
            assert mined.remove_columns("other")[:] == expected
    finally:
        going.set()
        other.join()


def test_a_process_says_for_few_caches_that_it_uses_them(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(leases.AT_MOST + 10):
        directories.obtain(tmp_path / str(number), kinds.KEYS, {"a": 1}, lambda path: (path / "x").write_text("x"))
    assert len(os.listdir("/proc/self/fd")) <= before + leases.AT_MOST
    said = [int(path.parent.name) for path in tmp_path.glob(f"*/{leases.FILES}*")]
    assert sorted(said) == list(range(10, leases.AT_MOST + 10))


def test_a_build_that_holds_its_lock_is_left_alone(tmp_path):
    filled(tmp_path, "dense", encoder=encode)
    found = by_kind(tmp_path)
    dense = found["dense"].path
    with Lock(directories.lock_of(dense)):
        result = prune(tmp_path, kinds=["dense", "keys"])
        assert [entry.kind for entry in result.in_use] == ["dense"]
        assert dense.exists() and not found["keys"].path.exists()
        assert str(result).count(f"in use by process {os.getpid()} on ") == 1
    assert len(prune(tmp_path, kinds=["dense", "vectors"]).removed) == 2


def test_lock_files_that_nobody_holds_go(tmp_path):
    filled(tmp_path)
    (tmp_path / ".bm25-1.lock").touch()
    with Lock(tmp_path / ".bm25-2.lock"):
        prune(tmp_path, dry_run=True)
        assert len(list(tmp_path.glob(".*.lock"))) == 2
        prune(tmp_path)
        assert [path.name for path in tmp_path.glob(".*.lock")] == [".bm25-2.lock"]


def test_age_and_kind_are_both_required(tmp_path):
    filled(tmp_path)
    found = by_kind(tmp_path)
    for kind, days in (("bm25", 10), ("keys", 10), ("positives", 2)):
        aged(found[kind].path, days)
    assert {entry.kind for entry in prune(tmp_path, older_than=5, dry_run=True).removed} == {"bm25", "keys"}
    assert set(by_kind(tmp_path)) == set(found)
    result = prune(tmp_path, older_than=5, kinds=["keys", "positives"])
    assert [entry.kind for entry in result.removed] == ["keys"]
    assert set(by_kind(tmp_path)) == set(found) - {"keys"}


def test_reuse_counts_as_use_and_does_not_disturb_the_checks(tmp_path):
    filled(tmp_path)
    old = by_kind(tmp_path)["bm25"].path
    aged(old, 30)
    filled(tmp_path)
    directories.check(old)
    assert prune(tmp_path, older_than=5).removed == ()


def test_everything_goes_and_mining_builds_it_again(tmp_path):
    first = filled(tmp_path)
    held = sum(entry.size for entry in inventory(tmp_path))
    result = prune(tmp_path, everything=True)
    assert sum(entry.size for entry in result.removed) == held and inventory(tmp_path) == []
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert filled(tmp_path)[:] == first[:]


def test_an_unknown_kind_and_a_damaged_manifest_are_named(tmp_path):
    filled(tmp_path)
    with pytest.raises(UnknownNameError, match="Unknown kind 'bm26'; known are bm25"):
        prune(tmp_path, kinds=["bm26"])
    broken = by_kind(tmp_path)["bm25"].path
    (broken / directories.MANIFEST).write_text("{")
    assert "damaged" in by_kind(tmp_path)["bm25"].about
    assert prune(tmp_path, kinds=["bm25"]).removed[0].path == broken


def test_without_building_opens_what_exists_and_builds_nothing(tmp_path):
    built = []
    with directories.without_building(), pytest.raises(directories.NotPublished, match="does not exist"):
        directories.obtain(tmp_path, kinds.BM25, {"a": 1}, built.append)
    directory = directories.obtain(tmp_path, kinds.BM25, {"a": 1}, lambda path: (path / "x").write_text("x"))
    with directories.without_building():
        assert directories.obtain(tmp_path, kinds.BM25, {"a": 1}, built.append) == directory
    assert built == []


def test_a_dataset_object_is_read_once(tmp_path):
    from hf_hardneg.corpus.documents import open_corpus

    texts = Dataset.from_dict({"text": ["one", "two"], "other": ["three", "four"]})
    digests = {
        open_corpus(texts, columns={"text": name}, cache_dir=str(tmp_path)).digest for name in ("text", "other") * 2
    }
    again = {open_corpus(Dataset.from_dict({"text": ["one", "two"]}), cache_dir=str(tmp_path)).digest}
    assert len(digests) == 2 and again < digests


def test_a_manifest_that_says_nothing_in_words_is_read(tmp_path):
    """As those of caches from before directories said what they are of."""
    pairs, corpus = world(3)
    before = mine(pairs, corpus, "bm25", cache_dir=str(tmp_path))
    for path in tmp_path.glob("*/manifest.json"):
        values = json.loads(path.read_text())
        del values["about"]
        path.write_text(json.dumps(values))
    assert mine(pairs, corpus, "bm25", cache_dir=str(tmp_path))["negative_ids"][:] == before["negative_ids"][:]
    assert {entry.about for entry in inventory(tmp_path)} == {""}
