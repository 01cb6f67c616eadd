"""Estimate how many mined negatives are false, where something other than the retriever's score can tell.

People can, by verdicts (`hf_hardneg.audits`), and a cross-encoder, as far as it is right. What people judged counts as
they said. Of the others a random sample tells, where people judged one; else the cross-encoder; else nothing does, and
only bounds are known: what people look at first is suspicious, so its share says nothing of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hf_hardneg.arrays.lists import flat
from hf_hardneg.arrays.statistics import wilson_interval
from hf_hardneg.corpus.columns import DRAWN, VERDICTS
from hf_hardneg.filters.denoised import THRESHOLD, Denoised
from hf_hardneg.models.scorers import probabilities
from hf_hardneg.recipes.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
CONFIDENCE = 0.95
ENOUGH = 30
"""Verdicts of a random sample from which it counts more than a cross-encoder."""
JUDGED = f"negative_{Denoised.name}_scores"


class FalseNegatives(NamedTuple):
    """The share of negatives that are relevant, as far as people or a cross-encoder tell.

    Args:
        share (`float`, *optional*): `None` where only bounds are known, as nothing tells of negatives nobody judged.
        low, high (`float`): its 95 % interval; the bounds, where only these are known.
        method (`str`): `"sample"`, a random sample that people judged; `"scores"`, the cross-encoder's, with what
            people judged in their place; or `"bounds"`, of what people judged alone.
        scored (`int`): negatives that tell of it: of the sample, or with a score or verdict.
        threshold (`float`): probability up to which the same model let them pass, where it went by one.
        removed (`float`, *optional*): else the share of a query's best candidates, highest first, that it took out.
        judged, relevant (`int`): negatives that people judged, and those they took for relevant.
        unanswered (`int`): negatives of the sample that nobody judged; the interval holds whatever they are.
    """

    share: float | None
    low: float
    high: float
    method: Literal["sample", "scores", "bounds"]
    scored: int
    threshold: float = THRESHOLD
    removed: float | None = None
    judged: int = 0
    relevant: int = 0
    unanswered: int = 0

    def __str__(self) -> str:
        low, high = (f"{100 * part:.2f} %" for part in (self.low, self.high))
        people = f"{self.relevant:,} of {self.judged:,} that people judged are relevant"
        if self.share is None:
            return f"between {low} and {high}: {people}, and nothing tells of the others"
        if self.method == "bounds":
            return f"{100 * self.share:.2f} %: people judged every negative"
        estimate = f"{100 * self.share:.2f} %, 95 % interval {low} to {high}"
        if self.method == "sample":
            open_ones = f", {self.unanswered:,} of them not judged" if self.unanswered else ""
            return f"{estimate}, by a random sample of {self.scored + self.unanswered:,}{open_ones}; {people}"
        who, said = ("people judged or else ", f"; {people}") if self.judged else ("", "")
        return f"{estimate}, of {self.scored:,} that {who}the denoising cross-encoder scored{said}"


def false_negatives(mined: Dataset, recipe: Recipe | None) -> FalseNegatives | None:
    """Estimate the share of negatives that are relevant, by people's verdicts and the scores that denoised them.

    By a random sample it is the share of its relevant ones, with the Wilson interval; by scores, the mean of verdicts
    and of the others' probabilities, with the Wilson interval of as many independent judgements as there are scores.

    Args:
        mined (`Dataset`): mined rows, with `Verdicts.on` where people judged them.
        recipe (`Recipe`, *optional*): says what the scores are.

    Returns:
        `None` where nobody judged a negative and no score is stored that anything says the kind of.
    """
    verdicts, stage = numbers(mined, VERDICTS), denoising(recipe)
    chances = chances_of(numbers(mined, JUDGED), recipe)
    if not len(verdicts):
        verdicts = np.full(len(chances), np.nan)
    if not len(chances):
        chances = np.full(len(verdicts), np.nan)
    is_judged, finite = np.isfinite(verdicts), np.flatnonzero(np.isfinite(chances))
    if not is_judged.any() and not len(finite):
        return None
    drawn = numbers(mined, DRAWN) > 0
    sample = verdicts[drawn & is_judged] if len(drawn) else np.zeros(0)
    if len(sample) >= (ENOUGH if len(finite) else 1):
        estimate = _by_sample(sample, int(drawn.sum()) - len(sample), verdicts)
    elif len(finite):
        estimate = _by_scores(verdicts, chances)
    else:
        low, high = _bounds(verdicts)
        estimate = FalseNegatives(low if is_judged.all() else None, low, high, "bounds", 0)
    passed = stage or {}
    return estimate._replace(
        threshold=passed.get("threshold") or THRESHOLD,
        removed=passed.get("share"),
        judged=int(is_judged.sum()),
        relevant=int(np.nansum(verdicts)),
    )


def denoising(recipe: Recipe | None) -> dict[str, Any] | None:
    """Return what a recipe says of the filter that denoised the negatives, if one did."""
    stages = [] if recipe is None else recipe.strategy["filters"]
    return next((stage for stage in stages if stage.get("class") == Denoised.__name__), None)


def chances_of(scores: np.ndarray, recipe: Recipe | None) -> np.ndarray:
    """Turn the scores of that filter (n,) into probabilities, NaN where one is missing or of no known kind."""
    stage, chances = denoising(recipe), np.full(len(scores), np.nan)
    finite = np.isfinite(scores)
    if stage is not None and finite.any():
        chances[finite] = probabilities(scores[finite], stage["kind"])
    return chances


def _bounds(verdicts: np.ndarray) -> tuple[float, float]:
    """Return the lowest and the highest share that the verdicts allow, of all negatives."""
    return float((verdicts == 1).mean()), float(1 - (verdicts == 0).mean())


def _by_sample(sample: np.ndarray, unanswered: int, verdicts: np.ndarray) -> FalseNegatives:
    """Estimate by a sample; those that nobody judged may be either, and no share leaves what all verdicts allow."""
    relevant, every = float(sample.sum()), len(sample) + unanswered
    lowest, highest = _bounds(verdicts)
    low = max(wilson_interval(relevant, every, confidence=CONFIDENCE)[0], lowest)
    high = min(wilson_interval(relevant + unanswered, every, confidence=CONFIDENCE)[1], highest)
    share = min(max(relevant / len(sample), lowest), highest)
    return FalseNegatives(share, low, high, "sample", len(sample), unanswered=unanswered)


def _by_scores(verdicts: np.ndarray, chances: np.ndarray) -> FalseNegatives:
    """Estimate by the mean of the verdicts and of the others' probabilities."""
    judged = np.isfinite(verdicts)
    others = chances[~judged & np.isfinite(chances)]
    relevant, every = float(np.nansum(verdicts)), int(judged.sum()) + len(others)
    low, high = wilson_interval(float(others.sum()), len(others), confidence=CONFIDENCE) if len(others) else (0.0, 0.0)
    share, low, high = (
        (relevant + len(others) * part) / every for part in (others.mean() if len(others) else 0, low, high)
    )
    return FalseNegatives(float(share), low, high, "scores", every)


def numbers(mined: Dataset, column: str) -> np.ndarray:
    """Return all numbers in a column of lists, (n,) float64, NaN where one is null; none where there is no column."""
    if column not in mined.column_names:
        return np.zeros(0)
    tables = mined.with_format("arrow", columns=[column]).iter(BATCH)
    return np.concatenate([np.zeros(0), *(flat(table.column(column), np.float64)[0] for table in tables)])
