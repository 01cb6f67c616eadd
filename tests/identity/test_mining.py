"""Results of code that was edited between two processes are not taken for those of the new code."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

MINE = """
import json, sys
from datasets import Dataset, disable_progress_bars
from hf_hardneg import BM25, BM25Config, HardNegatives, Strategy, Top, mine
import parts
disable_progress_bars()
corpus = Dataset.from_dict({"_id": list("abcde"), "text": [
    "dark rock lava", "pale rock", "light rock lava", "soft chalk", "rock salt lava rock"]})
pairs = Dataset.from_dict({"query": ["dark rock lava"], "positive_ids": [["a"]]})
options = {"num_negatives": 4, "cache_dir": sys.argv[1], "safeguards": False}
def ids(strategy, **more):
    return mine(pairs, corpus, strategy, **options, **more)["negative_ids"][0]
def mapped(strategy):
    pairs = Dataset.from_parquet("pairs.parquet", cache_dir="datasets")
    return pairs.map(HardNegatives(corpus, strategy, **options), batched=True)["negative_ids"][0]
pairs.to_parquet("pairs.parquet")
asked, seen = pairs.map(parts.asked), {"columns": {"vector": "vector", "query_vector": "vector"}}
tokenizer = Strategy([BM25(4, config=BM25Config(tokenizer=parts.terms))], [], Top())
json.dump({
    "encoder": ids("dense", encoder=parts.embed),
    "filter": ids(Strategy([BM25(4)], [parts.Deep()], Top())),
    "sampler": ids(Strategy([BM25(4)], [], parts.Last())),
    "tokenizer": ids(tokenizer),
    "cross-encoder": ids("denoised", cross_encoder=parts.score),
    "signal": ids(Strategy([BM25(4)], [parts.Short()], Top())),
    "retriever": ids(Strategy([parts.Reversed(4)], [], Top())),
    "pairs in memory": mine(asked, corpus, "bm25", **options)["negative_ids"][0],
    "other columns": mine(asked, corpus, "bm25", on_shortage="drop_row", **{**options, "num_negatives": 1})["note"][:],
    "vectors in memory": mine(
        pairs.map(parts.with_vector), corpus.map(parts.of_document), "dense", **seen, **options)["negative_ids"][0],
    "filter in map": mapped(Strategy([BM25(4)], [parts.Deep()], Top())),
    "sampler in map": mapped(Strategy([BM25(4)], [], parts.Last())),
    "tokenizer in map": mapped(tokenizer),
    "signal in map": mapped(Strategy([BM25(4)], [parts.Short()], Top())),
    "retriever in map": mapped(Strategy([parts.Reversed(4)], [], Top())),
}, open("ids.json", "w"))
"""

PARTS = """
from dataclasses import dataclass
import numpy as np
from hf_hardneg import BM25
from hf_hardneg.filters import Filter
from hf_hardneg.retrievers.bm25 import BM25Searcher
from hf_hardneg.samplers import Sampler
from hf_hardneg.signals import Signal
import numbers_of as numbers

def embed(texts):
    return np.array([[text.count(part) for part in numbers.LETTERS] + [1] for text in texts], float)

@dataclass(frozen=True)
class Deep(Filter):
    name = "deep"
    def keep(self, candidates):
        return candidates.rank >= numbers.DEPTH

class Last(Sampler):
    name = "last"
    def choose(self, candidates, size, uniforms):
        return np.flatnonzero(candidates.rank >= numbers.DEPTH)
    def depth(self, num_negatives):
        return 4

def terms(text):
    return text.split()[-numbers.DEPTH:]

def score(queries, documents):
    return [float(numbers.WORD in text) for text in documents]

def asked(row):
    return {"query": "lava " + numbers.WORD, "note": numbers.WORD}

def with_vector(row):
    return {"vector": [1.0, 0.5, 0.25]}

def of_document(row):
    return {"vector": embed([row["text"]])[0]}

class Lengths:
    identity = "lengths"
    def __init__(self, corpus):
        self.corpus = corpus
    def of(self, queries, candidates):
        return np.array([len(text) for text in self.corpus.texts(candidates.doc).to_pylist()]) * numbers.SIGN

class Length(Signal):
    name = "length"
    def bind(self, context):
        return Lengths(context.sources.corpus)

class Short(Filter):
    name = "short"
    signals = (Length(),)
    def keep(self, candidates):
        return candidates.signals["length"] * numbers.SIGN < 11 * numbers.SIGN

class Searcher(BM25Searcher):
    identity = "reversed"
    def search(self, queries, k):
        return super().search([text.split()[numbers.DEPTH] for text in queries], k)

class Reversed(BM25):
    def bind(self, sources):
        return Searcher(super().bind(sources).index)
"""

BEFORE = 'LETTERS = ("r", "k")\nDEPTH = 1\nWORD = "chalk"\nSIGN = 1\n'
AFTER = 'LETTERS = ("a", "l")\nDEPTH = 2\nWORD = "lava"\nSIGN = -1\n'


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Ids of negatives before an edit, after it, and of the edited code with an empty cache."""
    old, new = (tmp_path_factory.mktemp(name) for name in ("old", "new"))
    return [mined(old, BEFORE, old / "cache"), mined(old, AFTER, old / "cache"), mined(new, AFTER, new / "cache")]


def mined(folder, numbers, cache):
    for name, text in {"mine.py": MINE, "parts.py": PARTS, "numbers_of.py": numbers}.items():
        (folder / name).write_text(text)
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "datasets"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "mine.py", cache], cwd=folder, env=environment, check=True, capture_output=True)
    return json.loads((folder / "ids.json").read_text())


PLACES = ["encoder", "filter", "sampler", "tokenizer", "cross-encoder", "signal", "retriever"]
PLACES += ["pairs in memory", "other columns", "vectors in memory"]
PLACES += [f"{name} in map" for name in ("filter", "sampler", "tokenizer", "signal", "retriever")]


@pytest.mark.parametrize("place", PLACES)
def test_edited_code_gives_its_own_negatives(results, place):
    before, after, anew = (result[place] for result in results)
    assert after == anew
    assert before != after


def test_the_same_code_in_another_place_finds_what_is_stored(results, tmp_path_factory, tmp_path):
    cache = tmp_path_factory.getbasetemp() / "new0" / "cache"
    stored = sorted(path.name for path in cache.iterdir())
    assert mined(tmp_path, AFTER, cache) == results[2]
    assert sorted(path.name for path in cache.iterdir()) == stored
