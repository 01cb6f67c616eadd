"""Signals: what else is known of a candidate besides its score. A signal is a configuration; bound, it computes.

The rescoring step computes the signals of all filters and samplers over all candidates, so that filters stay functions
of `Candidates` alone. To add one, write both classes here and name it in the `signals` of what reads it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.documents import Corpus, content_digest, missing_column
from hf_hardneg.corpus.ids import as_text, is_listed, named_columns
from hf_hardneg.corpus.positives import CorpusKeys, KnownPositives
from hf_hardneg.corpus.queries import Queries, Reader, known_positives_of, word_keys
from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers import BM25, Dense, DenseSearcher, Searcher, Sources, dense_part
from hf_hardneg.store import directories
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.stored_arrays import Schema, Stored
from hf_hardneg.text.words import UNSPACED, compatible

if TYPE_CHECKING:
    from datasets import Dataset

POOL = 50
SMALLEST_POOL = 10
PAIRS = 1 << 20
"""(candidate, positive) pairs that are held at a time, where queries have many positives."""
_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a signal may be bound to.

    Args:
        sources (`Sources`): what the user gave.
        searcher (`Searcher`): of the strategy's retriever.
        reader (`Reader`): reads the pairs, with every known positive.
        known (`Sequence[Dataset]`): the datasets those come from.
    """

    sources: Sources
    searcher: Searcher
    reader: Reader
    known: Sequence[Dataset] = ()

    def vectors(self) -> DenseSearcher:
        """What holds the vectors of the corpus: the strategy's retriever, or one beside it.

        Raises:
            ConfigError: there is nothing that gives vectors.
        """
        return dense_part(self.searcher) or cast(DenseSearcher, Dense().bind(self.sources))


class BoundSignal(Protocol):
    """A signal bound to a corpus; pickles as paths."""

    @property
    def identity(self) -> str:
        """What its values depend on, besides queries and candidates."""

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        """Values of the candidates, (n,) float; NaN where it cannot be told."""


class Signal(Protocol):
    """What a filter or sampler asks to be computed: a frozen dataclass."""

    @property
    def name(self) -> str:
        """The key in `Candidates.signals`; equal for equal signals only."""

    def bind(self, context: Context) -> BoundSignal:
        """The signal over a corpus; builds or opens what it needs.

        Raises:
            ConfigError: there is nothing to compute it from.
        """


@dataclass(frozen=True)
class PositiveSimilarity:
    """How similar a candidate is to the known positive nearest to it, as the retriever compares texts."""

    name: ClassVar[str] = "positive_similarity"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        return _PositiveSimilarity(context.searcher, context.sources.corpus)


@dataclass(frozen=True)
class _PositiveSimilarity:
    searcher: Searcher
    corpus: Corpus

    @property
    def identity(self) -> str:
        return f"positive similarity {self.searcher.identity}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        best, bounds = np.full(len(candidates), np.nan), candidates.offsets()
        pairs = candidates.counts() * np.bincount(queries.positives.query, minlength=len(queries))
        blocks = np.flatnonzero(np.diff(np.cumsum(pairs) // PAIRS, prepend=-1))
        for first, last in pairwise([*blocks, len(queries)]):
            positives, rows = queries.positives.between(first, last), slice(bounds[first], bounds[last])
            candidate, positive = paired(
                candidates.take(np.arange(rows.start, rows.stop)), positives.query, len(queries)
            )
            prepared = self.searcher.prepare_documents(positives, self.corpus)
            scores = self.searcher.score_rows(prepared, positive, candidates.doc[rows][candidate])
            np.fmax.at(best[rows], candidate, scores)
        return best


def paired(candidates: Candidates, owners: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Every (candidate, entry) with the same query: positions in `candidates` and in `owners`, equally long.

    Args:
        candidates (`Candidates`): n.
        owners (`np.ndarray`): (m,) query of each entry, ascending.
        queries (`int`): how many there are.
    """
    counts = np.bincount(owners, minlength=queries)
    repeats = counts[candidates.query]
    candidate = np.repeat(np.arange(len(candidates)), repeats)
    within = np.arange(len(candidate)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return candidate, (np.cumsum(counts) - counts)[candidates.query[candidate]] + within


def among(candidates: Candidates, values: np.ndarray, owners: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """1 where a candidate's value is one of those wanted for its query, else 0, (n,).

    Args:
        candidates (`Candidates`), values (`np.ndarray`): n.
        owners (`np.ndarray`): (m,) query of each wanted value, ascending.
        wanted (`np.ndarray`): (m,) values.
    """
    return _among(values, candidates.query, wanted, np.searchsorted(owners, np.arange(candidates.queries + 1)))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _among(values, query, wanted, bounds):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    found = np.zeros(len(values))
    for i in range(len(values)):
        for j in range(bounds[query[i]], bounds[query[i] + 1]):
            if wanted[j] == values[i]:
                found[i] = 1
                break
    return found


@dataclass(frozen=True)
class SecondScore:
    """The query's score of a candidate in the other view: BM25 for what vectors found, vectors for what words found."""

    name: ClassVar[str] = "second_score"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        if context.searcher.score_kind == "none":
            raise ConfigError("Disagreement() needs a retriever that scores, and random does not. Use bm25 or dense.")
        other = Dense() if context.searcher.score_kind == "bm25" else BM25()
        return _SecondScore(other.bind(context.sources))


@dataclass(frozen=True)
class _SecondScore:
    searcher: Searcher

    @property
    def identity(self) -> str:
        return f"second score {self.searcher.identity}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        prepared = self.searcher.prepare(queries)
        return self.searcher.score_rows(prepared, candidates.query, candidates.doc)


@dataclass(frozen=True)
class PoolShare:
    """Another signal's rank among the best candidates of the query: a threshold on it suits any collection.

    The share of the query's `pool` best candidates whose value is smaller, 0 to 1; NaN for a query with fewer than 10
    of them, which tell nothing.

    Args:
        signal (`Signal`): the values to rank.
        pool (`int`, defaults to 50): how many of the best candidates are compared with.
    """

    signal: Signal
    pool: int = POOL

    @property
    def name(self) -> str:
        """Such as `"second_score@50"`."""
        return f"{self.signal.name}@{self.pool}"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        return _PoolShare(self.signal.bind(context), self.pool)


@dataclass(frozen=True)
class _PoolShare:
    signal: BoundSignal
    pool: int

    @property
    def identity(self) -> str:
        return f"{self.signal.identity} @{self.pool}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        return shares_of_pool(self.signal.of(queries, candidates), candidates, self.pool)


def shares_of_pool(values: np.ndarray, candidates: Candidates, pool: int) -> np.ndarray:
    """The share of the query's `pool` best candidates whose value is smaller, (n,); see `PoolShare`."""
    return _shares(np.asarray(values, np.float64), candidates.position < pool, candidates.offsets())


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _shares(values, inside, offsets):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    shares = np.full(len(values), np.nan)
    for group in range(len(offsets) - 1):
        first, last = offsets[group], offsets[group + 1]
        pool = np.sort(values[first:last][inside[first:last] & ~np.isnan(values[first:last])])
        if len(pool) >= SMALLEST_POOL:
            for i in range(first, last):
                if not np.isnan(values[i]):
                    shares[i] = np.searchsorted(pool, values[i]) / len(pool)
    return shares


@dataclass(frozen=True)
class SameParent:
    """1 where a candidate is part of the same larger document as a known positive or a copy of one, else 0.

    Args:
        column (`str`): of the corpus, what names the larger document; several where it holds lists, and none where it
            is null or blank.
    """

    column: str

    @property
    def name(self) -> str:
        """Such as `"same_parent:title"`."""
        return f"same_parent:{self.column}"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        dataset, corpus = context.sources.dataset, context.sources.corpus
        if self.column not in dataset.column_names:
            raise missing_column(self.column, dataset.column_names, "corpus", "parent_column")
        plain = dataset.with_format("arrow", columns=[self.column])

        def build(directory: Path) -> None:
            row, codes = _parents(named_columns(plain[:])[self.column], self.column)
            save_array(directory / "offsets.npy", np.searchsorted(row, np.arange(len(dataset) + 1)))
            save_array(directory / "codes.npy", codes)

        origin = {"column": content_digest(plain, [self.column], nullable=[self.column]), "layout": 2}
        return _SameParent(directories.obtain(corpus.cache, "parents", origin, build), context.reader.keys)


PARENTS = Schema.of(
    {"offsets": Stored(np.int64, "documents+1", bounds="parents"), "codes": Stored(np.int64, "parents", least=0)}
)


@dataclass(frozen=True)
class _SameParent:
    directory: Path
    keys: CorpusKeys

    @property
    def identity(self) -> str:
        return self.directory.name

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        inside = queries.positives.row >= 0
        owner, copies = self.keys.copies(queries.positives.row[inside])
        copy, wanted = self._parents_of(copies)
        place, parents = self._parents_of(candidates.doc)
        bounds = np.searchsorted(queries.positives.query[inside][owner][copy], np.arange(candidates.queries + 1))
        same = _among(parents, candidates.query[place], wanted, bounds)
        return (np.bincount(place, weights=same, minlength=len(candidates)) > 0).astype(np.float64)

    def _parents_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of some corpus rows each parent is of, ascending, and its code; equally long."""
        arrays = PARENTS.opened(self.directory)
        offsets = arrays["offsets"]
        counts = offsets[rows + 1] - offsets[rows]
        place = np.repeat(np.arange(len(rows)), counts)
        inside = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        return place, arrays["codes"][offsets[rows][place] + inside]


def _parents(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The row of each parent that a column names, ascending, and a number that stands for it, (n,) int64 each."""
    texts = as_text(column, name)
    row = pc.list_parent_indices(texts) if is_listed(texts.type) else pa.array(np.arange(len(texts)))
    values = texts.flatten() if is_listed(texts.type) else texts
    named = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(values), ""), False)
    codes = values.filter(named).dictionary_encode().indices
    return tuple(one.to_numpy(zero_copy_only=False).astype(np.int64) for one in (row.filter(named), codes))


@dataclass(frozen=True)
class ContainsAnswer:
    """1 where a candidate's text contains an answer of the row, word for word, else 0."""

    name: ClassVar[str] = "contains_answer"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        if context.reader.columns.answer is None:
            raise ConfigError("ContainsAnswer() needs answers and no column of them is named; pass answer_column=.")
        return _ContainsAnswer(context.sources.corpus)


@dataclass(frozen=True)
class _ContainsAnswer:
    corpus: Corpus

    @property
    def identity(self) -> str:
        return "contains answer"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        asked = queries.answer_counts()[candidates.query] > 0
        contained = np.zeros(len(candidates))
        texts = iter(map(words, self.corpus.texts(candidates.doc[asked]).to_pylist()))
        spoken = [words(answer) for answer in queries.answer]
        bounds = np.concatenate([[0], np.cumsum(queries.answer_counts())])
        for place in np.flatnonzero(asked):
            text, query = next(texts), candidates.query[place]
            answers = spoken[bounds[query] : bounds[query + 1]]
            contained[place] = any(answer.strip() and answer in text for answer in answers)
        return contained


@dataclass(frozen=True)
class Overlap:
    """Largest Jaccard similarity of a candidate's word 3-grams with those of a known positive, 0 to 1."""

    name: ClassVar[str] = "overlap"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        return _Overlap(context.sources.corpus)


@dataclass(frozen=True)
class _Overlap:
    corpus: Corpus

    @property
    def identity(self) -> str:
        return "overlap"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        docs, place = np.unique(candidates.doc, return_inverse=True)
        grams = [word_grams(text) for text in self.corpus.texts(docs).to_pylist()]
        known = [word_grams(text) for text in queries.positives.texts(self.corpus)]
        largest = np.zeros(len(candidates))
        for candidate, positive in zip(*paired(candidates, queries.positives.query, len(queries)), strict=True):
            one, other = grams[place[candidate]], known[positive]
            both = len(one & other)
            largest[candidate] = max(largest[candidate], both / max(len(one) + len(other) - both, 1))
        return largest


def word_grams(text: str) -> frozenset[str]:
    """A text's word 3-grams; all its words where it has fewer, and none where it has no word, as `+`."""
    found = words(text).split()
    return frozenset(" ".join(found[i : i + 3]) for i in range(max(len(found) - 2, min(len(found), 1))))


def words(text: str) -> str:
    """The words of a text, normalised, a space before and after each, to look for words in it; ideographs singly."""
    return f" {' '.join(_WORD.findall(compatible(text).casefold()))} "


@dataclass(frozen=True)
class NearQuery:
    """1 where a candidate is a known positive of a query that has the same words, else 0.

    The same words: in any order, without stop words, case and punctuation.
    """

    name: ClassVar[str] = "near_query"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        if not context.known:
            return _NearQuery(context.reader, None)
        return _NearQuery(context.reader, known_positives_of(context.known, context.reader, by="words"))


@dataclass(frozen=True)
class _NearQuery:
    reader: Reader
    known: KnownPositives | None

    @property
    def identity(self) -> str:
        return f"near query {self.known and self.known.directory.name}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        if self.known is None:
            return np.zeros(len(candidates))
        groups, _ = self.reader.keys.groups()
        owner, _, rows, _ = self.known.of(word_keys(queries.texts), documents=len(groups))
        inside = rows >= 0
        return among(candidates, groups[candidates.doc], owner[inside], groups[rows[inside]])
