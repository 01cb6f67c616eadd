"""Estimate how many mined negatives are false, where something other than the retriever's score can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hf_hardneg.arrays.lists import flat
from hf_hardneg.arrays.statistics import wilson_interval
from hf_hardneg.filters.denoised import THRESHOLD, Denoised
from hf_hardneg.models.scorers import probabilities
from hf_hardneg.recipes.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
CONFIDENCE = 0.95
JUDGED = f"negative_{Denoised.name}_scores"


class FalseNegatives(NamedTuple):
    """The share of false negatives that a cross-encoder expects.

    Args:
        share, low, high (`float`): of the negatives that are relevant, with its interval.
        scored (`int`): negatives with a score.
        threshold (`float`): probability up to which the same model let them pass, where it went by one.
        removed (`float`, *optional*): else the share of a query's best candidates, highest first, that it took out.
    """

    share: float
    low: float
    high: float
    scored: int
    threshold: float
    removed: float | None

    def __str__(self) -> str:
        share, low, high = (f"{100 * part:.2f} %" for part in (self.share, self.low, self.high))
        return f"{share}, 95 % interval {low} to {high}, of {self.scored:,} that the denoising cross-encoder scored"


def false_negatives(mined: Dataset, recipe: Recipe | None) -> FalseNegatives | None:
    """Estimate the share of negatives that are relevant, by the scores of the cross-encoder that denoised them.

    It is the mean of the stored scores as probabilities, with the Wilson interval of as many independent judgements.
    It is `None` where no score is stored, or nothing says what the scores are.
    """
    stages = [] if recipe is None else recipe.strategy["filters"]
    stage = next((stage for stage in stages if stage.get("class") == Denoised.__name__), None)
    if stage is None or JUDGED not in mined.column_names:
        return None
    scores = finite_numbers(mined, JUDGED)
    if not len(scores):
        return None
    chances = probabilities(scores, stage["kind"])
    low, high = wilson_interval(float(chances.sum()), len(chances), confidence=CONFIDENCE)
    return FalseNegatives(
        share=float(chances.mean()),
        low=low,
        high=high,
        scored=len(chances),
        threshold=stage.get("threshold") or THRESHOLD,
        removed=stage.get("share"),
    )


def finite_numbers(mined: Dataset, column: str) -> np.ndarray:
    """Return all finite numbers in a column of lists, (n,) float64."""
    tables = mined.with_format("arrow", columns=[column]).iter(BATCH)
    numbers = np.concatenate([np.zeros(0), *(flat(table.column(column), np.float64)[0] for table in tables)])
    return numbers[np.isfinite(numbers)]
