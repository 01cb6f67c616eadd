"""MaxSim: the sum, over a query's tokens, of the largest inner product with any of a document's tokens (ColBERT).

Products come from 8-bit codes, several times faster than in float32 (`index/dense/exact.py`). By Cauchy-Schwarz each
is off by at most `|q||d - d'| + |q - q'|(|d| + |d - d'|)`, where primes are what codes stand for. So each MaxSim of
codes is an interval that holds the true one, and documents whose interval ends below the k-th best lower end are
dropped for certain. For those that remain, the tokens that may be the nearest are told in the same way, and only their
products are computed from the vectors themselves: scores do not depend on the batch, and equal brute force.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from hf_hardneg.arrays.token_rows import TokenRows, chosen
from hf_hardneg.index.dense.exact import (
    ROUNDING,
    SMALLEST,
    WIDTHS,
    Codes,
    dot,
    integers_pay,
    products,
    quantized,
    unquantized,
)
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.runtime.process import single_thread_in_child, threads, torch_threads

QUERY_TOKENS, TOKENS = 512, 1024
"""Tokens of queries and of documents that are multiplied together, unless one text alone has more."""
CHUNK = 1 << 16
"""Documents after which those that cannot be among the best are dropped; fewer for more than `FEW` queries at once."""
FEW = 32
PAIRS = 64
"""Pairs that are worth a thread."""
ENTRY = np.dtype([("doc", np.int64), ("low", np.float64), ("high", np.float64)])
"""A document that may be among the best of a query, and the ends of its score."""


@dataclass(frozen=True, eq=False)
class Documents:
    """Token vectors of documents, and their codes.

    Args:
        rows (`TokenRows`): float16.
        codes (`Codes`): of these vectors.
    """

    rows: TokenRows
    codes: Codes

    def spreads(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest residual and the largest length among each document's tokens, (n,) float64 each."""
        pointers, held = self.rows.pointers, self.rows.sizes > 0
        largest = np.zeros((2, len(self.rows)))
        if held.any():
            for row, values in enumerate((self.codes.residuals, self.codes.norms)):
                largest[row, held] = np.maximum.reduceat(values, pointers[:-1][held])
        return largest[0], largest[1]


class QueryTokens(NamedTuple):
    """Token vectors of queries, (n + 1,) pointers to them, and what multiplies them: codes, or themselves."""

    vectors: np.ndarray
    pointers: np.ndarray
    codes: Codes

    @classmethod
    def of(cls, queries: TokenRows) -> QueryTokens:
        """Take token vectors of queries, with codes where these pay on this machine."""
        vectors = np.ascontiguousarray(queries.vectors, np.float32)
        integers = WIDTHS[0] <= vectors.shape[1] <= WIDTHS[1] and integers_pay()
        return cls(vectors, queries.pointers, quantized(vectors) if integers else unquantized(vectors))

    @property
    def integers(self) -> bool:
        """Whether codes multiply."""
        return bool(self.codes.codes.dtype == np.int8)

    def of_documents(self, documents: Documents, start: int, stop: int) -> Codes:
        """The tokens of documents, in the form in which these multiply them."""
        if self.integers:
            return documents.codes.rows(start, stop)
        return unquantized(_as_floats(documents.rows.vectors[start:stop]), documents.codes.norms[start:stop])


def _as_floats(halves: np.ndarray) -> np.ndarray:
    import torch

    return torch.from_numpy(halves).float().numpy()


def _packed(pointers: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Consecutive texts that have at most so many tokens together, or are one text, as (first, end)."""
    bounds, ends = [0], pointers[1:]
    while bounds[-1] < len(ends):
        first = bounds[-1]
        bounds.append(max(int(np.searchsorted(ends, pointers[first] + most, "right")), first + 1))
    return list(itertools.pairwise(bounds))


def nearest_by_maxsim(queries: TokenRows, documents: Documents, k: np.ndarray) -> Hits:
    """The `k` (n,) documents of the largest MaxSim with each query, best first, ties in corpus order.

    Texts without a token find nothing, and are not found.
    """
    single_thread_in_child()
    asked, limits = QueryTokens.of(queries), np.where(queries.sizes > 0, np.minimum(k, len(documents.rows)), 0)
    blocks = _packed(asked.pointers, QUERY_TOKENS)
    spreads = documents.spreads()

    def run(block: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        query, docs = _candidates(asked, block, documents, spreads, limits)
        return query + block[0], docs

    with torch_threads(min(threads(), max(len(blocks), 1))) as workers:
        pieces = list(workers.map(run, blocks))
    none = np.zeros(0, np.int64), np.zeros(0, np.int64)
    query, docs = (np.concatenate(parts) for parts in zip(none, *pieces, strict=True))
    return best_first(Hits(query, docs, maxsims(queries, documents, query, docs)), limits)


def _candidates(
    asked: QueryTokens,
    block: tuple[int, int],
    documents: Documents,
    spreads: tuple[np.ndarray, np.ndarray],
    limits: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a query of a block and a document that may be among its best, (m,) int64 each."""
    first, end = block
    start, stop = asked.pointers[first], asked.pointers[end]
    codes, pointers = asked.codes.rows(start, stop), asked.pointers[first : end + 1] - start
    per_length, per_residual = _spread_of(codes, pointers, asked.vectors.shape[1])
    kept: list[Any] = [np.zeros(0, ENTRY)] * (end - first)
    for rows in _chunks(len(documents.rows), end - first):
        middle = _middles(asked, codes, pointers, documents, rows)
        residuals, norms = (values[rows.start : rows.stop] for values in spreads)
        error = np.outer(per_length, residuals) + np.outer(per_residual, norms)
        low, high = middle - error, middle + error
        for query, most in enumerate(limits[first:end]):
            kept[query] = _kept(kept[query], low[query], high[query], rows.start, int(most))
    sizes = [len(entries) for entries in kept]
    docs = np.concatenate([np.zeros(0, np.int64), *(entries["doc"] for entries in kept)])
    return np.repeat(np.arange(end - first), sizes), docs


def _chunks(count: int, queries: int) -> list[range]:
    size = max(CHUNK // max(queries // FEW, 1), 1)
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _kept(before: np.ndarray, low: np.ndarray, high: np.ndarray, first: int, most: int) -> np.ndarray:
    """Entries of documents that may be among the `most` best, of those before and of a chunk."""
    if not most:
        return np.zeros(0, ENTRY)
    lows = np.concatenate([before["low"], low])
    least = np.partition(lows, len(lows) - most)[len(lows) - most] if len(lows) > most else -np.inf
    here = np.flatnonzero((high >= least) & (high > -np.inf))
    entries = np.empty(len(here), ENTRY)
    entries["doc"], entries["low"], entries["high"] = here + first, low[here], high[here]
    return np.concatenate([before[before["high"] >= least], entries])


def _spread_of(codes: Codes, pointers: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """By how much the MaxSim of each query may be off, per residual and per length of a document's tokens."""
    rounding = (width + 64) * ROUNDING
    lengths, residuals = codes.norms.astype(np.float64), codes.residuals.astype(np.float64)
    np.cumsum([lengths + residuals, residuals + lengths * rounding], axis=1, out=(whole := np.zeros((2, len(lengths)))))
    sums = np.concatenate([np.zeros((2, 1)), whole], axis=1)[:, pointers]
    per = np.diff(sums, axis=1) * (1 + 1e-9) + width * SMALLEST
    return per[0], per[1]


def _middles(asked: QueryTokens, codes: Codes, pointers: np.ndarray, documents: Documents, rows: range) -> np.ndarray:
    """MaxSims of a block of queries and a chunk of documents by what codes stand for, (n, m) float32."""
    places = documents.rows.pointers[rows.start : rows.stop + 1]
    tiles = _packed(places - places[0], TOKENS)
    largest = max((int(places[end] - places[first]) for first, end in tiles), default=0)
    memory = np.empty(len(codes.codes) * largest, np.int32 if asked.integers else np.float32)
    middle = np.empty((len(pointers) - 1, len(rows)), np.float32)
    for first, end in tiles:
        here = asked.of_documents(documents, int(places[first]), int(places[end]))
        tile = products(codes.codes, here.codes, memory)
        _sum_of_largest(
            tile, pointers, codes.scales, here.scales, places[first : end + 1] - places[first], first, middle
        )
    return middle


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _largest(row, scales):
    """The largest product with a token; a loop that compilers vectorise."""
    largest = np.float32(-3.0e38)
    for j in range(len(row)):
        value = np.float32(row[j]) * scales[j]
        largest = value if value > largest else largest
    return largest


@njit(cache=True, nogil=True)
def _sum_of_largest(tile, asked, scales, scales_of_documents, pointers, first, middle):
    """Sum the largest product of each token of each query with the tokens of each document."""
    for q in range(len(asked) - 1):
        for d in range(len(pointers) - 1):
            begin, end = pointers[d], pointers[d + 1]
            total = -np.inf if begin == end else 0.0
            for t in range(asked[q], asked[q + 1]):
                if begin < end:
                    total += np.float64(_largest(tile[t, begin:end], scales_of_documents[begin:end])) * scales[t]
            middle[q, first + d] = total


def maxsims(queries: TokenRows, documents: Documents, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """MaxSim of chosen (query, document) pairs, (n,) float32; NaN where one of both has no token."""
    single_thread_in_child()
    scores = np.full(len(rows), np.nan, np.float32)
    asked = QueryTokens.of(queries)
    held = (queries.sizes[query] > 0) & (documents.rows.sizes[rows] > 0)
    order = np.flatnonzero(held)[np.argsort(rows[held], kind="stable")]
    bounds = [0, *(np.flatnonzero(np.diff(rows[order])) + 1), len(order)] if len(order) else [0]
    groups = [order[start:stop] for start, stop in itertools.pairwise(bounds)]
    count = max(1, min(threads(), len(order) // PAIRS))

    def run(number: int) -> None:
        for pairs in groups[number::count]:
            scores[pairs] = _scored(asked, query[pairs], documents, int(rows[pairs[0]]))

    with torch_threads(count) as workers:
        list(workers.map(run, range(count)))
    return scores


def _scored(asked: QueryTokens, query: np.ndarray, documents: Documents, row: int) -> np.ndarray:
    """MaxSim of some queries with one document, (n,) float32."""
    start, stop = int(documents.rows.pointers[row]), int(documents.rows.pointers[row + 1])
    here = asked.of_documents(documents, start, stop)
    pointers, places = chosen(asked.pointers, query)
    codes = asked.codes.codes[places]
    memory = np.empty(len(codes) * (stop - start), np.int32 if asked.integers else np.float32)
    tile = products(codes, here.codes, memory)
    vectors = _as_floats(documents.rows.vectors[start:stop])
    scores = np.empty(len(query), np.float32)
    _settle(tile, pointers, places, asked.codes, here, asked.vectors, vectors, scores)
    return scores


@njit(cache=True, nogil=True)
def _settle(tile, pointers, places, asked, here, queries, vectors, scores):
    """Sum the exact products of each query's tokens with the nearest of a document's tokens."""
    residual, length = np.float64(np.max(here.residuals)), np.float64(np.max(here.norms))
    rounding = (vectors.shape[1] + 64) * ROUNDING
    for q in range(len(scores)):
        total = 0.0
        for t in range(pointers[q], pointers[q + 1]):
            place = places[t]
            scale, norm = np.float64(asked.scales[place]), np.float64(asked.norms[place])
            lost = np.float64(asked.residuals[place])
            error = norm * residual + lost * (length + residual) + norm * length * rounding + SMALLEST
            least = np.float64(_largest(tile[t], here.scales)) - 2 * error / scale
            best = np.float32(-np.inf)
            for j in range(tile.shape[1]):
                if np.float64(np.float32(tile[t, j]) * here.scales[j]) >= least:
                    best = max(best, dot(queries[place], vectors[j]))
            total += np.float64(best)
        scores[q] = total
