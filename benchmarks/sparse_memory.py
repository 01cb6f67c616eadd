"""How much private memory does building an index of sparse vectors take, as the corpus grows?

    python benchmarks/sparse_memory.py [--documents 50000 200000 800000]

Each size is built in a process of its own. Vectors are drawn: 110 terms of 30,000 for each document, the nth most
frequent one in proportion to 1 / n, as a learned expansion has them; they are drawn block by block, so that what holds
them counts in no size. Private memory is `RssAnon`, read 100 times a second: mapped files, which the kernel takes
back when it needs to, are not part of it.
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
from datasets import Dataset, disable_progress_bars

from hf_hardneg.arrays.sparse_rows import SparseRows
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.index.sparse.sparse_index import build_sparse

TERMS, EACH, BLOCK, WARM = 30_000, 110, 4096, 5000


class Drawn:
    """Vectors of documents, drawn again, and the same, each time they are read."""

    def __init__(self, documents):
        self.documents = documents
        self.frequency = 1 / np.arange(1, TERMS + 1)

    def __iter__(self):
        edges = np.cumsum(self.frequency) / self.frequency.sum()
        for start in range(0, self.documents, BLOCK):
            draw = np.random.default_rng(start)
            rows = min(BLOCK, self.documents - start)
            drawn = np.searchsorted(edges, draw.random((rows, EACH)))
            lists = [np.unique(row) for row in drawn]
            pointers = np.concatenate([[0], np.cumsum([len(each) for each in lists])])
            weights = draw.random(pointers[-1]).astype(np.float32) + 0.1
            yield SparseRows(pointers, np.concatenate(lists).astype(np.int64), weights)


class Watch(threading.Thread):
    """Reads private memory until told to stop."""

    def __init__(self):
        super().__init__(daemon=True)
        self.start_of, self.most, self.over = private_megabytes(), 0.0, threading.Event()

    def run(self):
        while not self.over.wait(0.01):
            self.most = max(self.most, private_megabytes())


def private_megabytes():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no RssAnon here.")


def built(documents, folder):
    texts = Dataset.from_dict({"text": [f"document {row}" for row in range(documents)]})
    corpus = open_corpus(texts, cache_dir=folder)
    watch = Watch()
    watch.start()
    start = time.perf_counter()
    index = build_sparse(corpus, Drawn(documents), digest=f"drawn {documents}")
    seconds = time.perf_counter() - start
    watch.over.set()
    watch.join()
    disk = sum(path.stat().st_size for path in index.directory.iterdir()) / 2**20
    return {
        "documents": documents,
        "private_megabytes_more_at_the_peak": watch.most - watch.start_of,
        "megabytes_on_disk": disk,
        "seconds_with_drawing": seconds,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, nargs="+", default=[50_000, 200_000, 800_000])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        disable_progress_bars()
        with tempfile.TemporaryDirectory() as folder:
            built(WARM, folder)
            print(json.dumps(built(options.documents[0], folder)))
        return
    sizes = []
    for documents in options.documents:
        command = [sys.executable, __file__, "--alone", "--documents", str(documents)]
        sizes.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(sizes[-1], flush=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps({"sizes": sizes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
