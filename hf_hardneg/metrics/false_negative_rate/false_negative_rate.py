"""The share of negatives that are known positives, as an `evaluate` module."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from hf_hardneg.arrays.statistics import wilson_interval
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.metrics import judgements

DESCRIPTION = """The share of negatives that judgements call relevant. Judgements that miss relevant documents make it a
lower bound."""
INPUTS = f"""{judgements.INPUTS}
    confidence (`float`, defaults to 0.95): of the interval, which takes negatives for independent of each other.
Returns:
    `false_negative_rate` with the Wilson interval from `low` to `high`; `negatives` and `false_negatives`; `queries`,
    `affected_queries` that have a false negative, and `starving_queries` that have no true one.
Examples:
    >>> from hf_hardneg.metrics import load
    >>> load("false_negative_rate").compute(predictions=[["a", "b"]], references=[["b"]])["false_negative_rate"]
    0.5
"""


class FalseNegativeRate(judgements.JudgedMetric):
    """Negatives, as predictions, against judgements; of a query it stores two counts."""

    def _info(self) -> evaluate.MetricInfo:
        count = datasets.Value("int64")
        features = datasets.Features(predictions=count, references=count)
        return evaluate.MetricInfo(DESCRIPTION, "", features, INPUTS)

    def figures_of(self, ranking: list[str], grades: dict[str, float]) -> tuple[int, int]:
        """Count the negatives of a query, and how many of them are relevant."""
        return len(ranking), sum(grades.get(document, 0.0) > 0 for document in ranking)

    def _compute(self, predictions: list[int], references: list[int], confidence: float = 0.95) -> dict[str, Any]:
        if not 0 < confidence < 1:
            raise ConfigError(f"false_negative_rate(confidence={confidence}): it lies between 0 and 1; give 0.95.")
        negatives, wrong = np.array(predictions, dtype=np.int64), np.array(references, dtype=np.int64)
        if not negatives.sum():
            raise DataError(
                f"false_negative_rate got {len(negatives):,} queries without a negative; a share needs one. Add more."
            )
        low, high = wilson_interval(int(wrong.sum()), int(negatives.sum()), confidence=confidence)
        return {
            "false_negative_rate": float(wrong.sum() / negatives.sum()),
            "low": low,
            "high": high,
            "negatives": int(negatives.sum()),
            "false_negatives": int(wrong.sum()),
            "queries": len(negatives),
            "affected_queries": int((wrong > 0).sum()),
            "starving_queries": int((wrong == negatives).sum()),
        }
