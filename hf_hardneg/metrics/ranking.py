"""Measures of rankings as trec_eval defines them, for all queries at once."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hf_hardneg.arrays.grouping import position_in_group


@dataclass(frozen=True)
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
    """Measure rankings: `ndcg@k`, `mrr@k`, `recall@k`, `precision@k` and `map@k` of each query, (queries,) float64.

    They are trec_eval's `ndcg_cut`, `recip_rank` of rankings cut at k, `recall`, `P` and `map_cut`: the gain of nDCG is
    the grade, its discount `log2(rank + 2)`, its ideal all judged documents; average precision is divided by all
    relevant ones, precision by k. A query without relevant documents has 0.

    Args:
        judged (`Judged`): the rankings.
        cuts (`Iterable[int]`): every k.
        relevance_level (`float`, defaults to 1): the lowest grade of a relevant document, for all but nDCG.
    """
    best = np.lexsort((-judged.all_grade, judged.all_query))
    ideal_query = judged.all_query[best]
    rankings = (
        (judged.query, judged.rank, judged.grade),
        (ideal_query, position_in_group(ideal_query), judged.all_grade[best]),
    )
    relevant = judged.grade >= relevance_level
    query, rank = judged.query[relevant], judged.rank[relevant]
    number = position_in_group(query) + 1
    per_query = functools.partial(np.bincount, minlength=judged.queries)
    total = per_query(judged.all_query[judged.all_grade >= relevance_level])
    values: dict[str, np.ndarray] = {}
    for k in cuts:
        near = rank < k
        inside, first = query[near], near & (number == 1)
        count = per_query(inside)
        gain, ideal = (
            per_query(owner[place < k], np.maximum(grade[place < k], 0) / np.log2(place[place < k] + 2))
            for owner, place, grade in rankings
        )
        values[f"ndcg@{k}"] = _share(gain, ideal)
        values[f"mrr@{k}"] = per_query(query[first], 1 / (rank[first] + 1))
        values[f"recall@{k}"] = _share(count, total)
        values[f"precision@{k}"] = count / k
        values[f"map@{k}"] = _share(per_query(inside, number[near] / (rank[near] + 1)), total)
    return values


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
