"""Scores of chosen pairs of a query and a document over memory-mapped postings, equal to what a search gives.

The pairs of a query are scored together, in the order of their documents: of a term with a bitmap each document is
asked in constant time, and the postings of another are gone through once, in steps of about what lies between two of
the documents.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202, ANN201

from __future__ import annotations

import numpy as np
from numba import njit

from hf_hardneg.index.bm25.kernel import first_at_least, place_in_bitmap, slots_of


@njit(cache=True, nogil=True)
def score_rows(terms, query, rows, postings):
    """Scores (query, document) pairs as `kernel.search` does, (m,) float32.

    Args:
        terms (`Terms`): see `kernel.search_above`.
        query (`np.ndarray`): (m,) int64 positions of queries, in any order; fastest where equal ones are side by side.
        rows (`np.ndarray`): (m,) int64 documents.
        postings (`Postings`): the index.
    """
    scores = np.zeros(len(rows), np.float32)
    order = _by_query(query)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and query[order[stop]] == query[order[start]]:
            stop += 1
        pairs = order[start:stop]
        pairs = pairs[np.argsort(rows[pairs])]
        first, last = terms.pointers[query[pairs[0]]], terms.pointers[query[pairs[0]] + 1]
        _add_terms(terms.flat[first:last], terms.factors[first:last], pairs, rows, postings, scores)
        start = stop
    return scores


@njit(cache=True, nogil=True)
def _by_query(query):
    """An order of the pairs in which a query has its pairs side by side; none changes place where it has so already."""
    for pair in range(1, len(query)):
        if query[pair] < query[pair - 1]:
            return np.argsort(query, kind="mergesort")
    return np.arange(len(query))


@njit(cache=True, nogil=True)
def _add_terms(flat, factors, pairs, rows, postings, scores):
    """Add the weights of a query's terms, in their order, to the scores of its pairs, in the order of their rows."""
    slots = slots_of(flat, postings.common)
    for t in range(len(flat)):
        low, high = postings.starts[flat[t]], postings.starts[flat[t] + 1]
        if slots[t] >= 0:
            bits, before = postings.bits[slots[t]], postings.before[slots[t]]
            for pair in pairs:
                place = place_in_bitmap(bits, before, rows[pair])
                if place >= 0:
                    scores[pair] += factors[t] * postings.weights[low + place]
            continue
        for i in range(len(pairs)):
            row, step = rows[pairs[i]], (high - low) // (len(pairs) - i + 1)
            low = first_at_least(postings.rows, low, high, row, step)
            if low < high and postings.rows[low] == row:
                scores[pairs[i]] += factors[t] * postings.weights[low]
