"""What is read of a cache is what was published there, by whom, and within its bounds."""

import os
import shutil
import threading

import numpy as np
import pytest

from hf_hardneg import HardNegatives, mine
from hf_hardneg.cli import main
from hf_hardneg.corpus import positives
from hf_hardneg.errors import ConfigError, HardNegWarning, StoreError
from hf_hardneg.hub.push import _index_files
from hf_hardneg.index.bm25 import bm25_index
from hf_hardneg.index.dense import dense_index
from hf_hardneg.store import directories, kinds, owners
from hf_hardneg.store.inventory import inventory, prune
from hf_hardneg.store.replies import Replies, keep, known
from hf_hardneg.store.stored_arrays import Schema, Stored
from hf_hardneg.training.generations import Generations
from tests.worlds import SMALL, encode, needed, world


def mined(cache, strategy="bm25", **options):
    pairs, corpus = world(5)
    options = {**needed(SMALL[strategy]), **options}
    return mine(pairs, corpus, SMALL[strategy], cache_dir=str(cache), **options)["negative_ids"][:]


def only(cache, kind):
    (directory,) = cache.glob(f"{kind}-*")
    return directory


def rot(path, place=-1):
    """Change a byte under the file's size and time."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def publish_again(directory, change):
    """Change a directory and its manifest alike, as no disk does: what is left to tell are bounds."""
    manifest = directories.read_manifest(directory)
    change(directory)
    (directory / directories.MANIFEST).unlink()
    moved = directory.rename(directory.with_name("moved"))
    kind = kinds.KINDS[manifest.kind]
    directories.publish(directory, kind, manifest.parameters, lambda to: shutil.copytree(moved, to, dirs_exist_ok=True))
    shutil.rmtree(moved)


def test_files_that_no_manifest_lists_are_not_read(tmp_path):
    expected = mined(tmp_path)
    for kind in ("candidates", "negatives"):
        part = min(only(tmp_path, kind).glob("part-*.arrow"))
        shutil.copy(part, part.with_name(part.name.replace("part-", "part-1")))
    assert mined(tmp_path) == expected
    shutil.rmtree(only(tmp_path, "negatives"))
    assert mined(tmp_path) == expected


@pytest.mark.parametrize("stand_in", [lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("moved")])
@pytest.mark.parametrize("name", [directories.MANIFEST, "terms.ends.npy"])
def test_only_regular_files_are_read_and_nothing_waits(tmp_path, name, stand_in):
    mined(tmp_path)
    path = only(tmp_path, "bm25") / name
    path.rename(path.with_name("moved"))
    stand_in(path)
    with pytest.raises(StoreError, match=f"{name} .*(a link|a folder|a pipe)"):
        directories.check(path.parent)
    assert len(inventory(tmp_path)) == len(prune(tmp_path, everything=True, dry_run=True).removed) > 4


def test_rot_of_a_large_file_is_found_by_verifying(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(directories, "SMALL", 0)
    expected = mined(tmp_path, "dense")
    keys = only(tmp_path, "keys") / "sorted_keys.npy"
    rot(keys)
    directories.check(keys.parent)
    for verb in (
        mined,
        lambda cache, *rest, **options: HardNegatives(world(5)[1], "bm25", cache_dir=str(cache), **options),
    ):
        with pytest.raises(StoreError, match="sorted_keys.npy was altered: its checksum"):
            verb(tmp_path, "dense", verify=True)
    assert main(["cache", "verify", "--cache-dir", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "1 of " in shown and shown.count("was altered") == 1
    shutil.rmtree(keys.parent)
    assert mined(tmp_path, "dense", verify=True) == expected
    assert main(["cache", "verify", "--cache-dir", str(tmp_path)]) == 0


def test_rot_of_a_small_file_is_found_at_once(tmp_path):
    mined(tmp_path)
    rot(only(tmp_path, "keys") / "sorted_keys.npy")
    with pytest.raises(StoreError, match="sorted_keys.npy was altered: its checksum"):
        mined(tmp_path)


def test_verify_reads_each_directory_once(tmp_path, monkeypatch):
    mined(tmp_path)
    read = []
    digest = directories.file_digest
    monkeypatch.setattr(directories, "file_digest", lambda path: read.append(path) or digest(path))
    monkeypatch.setattr(directories, "SMALL", 0)
    monkeypatch.setattr(directories, "LARGE", 0)
    mined(tmp_path, verify=True)
    assert (
        len(read)
        == len(set(read))
        == sum(len(directories.read_manifest(p.parent).files) for p in tmp_path.glob("*/man*"))
    )
    with pytest.raises(ConfigError, match="verify"):
        mined(tmp_path, verify="yes")


def test_what_another_user_published_is_read_and_said_once(tmp_path, monkeypatch):
    monkeypatch.delenv(owners.TRUSTED, raising=False)
    monkeypatch.setattr(owners, "_said", set())
    expected = mined(tmp_path)
    name = owners._name(os.geteuid())
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.warns(HardNegWarning, match=f"was published by the user {name}, and is read") as caught:
        assert mined(tmp_path) == expected
        assert mined(tmp_path) == expected
    assert len(caught) == 1
    monkeypatch.setenv(owners.TRUSTED, f"somebody, {name}")
    assert mined(tmp_path) == expected
    for trusted in ("", "somebody"):
        monkeypatch.setenv(owners.TRUSTED, trusted)
        with pytest.raises(StoreError, match=f"published by the user {name}, and {owners.TRUSTED}='{trusted}'"):
            mined(tmp_path)


def _edit(name, change):
    def apply(directory):
        values = np.load(directory / f"{name}.npy")
        change(values)
        np.save(directory / f"{name}.npy", values)

    return apply


def _set(place, value):
    def change(values):
        values[place] = value

    return change


OUT_OF_BOUNDS = {
    "rows beyond the corpus": ("indices.csc.index", _set(-1, 1000)),
    "rows below it": ("indices.csc.index", _set(0, -5)),
    "rows that descend": ("indices.csc.index", lambda values: values[:] if values[::-1].sort() else None),
    "terms that end before they begin": ("indptr.csc.index", _set(1, 10**12)),
    "weights that are no numbers": ("data.csc.index", _set(0, np.nan)),
    "largest weights that are none": ("largest", _set((0, 0), np.nan)),
    "bitmaps of other terms": ("common", _set(0, 10**6)),
    "bitmaps that count too much": ("before", lambda values: values.__iadd__(10**6)),
    "bitmaps of other documents": ("bits", _set((0, 0), 0)),
    "terms outside their text": ("terms.ends", _set(-1, 10**6)),
    "places of terms that there are not": ("terms.slots", _set(0, 10**6)),
    "no free place": ("terms.slots", _set(slice(None), 0)),
}


@pytest.mark.parametrize("case", OUT_OF_BOUNDS)
def test_bm25_follows_nothing_out_of_its_files(tmp_path, case):
    mined(tmp_path)
    name, change = OUT_OF_BOUNDS[case]
    publish_again(only(tmp_path, "bm25"), _edit(name, change))
    bm25_index._opened.cache_clear()
    Schema.opened.__globals__["_opened"].cache_clear()
    with pytest.raises(StoreError, match=r"npy was altered: .* rm -r"):
        bm25_index._opened(only(tmp_path, "bm25"))


@pytest.mark.parametrize(("name", "change"), [("scales", _set(0, np.nan)), ("norms", _set(0, -1))])
def test_codes_are_numbers_of_the_vectors_beside_them(tmp_path, name, change):
    mined(tmp_path, "dense")
    publish_again(only(tmp_path, "dense"), _edit(name, change))
    dense_index.close_indexes()
    Schema.opened.__globals__["_opened"].cache_clear()
    with pytest.raises(StoreError, match=f"{name}.npy was altered"):
        dense_index._codes(only(tmp_path, "dense"))


def test_a_flat_index_is_as_large_as_it_says(tmp_path):
    mined(tmp_path, "dense")
    path = only(tmp_path, "dense") / dense_index.FILE
    assert dense_index._is_flat(path)
    content = path.read_bytes()
    for place in (0, dense_index.WIDTH_AT, dense_index.COUNT_AT, dense_index.SIZE_AT, 32):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert not dense_index._is_flat(path)


ARRAY = np.arange(6, dtype=np.int64)


@pytest.mark.parametrize(
    ("array", "stored", "text"),
    [
        (ARRAY.astype(np.int32), Stored(np.int64, "n"), "values of type '<i4', not int64"),
        (ARRAY.reshape(2, 3), Stored(np.int64, "n"), "has the shape"),
        (ARRAY, Stored(np.int64, "n 2"), "has the shape"),
        (ARRAY, Stored(np.int64, "known"), "its known is 5"),
        (ARRAY, Stored(np.int64, "n", least=1), "holds values below 1"),
        (ARRAY, Stored(np.int64, "n", least=0, below="known"), "holds values of 5 and more"),
        (ARRAY[::-1], Stored(np.int64, "n+1", bounds="known"), "does not ascend to 5"),
        (np.array([0, 3, 2, 5]), Stored(np.int64, "n+1", bounds="known"), "does not ascend to 5"),
    ],
)
def test_arrays_are_those_of_their_schema(tmp_path, array, stored, text):
    directory = directories.obtain(tmp_path, kinds.KEYS, {}, lambda folder: np.save(folder / "a.npy", array))
    with pytest.raises(StoreError, match=text):
        Schema.of({"a": stored}).opened(directory, known=5)
    assert np.array_equal(
        Schema.of({"a": Stored(array.dtype, " ".join("nm"[: array.ndim]))}).opened(directory)["a"], array
    )


def test_arrays_come_back_whatever_their_order_and_keep_no_file_open(tmp_path):
    arrays = {"c": np.ones((3, 2)), "f": np.asfortranarray(np.arange(6.0).reshape(3, 2)), "empty": np.zeros((0, 2))}

    def build(directory):
        for name, values in arrays.items():
            np.save(directory / f"{name}.npy", values)

    directory = directories.obtain(tmp_path, kinds.KEYS, {}, build)
    before = len(os.listdir("/proc/self/fd"))
    read = Schema.of({name: Stored(np.float64, f"{name} 2") for name in arrays}).opened(directory)
    assert len(os.listdir("/proc/self/fd")) == before
    for name, values in arrays.items():
        assert np.array_equal(read[name], values) and not read[name].flags.writeable


def test_a_lost_or_garbled_pointer_is_no_warm_start(tmp_path):
    generations = Generations(tmp_path)
    assert generations.current == 0
    generations.publish(1, {}, lambda directory: (directory / "x").write_text("x"))
    assert generations.current == 0
    pointer = tmp_path / "CURRENT"
    for content in (b"", b"{", b'{"generation": "1"}', b'{"generation": -1}', b"[1]", b"\xff", b" " * 2000):
        pointer.write_bytes(content)
        with pytest.raises(StoreError, match="which negatives serve is not known"):
            generations.current  # noqa: B018
    pointer.unlink()
    with pytest.raises(StoreError, match="CURRENT is missing"):
        generations.current  # noqa: B018
    generations.switch(0)
    assert generations.current == 0


def test_altered_replies_are_asked_again(tmp_path):
    replies = Replies.of(tmp_path, {"model": "none"})
    with replies.opened() as connection:
        for key in "ab":
            keep(connection, key, f"reply to {key}")
        connection.execute("UPDATE answers SET text = ? WHERE key = 'a'", (b"another reply",))
        with pytest.warns(HardNegWarning, match="1 stored replies were altered"):
            assert known(connection, ["a", "b", "c"]) == {"b": "reply to b"}
    assert main(["cache", "verify", "--cache-dir", str(tmp_path)]) == 1


def test_push_sends_what_the_manifest_lists(tmp_path):
    mined(tmp_path)
    root = only(tmp_path, "bm25")
    listed = set(directories.read_manifest(root).files)
    (root / "notes.txt").write_text("not for the Hub")
    assert set(_index_files(root)) == {f"index/{root.name}/{name}" for name in (*listed, directories.MANIFEST)}
    name = sorted(listed)[0]
    (root / name).rename(tmp_path / "elsewhere")
    (root / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        _index_files(root)


def test_a_listing_goes_on_while_a_job_writes_and_prunes(tmp_path):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            made = directories.obtain(
                tmp_path, kinds.KEYS, {"a": 1}, lambda folder: (folder / "x").write_text("x" * 1000)
            )
            shutil.rmtree(made)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(200):
            assert all(entry.kind in ("keys", "partial") for entry in inventory(tmp_path))
    finally:
        stop.set()
        worker.join()


def test_vectors_of_texts_are_no_damaged_directory(tmp_path):
    mined(tmp_path, "dense")
    (entry,) = (entry for entry in inventory(tmp_path) if entry.kind == "vectors")
    assert "damaged" not in str(entry) and f"width={encode(['a']).shape[1]}" in entry.built_from


@pytest.mark.parametrize("row", [10**6, -1])
def test_known_positives_lie_in_the_corpus_or_among_the_texts(tmp_path, row):
    mined(tmp_path)
    directory = only(tmp_path, "positives")
    inside = int(np.flatnonzero(np.load(directory / "rows.npy") >= 0)[0])
    publish_again(directory, _edit("rows", _set(inside, row)))
    for remembered in (positives._positives, Schema.opened.__globals__["_opened"]):
        remembered.cache_clear()
    for kind in ("candidates", "negatives"):
        shutil.rmtree(only(tmp_path, kind))
    with pytest.raises(StoreError, match="rows.npy was altered"):
        mined(tmp_path)
