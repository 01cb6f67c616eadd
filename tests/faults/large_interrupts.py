"""Large jobs that are stopped at evenly spread moments and run again: how much of the search is done twice?

    python -m tests.faults.large_interrupts DATA_FOLDER [--points 20] [--jobs bm25 dense]

DATA_FOLDER holds `packages/corpus.parquet`. Points that `benchmarks/interrupts.json` has are not tried again. Rows that
are searched twice are counted, which other programs on the machine do not change.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.interrupts import Command
from tests.faults.kills import left_over

OUTPUT = Path(__file__).parents[2] / "benchmarks/interrupts.json"
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LIMIT = 1800.0
QUERIES = 60_000
VECTORS, ASKED, WIDTH = 100_000, 30_000, 128
OPTIONS = {
    "bm25": ["--strategy=bm25", "--num-proc=2", "--confirm-cost"],
    "dense": ["--strategy=margin", "--columns", "vector=vector", "query_vector=vector", "--confirm-cost"],
}


def bm25_files(data: Path, folder: Path) -> None:
    """Package descriptions, and queries that are the first words of some of them."""
    corpus = pq.read_table(data / "packages/corpus.parquet", columns=["_id", "text"])
    some = corpus.take(np.linspace(0, len(corpus) - 1, QUERIES).astype(int))
    asked = [" ".join(text.split()[:6]) for text in some["text"].to_pylist()]
    pq.write_table(corpus, folder / "corpus.parquet")
    pq.write_table(
        pa.table({"query": asked, "positive_ids": [[name] for name in some["_id"].to_pylist()]}),
        folder / "pairs.parquet",
    )


def dense_files(data: Path, folder: Path) -> None:
    """Vectors without structure, which are the hardest to search."""

    def drawn(seed: int, rows: int) -> pa.Array:
        values = np.random.default_rng(seed).normal(size=rows * WIDTH).astype(np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(values), WIDTH)

    texts = [f"document {row}" for row in range(VECTORS)]
    asked = {"query": [f"query {row}" for row in range(ASKED)], "positive": texts[:ASKED]}
    pq.write_table(pa.table({"text": texts, "vector": drawn(0, VECTORS)}), folder / "corpus.parquet")
    pq.write_table(pa.table({**asked, "vector": drawn(1, ASKED)}), folder / "pairs.parquet")


FILES = {"bm25": bm25_files, "dense": dense_files}


def rows_of(folder: Path) -> pa.Table:
    """The rows that a command wrote."""
    from datasets import load_from_disk

    return load_from_disk(str(folder / "out")).with_format("arrow")[:].combine_chunks()


def stopped(name: str, data: str, moment: float, end: signal.Signals, whole: tuple[pa.Table, int]) -> dict[str, Any]:
    """What a command that is stopped so many seconds after its start says, and what its second run does."""
    expected, total = whole
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        job = Command(data, OPTIONS[name], folder, "first")
        time.sleep(moment)
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, end)
        ended = job.ends_within(LIMIT)
        left_over([job.pid])
        said = job.printed.read_text()
        again = Command(data, OPTIONS[name], folder, "again")
        finished = again.ends_within(LIMIT) and again.code == 0
        return {
            "seconds": float(moment),
            "signal": end.name,
            "ended": ended,
            "traceback": "Traceback" in said,
            "says_how_to_go_on": "the same command goes on from there" in said,
            "rows_searched": job.rows,
            "share_searched_twice": max(job.rows + again.rows - total, 0) / total,
            "equal": finished and rows_of(folder).equals(expected),
        }


def main() -> None:
    """Try every point that the table lacks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--jobs", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    options = parser.parse_args()
    table = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    for name in options.jobs:
        with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as place:
            FILES[name](options.data, Path(data))
            began = time.monotonic()
            job = Command(data, OPTIONS[name], Path(place), "first")
            assert job.ends_within(LIMIT) and job.code == 0, job.printed.read_text()
            seconds, whole = time.monotonic() - began, (rows_of(Path(place)), job.rows)
            tried = table.setdefault(name, {"undisturbed_seconds": seconds, "rows": whole[1], "points": {}})
            for number, share in enumerate((np.arange(options.points) + 0.5) / options.points):
                if f"{share:.3f}" not in tried["points"]:
                    point = stopped(name, data, share * seconds, ENDS[number % len(ENDS)], whole)
                    print(name, f"{share:.3f}", point, flush=True)
                    tried["points"][f"{share:.3f}"] = point
                    OUTPUT.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
