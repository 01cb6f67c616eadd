"""Killed builds, racing builds, and files that are not what they were."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys

import pytest

from hf_hardneg import HardNegatives, mine
from hf_hardneg.errors import StoreError
from hf_hardneg.index.late import token_index
from hf_hardneg.store import directories, kinds, stored_arrays
from hf_hardneg.store.inventory import SHARDED
from tests.faults.disks import (
    BIND,
    READ_ONLY,
    REMOUNT,
    WORKS,
    fingerprint,
    mount,
    no_mounts,
    said_in_child,
    undisturbed,
    unshare,
)
from tests.worlds import SMALL, needed, world

pytestmark = pytest.mark.slow

POINTS = 20
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "shutil.rmtree"}


def _mine(cache, strategy):
    pairs, corpus = world(4)
    mined = mine(pairs, corpus, SMALL[strategy], **needed(SMALL[strategy]), cache_dir=str(cache))
    return mined["negative_ids"][:]


def _count(queue, cache, strategy):
    events = []
    sys.addaudithook(lambda event, arguments: events.append(1) if _counts(event, arguments, cache) else None)
    _mine(cache, strategy)
    queue.put(len(events))


def _counts(event, arguments, cache):
    return event in EVENTS and str(cache) in str(arguments[0])


def _die(cache, strategy, point):
    """Mine, and be killed at the given file system event under the cache."""
    seen = 0

    def hook(event, arguments):
        nonlocal seen
        if _counts(event, arguments, cache):
            seen += 1
            if seen == point:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    _mine(cache, strategy)


@pytest.mark.parametrize("strategy", ["bm25", "dense", "splade", "colbert"])
def test_a_build_killed_at_any_point_is_built_again(tmp_path, strategy):
    expected = _mine(tmp_path / "clean", strategy)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    counter = context.Process(target=_count, args=(queue, tmp_path / "counted", strategy))
    counter.start()
    events = queue.get(timeout=60)
    counter.join()
    points = sorted({1 + events * step // POINTS for step in range(POINTS)})
    assert len(points) == POINTS
    killed = 0
    for point in points:
        cache = tmp_path / f"killed-{point}"
        child = context.Process(target=_die, args=(cache, strategy, point))
        child.start()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        published = [path for path in cache.glob("[!.]*") if path.name.partition("-")[0] not in SHARDED]
        for directory in published:
            directories.check(directory)
        assert _mine(cache, strategy) == expected
        assert not list(cache.glob(".*.partial"))
    assert killed == POINTS


def _build_once(root, log, barrier, queue):
    def build(directory):
        with open(log, "a") as stream:
            stream.write("built\n")
        (directory / "data").write_text("content")

    barrier.wait()
    queue.put(str(directories.obtain(root, kinds.KEYS, {"of": "eight"}, build)))


def test_eight_processes_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, queue, log = context.Barrier(8), context.Queue(), tmp_path / "log"
    children = [context.Process(target=_build_once, args=(tmp_path / "c", log, barrier, queue)) for _ in range(8)]
    for child in children:
        child.start()
    found = {queue.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    assert len(found) == 1 and log.read_text() == "built\n"


def _mine_into(queue, cache):
    queue.put(_mine(cache, "bm25"))


def test_eight_processes_mine_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_mine_into, args=(queue, tmp_path / "c")) for _ in range(8)]
    for child in children:
        child.start()
    found = [queue.get(timeout=90) for _ in children]
    for child in children:
        child.join()
    assert all(one == found[0] for one in found)


@pytest.fixture
def published(tmp_path):
    def build(directory):
        (directory / "data.bin").write_bytes(b"x" * 1000)

    return directories.obtain(tmp_path, kinds.KEYS, {"a": 1}, build)


def _again(published):
    def build(_):
        raise AssertionError("built again")

    return directories.obtain(published.parent, kinds.KEYS, {"a": 1}, build)


def test_reuse(published):
    assert _again(published) == published


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda file: file.unlink(), "data.bin is missing"),
        (lambda file: file.write_bytes(b"x" * 10), "truncated or altered: 10 bytes where 1,000 were written"),
        (lambda file: file.write_bytes(b"y" * 1000), "was altered: its checksum"),
        (lambda file: (file.parent / directories.MANIFEST).unlink(), "manifest.json is missing"),
        (lambda file: (file.parent / directories.MANIFEST).write_text("{"), "not readable JSON"),
        (
            lambda file: (file.parent / directories.MANIFEST).write_text('{"format": 99}'),
            "has format 99; this version reads",
        ),
    ],
)
def test_damage_is_named_with_the_way_out(published, damage, text):
    damage(published / "data.bin")
    with pytest.raises(StoreError, match=text) as caught:
        _again(published)
    assert f"rm -r {published}" in str(caught.value)


def test_a_directory_of_something_else_is_refused(published):
    other = directories.obtain(
        published.parent, kinds.KEYS, {"a": 2}, lambda directory: (directory / "x").write_text("x")
    )
    shutil.rmtree(published)
    other.rename(published)
    with pytest.raises(StoreError, match="was built for another corpus, encoder or setting"):
        _again(published)


def test_a_relative_cache_is_the_same_in_another_folder(tmp_path, monkeypatch):
    (tmp_path / "else").mkdir()
    pairs, corpus = world(4)
    monkeypatch.chdir(tmp_path)
    miner = HardNegatives(corpus, SMALL["bm25"], cache_dir="relative")
    expected, sent = miner(pairs[:2])["negative_ids"], pickle.dumps(miner)
    monkeypatch.chdir(tmp_path / "else")
    assert pickle.loads(sent)(pairs[:2])["negative_ids"] == expected
    assert list((tmp_path / "else").iterdir()) == []


def test_a_cache_may_be_named_from_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert directories.cache_root("~/cache") == tmp_path / "cache"


def test_a_cache_beside_a_working_folder_that_is_gone_is_refused(tmp_path):
    def work():
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with pytest.raises(StoreError, match="is relative, and the working folder is gone. Give an absolute path"):
            directories.cache_root("cache")
        return str(directories.cache_root(tmp_path))

    assert said_in_child(work) == str(tmp_path)


@pytest.mark.parametrize("work", ["BM25", "dense", "stored rows", "scores", "replies"])
def test_a_whole_cache_is_used_where_nothing_can_be_written(tmp_path, work):
    """Copied by somebody who may write, and mounted read-only here."""
    if reason := no_mounts():
        pytest.skip(reason)
    assert said_in_child(lambda: str(WORKS[work](tmp_path) is None), 600) == "False"

    def again():
        unshare()
        mount(str(tmp_path), str(tmp_path), None, BIND, None)
        mount(None, str(tmp_path), None, BIND | REMOUNT | READ_ONLY, None)
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "new").write_text("")
        return fingerprint(WORKS[work](tmp_path))

    assert said_in_child(again) == undisturbed(work)[0]


@pytest.mark.parametrize(
    ("strategy", "kind"), [("bm25", "bm25"), ("dense", "dense"), ("splade", "sparse"), ("colbert", "tokens")]
)
def test_a_worker_that_finds_its_index_gone_says_so(tmp_path, strategy, kind):
    """A miner unpickled in a fresh process, after somebody cleaned the cache."""
    pairs, corpus = world(4)
    miner = HardNegatives(corpus, SMALL[strategy], **needed(SMALL[strategy]), cache_dir=str(tmp_path / "cache"))
    for opened in (token_index._opened, stored_arrays._opened):
        opened.cache_clear()  # a fresh process has opened nothing
    for directory in (tmp_path / "cache").glob(f"{kind}-*"):
        shutil.rmtree(directory)
    with pytest.raises(StoreError, match=f"{kind}-.* is not there on the node .* Construct it again here"):
        miner(pairs[:2])


def test_a_copied_cache_is_accepted(published, tmp_path):
    moved = tmp_path / "elsewhere" / published.name
    shutil.copytree(published, moved, copy_function=shutil.copy)
    assert _again(moved) == moved


def test_the_manifest_says_what_it_was_built_from(tmp_path):
    _mine(tmp_path, "bm25")
    manifests = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/manifest.json")}
    kinds = sorted(one["kind"] for one in manifests.values())
    assert kinds == ["bm25", "candidates", "corpus", "keys", "negatives", "positives"]
    assert all(name.startswith(one["kind"]) for name, one in manifests.items())
