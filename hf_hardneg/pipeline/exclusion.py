"""Which hits may not become candidates, and why.

Known positives and the query's text, copies of a better hit, hits without a score, and documents that show nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hf_hardneg.corpus.positives import CorpusKeys
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.index.hits import Hits

ALLOWED, EXCLUDED, REPEATED, UNSCORED, BLANK = range(5)


def judged(queries: Queries, hits: Hits, keys: CorpusKeys) -> np.ndarray:
    """Why each hit is not allowed, (n,) int8 of the reasons above.

    Args:
        queries (`Queries`): with their exclusion sets.
        hits (`Hits`): sorted by query, best first.
        keys (`CorpusKeys`): which documents are the same.
    """
    groups, shared = keys.groups()
    rows = keys.row_of_keys(queries.excluded_key)
    bounds, excluded = _by_query(queries.excluded_query, rows, len(queries))
    reasons = _reasons(hits.query, hits.doc, hits.score, groups, shared, bounds, excluded, keys.dedupe != "off")
    reasons[keys.are_blank(hits.doc) & (reasons != EXCLUDED)] = BLANK
    return reasons


def best_positive_rank(queries: Queries, query: np.ndarray, doc: np.ndarray, keys: CorpusKeys) -> np.ndarray:
    """Best raw rank of a known positive of each query, (queries,) int32; -1 where none was retrieved.

    Args:
        queries (`Queries`): with their positives.
        query, doc (`np.ndarray`): (n,) all hits, sorted by query, best first.
        keys (`CorpusKeys`): which documents are the same.
    """
    groups, _ = keys.groups()
    rows = queries.positives.row
    bounds, positives = _by_query(queries.positives.query, np.where(rows >= 0, groups[rows], -1), len(queries))
    return _best_rank(query, doc, groups, bounds, positives)


def _by_query(query: np.ndarray, rows: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the corpus under each query: where they begin and end, (queries + 1,), and the rows; -1 left out."""
    query, rows = query[rows >= 0], rows[rows >= 0]
    order = np.argsort(query, kind="stable")
    return np.searchsorted(query[order], np.arange(queries + 1)), rows[order]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _among(row, bounds, rows, query):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(bounds[query], bounds[query + 1]):  # noqa: SIM110
        if rows[i] == row:
            return True
    return False


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _reasons(query, doc, score, groups, shared, bounds, excluded, dedupe):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    reasons, first = np.zeros(len(doc), np.int8), 0
    for i in range(len(doc)):
        if query[i] != query[first]:
            first = i
        group = groups[doc[i]]
        if np.isnan(score[i]):
            reasons[i] = UNSCORED
        elif _among(group, bounds, excluded, query[i]):
            reasons[i] = EXCLUDED
        elif dedupe and shared[doc[i]]:
            for j in range(first, i):
                if groups[doc[j]] == group:
                    reasons[i] = REPEATED
                    break
    return reasons


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _best_rank(query, doc, groups, bounds, positives):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    best, first = np.full(len(bounds) - 1, -1, np.int32), 0
    for i in range(len(doc)):
        if query[i] != query[first]:
            first = i
        if best[query[i]] < 0 and _among(groups[doc[i]], bounds, positives, query[i]):
            best[query[i]] = i - first
    return best
