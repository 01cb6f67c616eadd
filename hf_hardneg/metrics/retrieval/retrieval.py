"""nDCG, MRR, recall, precision and MAP at k, as an `evaluate` module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from hf_hardneg.arrays.lists import flattened
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.metrics import judgements
from hf_hardneg.metrics.ranking import Judged, measures

DESCRIPTION = """nDCG, MRR, recall, precision and MAP at k, as trec_eval computes them: linear gains, average precision
over all relevant documents, 0 for a query that has none."""
INPUTS = f"""{judgements.INPUTS}
    k (`int` or list of `int`, defaults to 10): the lengths at which rankings are cut.
    relevance_level (`float`, defaults to 1): the lowest grade of a relevant document, for all but nDCG.
Returns:
    means over queries, `ndcg@k`, `mrr@k`, `recall@k`, `precision@k`, `map@k`; `queries` and `queries_without_relevant`.
Examples:
    >>> from hf_hardneg.metrics import load
    >>> run, judged = {{"q": {{"a": 0.9, "b": 0.8}}}}, {{"q": {{"b": 2}}}}
    >>> means = load("retrieval").compute(predictions=run, references=judged, k=[1, 2])
    >>> means["recall@1"], means["mrr@2"]
    (0.0, 0.5)
"""


class Retrieval(judgements.JudgedMetric):
    """Measures of rankings against judgements; of a query it stores the ranks and grades of judged documents."""

    def _info(self) -> evaluate.MetricInfo:
        numbers = datasets.List(datasets.Value("float64"))
        features = datasets.Features(predictions={"ranks": numbers, "grades": numbers}, references=numbers)
        return evaluate.MetricInfo(DESCRIPTION, "", features, INPUTS)

    def figures_of(self, ranking: list[str], grades: dict[str, float]) -> tuple[dict[str, Any], list[float]]:
        """Return ranks and grades of the judged documents in a ranking, and all grades."""
        ranks = [rank for rank, document in enumerate(ranking) if document in grades]
        return {"ranks": ranks, "grades": [grades[ranking[rank]] for rank in ranks]}, list(grades.values())

    def _compute(
        self,
        predictions: list[dict[str, list[float]]],
        references: list[list[float]],
        k: int | Sequence[int] = 10,
        relevance_level: float = 1.0,
    ) -> dict[str, Any]:
        cuts = _cuts(k)
        if not references:
            raise DataError("retrieval got no query; a mean needs one. Add queries before compute().")
        query, rank = flattened([judged["ranks"] for judged in predictions])
        _, grade = flattened([judged["grades"] for judged in predictions])
        judged = Judged(len(references), query, rank, grade, *flattened(references))
        relevant = np.unique(judged.all_query[judged.all_grade >= relevance_level])
        values = measures(judged, cuts, relevance_level=relevance_level)
        return {
            **{name: float(by_query.mean()) for name, by_query in values.items()},
            "queries": len(references),
            "queries_without_relevant": len(references) - len(relevant),
        }


def _cuts(k: int | Sequence[int]) -> list[int]:
    cuts = [k] if isinstance(k, (int, np.integer)) else list(k)
    if not cuts or any(not isinstance(cut, (int, np.integer)) or cut < 1 for cut in cuts):
        raise ConfigError(f"retrieval(k={k!r}): allowed are whole numbers from 1; give one or a list, as k=[1, 10].")
    return cuts
