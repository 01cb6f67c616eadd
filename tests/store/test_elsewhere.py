"""Work that travels: what it raises comes back, what it maps is named where a node lacks it, or copied there once."""

import os
import pickle
import platform
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import pyarrow as pa
import pytest

from hf_hardneg import HardNegatives
from hf_hardneg.errors import DataError, StoreError, WorkerError
from hf_hardneg.runtime.workers import of_bytes, to_bytes
from hf_hardneg.store.elsewhere import Work, map_elsewhere, on
from hf_hardneg.store.mirrors import Mirror, packed
from tests.worlds import world

pytestmark = pytest.mark.slow


@dataclass
class Processes:
    """Processes of this machine as the workers of an engine; the next pool does what the last one left."""

    workers: int = 2
    name: str = "Processes"
    pools: list = field(default_factory=list)

    def ask(self, work, rows):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            self.pools.append(pool)
            return pool.submit(work, rows).result()


def doubled(table):
    return pa.table({"n": pa.array([2 * n for n in table["n"].to_pylist()])})


def refuses(table):
    raise DataError(f"{len(table)} rows were given; none is allowed. Give none.")


def ends(table):
    os._exit(3)


def tables(count):
    return [pa.table({"n": [number]}) for number in range(count)]


def test_each_table_comes_back_with_its_place():
    with on(Processes()):
        mapped = dict(map_elsewhere(doubled, tables(3), desc="Doubling"))
    assert {place: table["n"].to_pylist() for place, table in mapped.items()} == {0: [0], 1: [2], 2: [4]}


def test_what_a_worker_raises_is_raised_here_with_its_traceback_and_is_not_tried_again():
    engine = Processes(workers=1)
    with on(engine), pytest.raises(DataError, match="1 rows were given") as caught:
        list(map_elsewhere(refuses, tables(1), desc="Refusing"))
    assert "in refuses" in str(caught.value.__cause__) and len(engine.pools) == 1


def test_rows_over_which_workers_are_lost_are_sent_three_times():
    engine = Processes(workers=1)
    with on(engine), pytest.raises(WorkerError, match=r"Ending: 3 workers of Processes .* BrokenProcessPool"):
        list(map_elsewhere(ends, tables(1), desc="Ending"))
    assert len(engine.pools) == 3


def test_a_file_that_a_node_does_not_see_is_named_with_the_node(tmp_path):
    pairs, corpus = world(0)
    miner = HardNegatives(corpus, "bm25", cache_dir=tmp_path / "cache")
    travelling = pickle.dumps(miner)
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError) as caught:
        pickle.loads(travelling)
    for part in (platform.node(), str(tmp_path / "cache"), "corpus", "shared="):
        assert part in str(caught.value)
    (tmp_path / "elsewhere").rename(tmp_path / "cache")
    again = pickle.loads(travelling)
    (index,) = (tmp_path / "cache").glob("bm25-*")
    shutil.rmtree(index)
    with pytest.raises(StoreError, match=f"{index} is not there on the node {platform.node()}"):
        again(pairs.data.table)


def test_a_corpus_of_several_files_travels(tmp_path):
    from datasets import concatenate_datasets, load_from_disk

    pairs, corpus = world(0)
    for number, part in enumerate((corpus.select(range(20)), corpus.select(range(20, 60)))):
        part.save_to_disk(tmp_path / str(number))
    parts = concatenate_datasets([load_from_disk(str(tmp_path / str(number))) for number in range(2)])
    miner = HardNegatives(parts, "bm25", cache_dir=tmp_path)
    assert pickle.loads(pickle.dumps(miner))(pairs.data.table).equals(miner(pairs.data.table))
    assert len(pickle.dumps(miner)) < 8000


def test_what_a_function_maps_is_copied_to_a_node_once(tmp_path, monkeypatch):
    pairs, corpus = world(0)
    corpus.save_to_disk(tmp_path / "mine")  # a corpus that is mapped from outside the cache
    from datasets import load_from_disk

    cache = tmp_path / "cache"
    miner = HardNegatives(load_from_disk(str(tmp_path / "mine")), "bm25", cache_dir=cache)
    expected = miner(pairs.data.table)
    mirror = Mirror(url=f"file://{tmp_path}/shared", root=str(cache))
    work = Work(packed(miner, mirror), mirror)
    shutil.rmtree(cache)
    shutil.rmtree(tmp_path / "mine")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "node")
    assert of_bytes(work(to_bytes(pairs.data.table))).equals(expected)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "node").rglob("*.npy")}
    shutil.rmtree(tmp_path / "shared")  # all is there, so that nothing is asked of it
    second = Work(work.function + b" ", mirror)  # of another name, so unpickled again
    assert of_bytes(second(to_bytes(pairs.data.table))).equals(expected)
    assert before and before == {path: path.stat().st_mtime_ns for path in (tmp_path / "node").rglob("*.npy")}


def test_a_url_that_cannot_be_reached_is_named(tmp_path):
    mirror = Mirror(url="nosuch://bucket/folder", root=str(tmp_path))
    miner = HardNegatives(world(0)[1], "bm25", cache_dir=tmp_path)
    with pytest.raises(StoreError, match=r"shared='nosuch://bucket/folder' \(ValueError"):
        packed(miner, mirror)
