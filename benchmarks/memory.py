"""How much private memory does each worker add that searches one shared index?

    python benchmarks/memory.py CORPUS.parquet [--width 384] [--workers 2]

Vectors are synthetic. Each worker is a process of `Dataset.map(num_proc=...)`; at the end of its last batch it writes
down the private pages of its own smaps, minus those the parent had when it forked. A page of an index that only one
worker happened to read counts as private there. BM25 is measured over all documents and over a tenth of them.
"""

import argparse
import json
import os
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
from datasets import Dataset, load_dataset

from hf_hardneg import BM25, HardNegatives, Strategy
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.index.dense.dense_index import build_dense

BLOCK = 10_000


def private_megabytes():
    """Private memory of this process: all of it, and what it wrote; the rest is mapped files that no other maps now."""
    held = dict.fromkeys(("private", "written"), 0.0)
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            held["private"] += int(line.split()[1]) / 1024
        if line.startswith("Private_Dirty"):
            held["written"] += int(line.split()[1]) / 1024
    return held


class Measured:
    """A miner that notes the private memory of its process before its first and after each batch."""

    def __init__(self, miner, folder):
        self.miner, self.folder = miner, str(folder)

    def __call__(self, batch):
        note = Path(self.folder, f"{os.getpid()}.json")
        before = json.loads(note.read_text())["before"] if note.exists() else private_megabytes()
        mined = self.miner(batch)
        after = private_megabytes()
        added = {kind: after[kind] - before[kind] for kind in after}
        note.write_text(json.dumps({"before": before, "after": after, "added": added}))
        return mined


def measure(queries, miner, workers):
    """Seconds of a map, and the memory of each of its workers."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        measured = Measured(miner, folder)
        queries.map(measured, batched=True, batch_size=50, num_proc=workers, load_from_cache_file=False)
        seconds = time.perf_counter() - start
        return {
            "pickle_bytes": len(pickle.dumps(miner)),
            "seconds": seconds,
            "workers": [json.loads(note.read_text()) for note in sorted(Path(folder).iterdir())],
        }


def measure_bm25(dataset, queries, workers):
    """The same queries over a tenth of the documents, and over all."""
    for documents in (dataset.select(range(len(dataset) // 10)), dataset):
        with tempfile.TemporaryDirectory() as cache:
            miner = HardNegatives(documents, Strategy([BM25(100)]), cache_dir=cache)
            size = sum(path.stat().st_size for path in Path(cache).glob("bm25-*/*"))
            measured = measure(queries, miner, workers)
        yield {"documents": len(documents), "index_megabytes": size / 2**20, **measured}


def measure_dense(dataset, queries, width, workers):
    """The same queries over a tenth of the documents, and over all."""
    vectors = np.random.default_rng(1).normal(size=(len(queries), width)).astype(np.float32)
    queries = queries.add_column("vector", vectors.tolist())
    for documents in (dataset.select(range(len(dataset) // 10)), dataset):
        with tempfile.TemporaryDirectory() as cache:
            corpus = open_corpus(documents, cache_dir=cache)
            index = build_dense(corpus, synthetic(len(corpus), width), vectors_digest="synthetic")
            path = str(index.directory / "index.faiss")
            miner = HardNegatives(documents, "dense", index=path, columns={"query_vector": "vector"}, cache_dir=cache)
            measured = measure(queries, miner, workers)
            size = os.path.getsize(path)
        yield {"documents": len(documents), "width": width, "index_megabytes": size / 2**20, **measured}


def synthetic(documents, width):
    for start in range(0, documents, BLOCK):
        generator = np.random.default_rng(start)
        yield generator.normal(size=(min(BLOCK, documents - start), width)).astype(np.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    dataset = load_dataset("parquet", data_files=options.corpus, split="train")

    def asked(step):
        rows = dataset.select(range(0, len(dataset) // 10, step))
        return Dataset.from_dict({"query": rows["text"], "positive_ids": [[one] for one in rows["_id"]]})

    few = asked(len(dataset) // 10 // options.queries)
    result = {
        "dense": list(measure_dense(dataset, few, options.width, options.workers)),
        "bm25": list(measure_bm25(dataset, asked(20), options.workers)),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
