"""What `mine_hard_negatives(verbose=True)` prints of its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined, lengths
from hf_hardneg.compat.grouped_rows import GroupedRows
from hf_hardneg.compat.selecting import Selecting

if TYPE_CHECKING:
    from datasets import Dataset

MEASURES: dict[str, Callable[[np.ndarray], Any]] = {
    "Mean": np.mean,
    "Median": np.median,
    "Std": np.std,
    "Min": np.min,
    "25%": lambda scores: np.quantile(scores, 0.25),
    "75%": lambda scores: np.quantile(scores, 0.75),
    "Max": np.max,
}
REMOVED = {
    "known_positive": "known positives, or the query itself",
    "duplicate": "copies of a better candidate",
    "blank": "blank documents",
    "absolute_margin": "too close to the positive by absolute_margin",
    "relative_margin": "too close to the positive by relative_margin",
    "score_bounds": "outside min_score and max_score",
}
"""What the counts of a row stand for."""


def told(mined: Dataset, written: Dataset, rows: GroupedRows, selecting: Selecting, layout: str) -> Iterator[str]:
    """The lines: scores of positives and negatives, what was removed, and what is missing."""
    yield from _scores(mined)
    counts = combined(mined.with_format("arrow")[:].column("mining"))
    for name, what in REMOVED.items():
        removed = pc.sum(pc.struct_field(counts, name)).as_py() if counts.type.get_field_index(name) >= 0 else 0
        if removed:
            yield f"Removed {removed:,} candidates: {what}."
    possible = _possible(rows, selecting.num_negatives, layout)
    missing = possible - len(written)
    if missing > 0:
        asked = {"range_max": True, "range_min": selecting.range_min > 0}
        asked |= {name: getattr(selecting, name) is not None for name in ("absolute_margin", "relative_margin")}
        asked |= {name: getattr(selecting, name) is not None for name in ("max_score", "min_score")}
        names = [name for name, given_too in asked.items() if given_too]
        parameters = f"{' and '.join(names)} parameter{'s' if len(names) > 1 else ''}"
        yield f"Could not find enough negatives for {missing:,} of {possible:,} rows ({missing / possible:.2%})."
        yield f"Consider adjusting the {parameters} if more of them are wanted."


def _possible(rows: GroupedRows, size: int, layout: str) -> int:
    pairs = sum(map(len, rows.positives.values()))
    return {"triplet": pairs * size, "labeled-pair": pairs + len(rows.positives) * size}.get(layout, pairs)


def _scores(mined: Dataset) -> Iterator[str]:
    table = mined.with_format("arrow")[:]
    sides = [combined(table.column(f"{side}_scores")) for side in ("positive", "negative")]
    lists = [lengths(side) for side in sides]
    positive, negative = (side.flatten().to_numpy(zero_copy_only=False).astype(np.float64) for side in sides)
    best = np.full(len(table), np.nan)
    np.fmin.at(best, np.repeat(np.arange(len(table)), lists[0]), positive)
    columns = (positive, negative, np.repeat(best, lists[1]) - negative)
    yield f"{'Score':<8}" + "".join(f"{name:>12}" for name in ("positive", "negative", "difference"))
    yield f"{'Count':<8}" + "".join(f"{len(values):>12,}" for values in columns)
    for name, measure in MEASURES.items():
        shown = (f"{measure(values):>12.4f}" if len(values) else f"{'-':>12}" for values in columns)
        yield f"{name:<8}" + "".join(shown)
