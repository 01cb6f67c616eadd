"""How fast is search by sparse vectors beside splade-index' numba retrieval, over one corpus, in the same run?

    pip install --no-deps splade-index==0.2.*
    python benchmarks/sparse.py CORPUS.parquet [--documents 200000] [--queries 1000]

Weights are made from the corpus, as a learned expansion has them: a text's words by frequency and rarity, and for each
word, with less weight, the words it stands with most often. Queries are other documents cut to 7 words, expanded alike.
Both sides have the vectors of the queries, are warm, use the same threads, and take turns. Scores are compared rank by
rank; documents may differ where scores tie.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse
from datasets import disable_progress_bars, load_dataset
from splade_index.numba.retrieve_utils import _retrieve_numba_functional

from hf_hardneg.arrays.sparse_rows import sparse_rows
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.index.sparse.sparse_index import build_sparse
from hf_hardneg.runtime.process import threads
from hf_hardneg.text.analysis import Analyzer

TOP, ROUNDS, WORDS, BESIDE, SAMPLE, BLOCK = 100, 5, 30_000, 16, 30_000, 4096


class Weights:
    """Sparse vectors of texts, from what a corpus says of its words."""

    def __init__(self, texts):
        self.analyze, self.number = Analyzer(), {}
        counts = self.counted(texts, grow=True)
        having = np.bincount(counts.indices, minlength=counts.shape[1])
        kept = np.sort(np.argsort(-having, kind="stable")[:WORDS])
        place = {word: number for number, word in enumerate(kept.tolist())}
        self.number = {word: place[old] for word, old in self.number.items() if old in place}
        self.rarity = np.log(len(texts) / having[kept]).astype(np.float32)
        self.beside = self.neighbours(counts[:SAMPLE][:, kept])

    def counted(self, texts, *, grow=False):
        """How often each text has each word, CSR; new words get a number where it may grow."""
        rows, columns = [], []
        for row, text in enumerate(texts):
            words = self.analyze(text)
            numbers = [
                self.number.setdefault(word, len(self.number)) if grow else self.number.get(word) for word in words
            ]
            numbers = [number for number in numbers if number is not None]
            columns += numbers
            rows += [row] * len(numbers)
        shape = len(texts), len(self.number)
        return scipy.sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape)

    def neighbours(self, counts):
        """For each word those that it stands with most often, by pointwise mutual information, with weights to 0.5."""
        having = (counts > 0).astype(np.float32)
        common = (having.T @ having).tocsr()
        often = np.maximum(np.asarray(having.sum(0)).reshape(-1), 1)
        common.data /= np.sqrt(often[common.indices] * np.repeat(often, np.diff(common.indptr)))
        rows, columns, values = [], [], []
        for word in range(common.shape[0]):
            inside = slice(common.indptr[word], common.indptr[word + 1])
            best = np.argsort(-common.data[inside], kind="stable")[1 : BESIDE + 1]
            columns += common.indices[inside][best].tolist()
            values += (0.5 * common.data[inside][best]).tolist()
            rows += [word] * len(best)
        return scipy.sparse.csr_matrix((values, (rows, columns)), common.shape, np.float32)

    def __call__(self, texts):
        counts = self.counted(texts)
        counts.data = np.log1p(counts.data) * self.rarity[counts.indices]
        return counts.maximum(counts @ self.beside).tocsr()


def take_turns(sides):
    """The seconds of each side in each round, and its last answer; all are run once before."""
    times, answers = {name: [] for name in sides}, {name: run() for name, run in sides.items()}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            start = time.perf_counter()
            answers[name] = run()
            times[name].append(time.perf_counter() - start)
    return times, answers


def compare(index, matrix, queries):
    """Both kernels on the same queries."""
    stored = matrix.tocsc()
    scores = {"data": stored.data, "indices": stored.indices, "indptr": stored.indptr, "num_docs": matrix.shape[0]}
    asked = [np.split(part, queries.indptr[1:-1]) for part in (queries.indices, queries.data)]
    rows, k = sparse_rows(queries, what="queries"), np.full(queries.shape[0], TOP)
    options = {"k": TOP, "n_threads": threads(), "show_progress": False}
    sides = {
        "ours": lambda: index.search(rows, k),
        "peer": lambda: _retrieve_numba_functional(*asked, scores, **options),
    }
    times, answers = take_turns(sides)
    hits, (_, theirs) = answers["ours"], answers["peer"]
    place = np.arange(len(hits.query)) - np.searchsorted(hits.query, np.arange(len(k)))[hits.query]
    count = queries.shape[0]
    return {
        "queries": count,
        "threads": threads(),
        "terms_per_query": queries.nnz / count,
        "postings_per_query": float(np.diff(stored.indptr)[queries.indices].sum() / count),
        "queries_per_second": {name: count / min(seconds) for name, seconds in times.items()},
        "ratio": min(times["peer"]) / min(times["ours"]),
        "ratio_of_each_round": [peer / ours for peer, ours in zip(times["peer"], times["ours"], strict=True)],
        "largest_relative_difference_of_scores": float(np.abs(theirs[hits.query, place] / hits.score - 1).max()),
        "hits_missed": int((theirs > 0).sum() - len(hits.query)),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=1000)
    options = parser.parse_args()
    disable_progress_bars()
    dataset = load_dataset("parquet", data_files=options.corpus, split="train")
    dataset = dataset.select(range(min(options.documents, len(dataset))))
    with tempfile.TemporaryDirectory() as cache:
        corpus = open_corpus(dataset, cache_dir=cache)
        texts = corpus.texts(np.arange(len(corpus))).to_pylist()
        weights = Weights(texts)
        parts = [weights(texts[start : start + BLOCK]) for start in range(0, len(texts), BLOCK)]
        rows = [sparse_rows(part, what="documents") for part in parts]
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        index = build_sparse(corpus, rows, digest="made from the corpus")
        built = {
            "seconds": time.perf_counter() - start,
            "megabytes_more_at_the_peak": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
            "megabytes_on_disk": sum(path.stat().st_size for path in index.directory.iterdir()) / 2**20,
        }
        asked = texts[:: max(len(texts) // options.queries, 1)][: options.queries]
        searched = compare(index, scipy.sparse.vstack(parts), weights([" ".join(text.split()[:7]) for text in asked]))
    terms = sum(len(part.terms) for part in rows) / len(texts)
    result = {"documents": len(texts), "terms_per_document": terms, "build": built, "search": searched}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
