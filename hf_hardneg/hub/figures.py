"""Draw the pictures and print the examples that a card shows of mined rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from hf_hardneg.formats.images import rows_with_names
from hf_hardneg.hub.inert import cut
from hf_hardneg.reports.report import Report

if TYPE_CHECKING:
    from datasets import Dataset

EXAMPLES, SHOWN, LENGTH = 3, 3, 160
"""Rows that are shown, documents of each kind in a row, and characters of a text."""
SCORES, ZONE = "assets/hf_hardneg-scores.svg", "assets/hf_hardneg-margins.svg"


def pictures(figures: Report) -> dict[str, str]:
    """Draw where the scores lie, and how far the negatives score below their positive: SVG by path."""
    drawn = {SCORES: figures.scores, ZONE: figures.zone}
    return {path: chart.svg() for path, chart in drawn.items() if chart is not None}


def examples(mined: Dataset, query: str, positive: str) -> list[str]:
    """Print the first queries that have a negative, each in a few lines; none where rows lack their columns."""
    shown: dict[str, str] = {}
    if query not in mined.column_names or positive not in mined.column_names:
        return []
    read = [query, positive, "negatives", "positive_scores", "negative_scores"]
    for row in rows_with_names(mined.select_columns(read), read[:2]):
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
