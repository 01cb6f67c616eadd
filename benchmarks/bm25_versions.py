"""How fast does BM25 build and search beside another checkout of this library, in alternating rounds of one run?

    python benchmarks/bm25_versions.py CORPUS.parquet CHECKOUT [--queries 4000] [--rounds 7]

Queries are other documents cut to 7 words, top 100. Each side has a process of its own, with one thread, that builds an
index and then answers in turn. Beside seconds on the clock stand those of the processor (`cpu`), and those on the clock
less what the thread waited for a processor, as Linux counts it (`alone`): what counts where other programs run, which
`load` tells.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SIDE = """
import json, os, sys, time
import numpy as np
from datasets import disable_progress_bars, load_dataset
try:
    from hf_hardneg.corpus.documents import open_corpus
    from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
    from hf_hardneg.index.bm25.weights import BM25Config
except ImportError:  # before modules lived in rooms
    from hf_hardneg.corpus import open_corpus
    from hf_hardneg.index.bm25 import BM25Index, build_bm25
    from hf_hardneg.index.bm25_weights import BM25Config

def timed(work):
    waited = lambda: int(open("/proc/thread-self/schedstat").read().split()[1]) / 1e9
    clock, cpu, waits = time.perf_counter(), time.process_time(), waited()
    result = work()
    waits = waited() - waits
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    return result, {"wall": clock, "cpu": cpu, "alone": clock - waits, "load": os.getloadavg()[0]}

def say(figures):
    print(json.dumps(figures), flush=True)

os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
disable_progress_bars()
dataset = load_dataset("parquet", data_files=sys.argv[1], split="train")
small = open_corpus(dataset.select(range(1000)), cache_dir=sys.argv[2])
build_bm25(small, BM25Config())  # compiles what is not compiled yet
corpus, config = open_corpus(dataset, cache_dir=sys.argv[2]), BM25Config()
rows = np.arange(0, len(dataset), len(dataset) // int(sys.argv[3]))
texts = [" ".join(text.split()[:7]) for text in corpus.texts(rows).to_pylist()]
sys.stdin.readline()
directory, figures = timed(lambda: build_bm25(corpus, config))
index = BM25Index(directory=directory, config=config)
index.search(texts, np.full(len(texts), 100))
say(figures)
for _ in sys.stdin:
    say(timed(lambda: index.search(texts, np.full(len(texts), 100)))[1])
"""


class Side:
    """A process with one checkout's code that works when it is asked."""

    def __init__(self, checkout, corpus, cache, queries):
        environment = {**os.environ, "PYTHONPATH": str(checkout), "HF_DATASETS_CACHE": cache}
        command = [sys.executable, "-W", "ignore", "-c", SIDE, corpus, cache, str(queries)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, cwd=checkout, stdin=pipe, stdout=pipe, text=True)

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def commit(checkout):
    return subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True).strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--queries", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    checkouts = {"here": Path(__file__).parents[1], "other": options.checkout}
    with tempfile.TemporaryDirectory() as cache:
        sides = {
            name: Side(checkout.resolve(), str(options.corpus.resolve()), f"{cache}/{name}", options.queries)
            for name, checkout in checkouts.items()
        }
        built = {name: side.ask() for name, side in sides.items()}
        searched = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, side in sides.items():
                searched[name].append(side.ask())
        for side in sides.values():
            side.end()
    best = {
        what: {name: min(figures[what] for figures in rounds) for name, rounds in searched.items()}
        for what in ("wall", "cpu", "alone")
    }
    result = {
        "commits": {name: commit(checkout) for name, checkout in checkouts.items()},
        "queries": options.queries,
        "build": built,
        "search_rounds": searched,
        "search_best": best,
        "here_to_other": {what: best[what]["here"] / best[what]["other"] for what in best},
        "build_here_to_other": {what: built["here"][what] / built["other"][what] for what in best},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
