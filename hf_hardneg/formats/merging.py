"""Join rows that a layout wrote apart: runs of neighbours that share their query and one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.arrays.lists import combined, lengths, listed, ragged

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000


def merged(dataset: Dataset, shared: str) -> Dataset:
    """Join neighbours of one query that share a side into one row, with their lists of the other side.

    Args:
        dataset (`Dataset`): rows of the list layout.
        shared (`str`): `"positive"` joins the negatives of rows with equal positives; `"negatives"` the other way
            round; `"query"` joins both.
    """
    from datasets import Dataset

    fixed = fixed_columns(dataset.column_names, shared)
    plain = dataset.with_format("arrow")
    starts = np.flatnonzero(~_as_before(plain, fixed))
    if len(starts) == len(dataset):
        return dataset
    runs = Dataset.from_dict({"start": starts, "stop": np.append(starts[1:], len(dataset))}).with_format("arrow")
    joined = _Joined(plain, tuple(name for name in dataset.column_names if name not in fixed))
    return runs.map(joined, batched=True, desc="Joining rows").with_format(dataset.format["type"])


def fixed_columns(names: Sequence[str], shared: str) -> list[str]:
    """Name the columns that rows must share to be joined."""
    sides = {"positive": ("positive",), "negatives": ("negative",), "query": ()}[shared]
    return [name for name in names if name.startswith(("query", *sides))]


@dataclass(frozen=True)
class _Joined:
    dataset: Dataset
    lists: tuple[str, ...]

    def __call__(self, runs: pa.Table) -> pa.Table:
        starts, stops = (combined(runs.column(name)).to_numpy() for name in ("start", "stop"))
        table = self.dataset[int(starts[0]) : int(stops[-1])]
        return joined(table, starts - starts[0], self.lists)


def joined(table: pa.Table, begins: np.ndarray, lists: Sequence[str]) -> pa.Table:
    """Make a row of each run that begins at `begins`, (runs,) ascending from 0: `lists` joined, of others the first."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = combined(table.column(name))
        if name in lists:
            columns[name] = ragged(column.flatten(), np.add.reduceat(lengths(column), begins))
        else:
            columns[name] = column.take(pa.array(begins))
    return pa.table(columns)


def _as_before(dataset: Dataset, names: Sequence[str]) -> np.ndarray:
    """Whether each row equals the one before it in all of some columns, (n,)."""
    same = np.zeros(len(dataset), bool)
    narrow = dataset.select_columns(list(names))
    for start in range(0, len(dataset), BATCH):
        begin = max(start - 1, 0)
        table = narrow[begin : start + BATCH]
        if len(table) > 1:
            same[begin + 1 : begin + len(table)] = equal_neighbours(table, names)
    return same


def equal_neighbours(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Whether each row but the first equals the one before in all of some columns, (n - 1,)."""
    return np.logical_and.reduce([_equal_neighbours(combined(table.column(name))) for name in names])


def _equal_neighbours(column: pa.Array) -> np.ndarray:
    """Whether each value but the first equals the one before, (n - 1,)."""
    lists = listed(column)
    counts = lengths(lists)
    codes = lists.flatten().dictionary_encode().indices.fill_null(-1).to_numpy()
    begins = np.cumsum(counts) - counts
    same = counts[1:] == counts[:-1]
    owner, inner = spread(counts)
    check = (owner > 0) & np.append(False, same)[owner]
    differs = codes[check] != codes[begins[owner[check] - 1] + inner[check]]
    same[owner[check][differs] - 1] = False
    return same
