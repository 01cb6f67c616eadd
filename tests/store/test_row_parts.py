"""A map that was stopped goes on from its parts: at most a twentieth is done twice, and the rows are the same."""

import os
import shutil
import subprocess
import sys

import dill
import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, concatenate_datasets

from hf_hardneg import mine
from hf_hardneg.errors import DataError
from hf_hardneg.runtime import workers
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.arrow_files import stored_rows
from hf_hardneg.store.inventory import inventory, prune
from hf_hardneg.store.row_parts import FEWEST, PARTS, map_rows

pytestmark = pytest.mark.slow

ROWS = 1000
PARAMETERS = {"a": 1}


@pytest.fixture
def rows():
    return Dataset.from_dict({"number": np.arange(ROWS)}).with_format("arrow")


class Squares:
    """Squares of numbers, that notes which rows it was asked for, and stops after some batches."""

    def __init__(self, log, stops_after=None):
        self.log, self.stops_after, self.calls = log, stops_after, 0

    def __call__(self, table):
        if self.calls == self.stops_after:
            raise DataError("The disk of this test is full.")
        self.calls += 1
        numbers = table.column("number").to_numpy()
        with self.log.open("a") as stream:
            stream.writelines(f"{number}\n" for number in numbers)
        return pa.table({"square": numbers[numbers % 7 != 3] ** 2})


def asked(log):
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def obtained(cache, rows, function, *, batch_size=10, num_proc=None):
    def build(folder):
        return map_rows(rows, function, folder, batch_size=batch_size, num_proc=num_proc, desc="Squaring")

    return directories.obtain(cache, kinds.NEGATIVES, PARAMETERS, build, goes_on=True)


def squares(directory):
    return [number for part in stored_rows(directory) for number in part["square"]]


RIGHT = [number**2 for number in range(ROWS) if number % 7 != 3]


@pytest.mark.parametrize("stops_after", [0, 1, 4, 5, 17, 25])
@pytest.mark.parametrize(("num_proc", "then"), [(None, None), (None, 3), (2, None), (3, 2)])
def test_a_stopped_map_goes_on(rows, tmp_path, stops_after, num_proc, then):
    with pytest.raises(DataError):
        obtained(tmp_path, rows, Squares(tmp_path / "before", stops_after), num_proc=num_proc)
    before = asked(tmp_path / "before")
    directory = obtained(tmp_path, rows, Squares(tmp_path / "after"), batch_size=7, num_proc=then)
    again = asked(tmp_path / "after")
    assert squares(directory) == RIGHT
    assert set(before) | set(again) == set(range(ROWS)) and len(again) == len(set(again))
    workers = num_proc or 1
    assert len(set(before) & set(again)) <= workers * max(-(-ROWS // (PARTS * workers)), FEWEST)
    assert {path.name for path in directory.iterdir()} == {"manifest.json", *directories.check(directory).files}
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name or "partial" in path.name] == []


def test_a_finished_map_asks_for_each_row_once(rows, tmp_path):
    assert squares(obtained(tmp_path, rows, Squares(tmp_path / "log"))) == RIGHT
    assert asked(tmp_path / "log") == list(range(ROWS))


@pytest.mark.parametrize("count", [1, FEWEST - 1, FEWEST, FEWEST + 1, 3 * FEWEST, PARTS * FEWEST, 5000])
@pytest.mark.parametrize("num_proc", [None, 2, 16])
def test_parts_are_few_where_rows_are_few_and_a_twentieth_where_they_are_many(tmp_path, count, num_proc):
    rows = Dataset.from_dict({"number": np.arange(count)}).with_format("arrow")
    names = map_rows(rows, Squares(tmp_path / "log"), tmp_path, batch_size=1000, num_proc=num_proc, desc="Squaring")
    sizes = [int(name.split("-")[2]) - int(name.split("-")[1]) for name in names]
    assert sum(sizes) == count and sorted(names) == names
    assert max(sizes) <= max(-(-count // PARTS), FEWEST)
    assert len(sizes) >= min(num_proc or 1, count) / 2


def unfinished(cache):
    (folder,) = cache.glob(".negatives-*.unfinished")
    return folder, sorted(path for path in folder.glob("part-*.arrow"))


def truncated(path):
    os.truncate(path, path.stat().st_size - 8)


def altered(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def linked(path):
    shutil.move(path, path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("damage", [truncated, altered, linked, os.unlink])
def test_a_part_that_is_not_as_it_was_written_is_mapped_again(rows, tmp_path, damage):
    with pytest.raises(DataError):
        obtained(tmp_path, rows, Squares(tmp_path / "before", 50))
    _, parts = unfinished(tmp_path)
    damage(parts[2])
    directory = obtained(tmp_path, rows, Squares(tmp_path / "after"))
    assert squares(directory) == RIGHT
    assert asked(tmp_path / "after") == [*range(100, 150), *range(500, ROWS)]
    assert {path.name for path in directory.iterdir()} == {"manifest.json", *directories.check(directory).files}


@pytest.mark.parametrize("moment", ["before", "while it goes on"])
def test_parts_of_other_sizes_that_a_worker_left_behind_count_no_row_twice(rows, tmp_path, moment):
    """A worker outlives its parent for a second, and publishes what it was asked for."""
    with pytest.raises(DataError):
        obtained(tmp_path, rows, Squares(tmp_path / "before", 50))
    folder, _ = unfinished(tmp_path)
    shards = rows.select(range(470, 530)), rows.select(range(900, ROWS))
    orphans = []
    for shard, start in zip(shards, (470, 900), strict=True):
        other = Squares(tmp_path / "log of the other")
        (place := tmp_path / f"from {start}").mkdir()
        name, *_ = map_rows(shard, other, place, batch_size=100, num_proc=None, desc="Squaring")
        digest = name.rpartition("-")[2]
        orphans.append((place / name, f"part-{start:012d}-{start + FEWEST:012d}-{digest}"))

    def leave():
        for path, name in orphans:
            shutil.copy(path, folder / name)

    function = Squares(tmp_path / "after")

    def mapped(table):
        if moment != "before" and function.calls == 5:
            leave()
        return function(table)

    if moment == "before":
        leave()
    assert squares(obtained(tmp_path, rows, mapped)) == RIGHT


def test_what_a_job_goes_on_from_is_listed_and_pruned_only_if_asked(rows, tmp_path):
    with pytest.raises(DataError):
        obtained(tmp_path, rows, Squares(tmp_path / "before", 50))
    (entry,) = inventory(tmp_path)
    assert entry.kind == "unfinished" and "parts of negatives, from which the same job goes on" in str(entry)
    assert not prune(tmp_path).removed and unfinished(tmp_path)[1]
    assert not prune(tmp_path, older_than=1).removed
    assert len(prune(tmp_path, kinds=["unfinished"]).removed) == 1 and not inventory(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_work_of_another_user_is_left_alone(rows, tmp_path):
    with pytest.raises(DataError):
        obtained(tmp_path, rows, Squares(tmp_path / "before", 50))
    folder, parts = unfinished(tmp_path)
    os.chown(folder, 12345, 12345)
    assert squares(obtained(tmp_path, rows, Squares(tmp_path / "after"))) == RIGHT
    assert asked(tmp_path / "after") == list(range(ROWS))
    assert unfinished(tmp_path) == (folder, parts)


def beside_parts(rows, tmp_path):
    """Rows in memory beside columns in twenty files, which cut them into twenty slices."""
    directory = obtained(
        tmp_path, rows, lambda table: pa.table({"double": [2 * n for n in table["number"].to_pylist()]})
    )
    return concatenate_datasets([rows, concatenate_datasets(stored_rows(directory))], axis=1).with_format("arrow")


def test_rows_in_memory_are_pickled_once_for_a_worker_that_is_not_forked(rows, tmp_path):
    beside = beside_parts(rows, tmp_path)
    assert len(dill.dumps(beside)) > PARTS * rows.data.nbytes
    pickled = workers.compact(beside)
    assert len(pickled) < 3 * rows.data.nbytes
    assert dill.loads(pickled)[:].equals(beside[:])
    assert all(len(column) == ROWS for column in dill.loads(pickled)[:].columns)


def test_a_forked_worker_has_the_rows_of_its_parent(rows, tmp_path, monkeypatch):
    beside = beside_parts(rows, tmp_path)
    monkeypatch.setattr(workers, "compact", lambda rows: pytest.fail("rows were pickled"))
    mapped = obtained(tmp_path / "workers", beside, Squares(tmp_path / "log"), num_proc=2)
    assert squares(mapped) == RIGHT


SPAWNED = """
import sys
import multiprocess
from datasets import Dataset
from hf_hardneg import mine

if __name__ == "__main__":
    multiprocess.set_start_method(sys.argv[1])
    texts = [f"word{row} common{row % 7} other{row % 5}" for row in range(80)]
    pairs = Dataset.from_dict({"query": [text[:7] for text in texts], "positive": texts})
    corpus = Dataset.from_dict({"text": texts})
    print(mine(pairs, corpus, num_proc=2, num_negatives=2, cache_dir=sys.argv[2])["negatives"])
"""


@pytest.mark.slow
def test_spawned_workers_mine_the_same_rows(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    mined = [
        subprocess.check_output([sys.executable, script, method, tmp_path / method], text=True).splitlines()[-1]
        for method in ("fork", "spawn")
    ]
    assert mined[0] == mined[1] != "[]"


ORDERS = {
    "as it is": lambda rows: rows,
    "shuffled": lambda rows: rows.shuffle(seed=3),
    "a part": lambda rows: rows.select(range(100, 1900, 3)),
    "beside a file": lambda rows: concatenate_datasets([rows, rows.map(lambda row: {"query": row["query"]})]),
}


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_mined_beside_rows_in_memory_is_pickled_once(tmp_path, order):
    """As `Dataset.map(num_proc=)` does; each of twenty slices would bring all rows."""
    texts = [f"word{row} common{row % 7} {'x' * 100}" for row in range(2000)]
    columns = {"kept": [[{"a": row, "b": [str(row)]}] for row in range(2000)], "positive": texts}
    pairs = ORDERS[order](Dataset.from_dict({"query": [text[:7] for text in texts], **columns}))
    mined = mine(pairs, Dataset.from_dict({"text": texts}), "random", cache_dir=str(tmp_path))
    assert len(dill.dumps(mined)) < 1.5 * pairs.with_format("arrow")[:].nbytes + 200_000
    kept = ["query", "kept"]
    assert mined.select_columns(kept).to_list() == pairs.select_columns(kept).to_list()
    again = dill.loads(dill.dumps(mined))
    assert again.features == mined.features and again.to_list() == mined.to_list()
