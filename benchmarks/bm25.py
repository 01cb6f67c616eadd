"""How fast is BM25 beside bm25s' own numba retrieval, over one index, in the same run; and what does its build cost?

    python benchmarks/bm25.py CORPUS.parquet [--queries 4000] [--map-queries 40000]

Queries are other documents cut to 7 words, a deterministic sample. Both sides are warm, use two threads (the map two
workers), and take turns. The floor of a search without score bounds is what it must read: `postings_per_query`.
Scores are compared rank by rank; documents may differ where scores tie.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bm25s
import numpy as np
from datasets import Dataset, disable_progress_bars, load_dataset

from hf_hardneg import BM25, HardNegatives, Strategy
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
from hf_hardneg.index.bm25.weights import BM25Config

TOP = 100
BUILD = """
import json, resource, sys, time
from datasets import disable_progress_bars, load_dataset
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.index.bm25.bm25_index import build_bm25
from hf_hardneg.index.bm25.weights import BM25Config
disable_progress_bars()
corpus = open_corpus(load_dataset("parquet", data_files=sys.argv[1], split="train"), cache_dir=sys.argv[2])
start = time.perf_counter()
build_bm25(corpus, BM25Config())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": time.perf_counter() - start, "peak_resident_megabytes": peak}))
"""
FIRST_ANSWER = """
import sys, time
start = time.perf_counter()
from pathlib import Path
import numpy as np
from hf_hardneg.index.bm25.bm25_index import BM25Index
from hf_hardneg.index.bm25.weights import BM25Config
index = BM25Index(directory=Path(sys.argv[1]), config=BM25Config())
assert len(index.search(["memory mapped index library"], np.array([100])).doc)
print(time.perf_counter() - start)
"""


def fresh(code, *arguments):
    return json.loads(subprocess.check_output([sys.executable, "-c", code, *map(str, arguments)], text=True))


def take_turns(rounds, sides):
    """The seconds of each side in each round, and its last answer."""
    times, answers = {name: [] for name in sides}, {}
    for _ in range(rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            answers[name] = run()
            times[name].append(time.perf_counter() - start)
    return times, answers


def speeds(times, count):
    """Both sides at their best, and how the ratio varied: the peer depends on the machine's caches more than we do."""
    rounds = [peer / ours for peer, ours in zip(times["peer"], times["ours"], strict=True)]
    return {
        "queries_per_second": {name: count / min(seconds) for name, seconds in times.items()},
        "ratio": min(times["peer"]) / min(times["ours"]),
        "ratio_of_each_round": rounds,
    }


class Queries:
    """Other documents cut to 7 words, and both sides' search for them."""

    def __init__(self, dataset, corpus, index, peer, count):
        self.index, self.peer = index, peer
        rows = np.arange(0, len(dataset), len(dataset) // count)
        self.texts = [" ".join(text.split()[:7]) for text in corpus.texts(rows).to_pylist()]
        self.pairs = Dataset.from_dict({"query": self.texts, "positive_ids": [[_id] for _id in dataset[rows]["_id"]]})
        terms = index.terms(self.texts)
        self.tokens = [part.tolist() for part in np.split(terms.flat, terms.pointers[1:-1])]
        lengths = np.diff(peer.scores["indptr"])
        self.terms_per_query = len(terms.flat) / len(rows)
        self.postings_per_query = float(lengths[terms.flat].sum() / len(rows))

    def ours(self):
        return self.index.search(self.texts, np.full(len(self.texts), TOP))

    def theirs(self):
        return self.peer.retrieve(self.tokens, k=TOP, n_threads=2, show_progress=False, backend_selection="numba")


def compare(queries):
    """Both kernels on the same queries."""
    sides = {"ours": queries.ours, "peer": queries.theirs}
    take_turns(1, sides)
    times, answers = take_turns(5, sides)
    hits, count = answers["ours"], len(queries.texts)
    place = np.arange(len(hits.query)) - np.searchsorted(hits.query, np.arange(count))[hits.query]
    difference = np.abs(answers["peer"].scores[hits.query, place] - hits.score).max()
    missed = answers["peer"].scores.astype(bool).sum() - len(hits.query)
    return {
        "queries": count,
        "terms_per_query": queries.terms_per_query,
        "postings_per_query": queries.postings_per_query,
        **speeds(times, count),
        "thread_nanoseconds_per_posting": {
            name: 2e9 * min(seconds) / count / queries.postings_per_query for name, seconds in times.items()
        },
        "largest_score_difference": float(difference),
        "hits_missed": int(missed),
    }


def compare_map(queries, miner):
    """The whole of `Dataset.map` with two workers, their start included, beside the bare retrieval of bm25s."""

    def mapped():
        return queries.pairs.map(miner, batched=True, num_proc=2, load_from_cache_file=False)

    times, _ = take_turns(2, {"ours": mapped, "peer": queries.theirs})
    return {"queries": len(queries.texts), **speeds(times, len(queries.texts))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--queries", type=int, default=4000)
    parser.add_argument("--map-queries", type=int, default=40_000)
    options = parser.parse_args()
    disable_progress_bars()
    dataset = load_dataset("parquet", data_files=options.corpus, split="train")
    with tempfile.TemporaryDirectory() as cache:
        built = fresh(BUILD, options.corpus, cache)
        corpus, config = open_corpus(dataset, cache_dir=cache), BM25Config()
        index = BM25Index(directory=build_bm25(corpus, config), config=config)
        first = fresh(FIRST_ANSWER, index.directory)
        peer = bm25s.BM25(k1=config.k1, b=config.b, method=config.variant, backend="numba")
        peer.load_scores(index.directory, mmap=True, num_docs=len(dataset))
        peer.vocab_dict, peer.unique_token_ids_set = {}, set(range(len(peer.scores["indptr"]) - 1))
        searched = compare(Queries(dataset, corpus, index, peer, options.queries))
        miner = HardNegatives(dataset, Strategy([BM25(TOP)]), cache_dir=cache)
        mapped = compare_map(Queries(dataset, corpus, index, peer, options.map_queries), miner)
        sizes = {path.name: path.stat().st_size / 2**20 for path in sorted(index.directory.iterdir())}
    result = {
        "documents": len(dataset),
        "build": built,
        "index_megabytes": sizes,
        "first_answer_in_a_fresh_process_seconds": first,
        "search": searched,
        "whole_map_two_workers": mapped,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
