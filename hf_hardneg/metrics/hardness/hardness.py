"""How near negatives come to their positives, as an `evaluate` module."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
import pyarrow as pa

from hf_hardneg.errors import DataError
from hf_hardneg.reports import goldilocks, margins, quantiles, relative_margins

DESCRIPTION = """Scores of negatives against the lowest score of a positive of the same query: means, quantiles of the
margin, and the shares that are too easy, just right and too hard, as `hf_hardneg.report` counts them."""
INPUTS = """
Args:
    predictions: of each query the scores of its negatives; NaN for those without.
    references: of each query the score of its positive, or a list of them. All scores are of one model.
Returns:
    `mean_score` of negatives; `mean_margin` and `margin_quantiles`, of the positive's score minus a negative's;
    `above_positive`, the share that scores higher than its positive; `too_easy`, `just_right` and `too_hard`, shares by
    the margin as part of the positive's score (`None` where every positive scores 0); `negatives`, those compared.
Examples:
    >>> from hf_hardneg.metrics import load
    >>> load("hardness").compute(predictions=[[0.6, 0.2]], references=[0.8])["just_right"]
    0.5
"""


class Hardness(evaluate.Metric):  # type: ignore[misc]
    """Scores of negatives, as predictions, against those of positives."""

    def _info(self) -> evaluate.MetricInfo:
        score = datasets.Value("float64")
        scores = datasets.List(score)
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=[datasets.Features(predictions=scores, references=one) for one in (scores, score)],
        )

    def _compute(self, predictions: list[list[float]], references: list[list[float] | float]) -> dict[str, Any]:
        positives = [one if isinstance(one, list) else [one] for one in references]
        negatives = pa.array(predictions, pa.list_(pa.float64()))
        compared, margin, relative = margins(pa.array(positives, pa.list_(pa.float64())), negatives)
        if not len(margin):
            raise DataError(
                f"hardness got {len(predictions):,} queries and no pair of a scored positive and a scored negative; "
                "it needs one. Score both with the same model."
            )
        shares = goldilocks(relative_margins(relative))
        scores = negatives.flatten().to_numpy(zero_copy_only=False)
        return {
            "mean_score": float(np.nanmean(scores)),
            "mean_margin": float(margin.mean()),
            "margin_quantiles": quantiles(margin),
            "above_positive": float((margin < 0).mean()),
            **{name.replace(" ", "_"): shares.get(name) for name in ("too easy", "just right", "too hard")},
            "negatives": int(compared.sum()),
        }
