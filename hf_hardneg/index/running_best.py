"""The best hits over parts of a corpus that are searched one after the other."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

from hf_hardneg.index.hits import Hits


class RunningBest:
    """The best hits of each query so far, exact and with ties in row order.

    Args:
        k (`np.ndarray`): (n,) int64, how many are wanted of each query.
    """

    def __init__(self, k: np.ndarray) -> None:
        self._k = np.asarray(k, np.int64)
        self._hits = Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))

    def add(self, hits: Hits, first: int) -> None:
        """Add the best hits in a part whose first document is the row `first`; parts come in row order."""
        if len(hits.doc):
            self._hits = Hits(*_merged(*self._hits, hits.query, hits.doc + first, hits.score, self._k))

    def least(self) -> np.ndarray:
        """The least score with which a later document is among the best of each query, (n,) float32.

        It is -inf until there are enough; an equal score comes too late.
        """
        return _least(self._hits.query, self._hits.score, self._k)

    def hits(self) -> Hits:
        """The best hits of all parts."""
        return self._hits


@njit(cache=True, nogil=True)
def _merged(query, doc, score, queries, docs, scores, k):
    """Merge two lists of hits, each sorted by query and best first; equal scores of the first list come first."""
    size = len(doc) + len(docs)
    out = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.float32)
    i = j = filled = 0
    for q in range(len(k)):
        taken = 0
        while taken < k[q]:
            ours, theirs = i < len(query) and query[i] == q, j < len(queries) and queries[j] == q
            if ours and (not theirs or score[i] >= scores[j]):
                out[0][filled], out[1][filled], out[2][filled] = q, doc[i], score[i]
                i += 1
            elif theirs:
                out[0][filled], out[1][filled], out[2][filled] = q, docs[j], scores[j]
                j += 1
            else:
                break
            filled += 1
            taken += 1
        while i < len(query) and query[i] == q:
            i += 1
        while j < len(queries) and queries[j] == q:
            j += 1
    return out[0][:filled], out[1][:filled], out[2][:filled]


@njit(cache=True, nogil=True)
def _least(query, score, k):
    """The number above the last of `k` scores of each query, -inf where it has fewer."""
    least, start = np.full(len(k), -np.inf, np.float32), 0
    for q in range(len(k)):
        stop = start
        while stop < len(query) and query[stop] == q:
            stop += 1
        if 0 < k[q] <= stop - start:
            least[q] = np.nextafter(score[start + k[q] - 1], np.float32(np.inf))
        start = stop
    return least
