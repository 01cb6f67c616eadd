"""BM25 over an index in parts, one searched after the other: the hits of one index over all documents, to the bit."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.arrays.string_tables import StringTable
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.index.bm25 import building
from hf_hardneg.index.bm25.bm25_index import bm25_parameters
from hf_hardneg.index.bm25.building import SHARE
from hf_hardneg.index.bm25.consistency import inconsistency
from hf_hardneg.index.bm25.kernel import Postings, Terms
from hf_hardneg.index.bm25.partitioning import FIRST, HAVING, HIGHEST, SCHEMA, prefix_of, write_parts
from hf_hardneg.index.bm25.searching import best_of, scores_of
from hf_hardneg.index.bm25.vocabulary import open_vocabulary
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.index.hits import Hits
from hf_hardneg.index.running_best import RunningBest
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.mapped_memory import drop


def build_bm25_parts(corpus: Corpus, config: BM25Config, of: int) -> PartitionedBM25:
    """The BM25 index of a corpus in parts, built once; memory holds one part while it is built.

    Args:
        corpus (`Corpus`): the documents.
        config (`BM25Config`): how to weigh them.
        of (`int`): how many parts; of fewer documents one each.

    Raises:
        ConfigError: no document has a term.
    """
    of, whole = min(of, len(corpus)), bm25_parameters(corpus, config)

    def build(directory: Path) -> list[str]:
        return write_parts(directory, corpus, config, of)

    parameters = {**whole, "parts": of}
    directory = directories.obtain(corpus.cache, kinds.BM25_PARTS, parameters, build, corpus.about, goes_on=True)
    name = directories.place(corpus.cache, kinds.BM25, whole).name
    return PartitionedBM25(directory=directory, config=config, identity=name)


class AskedWords(NamedTuple):
    """The distinct words of some texts, and what the index knows of each.

    `words` (w,) and their positions; `ids`, of each part, (w,) int64, -1 where it has none; `having`,
    `first` (w,) int64 and `highest` (w,) float32 as in `partitioning.SCHEMA`, `having` 0 where no document has the
    word. `flat` are words of all n texts as positions in `words`, repeated as they repeat, in the order in which
    weights are summed; `pointers` (n + 1,) int64 bound them.
    """

    words: dict[str, int]
    ids: list[np.ndarray]
    having: np.ndarray
    first: np.ndarray
    highest: np.ndarray
    flat: np.ndarray
    pointers: np.ndarray


class OpenedPart(NamedTuple):
    """The memory-mapped files of a part: postings, vocabulary, and what is known of its terms over all parts."""

    postings: Postings
    vocabulary: StringTable
    joint: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PartitionedBM25:
    """An opened-on-demand BM25 index in parts; pickles as its path.

    Args:
        directory (`Path`): what `build_bm25_parts` built.
        config (`BM25Config`): how.
        identity (`str`): what one index over all documents is called, whose hits are the same.
    """

    directory: Path
    config: BM25Config
    identity: str

    def search(self, texts: list[str], k: np.ndarray) -> Hits:
        """The best documents of each query that share at least one term with it; see `BM25Index.search`."""
        asked, best = self._asked(texts), RunningBest(k)
        bounds = _told(self.directory).bounds
        for part, first in enumerate(bounds[:-1]):
            opened = _opened(self.directory, part)
            if opened is not None:
                best.add(best_of(opened.postings, _local(part, asked), k, best.least()), first)
        return best.hits()

    def score_rows(self, texts: list[str], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32, equal to those `search` gives."""
        asked, bounds = self._asked(texts), _told(self.directory).bounds
        of_part = np.searchsorted(bounds, rows, side="right") - 1
        scores = np.zeros(len(rows), np.float32)
        for part in np.unique(of_part):
            opened, here = _opened(self.directory, int(part)), np.flatnonzero(of_part == part)
            if opened is not None:
                pairs = query[here], rows[here] - bounds[part]
                scores[here] = scores_of(opened.postings, _local(int(part), asked), *pairs)
        return scores

    def score_texts(self, texts: list[str], query: np.ndarray, documents: list[str]) -> np.ndarray:
        """Scores of chosen (query, text) pairs, (n,) float32, with the corpus' statistics."""
        mean, bounds, _ = _told(self.directory)
        split = [self.config.tokenizer(document) for document in documents]
        length = np.array([len(terms) for terms in split])
        asked, queries = self._asked(texts), np.asarray(query)
        held = [[asked.words[word] for word in terms if word in asked.words] for terms in split]
        held_by = np.repeat(np.arange(len(held)), list(map(len, held)))
        pairs, frequency = np.unique(
            held_by << 32 | np.array(list(chain.from_iterable(held)), np.int64), return_counts=True
        )
        sizes = np.diff(asked.pointers)[queries]
        begins = np.repeat(asked.pointers[queries] - np.cumsum(sizes) + sizes, sizes)
        words = asked.flat[begins + np.arange(sizes.sum())]
        owner = np.repeat(np.arange(len(queries)), sizes)
        at, is_shared = isin_sorted(owner << 32 | words, pairs)
        words, owner = words[is_shared], owner[is_shared]
        idf = self.config.idf(asked.having[words], int(bounds[-1]))
        scores = np.zeros(len(documents), np.float32)
        np.add.at(scores, owner, self.config.weights(idf, frequency[at[is_shared]], length[owner], mean))
        return scores

    def _asked(self, texts: list[str]) -> AskedWords:
        """What the words of some texts are, in the order in which one index sums their weights."""
        split = [self.config.tokenizer(text) for text in texts]
        words: dict[str, int] = {}
        flat = np.array([words.setdefault(word, len(words)) for word in chain.from_iterable(split)], np.int64)
        having, first = np.zeros((2, len(words)), np.int64)
        highest = np.zeros(len(words), np.float32)
        bounds, strings, ids = _told(self.directory).bounds, pa.array(list(words), pa.large_string()), []
        for part in range(len(bounds) - 1):
            opened = _opened(self.directory, part)
            ids.append(np.full(len(words), -1) if opened is None else opened.vocabulary.numbers(strings))
            if opened is not None:
                new = np.flatnonzero((having == 0) & (ids[-1] >= 0))
                for values, name in ((having, HAVING), (first, FIRST), (highest, HIGHEST)):
                    values[new] = opened.joint[name][ids[-1][new]]
        query = np.repeat(np.arange(len(split)), list(map(len, split)))
        query, flat = query[having[flat] > 0], flat[having[flat] > 0]
        common = having * SHARE >= bounds[-1]
        order = np.lexsort((first[flat], -highest[flat], common[flat], query))
        pointers = np.searchsorted(query, np.arange(len(texts) + 1))
        return AskedWords(words, ids, having, first, highest, flat[order], pointers)


def _local(part: int, asked: AskedWords) -> Terms:
    """The terms of the texts that a part has, by their ids there."""
    ids = asked.ids[part][asked.flat]
    known = ids >= 0
    flat = ids[known]
    return Terms(flat, np.ones(len(flat), np.float32), np.concatenate([[0], np.cumsum(known)])[asked.pointers])


@functools.lru_cache(maxsize=1024)
def _opened(directory: Path, part: int) -> OpenedPart | None:
    """The files of a part; `None` where its documents have no terms."""
    prefix, told = prefix_of(part), _told(directory)
    documents, terms = int(told.bounds[part + 1] - told.bounds[part]), told.terms[part]
    if not terms:
        return None
    arrays = building.SCHEMA.prefixed(prefix).opened(directory, documents=documents, words=-(-documents // 64))
    names = (f"{prefix}{name.removesuffix('.npy')}" for name in building.ARRAYS)
    postings = Postings(documents, *(arrays[name] for name in names))
    if wrong := inconsistency(postings):
        raise directories.altered(directory, f"{prefix}{wrong[0]}", wrong[1])
    joint = SCHEMA.prefixed(prefix).opened(directory, terms=terms)
    for array in (postings.rows, postings.weights, postings.bits, postings.before):
        drop(array)
    vocabulary = open_vocabulary(directory, terms, prefix)
    return OpenedPart(postings, vocabulary, {name.removeprefix(prefix): values for name, values in joint.items()})


class Told(NamedTuple):
    """What an index in parts says of itself.

    The mean number of terms of a document; the rows (parts + 1,) that bound the parts; how many terms each part has.
    """

    mean_length: float
    bounds: np.ndarray
    terms: list[int]


@functools.lru_cache(maxsize=16)
def _told(directory: Path) -> Told:
    directories.check(directory)
    said = directories.read_object(directory, building.STATISTICS)
    bounds, terms, mean = (_numbers(said.get("bounds")), _numbers(said.get("terms")), said.get("mean_length"))
    if type(mean) is float and mean > 0 and len(bounds) == len(terms) + 1 > 1 and bounds[0] == 0:
        rows = np.array(bounds, np.int64)
        if (np.diff(rows) > 0).all():
            return Told(mean, rows, terms)
    raise directories.altered(directory, building.STATISTICS, "it does not say where parts begin")


def _numbers(values: Any) -> list[int]:
    """The whole numbers in a list, or none where it is something else."""
    whole = isinstance(values, list) and all(type(number) is int and 0 <= number < 1 << 40 for number in values)
    return list(values) if whole else []
