"""Checks once what search follows in the postings of a BM25 index: rows, common terms and their bitmaps."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

from hf_hardneg.index.bm25.building import BITS, COMMON, ROWS
from hf_hardneg.index.bm25.kernel import Postings


def inconsistency(postings: Postings) -> tuple[str, str] | None:
    """Names a file that search would follow out of memory, and how it was altered; `None` as a rule.

    Args:
        postings (`Postings`): of the shapes they are stored with, `starts` and `common` within bounds.
    """
    if not _rows_ascend(postings.rows, postings.starts, postings.documents):
        return ROWS, "its rows do not ascend within the corpus"
    if (np.diff(postings.common) <= 0).any():
        return COMMON, "its terms do not ascend"
    if not _bitmaps_agree(postings.bits, postings.before, postings.common, postings.rows, postings.starts):
        return BITS, "it does not mark the rows of its terms, or before.npy does not count them"
    return None


@njit(cache=True, nogil=True)
def _rows_ascend(rows, starts, documents):
    """Whether the rows of every term ascend, from 0 on and below `documents`: they fall only where terms begin."""
    between = 0
    for term in range(len(starts) - 1):
        first, end = starts[term], starts[term + 1]
        if first < end:
            if rows[first] < 0 or rows[end - 1] >= documents:
                return False
            between += first > 0 and rows[first] <= rows[first - 1]
    return _falls(rows) == between


@njit(cache=True, nogil=True)
def _falls(rows):
    """How many rows are not above the one before; a loop that compilers vectorise."""
    count = 0
    for j in range(1, len(rows)):
        count += rows[j] <= rows[j - 1]
    return count


@njit(cache=True, nogil=True)
def _bitmaps_agree(bits, before, common, rows, starts):
    """Tells whether `bits` marks the rows of each common term, and `before` counts the rows of earlier words."""
    for slot in range(len(common)):
        j, end = starts[common[slot]], starts[common[slot] + 1]
        first = j
        for word in range(bits.shape[1]):
            if before[slot, word] != j - first:
                return False
            marked = np.uint64(0)
            while j < end and rows[j] >> 6 == word:
                marked |= np.uint64(1) << np.uint64(rows[j] & 63)
                j += 1
            if marked != bits[slot, word]:
                return False
    return True
