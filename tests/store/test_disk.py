"""What the disk refuses: one error, before a byte is lost unsaid."""

import ast
import errno
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

import faiss
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

import hf_hardneg
from hf_hardneg.errors import ConfigError, EndpointError, StoreError
from hf_hardneg.index.dense.dense_index import write_index
from hf_hardneg.store import directories, disk, kinds, leases
from tests.faults.disks import no_file_above, said_in_child

NOBODY = 65534


@pytest.mark.parametrize(
    "array",
    [
        np.arange(7, dtype=np.int64),
        np.zeros((0, 5), np.float32),
        np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        np.arange(24).reshape(4, 6)[::2, ::3],
        np.array(b"0123456789abcdef", "V16"),
        np.array([(1, 2.5), (3, 4.5)], [("doc", np.int32), ("score", "<f4")]),
        np.array(["a", "longer"]),
        np.array([True, False]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_an_array_is_read_as_it_was_written(tmp_path, array):
    disk.save_array(tmp_path / "array.npy", array)
    read = np.load(tmp_path / "array.npy", allow_pickle=False)
    assert read.dtype == array.dtype and np.array_equal(read, array)


def test_the_bytes_of_an_array_are_those_of_numpy(tmp_path):
    array = np.random.default_rng(0).normal(size=(5, 3))
    np.save(tmp_path / "theirs.npy", array)
    disk.save_array(tmp_path / "ours.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


@pytest.mark.parametrize("count", [3990, 4000, 8114, 100_000])
def test_the_last_bytes_of_an_array_are_not_lost_unsaid(tmp_path, count):
    """Where the room ends within the last buffer of the C library, its error goes to nobody."""
    with no_file_above(4096 * (count // 4096 + 1) if count < 10_000 else 50_000), pytest.raises(StoreError) as caught:
        disk.save_array(tmp_path / "array.npy", np.ones(count, np.uint8))
    assert f"{tmp_path} is larger than may be written" in str(caught.value)
    assert "needed" in str(caught.value) and "free" in str(caught.value)


@pytest.mark.parametrize("count", [20, 5000])
def test_the_last_bytes_of_an_index_are_not_lost_unsaid(tmp_path, count):
    index = faiss.IndexFlatIP(8)
    index.add(np.ones((count, 8), np.float32))
    write_index(index, tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == faiss.serialize_index(index).tobytes()
    with no_file_above((tmp_path / "whole").stat().st_size - 1), pytest.raises(StoreError), disk.writing(tmp_path):
        write_index(index, tmp_path / "cut")


def no_call(*_):
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("how", ["asked for", "refused", "unknown"])
def test_room_is_taken_before_an_array_is_mapped(tmp_path, monkeypatch, how):
    """A file with holes occupies less than it is long; none is left, whatever the file system offers."""
    if how == "refused":
        monkeypatch.setattr(os, "posix_fallocate", no_call)
    if how == "unknown":
        monkeypatch.delattr(os, "posix_fallocate")
    array = disk.reserved(tmp_path / "array.npy", np.float32, (300, 1000))
    assert os.stat(tmp_path / "array.npy").st_blocks * 512 >= 1_200_000
    array[7] = 1.5
    array.flush()
    read = np.load(tmp_path / "array.npy")
    assert read.shape == (300, 1000) and read[7].min() == 1.5 and np.count_nonzero(read) == 1000


def test_no_room_is_taken_for_nothing(tmp_path):
    assert disk.reserved(tmp_path / "array.npy", np.int8, (0, 4)).shape == (0, 4)


def test_an_array_without_room_is_refused_with_its_size(tmp_path):
    with no_file_above(1_000_000), pytest.raises(StoreError, match=r"1 MB needed, .* free"):
        disk.reserved(tmp_path / "array.npy", np.float32, (300, 1000))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"cannot be written: it has no room left \(5 MB needed, [\d.,]+ .?B free\). Make room there"),
        (errno.EDQUOT, r"your quota is used up .* Make room there, or name another place with cache_dir="),
        (errno.EFBIG, r"is larger than may be written .*ulimit -f"),
        (errno.EROFS, "cannot be written: Read-only file system. .* name another place with cache_dir="),
        (errno.EIO, "cannot be written: Input/output error"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_system_refuses_is_said(tmp_path, number, words, wrapped):
    def refuse():
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            if wrapped:
                raise RuntimeError("An error occurred while generating the dataset") from error
            raise

    with pytest.raises(StoreError, match=words) as caught, disk.writing(tmp_path / "new", needed=5e6):
        refuse()
    assert str(tmp_path) in str(caught.value)


def _sqlite(folder):
    connection = sqlite3.connect(folder / "full.sqlite")
    connection.execute("PRAGMA max_page_count = 2")
    connection.execute("CREATE TABLE rows (text TEXT)")
    connection.execute("INSERT INTO rows VALUES (?)", ("long " * 5000,))


def _numpy(folder):
    np.save(folder / "a.npy", np.ones(100_000))


def _safetensors(folder):
    save_file({"weights": np.ones(100_000)}, folder / "model.safetensors")


def _tokenizer(folder):
    Tokenizer(models.WordLevel({f"word {n}": n for n in range(9000)}, unk_token="word 0")).save(str(folder / "t.json"))


def _faiss(folder):
    index = faiss.IndexFlatIP(100)
    index.add(np.ones((1000, 100), np.float32))
    faiss.write_index(index, str(folder / "index"))


@pytest.mark.parametrize("write", [_sqlite, _numpy, _safetensors, _tokenizer, _faiss])
def test_libraries_that_give_no_error_number_are_understood(tmp_path, write):
    with pytest.raises(StoreError, match="free"), disk.writing(tmp_path), no_file_above(20_000):
        write(tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        EndpointError(errno.EIO, "the endpoint is down"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        PermissionError(errno.EACCES, "Permission denied"),
        PermissionError(errno.EACCES, "Permission denied", "/models/of/another/user"),
        ValueError("rows"),
    ],
)
def test_what_is_no_matter_of_the_disk_stays_as_it_is(tmp_path, error):
    with pytest.raises(type(error)) as caught, disk.writing(tmp_path):
        raise error
    assert caught.value is error


def test_the_disk_that_is_full_is_named(tmp_path):
    with pytest.raises(StoreError, match=f"^{tmp_path}/elsewhere cannot be written"), disk.writing("/work"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "elsewhere" / "file"))


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def build(directory):
        (directory / "part").write_bytes(b"x" * 1000)
        disk.save_array(directory / "rest.npy", np.ones(10_000))

    with no_file_above(5000), pytest.raises(StoreError, match="free"):
        directories.obtain(tmp_path, kinds.KEYS, {}, build)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(leases.FILES)]
    assert (directories.obtain(tmp_path, kinds.KEYS, {}, build) / "rest.npy").stat().st_size == 80_128


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "CURRENT"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), disk.written(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]
    with disk.written(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new" and [*tmp_path.iterdir()] == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "above" / "folder"
    with pytest.raises(ZeroDivisionError), disk.written(path) as partial:
        partial.mkdir()
        (partial / "half").touch()
        raise ZeroDivisionError
    assert [*path.parent.iterdir()] == []
    with disk.written(path) as partial:
        (partial / "inner").mkdir(parents=True)
        (partial / "inner" / "all").touch()
    with pytest.raises(OSError, match="not empty"), disk.written(path) as partial:
        partial.mkdir()
    assert [*path.parent.rglob("*")] == [path, path / "inner", path / "inner" / "all"]


RENAMES = {
    "store/disk.py": 2,
    "store/inventory.py": 2,
    "training/generations.py": 1,
    "index/bm25/partitioning.py": 1,
    "formats/streams.py": 1,
}
"""`written`; `prune`, which hides what it takes away; an index that moves to its generation; and arrays of a part and
rows that are written again with the types of later ones, in a directory that is published when it is whole."""


@pytest.mark.slow
def test_only_one_function_writes_and_renames():
    """Others rename nothing but directories that are whole."""
    package, counted = Path(hf_hardneg.__file__).parent, Counter()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                renames = node.func.attr in ("rename", "renames") or ast.unparse(node.func) in (
                    "os.replace",
                    "shutil.move",
                )
                if renames or (node.func.attr == "replace" and len(node.args) == 1 and not node.keywords):
                    counted[str(path.relative_to(package))] += 1
    assert counted == RENAMES


def as_another_user(work):
    """What some work says that is run without the rights of root, in a folder where all users may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)

    def run():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return work(folder)

    return folder, lambda: said_in_child(run)


def test_remains_of_another_user_are_built_beside():
    def work(folder):
        return str(directories.obtain(folder, kinds.KEYS, {}, lambda directory: (directory / "data").write_text("all")))

    folder, run = as_another_user(work)
    target = directories.place(folder, kinds.KEYS, {})
    foreign = folder / f".{target.name}.partial"
    foreign.mkdir()
    (foreign / "half").write_text("half")
    foreign.chmod(0o555)
    try:
        assert run() == str(target)
        assert (target / "data").read_text() == "all" and (foreign / "half").read_text() == "half"
        left = sorted(path.name for path in folder.iterdir() if not path.name.startswith(leases.FILES))
        assert left == [foreign.name, target.name]
    finally:
        foreign.chmod(0o755)
        shutil.rmtree(folder)


def test_a_closed_cache_is_named():
    def work(folder):
        (folder / "cache").chmod(0o555) if os.stat(folder / "cache").st_uid == os.geteuid() else None
        with pytest.raises(StoreError, match=f"{folder}/cache/.* cannot be written: Permission denied. Make it yours"):
            directories.obtain(folder / "cache" / "deep", kinds.KEYS, {}, lambda directory: None)
        with pytest.raises(
            ConfigError, match=f"--out {folder}/cache/a/b cannot be written: {folder}/cache is no folder"
        ):
            disk.check_writable(folder / "cache" / "a" / "b", "--out")
        return "named"

    folder, run = as_another_user(work)
    (folder / "cache").mkdir(mode=0o755)
    try:
        assert run() == "named"
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["file/out", "x" * 300, "x" * 250, "with\0null"])
def test_a_place_where_nothing_can_be_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be written: .* Give another"):
        disk.check_writable(tmp_path / name, "--out")


def test_a_place_that_need_not_exist_is_accepted_and_left_as_it_was(tmp_path):
    disk.check_writable(tmp_path / "deep" / "er" / "out", "--out")
    assert list(tmp_path.iterdir()) == []


def test_room_is_that_of_the_nearest_folder(tmp_path):
    assert abs(disk.room_of(tmp_path / "not" / "there") - shutil.disk_usage(tmp_path).free) < 1e9


def test_no_place_for_scratch_is_said(monkeypatch):
    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(StoreError, match="No usable temporary directory.*TMPDIR"), disk.scratch():
        pass
