"""Strings copied in place against Arrow's own `take`."""

import multiprocessing

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg.arrays.strings import strings_of

quick = settings(deadline=None, max_examples=100)
TEXTS = ["", "a", "é", "日本語 text", "\x00", "x" * 300, "👩‍👩‍👧", "", "last"]


def same(column, rows):
    rows = np.asarray(rows, np.int64)
    taken = strings_of(column).take(rows)
    taken.validate(full=True)
    assert taken.to_pylist() == column.take(pa.array(rows)).to_pylist()
    assert not taken.null_count and len(taken) == len(rows)


@quick
@given(
    data=st.data(),
    chunks=st.lists(st.lists(st.text(max_size=12), max_size=6), max_size=6),
    kind=st.sampled_from([pa.string(), pa.large_string()]),
)
def test_any_chunking(data, chunks, kind):
    arrays = []
    for chunk in chunks:
        before, after = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        arrays.append(pa.array(["cut"] * before + chunk + ["off"] * after, kind).slice(before, len(chunk)))
    column = pa.chunked_array(arrays, kind)
    rows = data.draw(st.lists(st.integers(0, len(column) - 1), max_size=20)) if len(column) else []
    same(column, rows)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_of_slices_and_repeated_rows(kind):
    column = pa.chunked_array([pa.array(TEXTS * 3, kind), pa.array([], kind), pa.array(TEXTS, kind)])
    for start, length in ((0, 36), (4, 30), (26, 3), (35, 1), (9, 0)):
        part = column.slice(start, length)
        same(part, np.random.default_rng(start).integers(0, length, 50) if length else [])
        same(part.slice(length // 2), np.arange(length - length // 2))


def test_only_empty_strings_and_no_rows_at_all():
    same(pa.chunked_array([pa.array(["", "", ""])]), [2, 0, 0])
    same(pa.chunked_array([], pa.string()), [])
    same(pa.chunked_array([pa.array([], pa.string())]), [])


def test_a_column_that_holds_no_strings():
    assert strings_of(pa.chunked_array([[1, 2]])) is None
    assert strings_of(pa.chunked_array([pa.array(["a"]).dictionary_encode()])) is None


def test_buffers_that_lie_at_odd_addresses():
    offsets, characters = np.array([0, 2, 3], np.int32).tobytes(), b"abc"
    memory = pa.py_buffer(b"x" + offsets + characters)
    array = pa.Array.from_buffers(pa.string(), 2, [None, memory.slice(1, 12), memory.slice(13)])
    column = pa.chunked_array([array])
    assert strings_of(column).take(np.array([1, 0, 1])).to_pylist() == ["c", "ab", "c"]


def _take(queue, strings, rows):
    queue.put(strings.take(rows).to_pylist())


@pytest.mark.parametrize("mapped", [False, True])
def test_tables_in_memory_and_mapped_also_in_a_forked_worker(tmp_path, mapped):
    dataset = Dataset.from_dict({"text": TEXTS * 500})
    if mapped:
        dataset.save_to_disk(tmp_path / "saved", num_shards=3)
        dataset = Dataset.load_from_disk(str(tmp_path / "saved"))
    column = dataset.data.column("text")
    rows = np.random.default_rng(0).integers(0, len(column), 200)
    same(column, rows)
    strings, context = strings_of(column), multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_take, args=(queue, strings, rows))
    child.start()
    try:
        assert queue.get(timeout=60) == [TEXTS[row % len(TEXTS)] for row in rows]
    finally:
        child.kill()
        child.join()
