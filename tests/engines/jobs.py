"""Small jobs for engines: what `mine` gives is what every engine must give, to the byte, also where a worker dies."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from hf_hardneg import BM25, Strategy, mine
from hf_hardneg.filters import Denoised
from tests.worlds import encode, shared_words, world


@dataclass(frozen=True)
class EndsOnce:
    """A cross-encoder that ends the process in which it is asked first, if that is not the one of the test."""

    marker: Path
    home: int
    kind = shared_words.kind
    digest = shared_words.digest

    def __call__(self, queries, documents):
        if os.getpid() != self.home and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return shared_words(queries, documents)


def denoised(scorer):
    return Strategy([BM25(20)], [Denoised(scorer, scored_depth=10)])


def data():
    """Pairs, documents, and both with vectors."""
    pairs, corpus = world(0, documents=120, queries=40)
    vectors = [list(encode(texts)) for texts in (pairs["query"], corpus["text"])]
    return pairs.add_column("of_query", vectors[0]), corpus.add_column("vector", vectors[1])


def jobs(folder):
    """Strategies with their options, by name, and the last one with a cross-encoder that ends its worker."""
    vectors = {"columns": {"vector": "vector", "query_vector": "of_query"}, "safeguards": False}
    return {
        "bm25": ("bm25", {"num_negatives": 3}),
        "dense": ("dense", vectors),
        "encoded": ("dense", {"encoder": encode, "safeguards": False, "num_negatives": 9, "on_shortage": "drop_row"}),
        "denoised": (denoised(EndsOnce(folder / "ended", os.getpid())), {}),
    }


def same(mined, expected):
    assert mined.column_names == expected.column_names
    assert mined.data.table.combine_chunks().equals(expected.data.table.combine_chunks())
    assert str(mined.features.arrow_schema) == str(expected.features.arrow_schema)  # with names of elements


def check(run, folder, names=("bm25", "dense", "encoded", "denoised")):
    """Compare what an engine gives with what `mine` gives; `run` takes the documents, a strategy and options."""
    pairs, corpus = data()
    for name in names:
        strategy, options = jobs(folder)[name]
        expected = mine(pairs, corpus, strategy, cache_dir=folder / "here", **options)
        mined = run(corpus, strategy, cache_dir=folder / "there", batch_size=50, **options)
        assert any(expected["negative_ids"]), name
        same(mined, expected)
    assert "denoised" not in names or (folder / "ended").exists()
