"""Columns of lists in Arrow: flat values with a length for each list, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def combined(column: Any) -> Any:
    """Join the chunks of a column into one array; an array stays as it is."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def ragged(values: pa.Array, counts: np.ndarray) -> pa.ListArray:
    """Cut flat values into a list array, `counts` (n,) of them in each list."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def flat(column: pa.ChunkedArray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a list column, (m,) of `dtype`, and its list lengths, (n,) int64."""
    array = combined(column)
    counts = np.diff(array.offsets.to_numpy(zero_copy_only=False)).astype(np.int64)
    return array.flatten().to_numpy(zero_copy_only=False).astype(dtype), counts


def flattened(lists: Sequence[Sequence[float | None]]) -> tuple[np.ndarray, np.ndarray]:
    """Lay lists end to end: the list that each number is in, (n,) int64, and the numbers, (n,) float64; None is NaN."""
    values = np.array([value for values in lists for value in values], np.float64)
    return np.repeat(np.arange(len(lists)), list(map(len, lists))), values


def lengths(lists: pa.ListArray) -> np.ndarray:
    """Return the length of each list, (n,); a null list has length 0."""
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)


def listed(column: Any) -> pa.ListArray:
    """Return a column of lists as it is, and a column of values as lists of one value each."""
    array = combined(column)
    if pa.types.is_list(array.type):
        return array
    if pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        return ragged(array.flatten(), lengths(array))
    return ragged(array, np.ones(len(array), np.int64))
