"""`report`: what mining did, computed from the columns of a mined dataset alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.errors import ColumnError

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
RECALL = "search_recall"
NEEDED = ("negatives", "negative_scores", "negative_ranks", "negative_sources", "positive_scores", "mining")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of a mined dataset; `str()` renders them.

    Args:
        rows (`int`): rows of the dataset.
        negatives (`int`): negatives in all.
        funnel (`dict[str, int]`): candidates retrieved, removed under each reason, and kept, over all rows.
        sources (`dict[str, int]`): negatives by where they came from.
        negative_scores, positive_scores, margins, ranks (`dict[float, float]`): quantiles; a margin is the positive's
            score minus a negative's.
        above_positive (`float`): share of negatives that score above their positive; likely unlabelled positives.
        short_rows, empty_rows (`int`): rows with fewer negatives than asked, and with none.
        repeated_negatives (`int`): rows in which one text stands twice among the negatives.
        search_recall (`float`, *optional*): share of the exact nearest documents that an approximate search finds, as
            it measured itself; mean over rows. `None` where all search was exact.
    """

    rows: int
    negatives: int
    funnel: dict[str, int]
    sources: dict[str, int]
    negative_scores: dict[float, float]
    positive_scores: dict[float, float]
    margins: dict[float, float]
    ranks: dict[float, float]
    above_positive: float
    short_rows: int
    empty_rows: int
    repeated_negatives: int
    search_recall: float | None = None

    def __str__(self) -> str:
        retrieved = max(self.funnel["retrieved"], 1)
        lines = [f"{self.rows:,} rows, {self.negatives:,} negatives, {self.negatives / max(self.rows, 1):.2f} per row"]
        for name, count in self.funnel.items():
            lines.append(f"  {name:<20} {count:>12,}  {100 * count / retrieved:6.2f} %")
        for name in ("ranks", "negative_scores", "positive_scores", "margins"):
            values = getattr(self, name)
            if values:
                shown = "  ".join(f"{int(100 * q)}%: {value:.4g}" for q, value in values.items())
                lines.append(f"  {name:<20} {shown}")
        lines.append(f"  {'sources':<20} " + ", ".join(f"{name}: {count:,}" for name, count in self.sources.items()))
        if self.margins:
            lines.append(f"  above their positive {100 * self.above_positive:.2f} % of negatives (likely unlabelled)")
        lines.append(f"  short rows {self.short_rows:,}, of which empty {self.empty_rows:,}")
        if self.repeated_negatives:
            lines.append(f"  rows with a repeated negative {self.repeated_negatives:,}")
        if self.search_recall is not None:
            lines.append(f"  recall of approximate search {self.search_recall:.4f}")
        return "\n".join(lines)


def report(dataset: Dataset) -> Report:
    """The figures of a mined dataset.

    Args:
        dataset (`Dataset`): what `mine()` or `HardNegatives` returned, in the `list` layout.

    Raises:
        ColumnError: it lacks the columns of mined data.

    Example:
        >>> print(report(mined))
    """
    missing = [name for name in NEEDED if name not in dataset.column_names]
    if missing:
        raise ColumnError(
            f"report() needs the columns of mined data and {', '.join(map(repr, missing))} are missing; it has "
            f"{', '.join(map(repr, dataset.column_names))}. Give what mine() returned, before to_format()."
        )
    parts = [_part(table) for table in dataset.with_format("arrow", columns=list(NEEDED)).iter(BATCH)]
    if not parts:
        return _joined([_part(dataset.data.select(list(NEEDED)).slice(0, 0))])
    return _joined(parts)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The figures of a batch: counts to add up, and the numbers whose quantiles are asked."""

    per_row: np.ndarray
    short: np.ndarray
    counts: dict[str, int]
    sources: Counter[str]
    numbers: dict[str, np.ndarray]
    repeated: int


def _part(table: pa.Table) -> _Part:
    columns = {name: _one(table.column(name)) for name in NEEDED}
    counts = dict(zip((entry.name for entry in columns["mining"].type), columns["mining"].flatten(), strict=True))
    recalls = counts.pop(RECALL, pa.nulls(0, pa.float32()))
    sources = pc.value_counts(columns["negative_sources"].flatten()).to_pylist()
    return _Part(
        per_row=pc.list_value_length(columns["negatives"]).to_numpy(zero_copy_only=False),
        short=counts["short"].to_numpy(zero_copy_only=False),
        counts={name: int(pc.sum(values).as_py() or 0) for name, values in counts.items() if name != "short"},
        sources=Counter({entry["values"]: entry["counts"] for entry in sources}),
        numbers={
            "ranks": _numbers(columns["negative_ranks"]),
            "negative_scores": _numbers(columns["negative_scores"]),
            "positive_scores": _numbers(columns["positive_scores"]),
            "margins": _margins(columns["positive_scores"], columns["negative_scores"]),
            RECALL: recalls.drop_null().to_numpy(zero_copy_only=False).astype(np.float64),
        },
        repeated=_repeated(columns["negatives"]),
    )


def _joined(parts: list[_Part]) -> Report:
    per_row, short = (np.concatenate([getattr(part, name) for part in parts]) for name in ("per_row", "short"))
    numbers = {name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers}
    sources = sum((part.sources for part in parts), Counter[str]())
    margins, recalls = numbers["margins"], numbers.pop(RECALL)
    return Report(
        rows=len(per_row),
        negatives=int(per_row.sum()),
        funnel={name: sum(part.counts[name] for part in parts) for name in parts[0].counts},
        sources=dict(sorted(sources.items())),
        **{name: _quantiles(values) for name, values in numbers.items()},
        above_positive=float((margins < 0).mean()) if len(margins) else 0.0,
        short_rows=int((short > 0).sum()),
        empty_rows=int((per_row == 0).sum()),
        repeated_negatives=sum(part.repeated for part in parts),
        search_recall=float(recalls.mean()) if len(recalls) else None,
    )


def _one(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _numbers(lists: pa.ListArray) -> np.ndarray:
    return lists.flatten().drop_null().to_numpy(zero_copy_only=False).astype(np.float64)


def _quantiles(values: np.ndarray) -> dict[float, float]:
    return {q: float(np.quantile(values, q)) for q in QUANTILES} if len(values) else {}


def _margins(positives: pa.ListArray, negatives: pa.ListArray) -> np.ndarray:
    """Lowest positive score minus score, of each negative; NaN and unscored ones left out."""
    lowest = np.full(len(positives), np.nan)
    owner = pc.list_parent_indices(positives).to_numpy(zero_copy_only=False)
    scores = positives.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    np.fmin.at(lowest, owner, scores)
    margins = lowest[pc.list_parent_indices(negatives).to_numpy(zero_copy_only=False)]
    margins = margins - negatives.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return margins[~np.isnan(margins)]


def _repeated(negatives: pa.ListArray) -> int:
    pairs = pa.table({"row": pc.list_parent_indices(negatives), "text": negatives.flatten()})
    counts = pairs.group_by(["row", "text"]).aggregate([([], "count_all")])
    return len(pc.unique(counts.filter(pc.field("count_all") > 1).column("row")))
