"""What a card shows of mined rows: pictures and examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_hardneg.hub.inert import cut
from hf_hardneg.reports.charts import Marked, histogram
from hf_hardneg.reports.estimates import finite_numbers
from hf_hardneg.reports.hardness import EASY, EDGES, HARD
from hf_hardneg.reports.report import Report

if TYPE_CHECKING:
    from datasets import Dataset

BINS = 20
EXAMPLES, SHOWN, LENGTH = 3, 3, 160
"""Rows that are shown, documents of each kind in a row, and characters of a text."""
SCORES, ZONE = "assets/hf_hardneg-scores.svg", "assets/hf_hardneg-margins.svg"


def pictures(mined: Dataset, figures: Report) -> dict[str, str]:
    """SVG by path: where the scores lie, and how far the negatives score below their positive."""
    made = {}
    scores = finite_numbers(mined, "negative_scores")
    if len(scores):
        edges = _edges(scores, figures.positive_scores)
        counts = np.histogram(scores, edges)[0].tolist()
        positives = figures.positive_scores
        marked = Marked(positives[0.25], positives[0.75], "middle half of the positives") if positives else None
        made[SCORES] = histogram(edges, counts, title="Scores of negatives", x_label="score", marked=marked)
    if figures.hardness.compared:
        made[ZONE] = histogram(
            EDGES,
            figures.hardness.counts,
            title="Negatives against the best positive of their query",
            x_label="(positive - negative) / |positive|",
            marked=Marked(HARD, EASY, "moderate"),
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
