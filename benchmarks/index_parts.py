"""What does an index in eight parts cost beside one index: its build, its memory, its search?

    python benchmarks/index_parts.py CORPUS.parquet WORK_FOLDER [--parts 8] [--queries 4000] [--vectors 100000]

BM25 over all documents of CORPUS.parquet, queries are documents cut to 7 words; dense search over drawn vectors of 384.
Both sides build in a fresh process each, and take turns at searching the same queries, a thousand at a time, for their
100 best; the hits must be equal to the bit. Seconds are of the processor, on one core, so that other work on the
machine counts little. `peak` is the most resident memory; mapped files that were read or written count. What
WORK_FOLDER has is not built again, and `null`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

TOP, ROUNDS, WIDTH = 100, 5, 384


def bm25_of(options, of):
    from datasets import load_dataset

    from hf_hardneg.corpus.documents import open_corpus
    from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
    from hf_hardneg.index.bm25.partitioned_index import build_bm25_parts
    from hf_hardneg.index.bm25.weights import BM25Config

    dataset = load_dataset("parquet", data_files=options.corpus, split="train")
    corpus, config = open_corpus(dataset, cache_dir=options.work), BM25Config()
    rows = np.linspace(0, len(corpus) - 1, options.queries).astype(int)
    texts = [" ".join(text.split()[:7]) for text in corpus.texts(rows).to_pylist()]
    if of == 1:
        return BM25Index(directory=build_bm25(corpus, config), config=config), texts
    return build_bm25_parts(corpus, config, of), texts


def dense_of(options, of):
    import pyarrow as pa
    from datasets import Dataset

    from hf_hardneg.corpus.documents import open_corpus
    from hf_hardneg.retrievers.attach import index_corpus, index_parts_of

    values = np.random.default_rng(0).normal(size=options.vectors * WIDTH).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), WIDTH)
    texts = [f"document {row}" for row in range(options.vectors)]
    dataset = Dataset(pa.table({"text": texts, "vector": vectors}))
    sources = dataset, open_corpus(dataset, cache_dir=options.work), None, "vector", "cosine"
    index = index_corpus(*sources) if of == 1 else index_parts_of(*sources, of=of)
    drawn = np.random.default_rng(1).normal(size=(options.queries, WIDTH)).astype(np.float32)
    return index, index.queries(drawn)


SIDES = {"bm25": bm25_of, "dense": dense_of}


def built(options, kind, of):
    """In a process of its own: seconds of the processor, and the peak."""
    command = [sys.executable, "-W", "ignore", __file__, options.corpus, str(options.work)]
    sizes = [f"--{name}={getattr(options, name)}" for name in ("parts", "queries", "vectors")]
    return json.loads(subprocess.check_output([*command, *sizes, "--side", kind, str(of)], text=True).splitlines()[-1])


def is_there(options, kind, of):
    from hf_hardneg.store import directories

    try:
        with directories.without_building():
            SIDES[kind](options, of)
    except directories.NotPublished:
        return False
    return True


def compared(options, kind):
    indexes = {"one": SIDES[kind](options, 1), "parts": SIDES[kind](options, options.parts)}
    seconds, answers = {name: [] for name in indexes}, {}
    for _ in range(ROUNDS):
        for name, (index, queries) in indexes.items():
            start = time.process_time()
            blocks = (queries[start : start + 1000] for start in range(0, len(queries), 1000))
            hits = [index.search(block, np.full(len(block), TOP)) for block in blocks]
            seconds[name].append(time.process_time() - start)
            answers[name] = [np.concatenate([part[place] for part in hits]) for place in (1, 2)]
    equal = all((one == many).all() for one, many in zip(answers["one"], answers["parts"], strict=True))
    ratio = min(seconds["parts"]) / min(seconds["one"])
    return {"seconds": seconds, "ratio_of_best": ratio, "hits_equal_to_the_bit": bool(equal)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("work", type=Path)
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--queries", type=int, default=4000)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--side", nargs=2)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    if options.side:
        kind, of = options.side
        if is_there(options, kind, int(of)):
            print("null")
            return
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.process_time()
        SIDES[kind](options, int(of))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": time.process_time() - start, "peak_megabytes": peak, "at_start": before}))
        return
    result = {"load": os.getloadavg()[0], "queries": options.queries, "parts": options.parts}
    for kind in SIDES:
        builds = {name: built(options, kind, of) for name, of in (("one", 1), ("parts", options.parts))}
        result[kind] = {"build": builds, "search": compared(options, kind)}
        Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
