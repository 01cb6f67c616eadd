"""The result of every search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hf_hardneg.arrays.grouping import position_in_group

EXCLUSION_STEP, SPARE = 8, 16


def asked_first(depth: int, known: np.ndarray) -> np.ndarray:
    """How many hits a search asks for at first, so that `depth` are left of each query; (queries,) int64.

    Args:
        depth (`int`): candidates to keep.
        known (`np.ndarray`): (queries,) int64, how many documents are excluded.
    """
    wanted: np.ndarray = depth + depth // SPARE + -(-known // EXCLUSION_STEP) * EXCLUSION_STEP
    return wanted


class Hits(NamedTuple):
    """Search results of a batch, flat, sorted by (query, -score, document).

    `query` (n,) int64 position in the batch; `doc` (n,) int64 corpus row; `score` (n,) float32, higher is better.
    """

    query: np.ndarray
    doc: np.ndarray
    score: np.ndarray


class Fused(NamedTuple):
    """Hits of a union of searches, sorted by (query, fused rank): the score need not fall with it.

    As `Hits`, and `source` (n,) int8, which names of the union's `sources` each hit comes from.
    """

    query: np.ndarray
    doc: np.ndarray
    score: np.ndarray
    source: np.ndarray


def shares(count: int, of: int) -> list[range]:
    """Consecutive rows of each of `of` parts of `count` documents, as equal as can be."""
    return [range(count * number // of, count * (number + 1) // of) for number in range(of)]


def best_first(hits: Hits, k: np.ndarray) -> Hits:
    """The `k` best hits of each query, ties in corpus order.

    Args:
        hits (`Hits`): in any order.
        k (`np.ndarray`): (queries,) int64.
    """
    order = np.lexsort((hits.doc, -hits.score.astype(np.float64), hits.query))
    query = hits.query[order]
    order = order[position_in_group(query) < k[query]]
    return Hits(hits.query[order], hits.doc[order], hits.score[order])
