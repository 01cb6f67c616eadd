"""What a card shows of mined rows: figures, pictures, examples, and how many negatives may be none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hf_hardneg.batches import flat
from hf_hardneg.charts import Marked, histogram
from hf_hardneg.denoising import THRESHOLD, CrossEncoderDenoiser
from hf_hardneg.diagnostics import wilson_interval
from hf_hardneg.hub.inert import cut
from hf_hardneg.recipes import Recipe
from hf_hardneg.reports import EDGES, TOO_EASY, TOO_HARD, Report
from hf_hardneg.score.scorers import probabilities

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
BINS = 20
EXAMPLES, SHOWN, LENGTH = 3, 3, 160
"""Rows that are shown, documents of each kind in a row, and characters of a text."""
CONFIDENCE = 0.95
SCORES, ZONE = "assets/hf_hardneg-scores.svg", "assets/hf_hardneg-margins.svg"
_JUDGED = f"negative_{CrossEncoderDenoiser.name}_scores"


class FalseNegatives(NamedTuple):
    """What a cross-encoder expects.

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


def false_negatives(mined: Dataset, recipe: Recipe | None) -> FalseNegatives | None:
    """The share of negatives that are relevant by the stored scores of the cross-encoder that denoised them.

    The mean of its probabilities, with the Wilson interval of as many independent judgements. `None` where no score is
    stored, or nothing says what the scores are.
    """
    stage = _denoiser(recipe)
    if stage is None or _JUDGED not in mined.column_names:
        return None
    scores = _numbers(mined, _JUDGED)
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


def _denoiser(recipe: Recipe | None) -> Mapping[str, Any] | None:
    stages = [] if recipe is None else recipe.strategy["filters"]
    return next((one for one in stages if one.get("class") == CrossEncoderDenoiser.__name__), None)


def pictures(mined: Dataset, figures: Report) -> dict[str, str]:
    """SVG by path: where the scores lie, and how far the negatives score below their positive."""
    made = {}
    scores = _numbers(mined, "negative_scores")
    if len(scores):
        edges = _edges(scores, figures.positive_scores)
        counts = np.histogram(scores, edges)[0].tolist()
        positives = figures.positive_scores
        marked = Marked(positives[0.25], positives[0.75], "middle half of the positives") if positives else None
        made[SCORES] = histogram(edges, counts, title="Scores of negatives", x_label="score", marked=marked)
    if figures.goldilocks:
        counts = list(figures.relative_margins.values())
        made[ZONE] = histogram(
            EDGES,
            counts,
            title="Negatives against their positive",
            x_label="(positive - negative) / |positive|",
            marked=Marked(TOO_HARD, TOO_EASY, "just right"),
        )
    return made


def _edges(scores: np.ndarray, positives: Mapping[float, float]) -> list[float]:
    """Round edges of about `BINS` equal bins around the scores and the middle half of the positives' scores."""
    ends = [*(positives[q] for q in (0.25, 0.75) if positives), scores.min(), scores.max()]
    low, high = float(min(ends)), float(max(ends))
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        half = max(1, abs(high)) / 2
        low, high = low - half, high + half
    power = 10.0 ** math.floor(math.log10((high - low) / BINS))
    step = next(one * power for one in (1, 2, 2.5, 5, 10, 20) if one * power * BINS >= high - low)
    edges = np.arange(math.floor(low / step), math.ceil(high / step) + 1) * step
    edges[[0, -1]] = min(edges[0], low), max(edges[-1], high)
    return edges.tolist()


def _numbers(mined: Dataset, column: str) -> np.ndarray:
    """All finite numbers in a column of lists, (n,) float64."""
    tables = mined.with_format("arrow", columns=[column]).iter(BATCH)
    found = np.concatenate([np.zeros(0), *(flat(table.column(column), np.float64)[0] for table in tables)])
    return found[np.isfinite(found)]


def examples(mined: Dataset, query: str, positive: str) -> list[str]:
    """The first queries that have a negative, each as a few lines of text; none where their columns are not there."""
    shown: dict[str, str] = {}
    if query not in mined.column_names or positive not in mined.column_names:
        return []
    for row in mined.with_format(None):
        if row["negatives"]:
            shown.setdefault(str(row[query]), "\n".join(_lines(row, query, positive)))
        if len(shown) == EXAMPLES:
            break
    return list(shown.values())


def _lines(row: Mapping[str, Any], query: str, positive: str) -> list[str]:
    positives = [row[positive]] if isinstance(row[positive], str) else row[positive]
    lines = [_line("query", row[query])]
    lines += [_line("positive", *one) for one in zip(positives, row["positive_scores"], strict=False)][:SHOWN]
    lines += [_line("negative", *one) for one in zip(row["negatives"], row["negative_scores"], strict=True)][:SHOWN]
    return lines


def _line(label: str, text: Any, score: float | None = None) -> str:
    known = score is not None and math.isfinite(score)
    return f"{label:<9}{f'{score:.4g}' if known else '':>9}  {cut(str(text), LENGTH)}"
