"""Layers of hardness, and the first negatives of each, to be read by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.formats.images import rows_with_names
from hf_hardneg.reports.hardness import EASY, HARD, Comparison

if TYPE_CHECKING:
    from datasets import Dataset

LAYERS = {
    "above the positive": (-np.inf, 0.0),
    "hard": (0.0, HARD),
    "moderate": (HARD, EASY),
    "easy": (EASY, np.inf),
}
"""Relative margins of each layer, its lower end inside; the first and the second are what reports call hard."""
SHOWN, LENGTH = 3, 400
"""Examples of each layer, and characters of a text."""

Places = dict[str, list[tuple[int, int]]]
"""Of each layer the row and the place in it of some negatives."""


@dataclass(frozen=True, kw_only=True)
class LayerExample:
    """A negative beside the best-scored positive of its query; texts are cut after `LENGTH` characters.

    Args:
        layer (`str`): a name in `LAYERS`.
        row (`int`): in the dataset, from 0.
        query, positive, negative (`str`): texts.
        positive_score, negative_score (`float`): of the retriever.
    """

    layer: str
    row: int
    query: str
    positive: str
    negative: str
    positive_score: float
    negative_score: float


def first_places(compared: Comparison, starts: np.ndarray) -> Places:
    """Find the first negatives of each layer, each in a row of its own.

    Args:
        compared (`Comparison`): of some rows.
        starts (`np.ndarray`): (rows + 1,) where the negatives of each row begin and end.
    """
    places = {}
    for layer, (low, high) in LAYERS.items():
        inside = np.flatnonzero((compared.relative >= low) & ((compared.relative < high) | (high == np.inf)))
        _, first = np.unique(compared.row[inside], return_index=True)
        chosen = inside[first[:SHOWN]]
        rows = compared.row[chosen]
        places[layer] = list(zip(rows.tolist(), (compared.place[chosen] - starts[rows]).tolist(), strict=True))
    return places


def read_examples(
    dataset: Dataset, places: Mapping[str, Sequence[tuple[int, int]]], names: PairColumns
) -> list[LayerExample]:
    """Read the texts at some places; none where the dataset lacks the columns of queries and positives."""
    columns = [names.query, names.positive, "negatives", "positive_scores", "negative_scores"]
    if not set(columns) <= set(dataset.column_names):
        return []
    every = [(layer, row, place) for layer, chosen in places.items() for row, place in chosen]
    needed = sorted({row for _, row, _ in every})
    chosen_rows = rows_with_names(dataset.select_columns(columns).select(needed), (names.query, names.positive))
    rows = dict(zip(needed, chosen_rows, strict=True))
    return [_example(rows[row], layer, row, place, names) for layer, row, place in every]


def _example(row: Mapping[str, Any], layer: str, number: int, place: int, names: PairColumns) -> LayerExample:
    positives = [row[names.positive]] if isinstance(row[names.positive], str) else row[names.positive]
    scores = [-np.inf if score is None else score for score in row["positive_scores"]]
    best = int(np.argmax(scores))
    return LayerExample(
        layer=layer,
        row=number,
        query=cut_text(str(row[names.query])),
        positive=cut_text(str(positives[best])) if best < len(positives) else "",
        negative=cut_text(str(row["negatives"][place])),
        positive_score=scores[best],
        negative_score=row["negative_scores"][place],
    )


def cut_text(text: str) -> str:
    """Cut a text to the length of an example."""
    return text if len(text) <= LENGTH else f"{text[:LENGTH]}…"
