"""Pages of mapped files: what is given back, what must never be, and that mining gives back what it read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, load_from_disk

from hf_hardneg import Dense, Strategy, mine
from hf_hardneg.store import mapped_memory
from hf_hardneg.store.mapped_memory import release

pytestmark = pytest.mark.skipif(not mapped_memory.MAPS.exists(), reason="needs /proc")

ROWS, WIDTH = 4000, 384


@pytest.fixture(autouse=True)
def released_at_once(monkeypatch):
    monkeypatch.setattr(mapped_memory, "GROWN", 0)


def written(folder):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((ROWS, WIDTH), np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH)
    texts = [f"text {row}" for row in range(ROWS)]
    ids = [[str(row)] for row in range(ROWS)]
    table = {"_id": [one for (one,) in ids], "text": texts, "query": texts, "positive_ids": ids, "vector": column}
    Dataset(pa.table(table)).save_to_disk(folder)
    return load_from_disk(folder), vectors


def resident_share(folder):
    """How much of the files in a folder this process holds in memory."""
    held, total, inside = 0, sum(path.stat().st_size for path in folder.glob("*.arrow")), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            inside = str(folder) in line
        elif inside and line.startswith("Rss:"):
            held += int(line.split()[1]) * 1024
    return held / total


def test_a_column_that_was_read_is_given_back_and_reads_the_same(tmp_path):
    rows, vectors = written(tmp_path)
    column = rows.data.column("vector")
    values = column.combine_chunks().flatten().to_numpy()
    assert resident_share(tmp_path) > 0.9
    release([column])
    assert resident_share(tmp_path) < 0.1
    assert (column.chunk(0).flatten().to_numpy().reshape(-1, WIDTH) == vectors[: len(column.chunk(0))]).all()
    assert (values.reshape(-1, WIDTH) == vectors).all()


def test_what_only_memory_holds_stays(tmp_path):
    np.save(tmp_path / "file.npy", np.zeros(1 << 18, np.float32))
    changed = np.load(tmp_path / "file.npy", mmap_mode="c")
    changed[:] = 1
    private, copied = pa.array(changed), pa.array(np.ones(1 << 18, np.float32))
    assert private.buffers()[1].address == changed.ctypes.data
    release([pa.chunked_array([private]), pa.chunked_array([copied]), pa.chunked_array([pa.array(["a"])])])
    assert changed.sum() == 1 << 18
    assert copied.to_numpy().sum() == 1 << 18


@pytest.mark.slow
@pytest.mark.parametrize("on_shortage", ["keep_fewer", "drop_row"])
def test_mining_gives_back_what_it_read(tmp_path, on_shortage):
    rows, _ = written(tmp_path / "rows")
    mined = mine(
        rows.select_columns(["query", "positive_ids", "vector"]),
        rows.select_columns(["_id", "text", "vector"]),
        Strategy([Dense(20)]),
        columns={"vector": "vector", "query_vector": "vector"},
        on_shortage=on_shortage,
        cache_dir=str(tmp_path / "cache"),
    )
    candidates = next((tmp_path / "cache").glob("candidates-*"))
    assert len(mined) == ROWS
    assert resident_share(tmp_path / "rows") < 0.4
    assert resident_share(candidates) < 0.4
