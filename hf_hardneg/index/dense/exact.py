"""Exact nearest neighbours by inner product, at the speed of 8-bit integers.

Every (query, document) pair is first scored with 8-bit codes, on a CPU with dot-product instructions about four times
faster than in float32. By Cauchy-Schwarz the true score differs by at most `|q||d - d'| + |q - q'|(|d| + |d - d'|)`,
where primes are what codes stand for; so each code score is an interval that holds the true one. A document whose
interval ends below the k-th best lower end is dropped for certain, and the few that remain are scored in float64. The
result is that of a float64 scan rounded to float32, ties in corpus order, whatever the batch or the block.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from hf_hardneg.index.hits import Hits
from hf_hardneg.runtime.process import single_thread_in_child, threads, torch_threads
from hf_hardneg.store.disk import reserved
from hf_hardneg.store.stored_arrays import Schema, Stored

LEVELS = 127
BLOCK = 1024
QUERIES = 256
POOL = 2048
POOL_BYTES = 1 << 26
SAVED = 1 << 14
BINS = 1024
ROUNDING = 2.0**-23
WIDTHS = (2, 1 << 17)
"""Where 8-bit products are right: torch 2.13 gives others for width 1, and beyond they overflow 32 bits."""
SMALLEST, LARGEST = 2.0**-126, 1e37
"""Below, float32 loses more than relative precision; products of lengths above may overflow it."""


class Codes(NamedTuple):
    """Vectors as codes, and how far they may be from the truth.

    `codes` (n, d) int8 (or the float32 vectors themselves); `scales` (n,) float32, so that `codes * scales` stands for
    the vectors; `residuals` (n,) float32, lengths of what is missing; `norms` (n,) float32, lengths of the vectors.
    Lengths are rounded up.
    """

    codes: np.ndarray
    scales: np.ndarray
    residuals: np.ndarray
    norms: np.ndarray

    def rows(self, start: int, stop: int) -> Codes:
        """The codes of some vectors."""
        return Codes(*(values[start:stop] for values in self))


SCHEMA = Schema.of(
    {
        "codes": Stored(np.int8, "documents width"),
        "scales": Stored(np.float32, "documents", least=0),
        "residuals": Stored(np.float32, "documents", least=0),
        "norms": Stored(np.float32, "documents", least=0),
    },
    private=True,
)


class Pool(NamedTuple):
    """The documents that may still be among the best of each query, in corpus order, and the ends of their scores.

    `docs` (n, capacity) int32; `low`, `high` (n, capacity) float32, equal once the score is known; `sizes` (n,) int64;
    `limit` (n,) float32, below which a document cannot enter; `wanted` (n,) int64. `lows` (n, BINS) int32 counts all
    that ever entered by the lower end, in bins of `width` (n,) float64 from 0 to the largest score there can be; `bin`
    (n,) int64 is the one where the limit lies, `above` (n,) int64 how many entered there or higher.
    """

    docs: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sizes: np.ndarray
    limit: np.ndarray
    wanted: np.ndarray
    lows: np.ndarray
    width: np.ndarray
    bin: np.ndarray
    above: np.ndarray

    @classmethod
    def empty(cls, wanted: np.ndarray, capacity: int, largest: np.ndarray) -> Pool:
        """A pool that everything may enter; `largest` (n,) is what the scores of each query cannot exceed."""
        size = len(wanted)
        ends = np.empty((2, size, capacity), np.float32)
        zeros = np.zeros((3, size), np.int64)
        return cls(
            docs=np.empty((size, capacity), np.int32),
            low=ends[0],
            high=ends[1],
            sizes=zeros[0],
            limit=np.full(size, -np.inf, np.float32),
            wanted=wanted,
            lows=np.zeros((size, BINS), np.int32),
            width=np.maximum(largest, SMALLEST) / BINS,
            bin=zeros[1],
            above=zeros[2],
        )


def quantized(vectors: np.ndarray) -> Codes:
    """The 8-bit codes of vectors (n, d) float32; each vector has its own scale."""
    largest = np.abs(vectors).max(axis=1, initial=0)
    scales = (largest / LEVELS).astype(np.float32)
    scales[scales == 0] = 1
    codes = np.rint(vectors / scales[:, None]).clip(-LEVELS, LEVELS).astype(np.int8)
    missing = vectors - codes.astype(np.float32) * scales[:, None]
    return Codes(codes, scales, _lengths(missing), _lengths(vectors))


def save_codes(directory: Path, stored: np.ndarray) -> None:
    """Write the 8-bit codes of vectors (n, d), block by block, for `open_codes`."""
    empty = quantized(np.asarray(stored[:0], np.float32))
    files = {
        name: reserved(directory / f"{name}.npy", values.dtype, (len(stored), *values.shape[1:]))
        for name, values in empty._asdict().items()
    }
    for start in range(0, len(stored), SAVED):
        block = np.asarray(stored[start : start + SAVED], np.float32)
        for name, values in quantized(block)._asdict().items():
            files[name][start : start + SAVED] = values
    for file in files.values():
        file.flush()


def open_codes(directory: Path) -> Codes:
    """The codes that `save_codes` wrote into a published directory, memory-mapped.

    Raises:
        StoreError: a file is altered.
    """
    return Codes(**SCHEMA.opened(directory))


def unquantized(vectors: np.ndarray, norms: np.ndarray | None = None) -> Codes:
    """Vectors as they are, in the place of codes."""
    ones, zeros = np.ones(len(vectors), np.float32), np.zeros(len(vectors), np.float32)
    return Codes(vectors, ones, zeros, _lengths(vectors) if norms is None else norms)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)).astype(np.float32)
        return np.nextafter(lengths, np.float32(np.inf))


def nearest(
    vectors: np.ndarray, stored: np.ndarray, codes: Codes, k: np.ndarray, least: np.ndarray | None = None
) -> Hits:
    """The `k` documents of the largest inner product with each query, best first, ties in corpus order.

    Args:
        vectors (`np.ndarray`): (n, d) float32 queries.
        stored (`np.ndarray`): (documents, d) float32, as a rule memory-mapped.
        codes (`Codes`): of the stored vectors.
        k (`np.ndarray`): (n,) int64, how many, for each query.
        least (`np.ndarray`, *optional*): (n,) float32, scores below which no document is wanted; some may be there.
    """
    least = np.full(len(vectors), -np.inf, np.float32) if least is None else least
    single_thread_in_child()
    limits = np.minimum(k, len(stored))
    capacity = int(min(max(POOL, 4 * limits.max(initial=1)), len(stored)))
    block = int(np.clip(POOL_BYTES // (12 * capacity), 16, QUERIES))
    starts = range(0, len(vectors), min(block, max(16, -(-len(vectors) // threads()))))
    bounds = [*starts, len(vectors)]
    integers = WIDTHS[0] <= vectors.shape[1] <= WIDTHS[1] and integers_pay()

    def run(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = slice(bounds[number], bounds[number + 1])
        return _nearest_of_block(vectors[part], stored, codes, limits[part], least[part], capacity, integers)

    with torch_threads(min(threads(), max(len(starts), 1))) as workers:
        blocks = list(workers.map(run, range(len(starts))))
    none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    counts, docs, scores = (np.concatenate(parts) for parts in zip(none, *blocks, strict=True))
    return Hits(np.repeat(np.arange(len(counts)), counts), docs, scores)


def _nearest_of_block(
    vectors: np.ndarray,
    stored: np.ndarray,
    codes: Codes,
    wanted: np.ndarray,
    least: np.ndarray,
    capacity: int,
    integers: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    queries = quantized(vectors) if integers else unquantized(vectors)
    pool = Pool.empty(wanted, capacity, queries.norms.astype(np.float64) * codes.norms.max(initial=0))
    pool.limit[:] = least
    memory = np.empty(len(vectors) * min(BLOCK, len(stored)), np.int32 if integers else np.float32)
    for start in range(0, len(stored), BLOCK):
        stop = min(start + BLOCK, len(stored))
        here = codes.rows(start, stop) if integers else unquantized(stored[start:stop], codes.norms[start:stop])
        _admit(products(queries.codes, here.codes, memory), start, here, queries, vectors, stored, pool)
    _finish(vectors, stored, pool)
    inside = np.arange(capacity) < pool.sizes[:, None]
    return pool.sizes, pool.docs[inside].astype(np.int64), pool.low[inside]


def products(queries: np.ndarray, documents: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Inner products of all rows, (n, m) int32 or float32, in flat `memory` of that type."""
    import torch

    tile = memory[: len(queries) * len(documents)].reshape(len(queries), len(documents))
    multiply = torch._int_mm if queries.dtype == np.int8 else torch.mm
    multiply(torch.from_numpy(queries), torch.from_numpy(documents).T, out=torch.from_numpy(tile))
    return tile


@functools.cache
def integers_pay() -> bool:
    """Whether 8-bit products are right on this machine, at their largest too, and faster than in float32."""
    shape = (256, 512)
    extreme = np.full(shape, LEVELS, np.int8)
    extreme[::2] = -LEVELS
    try:
        right = products(extreme, extreme, np.empty(shape[0] ** 2, np.int32))[0]
    except (RuntimeError, AttributeError):
        return False
    signs = np.where(np.arange(shape[0]) % 2, -1, 1)
    return bool((right == LEVELS**2 * shape[1] * signs).all()) and _seconds(extreme) < _seconds(
        extreme.astype(np.float32)
    )


def _seconds(matrix: np.ndarray) -> float:
    times, memory = [], np.empty(len(matrix) ** 2, np.int32 if matrix.dtype == np.int8 else np.float32)
    for _ in range(5):
        start = time.perf_counter()
        products(matrix, matrix, memory)
        times.append(time.perf_counter() - start)
    return min(times)


@njit(cache=True, nogil=True)
def _mark(row, scales, residuals, spread, least, marks):
    """Which documents may score `least` or are NaN; a loop that compilers vectorise."""
    for j in range(row.shape[0]):
        marks[j] = not np.float32(row[j]) * scales[j] + residuals[j] * spread < least


@njit(cache=True, nogil=True)
def _admit(tile, start, codes, queries, vectors, stored, pool):
    """Put documents of a block that may be among the best of a query into its pool."""
    width, marks = tile.shape[1], np.zeros((tile.shape[1] + 7) // 8 * 8, np.bool_)
    groups = marks.view(np.uint64)
    terms, longest = vectors.shape[1] + 16, np.float64(np.max(codes.norms))
    for q in range(len(pool.sizes)):
        scale, length = np.float64(queries.scales[q]), np.float64(queries.norms[q])
        spread = (length + queries.residuals[q]) / scale
        finite = max(length, spread) * longest < LARGEST
        lost = queries.residuals[q] + length * terms * ROUNDING if finite else np.inf
        margin = lost * longest / scale + terms * SMALLEST
        least = _least(pool.limit[q], scale, margin)
        _mark(tile[q], codes.scales, codes.residuals, np.float32(spread), least, marks)
        for group in range(len(groups)):
            if groups[group] == 0:
                continue
            for j in range(8 * group, min(8 * group + 8, width)):
                if marks[j]:
                    middle = np.float64(tile[q, j]) * codes.scales[j] * scale
                    error = (codes.residuals[j] * spread + terms * SMALLEST) * scale + lost * codes.norms[j]
                    if not middle + error < pool.limit[q]:
                        if _put(q, start + j, middle, error, pool):
                            _make_room(q, vectors, stored, pool)
                        _tighten(q, pool)


@njit(cache=True, nogil=True)
def _least(limit, scale, margin):
    """The least product, in units of the query's scale, that is worth a closer look."""
    return np.float32(min(limit / scale - margin, LARGEST))


@njit(cache=True, nogil=True)
def _put(q, doc, middle, error, pool):
    """Add a document to a pool, its interval open until it is scored; returns whether the pool is full now.

    Rounding to float32 keeps order, so ends rounded from float64 hold the rounded score.
    """
    n, low, high = pool.sizes[q], np.float32(middle - error), np.float32(middle + error)
    if not low <= high:
        low, high = np.float32(-np.inf), np.float32(np.inf)
    pool.docs[q, n], pool.low[q, n], pool.high[q, n] = doc, low, np.nextafter(high, np.float32(np.inf))
    pool.sizes[q] = n + 1
    share = np.float64(low) / pool.width[q]
    bin = np.int64(min(share, BINS - 1.0)) if share >= 1 else 0
    pool.lows[q, bin] += 1
    pool.above[q] += bin >= pool.bin[q]
    return n + 1 == pool.docs.shape[1]


@njit(cache=True, nogil=True)
def _tighten(q, pool):
    """Raise the limit to the last bin that begins below enough lower ends."""
    bin, above = pool.bin[q], pool.above[q]
    while bin < BINS - 1 and above - pool.lows[q, bin] >= pool.wanted[q]:
        above -= pool.lows[q, bin]
        bin += 1
    if bin > pool.bin[q]:
        pool.bin[q], pool.above[q] = bin, above
        pool.limit[q] = max(pool.limit[q], np.float32(bin * pool.width[q] * (1 - ROUNDING)))


@njit(cache=True, nogil=True)
def _make_room(q, vectors, stored, pool):
    """Drop what can be dropped; score only if too little can."""
    _drop(q, pool)
    if 2 * pool.sizes[q] > pool.docs.shape[1]:
        _settle(q, vectors, stored, pool)


@njit(cache=True, nogil=True)
def _drop(q, pool):
    """Drop what is certainly not among the best `wanted` of a query; returns the least score that still may be."""
    _keep(q, pool.limit[q], pool)
    n, k = pool.sizes[q], pool.wanted[q]
    if n <= k:
        return np.float32(-np.inf)
    least = np.partition(pool.low[q, :n], n - k)[n - k] if k else np.float32(np.inf)
    _keep(q, least, pool)
    pool.limit[q] = least
    return least


@njit(cache=True, nogil=True)
def _keep(q, least, pool):
    """Drop what ends below `least`."""
    docs, low, high, kept = pool.docs[q], pool.low[q], pool.high[q], 0
    for j in range(pool.sizes[q]):
        if high[j] >= least:
            docs[kept], low[kept], high[kept] = docs[j], low[j], high[j]
            kept += 1
    pool.sizes[q] = kept


@njit(cache=True, nogil=True)
def _score(q, least, vectors, stored, pool):
    """Replace intervals that begin at `least` or above by the score itself."""
    for j in range(pool.sizes[q]):
        if pool.low[q, j] >= least and pool.low[q, j] < pool.high[q, j]:
            pool.low[q, j] = pool.high[q, j] = dot(vectors[q], stored[pool.docs[q, j]])


@njit(cache=True, nogil=True)
def _settle(q, vectors, stored, pool):
    """Reduce a pool to the best `wanted` of a query so far, scored; the likeliest first, so that few are."""
    _score(q, _drop(q, pool), vectors, stored, pool)
    _drop(q, pool)
    _score(q, np.float32(-np.inf), vectors, stored, pool)
    least = _drop(q, pool)
    docs, low, high = pool.docs[q], pool.low[q], pool.high[q]
    ties, kept = pool.wanted[q], 0
    for j in range(pool.sizes[q]):
        ties -= low[j] > least
    for j in range(pool.sizes[q]):
        tied = low[j] == least
        if not tied or ties > 0:
            ties -= tied
            docs[kept], low[kept], high[kept] = docs[j], low[j], high[j]
            kept += 1
    pool.sizes[q] = kept


@njit(cache=True, nogil=True)
def _finish(vectors, stored, pool):
    """Settle all queries and sort their pools, best first."""
    for q in range(len(pool.sizes)):
        _settle(q, vectors, stored, pool)
        n = pool.sizes[q]
        order = np.argsort(-pool.low[q, :n], kind="mergesort")
        pool.docs[q, :n], pool.low[q, :n] = pool.docs[q, :n][order], pool.low[q, :n][order]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def dot(query, document):
    """Inner product, summed in float64 and rounded to float32."""
    total = 0.0
    for j in range(query.shape[0]):
        total += np.float64(query[j]) * np.float64(document[j])
    return np.float32(total)


@njit(cache=True, nogil=True)
def score_pairs(queries, documents, query, rows):
    """Scores chosen (query, document) pairs to the last bit as `nearest` does, (n,) float32."""
    scores = np.empty(len(rows), np.float32)
    for i in range(len(rows)):
        scores[i] = dot(queries[query[i]], documents[rows[i]])
    return scores


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def distance_pairs(queries, documents, query, rows):
    """Negative squared distances of chosen (query, document) pairs, (n,) float32."""
    scores = np.empty(len(rows), np.float32)
    for i in range(len(rows)):
        q, d, total = queries[query[i]], documents[rows[i]], 0.0
        for j in range(q.shape[0]):
            total -= (np.float64(q[j]) - np.float64(d[j])) ** 2
        scores[i] = total
    return scores
