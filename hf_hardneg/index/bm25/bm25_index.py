"""BM25 over a corpus: an index on disk, memory-mapped, searched by an exact kernel.

The postings equal what `bm25s` writes. The build is ours because it streams; the search because mining needs what a
top-k call does not give: ties cut in corpus order, no documents that share no term, another depth for each query,
scores of chosen pairs, and threads that survive a fork.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.arrays.string_tables import StringTable
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.pictures import refuse_pictures
from hf_hardneg.identity import identify
from hf_hardneg.index.bm25 import building, kernel
from hf_hardneg.index.bm25.consistency import inconsistency
from hf_hardneg.index.bm25.kernel import Postings, Terms
from hf_hardneg.index.bm25.searching import best_of, scores_of
from hf_hardneg.index.bm25.vocabulary import open_vocabulary
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.index.hits import Hits
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.mapped_memory import drop
from hf_hardneg.store.named_files import take_over
from hf_hardneg.text.analysis import Analyzer, tokenizer_digest
from hf_hardneg.text.numbered_words import NumberedWords

LAYOUT = 4
"""Of the files on disk, and of the order in which a score is summed."""


def build_bm25(corpus: Corpus, config: BM25Config, counts: Sequence[Path] = ()) -> Path:
    """The directory of the BM25 index of a corpus, built once.

    Args:
        corpus (`Corpus`): the documents.
        config (`BM25Config`): how to weigh them.
        counts (`Sequence[Path]`, *optional*): files of counted terms that lie elsewhere, see `counting.count_share`.

    Raises:
        ConfigError: no document has a term, or documents are images.
    """
    if corpus.images is not None:
        raise refuse_pictures("BM25")

    def build(directory: Path) -> list[str]:
        take_over(directory, counts)
        return building.write_index(directory, corpus, config)

    parameters = bm25_parameters(corpus, config)
    return directories.obtain(corpus.cache, kinds.BM25, parameters, build, corpus.about, goes_on=True)


def bm25_parameters(corpus: Corpus, config: BM25Config) -> dict[str, Any]:
    """What a BM25 index depends on, as plain values."""
    parameters: dict[str, Any] = {name: getattr(config, name) for name in ("k1", "b", "variant")}
    parameters |= {"layout": LAYOUT, "corpus": corpus.digest, "tokenizer": tokenizer_digest(config.tokenizer)}
    if type(config) is not BM25Config:
        parameters["code"] = identify(config, what="BM25 configuration")
    return parameters


@dataclass(frozen=True, kw_only=True)
class BM25Index:
    """An opened-on-demand BM25 index; pickles as its path.

    Args:
        directory (`Path`): what `build_bm25` returned.
        config (`BM25Config`): how it was built.
    """

    directory: Path
    config: BM25Config

    @property
    def identity(self) -> str:
        """Names what hits depend on, besides the queries."""
        return self.directory.name

    def terms(self, texts: list[str]) -> Terms:
        """Known terms of texts, as ids, in the order in which their weights are summed, whatever that of the words."""
        postings, vocabulary, _ = _opened(self.directory)
        if type(self.config.tokenizer) is not Analyzer:
            return kernel.ordered(_known(vocabulary, [self.config.tokenizer(text) for text in texts]), postings)
        flat, pointers = _numbered_words(self.directory, self.config.tokenizer).numbers(texts)
        return kernel.ordered(Terms(flat, np.ones(len(flat), np.float32), pointers), postings)

    def search(self, texts: list[str], k: np.ndarray) -> Hits:
        """The best documents of each query that share at least one term with it.

        Args:
            texts (`list[str]`): n queries.
            k (`np.ndarray`): (n,) int64, how many at most, for each query.
        """
        return best_of(_opened(self.directory).postings, self.terms(texts), k)

    def score_rows(self, texts: list[str], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32, equal to those `search` gives."""
        return scores_of(_opened(self.directory).postings, self.terms(texts), query, rows)

    def score_texts(self, texts: list[str], query: np.ndarray, documents: list[str]) -> np.ndarray:
        """Scores of chosen (query, text) pairs, (n,) float32, with the corpus' statistics."""
        postings, vocabulary, mean_length = _opened(self.directory)
        split = [self.config.tokenizer(document) for document in documents]
        length = np.array([len(terms) for terms in split])
        held, held_by = _with_owner(_known(vocabulary, split))
        pairs, frequency = np.unique(held_by << 32 | held, return_counts=True)
        asked, asked_of = _with_owner(self.terms([texts[i] for i in query]))
        place, is_shared = isin_sorted(asked_of << 32 | asked, pairs)
        term, owner = asked[is_shared], asked_of[is_shared]
        having = postings.starts[term + 1] - postings.starts[term]
        idf = self.config.idf(having, postings.documents)
        scores = np.zeros(len(documents), np.float32)
        np.add.at(scores, owner, self.config.weights(idf, frequency[place[is_shared]], length[owner], mean_length))
        return scores


def _known(vocabulary: StringTable, texts: list[Sequence[str]]) -> Terms:
    ids = vocabulary.numbers(list(chain.from_iterable(texts)))
    ends = np.cumsum([0, *map(len, texts)])
    known = ids >= 0
    flat = ids[known]
    return Terms(flat, np.ones(len(flat), np.float32), np.concatenate([[0], np.cumsum(known)])[ends])


def _with_owner(terms: Terms) -> tuple[np.ndarray, np.ndarray]:
    return terms.flat, np.repeat(np.arange(len(terms.pointers) - 1), np.diff(terms.pointers))


class Opened(NamedTuple):
    """The memory-mapped parts of an index, and the mean number of terms of a document."""

    postings: Postings
    vocabulary: StringTable
    mean_length: float


@functools.lru_cache(maxsize=4)
def _opened(directory: Path) -> Opened:
    documents, mean_length = _statistics(directory)
    words = -(-documents // 64)
    arrays = building.SCHEMA.opened(directory, documents=documents, words=words)
    postings = Postings(documents, *(arrays[name.removesuffix(".npy")] for name in building.ARRAYS))
    vocabulary = open_vocabulary(directory, terms=len(postings.starts) - 1)
    if wrong := inconsistency(postings):
        raise directories.altered(directory, *wrong)
    for array in (postings.rows, postings.weights, postings.bits, postings.before):
        drop(array)
    return Opened(postings, vocabulary, mean_length)


@functools.lru_cache(maxsize=4)
def _numbered_words(directory: Path, analyzer: Analyzer) -> NumberedWords:
    """The terms of texts by the vocabulary of an index; kept, since it remembers words."""
    return NumberedWords(analyzer, _opened(directory).vocabulary.numbers)


def _statistics(directory: Path) -> tuple[int, float]:
    """How many documents an index holds, and their mean number of terms."""
    said = directories.read_object(directory, building.STATISTICS)
    documents, mean_length = said.get("documents"), said.get("mean_length")
    if type(documents) is not int or not 0 < documents < 1 << 31:
        raise directories.altered(directory, building.STATISTICS, "it names no number of documents")
    if type(mean_length) is not float or not 0 < mean_length < math.inf:
        raise directories.altered(directory, building.STATISTICS, "it names no mean length")
    return documents, mean_length
