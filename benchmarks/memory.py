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
from hf_hardneg.corpus import open_corpus
from hf_hardneg.index.dense import build_dense

BLOCK = 10_000


def private_megabytes():
    kinds = ("Private_Clean", "Private_Dirty")
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) / 1024


class Measured:
    """A miner that notes the private memory of its process before its first and after each batch."""

    def __init__(self, miner, folder):
        self.miner, self.folder = miner, str(folder)

    def __call__(self, batch):
        note = Path(self.folder, f"{os.getpid()}.json")
        before = json.loads(note.read_text())["before"] if note.exists() else private_megabytes()
        mined = self.miner(batch)
        after = private_megabytes()
        note.write_text(json.dumps({"before": before, "after": after, "added": after - before}))
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    dataset = load_dataset("parquet", data_files=options.corpus, split="train")
    corpus = open_corpus(dataset)

    def blocks():
        for start in range(0, len(corpus), BLOCK):
            generator = np.random.default_rng(start)
            yield generator.normal(size=(min(BLOCK, len(corpus) - start), options.width)).astype(np.float32)

    index = build_dense(corpus, blocks(), vectors_digest=f"synthetic {options.width}")
    chosen = range(0, len(dataset), len(dataset) // options.queries)
    queries = Dataset.from_dict(
        {
            "query": [f"synthetic query {row}" for row in chosen],
            "positive_ids": [[dataset[row]["_id"]] for row in chosen],
            "vector": np.random.default_rng(1).normal(size=(len(chosen), options.width)).astype(np.float32),
        }
    )
    path = str(index.directory / "index.faiss")
    miner = HardNegatives(dataset, "dense", index_name=path, query_vector_column="vector")
    dense = measure(queries, miner, options.workers)
    texts = dataset.select(range(0, len(dataset) // 10, 20))
    texts = Dataset.from_dict({"query": texts["text"], "positive_ids": [[_id] for _id in texts["_id"]]})
    result = {
        "dense": {
            "documents": len(corpus),
            "width": options.width,
            "index_megabytes": os.path.getsize(path) / 2**20,
            **dense,
        },
        "bm25": list(measure_bm25(dataset, texts, options.workers)),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
