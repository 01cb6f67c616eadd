"""How fast is an audit, and what does it hold in memory?

    python benchmarks/audit.py [--rows 1000000]

Rows of a query, a positive and five negatives of 40 words each, drawn from a corpus a fifth as large as the rows, are
written to Parquet and audited in a process of their own: as a dataset, as a stream of it, and streamed from ten Parquet
files and from one. Memory is the largest anonymous memory of that process minus that before the audit; pages of mapped
files are not in it. Of a stream of Parquet, `datasets` holds up to the whole of the file that it reads.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, disable_progress_bars, load_dataset

from hf_hardneg import audit

NEGATIVES, WORDS = 5, 40
FORMS = ("dataset", "stream", "stream of ten parquet files", "stream of one parquet file")
FILES = 10
BLOCK = 10_000


def write(path, rows):
    """Mined rows with ids and scores; 1 in 1,000 negatives is its row's positive."""
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{number}" for number in range(20_000)], dtype=object)
    documents = max(rows // 5, 1_000)
    texts = pa.array([" ".join(words) for words in vocabulary[rng.integers(0, 20_000, (documents, WORDS))]])
    writer = None
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        positive = rng.integers(0, documents, size)
        negative = rng.integers(0, documents, (size, NEGATIVES))
        planted = rng.random((size, NEGATIVES)) < 0.001
        negative = np.where(planted, positive[:, None], negative)
        table = pa.table(
            {
                "query_id": pa.array([f"q{row}" for row in range(start, start + size)]),
                "query": pa.array([f"what of number {row} and w{row % 20_000}" for row in range(start, start + size)]),
                "positive": listed(texts.take(pa.array(positive)), 1),
                "positive_ids": listed(pa.array(positive).cast(pa.string()), 1),
                "positive_scores": listed(pa.array(rng.random(size) + 0.5), 1),
                "negatives": listed(texts.take(pa.array(negative.ravel())), NEGATIVES),
                "negative_ids": listed(pa.array(negative.ravel()).cast(pa.string()), NEGATIVES),
                "negative_scores": listed(pa.array(rng.random(size * NEGATIVES)), NEGATIVES),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def split(path):
    """The same rows in ten files; their pattern."""
    file = pq.ParquetFile(path)
    folder = path.with_suffix("")
    folder.mkdir()
    for number in range(FILES):
        with pq.ParquetWriter(folder / f"{number}.parquet", file.schema_arrow) as writer:
            for group in range(number, file.num_row_groups, FILES):
                writer.write_table(file.read_row_group(group))
    return folder / "*.parquet"


def listed(values, width):
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, width, dtype=np.int32)), values)


def anonymous():
    """Anonymous memory of this process in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(path, form):
    """Seconds, megabytes and findings of one audit."""
    disable_progress_bars()
    data = load_dataset("parquet", data_files={"train": str(path)}, split="train", streaming="parquet" in form)
    data = data.to_iterable_dataset() if form == "stream" else data
    audit(Dataset.from_dict({"query": ["a"], "positive": ["b"], "negative": ["c"]}))
    before, most, done = anonymous(), [0.0], threading.Event()

    def watch():
        while not done.wait(0.02):
            most[0] = max(most[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    found = audit(data)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    measured = {"seconds": seconds, "rows_per_second": found.rows / seconds, "memory_mb": most[0] - before}
    return {"form": form, "rows": found.rows, **measured, "counts": found.counts}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=2, metavar=("PATH", "FORM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in (options.rows // 10, options.rows):
            path = Path(folder, f"{rows}.parquet")
            write(path, rows)
            several = split(path)
            for form in FORMS:
                files = several if "ten" in form else path
                command = [sys.executable, __file__, "--measure", str(files), form]
                shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                results.append(json.loads(shown.splitlines()[-1]))
                print(json.dumps(results[-1], indent=2))
    Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
