"""The search kernels of BM25 and of sparse vectors: exact top k over memory-mapped postings, without reading most.

A document's score is the sum over the query's terms of the factor of the term in the query, which is 1 for BM25, and
its weight in the document. Each product is rounded to float32, in the bounds as in the sums.

Documents are taken in windows that stay in the cache. `bar` is a score that a document must reach: at first the
largest k-th weight of any query term, then the k-th best score so far. The last terms whose largest weights cannot
reach it together are *optional* (MaxScore, Turtle and Flood 1995): a document is a candidate only if it has one of the
others. Terms that are common have a bitmap over the documents, so each candidate is asked for them in constant time.
They come last (`ordered`): a score is summed in float32 in the order of the terms, so what was summed to find
candidates is kept.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

WINDOW = 1 << 15
"""Documents scored together; a multiple of 64."""

RANKS = (1, 16, 32, 64, 128, 256, 512, 1024)
"""Which largest weights of a term are kept, ascending."""

LISTED = 0.25
"""Postings of a window, as a part of its documents, from which all its documents are looked at rather than a list."""

ROUNDING = 2.0**-22
"""Twice what the order of a float32 sum of non-negative numbers can change, for each term, relative to the sum."""


NONE = np.float32(-1)
"""The score of a document of a window that has none of the terms seen so far."""


class Postings(NamedTuple):
    """The memory-mapped postings of an index of N documents, V terms and P postings.

    `weights` (P,) float32 and `rows` (P,) int32 are sorted by (term, row), `starts` (V + 1,) int64 bounds the terms.
    `largest` (V, len(RANKS)) float32 holds the weights of a term at `RANKS`, 0 where it has fewer. `common` (C,) int32
    are the terms with a bitmap, ascending; `bits` (C, ceil(N / 64)) uint64 has a bit for each document, `before`, of
    the same shape, int32, counts those in earlier words.
    """

    documents: int
    weights: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    largest: np.ndarray
    common: np.ndarray
    bits: np.ndarray
    before: np.ndarray


@njit(cache=True, nogil=True)
def _worse(score_a, doc_a, score_b, doc_b):
    return score_a < score_b or (score_a == score_b and doc_a > doc_b)


@njit(cache=True, nogil=True)
def _sift_down(scores, docs, size):
    """Restore a heap whose root is the worst entry."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            return
        if child + 1 < size and _worse(scores[child + 1], docs[child + 1], scores[child], docs[child]):
            child += 1
        if not _worse(scores[child], docs[child], scores[place], docs[place]):
            return
        scores[place], scores[child] = scores[child], scores[place]
        docs[place], docs[child] = docs[child], docs[place]
        place = child


@njit(cache=True, nogil=True)
def _offer(scores, docs, size, k, score, doc):
    """Put a document on a heap of at most `k`, whose root is the worst; returns the heap's size."""
    if size < k:
        place = size
        scores[place], docs[place] = score, doc
        while place > 0:
            parent = (place - 1) >> 1
            if not _worse(scores[place], docs[place], scores[parent], docs[parent]):
                break
            scores[place], scores[parent] = scores[parent], scores[place]
            docs[place], docs[parent] = docs[parent], docs[place]
            place = parent
        return size + 1
    if k and _worse(scores[0], docs[0], score, doc):
        scores[0], docs[0] = score, doc
        _sift_down(scores, docs, size)
    return size


@njit(cache=True, nogil=True)
def _best_first(scores, docs, size):
    """Turn a heap whose root is the worst into a list with the best first."""
    for last in range(size - 1, 0, -1):
        scores[0], scores[last] = scores[last], scores[0]
        docs[0], docs[last] = docs[last], docs[0]
        _sift_down(scores, docs, last)


@njit(cache=True, nogil=True)
def first_at_least(rows, low, high, row, step):
    """The first place of ascending `rows[low:high]` that is not below `row`; fast where that is near `low + step`."""
    step = max(step, 1)
    while low + step < high and rows[low + step] < row:
        low += step
        step *= 2
    high = min(high, low + step)
    while low < high:
        middle = (low + high) >> 1
        if rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def place_in_bitmap(bits, before, doc):
    """How many documents of a bitmap come before one of them; -1 where it is not one of them."""
    word, bit = bits[doc >> 6], np.uint64(1) << np.uint64(doc & 63)
    if not word & bit:
        return -1
    x = word & (bit - np.uint64(1))
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return before[doc >> 6] + np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


class Terms(NamedTuple):
    """The terms of n queries.

    `flat` (m,) int64 ids of all queries, repeated as they repeat; `factors` (m,) float32 what the weights of each are
    multiplied by, not below 0; `pointers` (n + 1,) int64, where each query's terms begin.
    """

    flat: np.ndarray
    factors: np.ndarray
    pointers: np.ndarray

    def of(self, first: int, last: int) -> Terms:
        """The terms of queries `first` to `last`, which is left out."""
        pointers = self.pointers[first : last + 1]
        inside = slice(pointers[0], pointers[-1])
        return Terms(self.flat[inside], self.factors[inside], pointers - pointers[0])


def ordered(terms: Terms, postings: Postings) -> Terms:
    """The terms of each query in the order that `search` expects: those without a bitmap first, then what adds most.

    Args:
        terms (`Terms`): in any order.
        postings (`Postings`): the index.
    """
    flat, factors, pointers = terms
    query = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
    common = np.isin(flat, postings.common)
    order = np.lexsort((flat, -factors * postings.largest[flat, 0], common, query))
    return Terms(flat[order], factors[order], pointers)


class Query(NamedTuple):
    """The n terms of a query, in their order: first those without a bitmap, `rare` of them.

    `terms` (n,) int64 and `factors` (n,) float32 as in `Terms`; `slots` (n,) int64, row of the bitmap or -1; `largest`
    (n,) float64, what a term adds at most; `rest` (n + 1,) float64, what the terms from each on add at most; `low` and
    `high` (n,) int64, the postings inside the window.
    """

    terms: np.ndarray
    factors: np.ndarray
    slots: np.ndarray
    rare: int
    largest: np.ndarray
    rest: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Scratch(NamedTuple):
    """The memory that the search of a window works in.

    `scores` (window,) float32; of its candidates the place in the window, uint32, the score of the terms seen so far,
    and what it is at most with the terms whose bitmaps were asked, float32.
    """

    scores: np.ndarray
    touched: np.ndarray
    partial: np.ndarray
    most: np.ndarray


@njit(cache=True, nogil=True)
def _plan(terms, factors, postings):
    slots = slots_of(terms, postings.common)
    largest = np.empty(len(terms))
    for t in range(len(terms)):
        largest[t] = factors[t] * postings.largest[terms[t], 0]
    rest = np.zeros(len(terms) + 1)
    for t in range(len(terms) - 1, -1, -1):
        rest[t] = rest[t + 1] + largest[t]
    high = np.array([postings.starts[term] for term in terms])
    return Query(terms, factors, slots, (slots < 0).sum(), largest, rest, high.copy(), high)


@njit(cache=True, nogil=True)
def slots_of(terms, common):
    """The rows of the bitmaps of terms, -1 where they have none."""
    slots = np.searchsorted(common, terms)
    for t in range(len(terms)):
        if slots[t] == len(common) or common[slots[t]] != terms[t]:
            slots[t] = -1
    return slots


@njit(cache=True, nogil=True)
def _first_bar(terms, factors, k, largest):
    """A score that at least `k` documents reach: what any term adds to its k-th, 0 where none is known."""
    column = np.searchsorted(np.array(RANKS), k)
    bar = np.float32(0)
    if column < len(RANKS):
        for t in range(len(terms)):
            bar = max(bar, factors[t] * largest[terms[t], column])
    return bar


@njit(cache=True, nogil=True)
def _may_reach(terms, factors, largest, least):
    """Whether a document can score `least`: no more than what all terms add at most."""
    most = 0.0
    for t in range(len(terms)):
        most += factors[t] * largest[terms[t], 0]
    return len(terms) > 0 and most * (1 + ROUNDING * len(terms)) >= least


@njit(cache=True, nogil=True)
def _enter(query, postings, needed, stop):
    """Move the first `needed` terms of a query, and the rare ones, to the window that ends at `stop`."""
    for t in range(max(needed, query.rare)):
        first, last = postings.starts[query.terms[t]], postings.starts[query.terms[t] + 1]
        query.low[t] = query.high[t]
        if stop >= postings.documents:
            query.high[t] = last
        elif t < query.rare:
            query.high[t] = first_at_least(postings.rows, query.low[t], last, stop, 1)
        else:
            query.high[t] = first + postings.before[query.slots[t], stop >> 6]


@njit(cache=True, nogil=True)
def _walk(postings, low, high, factor, start, scratch, count):
    """Add a term's weights by its factor to the scores of a window; lists documents that had none."""
    scores, touched = scratch.scores, scratch.touched
    for j in range(low, high):
        local = np.uint32(postings.rows[j] - start)
        score = scores[local]
        touched[count] = local
        count += score < 0
        scores[local] = max(score, np.float32(0)) + factor * postings.weights[j]
    return count


@njit(cache=True, nogil=True)
def _walk_unlisted(postings, low, high, factor, start, scores):
    """Add a term's weights by its factor to the scores of a window."""
    for j in range(low, high):
        local = np.uint32(postings.rows[j] - start)
        scores[local] = max(scores[local], np.float32(0)) + factor * postings.weights[j]


@njit(cache=True, nogil=True)
def _add(postings, low, high, factor, start, scores):
    """Add a term's weights by its factor to documents that have a score."""
    for j in range(low, high):
        local = np.uint32(postings.rows[j] - start)
        score = scores[local]
        scores[local] = score + factor * postings.weights[j] if score >= 0 else score


@njit(cache=True, nogil=True)
def _take(scratch, count, need):
    """Clear the window; keep the documents whose score so far is at least `need`."""
    scores, touched, partial, most = scratch
    kept = 0
    for i in range(count):
        local = touched[i]
        score = scores[local]
        scores[local] = NONE
        touched[kept], partial[kept], most[kept] = local, score, score
        kept += score >= need
    return kept


@njit(cache=True, nogil=True)
def _take_all(scratch, need):
    """Keep the documents of the whole window whose score so far is at least `need`, and clear it."""
    scores, touched, partial, most = scratch
    need = max(need, np.float32(0))
    whole, least = scores.view(np.int32), np.array([need], np.float32).view(np.int32)[0]
    kept = 0
    for first in range(0, len(scores), 64):
        highest = whole[first]  # as whole numbers, which order as the scores do, and compilers vectorise
        for local in range(first, first + 64):
            highest = max(highest, whole[local])
        if highest >= least:
            for local in range(first, first + 64):
                score = scores[local]
                touched[kept], partial[kept], most[kept] = local, score, score
                kept += score >= need
    scores[:] = NONE
    return kept


@njit(cache=True, nogil=True)
def _probe(bits, start, scratch, count, largest, need):
    """Let the candidates that have a common term have the most it adds; keep those that reach `need`."""
    _, touched, partial, most = scratch
    kept = 0
    for i in range(count):
        local = touched[i]
        doc = np.uint64(start + local)
        has = bits[doc >> np.uint64(6)] >> (doc & np.uint64(63)) & np.uint64(1)
        score = most[i] + np.float32(has) * largest
        touched[kept], partial[kept], most[kept] = local, partial[i], score
        kept += score >= need
    return kept


@njit(cache=True, nogil=True)
def _add_common(postings, slot, first, factor, start, scratch, count):
    """Add a common term's weights, which begin at `first`, by its factor to the candidates that have it."""
    bits, before = postings.bits[slot], postings.before[slot]
    for i in range(count):
        place = place_in_bitmap(bits, before, np.int64(start + scratch.touched[i]))
        if place >= 0:
            scratch.partial[i] += factor * postings.weights[first + place]


@njit(cache=True, nogil=True)
def _score_window(query, postings, needed, start, floor, scratch):
    """Exact scores of the documents of a window that can reach `floor`; returns how many are in `scratch`."""
    count, n, most = 0, len(query.terms), 0
    for t in range(needed):
        most += query.high[t] - query.low[t]
    listed = most < len(scratch.scores) * LISTED
    for t in range(needed):
        if listed:
            count = _walk(postings, query.low[t], query.high[t], query.factors[t], start, scratch, count)
        else:
            _walk_unlisted(postings, query.low[t], query.high[t], query.factors[t], start, scratch.scores)
    if not most:
        return 0
    for t in range(needed, query.rare):
        _add(postings, query.low[t], query.high[t], query.factors[t], start, scratch.scores)
    probed = max(needed, query.rare)
    need = np.float32(floor - query.rest[probed])
    count = _take(scratch, count, need) if listed else _take_all(scratch, need)
    for t in range(probed, n):
        largest, need = np.float32(query.largest[t]), np.float32(floor - query.rest[t + 1])
        count = _probe(postings.bits[query.slots[t]], start, scratch, count, largest, need)
    for t in range(probed, n):
        first = postings.starts[query.terms[t]]
        _add_common(postings, query.slots[t], first, query.factors[t], start, scratch, count)
    return count


@njit(cache=True, nogil=True)
def _best(terms, factors, k, least, postings, reach, scratch, best_scores, best_docs):
    """Write the `k` best documents of a query that score `least` or more, best first; returns how many there are."""
    query = _plan(terms, factors, postings)
    slack = ROUNDING * len(terms) * query.rest[0]
    bar = max(least, _first_bar(terms, factors, k, postings.largest))
    size, needed, window = 0, len(terms), len(scratch.scores)
    for start in range(0, postings.documents, window):
        while needed and query.rest[needed - 1] < reach * (bar - slack):
            needed -= 1
        _enter(query, postings, needed, start + window)
        count = _score_window(query, postings, needed, start, bar - slack, scratch)
        for i in range(count):
            score = scratch.partial[i]
            if score >= bar:
                size = _offer(best_scores, best_docs, size, k, score, np.int64(start + scratch.touched[i]))
        if size == k:  # later rows lose ties
            bar = max(bar, np.nextafter(best_scores[0], np.float32(np.inf)))
    _best_first(best_scores, best_docs, size)
    return size


def search(terms: Terms, k: np.ndarray, postings: Postings, window: int):
    """The best documents of each query that share a term with it; see `search_above`."""
    return search_above(terms, k, np.zeros(len(terms.pointers) - 1, np.float32), postings, window, 1.0)


@njit(cache=True, nogil=True)
def search_above(terms, k, least, postings, window, reach):
    """The best documents of each query that share a term with it, sorted by (query, -score, document).

    Args:
        terms (`Terms`): of n queries, `ordered`.
        k (`np.ndarray`): (n,) int64, how many at most.
        least (`np.ndarray`): (n,) float32, scores below which no document is wanted.
        postings (`Postings`): the index.
        window (`int`): documents scored together; at most 2**23.
        reach (`float`): up to 1, which share of the bar optional terms may reach together. The less it is, the more
            postings are read and the fewer candidates are asked for each optional term.

    Returns:
        query (m,) int64, document (m,) int64 and score (m,) float32.
    """
    flat, factors, pointers = terms
    limits = np.minimum(k, postings.documents)
    room = limits.sum()
    out_query, out_doc, out_score = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.float32)
    partial, most = np.empty(window + 1, np.float32), np.empty(window + 1, np.float32)
    scratch = Scratch(np.full(window, NONE), np.empty(window + 1, np.uint32), partial, most)
    filled = 0
    for q in range(len(pointers) - 1):
        first, last = pointers[q], pointers[q + 1]
        asked, by = flat[first:last], factors[first:last]
        if limits[q] and _may_reach(asked, by, postings.largest, least[q]):
            into = out_score[filled:], out_doc[filled:]
            size = _best(asked, by, limits[q], least[q], postings, reach, scratch, *into)
            out_query[filled : filled + size] = q
            filled += size
    return out_query[:filled], out_doc[:filled], out_score[:filled]
