"""How near negatives come to their positives, as an `evaluate` module."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from hf_hardneg.arrays.lists import flattened
from hf_hardneg.errors import DataError
from hf_hardneg.reports.hardness import HardnessHistogram, best_scores, compare
from hf_hardneg.reports.report import quantiles

DESCRIPTION = """Scores of negatives against the best score of a positive of the same query: means, quantiles of the
margin, and the shares that are easy, moderate and hard, as `hf_hardneg.report` counts them."""
INPUTS = """
Args:
    predictions: of each query the scores of its negatives; NaN where one has none.
    references: of each query the score of its positive, or a list of them. All scores are of one model.
Returns:
    `mean_score` of negatives; `mean_margin` and `margin_quantiles`, of the positive's score minus a negative's;
    `above_positive`, the share that scores higher than its positive; `easy`, `moderate` and `hard`, shares by the
    margin as part of the positive's score; `negatives`, those compared.
Examples:
    >>> from hf_hardneg.metrics import load
    >>> load("hardness").compute(predictions=[[0.6, 0.2]], references=[0.8])["moderate"]
    0.5
"""


class Hardness(evaluate.Metric):  # type: ignore[misc]
    """Scores of negatives, as predictions, against scores of positives."""

    def _info(self) -> evaluate.MetricInfo:
        score = datasets.Value("float64")
        scores = datasets.List(score)
        features = [datasets.Features(predictions=scores, references=reference) for reference in (scores, score)]
        return evaluate.MetricInfo(DESCRIPTION, "", features, INPUTS)

    def _compute(self, predictions: list[list[float]], references: list[list[float] | float]) -> dict[str, Any]:
        positives = [scores if isinstance(scores, list) else [scores] for scores in references]
        (row, anchors), (owner, scores) = flattened(positives), flattened(predictions)
        compared = compare(best_scores(len(positives), row, anchors), owner, scores)
        if not len(compared.margin):
            raise DataError(
                f"hardness got {len(predictions):,} queries and no pair of a scored positive and a scored negative; "
                "it needs one. Score both with the same model."
            )
        counted = HardnessHistogram.of(compared.relative)
        return {
            "mean_score": float(np.nanmean(scores)),
            "mean_margin": float(compared.margin.mean()),
            "margin_quantiles": quantiles(compared.margin),
            "above_positive": counted.above,
            **counted.shares,
            "negatives": counted.compared,
        }
