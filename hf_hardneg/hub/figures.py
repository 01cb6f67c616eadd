"""Draw the pictures and print the examples that a card shows of mined rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
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
    """Draw where the scores lie, and how far the negatives score below their positive: SVG by path."""
    drawn = {}
    scores = finite_numbers(mined, "negative_scores")
    if len(scores):
        edges = _edges(scores, figures.positive_scores)
        counts = np.histogram(scores, edges)[0].tolist()
        positives = figures.positive_scores
        marked = Marked(positives[0.25], positives[0.75], "middle half of the positives") if positives else None
        drawn[SCORES] = histogram(edges, counts, title="Scores of negatives", x_label="score", marked=marked)
    if figures.hardness.compared:
        drawn[ZONE] = histogram(
            EDGES,
            figures.hardness.counts,
            title="Negatives against the best positive of their query",
            x_label="(positive - negative) / |positive|",
            marked=Marked(HARD, EASY, "moderate"),
        )
    return drawn


def _edges(scores: np.ndarray, positives: Mapping[float, float]) -> list[float]:
    """Choose round edges of about `BINS` equal bins around the scores and the middle half of the positives' scores."""
    ends = [*(positives[q] for q in (0.25, 0.75) if positives), scores.min(), scores.max()]
    low, high = float(min(ends)), float(max(ends))
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        half = max(1, abs(high)) / 2
        low, high = low - half, high + half
    power = 10.0 ** math.floor(math.log10((high - low) / BINS))
    step = next(size * power for size in (1, 2, 2.5, 5, 10, 20) if size * power * BINS >= high - low)
    edges = np.arange(math.floor(low / step), math.ceil(high / step) + 1) * step
    edges[[0, -1]] = min(edges[0], low), max(edges[-1], high)
    return edges.tolist()


def examples(mined: Dataset, query: str, positive: str) -> list[str]:
    """Print the first queries that have a negative, each in a few lines; none where rows lack their columns."""
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
    scored = {
        "positive": zip(positives, row["positive_scores"], strict=False),
        "negative": zip(row["negatives"], row["negative_scores"], strict=True),
    }
    lines = [_line(label, *document) for label, side in scored.items() for document in islice(side, SHOWN)]
    return [_line("query", row[query]), *lines]


def _line(label: str, text: Any, score: float | None = None) -> str:
    known = score is not None and math.isfinite(score)
    return f"{label:<9}{f'{score:.4g}' if known else '':>9}  {cut(str(text), LENGTH)}"
