"""How fast is BM25 search beside bm25s' own numba retrieval, over one index, in the same run?

    python benchmarks/bm25.py CORPUS.parquet [--queries 4000]

Queries are other documents cut to 7 terms, a deterministic sample. Both sides are
warm, use two threads, and take turns.
Scores are compared rank by rank; documents may differ where scores tie.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import bm25s
import numpy as np
from datasets import Dataset, disable_progress_bars, load_dataset

from hf_hardneg import BM25, HardNegatives, Strategy
from hf_hardneg.corpus import open_corpus
from hf_hardneg.index.bm25 import BM25Config, BM25Index, build_bm25

TOP = 100
FIRST_ANSWER = """
import sys, time
start = time.perf_counter()
from pathlib import Path
import numpy as np
from hf_hardneg.index.bm25 import BM25Config, BM25Index
index = BM25Index(directory=Path(sys.argv[1]), config=BM25Config())
assert len(index.search(["memory mapped index library"], np.array([100])).doc)
print(time.perf_counter() - start)
"""


def best_of(runs, sides):
    times, answers = {}, {}
    for _ in range(runs):
        for name, run in sides.items():
            start = time.perf_counter()
            answers[name] = run()
            times[name] = min(times.get(name, np.inf), time.perf_counter() - start)
    return times, answers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--queries", type=int, default=4000)
    options = parser.parse_args()
    disable_progress_bars()
    dataset = load_dataset("parquet", data_files=options.corpus, split="train")
    corpus, config = open_corpus(dataset), BM25Config()
    start = time.perf_counter()
    index = BM25Index(directory=build_bm25(corpus, config), config=config)
    built = time.perf_counter() - start
    rows = np.arange(0, len(dataset), len(dataset) // options.queries)
    texts = [" ".join(config.tokenizer(text)[:7]) for text in corpus.texts(rows).to_pylist()]
    k = np.full(len(texts), TOP)
    peer = bm25s.BM25.load(str(index.directory), mmap=True)
    peer.backend = "numba"
    tokens = [terms.tolist() for terms in index.terms(texts)]

    def theirs():
        return peer.retrieve(tokens, k=TOP, n_threads=2, show_progress=False, backend_selection="numba")

    index.search(texts[:100], k[:100])
    peer.retrieve(tokens[:100], k=TOP, n_threads=2, show_progress=False, backend_selection="numba")
    times, answers = best_of(3, {"ours": lambda: index.search(texts, k), "peer": theirs})
    hits = answers["ours"]
    place = np.arange(len(hits.query)) - np.searchsorted(hits.query, np.arange(len(texts)))[hits.query]
    difference = np.abs(answers["peer"].scores[hits.query, place] - hits.score).max()
    pairs = Dataset.from_dict({"query": texts, "positive_ids": [[dataset[int(row)]["_id"]] for row in rows]})
    miner = HardNegatives(dataset, Strategy([BM25(TOP)]))
    start = time.perf_counter()
    pairs.map(miner, batched=True, num_proc=2, load_from_cache_file=False)
    mapped = time.perf_counter() - start
    first = subprocess.check_output([sys.executable, "-c", FIRST_ANSWER, str(index.directory)], text=True)
    result = {
        "documents": len(dataset),
        "queries": len(texts),
        "terms_per_query": float(np.mean([len(one) for one in tokens])),
        "build_or_open_seconds": built,
        "queries_per_second": {name: len(texts) / seconds for name, seconds in times.items()},
        "ratio": times["peer"] / times["ours"],
        "whole_map_two_workers_queries_per_second": len(texts) / mapped,
        "largest_score_difference": float(difference),
        "first_answer_in_a_fresh_process_seconds": float(first),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
