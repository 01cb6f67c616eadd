"""Measures of rankings as trec_eval defines them, for all queries at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hf_hardneg.arrays.grouping import position_in_group


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Grades of the judged documents of some queries, and where rankings have them.

    Args:
        queries (`int`): their number.
        query, rank, grade (`np.ndarray`): (h,) of judged documents in rankings, sorted by (query, rank), best rank 0.
        all_query, all_grade (`np.ndarray`): (j,) of all judged documents.
    """

    queries: int
    query: np.ndarray
    rank: np.ndarray
    grade: np.ndarray
    all_query: np.ndarray
    all_grade: np.ndarray


def measures(judged: Judged, cuts: Iterable[int], *, relevance_level: float = 1.0) -> dict[str, np.ndarray]:
    """`ndcg@k`, `mrr@k`, `recall@k`, `precision@k` and `map@k` of each query, (queries,) float64.

    trec_eval's `ndcg_cut`, `recip_rank` of rankings cut at k, `recall`, `P` and `map_cut`: the gain of nDCG is the
    grade, its discount `log2(rank + 2)`, its ideal all judged documents; average precision is divided by all relevant
    ones, precision by k. A query without relevant documents has 0.

    Args:
        judged (`Judged`): the rankings.
        cuts (`Iterable[int]`): every k.
        relevance_level (`float`, defaults to 1): the lowest grade of a relevant document, for all but nDCG.
    """
    n = judged.queries
    best = np.lexsort((-judged.all_grade, judged.all_query))
    ideal_query, ideal_grade = judged.all_query[best], judged.all_grade[best]
    ideal_rank = position_in_group(ideal_query)
    relevant = judged.grade >= relevance_level
    query, rank = judged.query[relevant], judged.rank[relevant]
    number = position_in_group(query) + 1
    total = np.bincount(judged.all_query[judged.all_grade >= relevance_level], minlength=n)
    found: dict[str, np.ndarray] = {}
    for k in cuts:
        near = rank < k
        inside, first = query[near], near & (number == 1)
        count = np.bincount(inside, minlength=n)
        gain, ideal = (
            _discounted(*part, k, n)
            for part in ((judged.query, judged.rank, judged.grade), (ideal_query, ideal_rank, ideal_grade))
        )
        found[f"ndcg@{k}"] = _share(gain, ideal)
        found[f"mrr@{k}"] = np.bincount(query[first], 1 / (rank[first] + 1), minlength=n)
        found[f"recall@{k}"] = _share(count, total)
        found[f"precision@{k}"] = count / k
        found[f"map@{k}"] = _share(np.bincount(inside, number[near] / (rank[near] + 1), minlength=n), total)
    return found


def _discounted(query: np.ndarray, rank: np.ndarray, grade: np.ndarray, k: int, n: int) -> np.ndarray:
    near = rank < k
    return np.bincount(query[near], np.maximum(grade[near], 0) / np.log2(rank[near] + 2), minlength=n)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
