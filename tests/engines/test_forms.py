"""The callable under engines that hand it batches in forms of their own: the rows are the same, the types follow."""

import importlib
import inspect
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import hf_hardneg
from hf_hardneg import HardNegatives
from tests.worlds import encode, needed, world


@pytest.fixture(params=["bm25", "dense"])
def miner(request, tmp_path):
    return HardNegatives(world(0)[1], request.param, num_negatives=3, cache_dir=tmp_path, **needed(request.param))


@pytest.fixture
def table():
    return world(0)[0].data.table.combine_chunks()


def with_dictionaries(table):
    """The same rows with every text, also in lists, as a place in a dictionary."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        array = pa.concat_arrays(column.chunks)
        is_list = pa.types.is_list(array.type)
        encoded = (array.flatten() if is_list else array).dictionary_encode()
        columns[name] = pa.ListArray.from_arrays(array.offsets, encoded) if is_list else encoded
    return pa.table(columns)


def with_large_types(table):
    kinds = {pa.string(): pa.large_string(), pa.list_(pa.string()): pa.large_list(pa.large_string())}
    return table.cast(pa.schema([(field.name, kinds[field.type]) for field in table.schema]))


def test_record_batches_and_iterators_of_them_give_the_same(miner, table):
    (batch,) = table.to_batches()
    mined = miner(batch)
    assert isinstance(mined, pa.RecordBatch) and pa.Table.from_batches([mined]).equals(miner(table))
    parts = miner(iter(table.to_batches(max_chunksize=7)))
    assert isinstance(parts, Iterator)
    assert pa.Table.from_batches(list(parts)).equals(miner(table))


def test_a_batch_without_rows_has_the_types_of_one_with_rows(miner, table):
    empty = pa.RecordBatch.from_pylist([], table.schema)
    (mined,) = miner(iter([empty]))
    assert len(mined) == 0 and mined.schema.equals(miner(table).schema)


@pytest.mark.parametrize("form", [with_dictionaries, with_large_types])
def test_rows_are_the_same_in_dictionaries_and_large_types_which_stay(miner, table, form):
    given, expected = form(table), miner(table)
    mined = miner(given)
    assert mined.schema.names == expected.schema.names and mined.to_pylist() == expected.to_pylist()
    for name in given.schema.names:
        assert mined.schema.field(name).type == given.schema.field(name).type
    parts = [given.slice(start, 5) for start in range(0, len(given), 5)]
    apart = pa.concat_tables([form(table.slice(0, 5)), form(table.slice(5))])
    assert pa.concat_tables(map(miner, parts)).to_pylist() == miner(apart).to_pylist() == expected.to_pylist()


def test_frames_come_out_as_frames(miner, table):
    frame = table.to_pandas()
    mined = pd.concat(list(miner(iter([frame.iloc[:4], frame.iloc[4:]]))))
    expected = miner(table)
    assert list(mined.columns) == expected.column_names and list(mined.index) == list(frame.index)
    assert list(map(list, mined["negatives"])) == expected["negatives"].to_pylist()


def test_an_empty_frame_of_objects_tells_what_comes_out(miner, table):
    names = table.column_names
    objects = pd.DataFrame({name: pd.Series([], dtype=object) for name in names})
    for frame in (objects, table.to_pandas().iloc[:0], pd.DataFrame({name: [] for name in names}, dtype="object")):
        mined = miner(frame)
        assert len(mined) == 0 and list(mined.columns) == miner(table).column_names


def test_an_empty_frame_may_have_vectors(table, tmp_path):
    corpus = world(0)[1]
    corpus = corpus.add_column("vector", list(encode(corpus["text"])))
    columns = {"vector": "vector", "query_vector": "by_me"}
    miner = HardNegatives(corpus, "dense", columns=columns, cache_dir=tmp_path)
    frame = table.to_pandas().assign(by_me=list(encode(table["query"].to_pylist())))
    rows, none = miner(frame), miner(frame.iloc[:0])
    assert len(rows) == len(frame) and len(none) == 0 and list(none.columns) == list(rows.columns)
    assert isinstance(rows["negative_ids"].iloc[0], np.ndarray)


@pytest.mark.parametrize("door", ["engines.ray", "engines.spark", "engines.dask", "engines.daft", "engines.shards"])
def test_what_nobody_says_means_what_it_means_to_mine(door):
    """A strategy of its own would search a document store's texts by BM25, and refuse `mine(pairs, "dense")`."""
    theirs = inspect.signature(importlib.import_module(f"hf_hardneg.{door}").mine).parameters
    ours = inspect.signature(hf_hardneg.mine).parameters
    alike = [name for name in ours if name in theirs]
    assert {"pairs", "corpus", "strategy", "seed"} <= set(alike)
    assert {name: theirs[name].default for name in alike} == {name: ours[name].default for name in alike}
