"""Does an approximate index pay at 831,790 documents, and is the recall that it reports true?

    python benchmarks/dense_scale.py CORPUS.parquet WORK FACTORY ... [--documents N]

FACTORY is `auto` or a FAISS factory string; each adds an entry to the JSON, so that a long run can be cut in pieces.
Vectors are hashed n-grams (`hashed.py`), kept in WORK with the indexes. Queries are documents cut to every second word:
1,000 are searched, by FAISS' exact flat index (the peer), our exact search and the index in turns, the best of two
rounds each; 512 others are the sample on which the library raises the effort and reports recall@100. Independent recall
is agreement with the peer's answers.
"""

import argparse
import json
import time
from pathlib import Path

import faiss
import numpy as np
from datasets import load_dataset
from hashed import embed, shortened

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.dense.approximate import build_approximate, chosen_factory
from hf_hardneg.index.dense.dense_index import build_dense

RESULT = Path(__file__).with_suffix(".json")
TOP, SEARCHED, SAMPLE = 100, 1000, 512


def timed(function, rounds=1):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        answer = function()
        times.append(time.perf_counter() - start)
    return answer, min(times)


def kept(path, make):
    if not path.exists():
        np.save(path, make())
    return np.load(path, mmap_mode="r")


def agreement(answer, truth):
    return float(np.mean([len(set(one) & set(other)) for one, other in zip(answer, truth, strict=True)])) / TOP


def measured(factory, exact, peer, queries):
    """One entry: what it costs to build, what it finds, and how fast, beside the two exact searches."""
    asked, sample, k = queries[:SEARCHED], queries[SEARCHED:], np.full(SEARCHED, TOP)
    chosen = chosen_factory(factory, peer.ntotal, exact)
    try:
        index, built = timed(
            lambda: exact if chosen == "exact" else build_approximate(exact, chosen, recall=0.98, sample=sample)
        )
    except ConfigError as error:
        return {"chosen": chosen, "refused": str(error)}
    (_, truth), of_peer = timed(lambda: peer.search(asked, TOP), 2)
    _, of_exact = timed(lambda: exact.search(asked, k), 2)
    hits, seconds = timed(lambda: index.search(asked, k), 2)
    own = None if index is exact else index.measured
    return {
        "chosen": chosen,
        "build_and_tune_seconds": own and built,
        "effort": own and own.effort,
        "recall_reported": own.recall if own else 1.0,
        "recall_independent": agreement(hits.doc.reshape(-1, TOP), truth),
        "queries_per_second": {
            "peer": SEARCHED / of_peer,
            "ours_exact": SEARCHED / of_exact,
            "index": SEARCHED / seconds,
        },
        "times_the_peer": of_peer / seconds,
        "times_our_exact": of_exact / seconds,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("work", type=Path)
    parser.add_argument("factories", nargs="+")
    parser.add_argument("--documents", type=int, help="only the first ones, for indexes that take long to build")
    options = parser.parse_args()
    dataset = load_dataset("parquet", data_files=options.corpus, split="train")
    texts = dataset["text"][:]
    chosen = np.random.default_rng(1).choice(len(texts), SEARCHED + SAMPLE, replace=False)
    options.work.mkdir(parents=True, exist_ok=True)
    base = kept(options.work / "documents.npy", lambda: embed(texts))
    queries = np.array(kept(options.work / "queries.npy", lambda: embed([shortened(texts[row]) for row in chosen])))
    count = options.documents or len(base)
    corpus, base = open_corpus(dataset.select(range(count)), cache_dir=options.work), base[:count]
    exact = build_dense(corpus, np.array_split(base, 100), vectors_digest="hashed")
    queries = exact.queries(queries)
    peer = faiss.IndexFlatIP(exact.width)
    peer.add(exact.flat_vectors())
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    here = result.setdefault(str(count), {"width": exact.width, "top": TOP, "threads": faiss.omp_get_max_threads()})
    for factory in options.factories:
        here[factory] = measured(factory, exact, peer, queries)
        print(factory, json.dumps(here[factory], indent=2), flush=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
