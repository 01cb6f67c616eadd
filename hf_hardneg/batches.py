"""Batches in every form `datasets` hands to a callable, and the same form back.

`Dataset.map` gives a lazy batch over an Arrow table; it gets a table back, which keeps types when a batch holds no
negatives at all and is ten times faster than lists. A table replaces the row, so `remove_columns=` has no effect there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.errors import ConfigError
from hf_hardneg.ids import named_columns


@dataclass(frozen=True)
class Batch:
    """One call's input.

    Args:
        given (`Any`): what the callable got.
        columns (`Mapping[str, pa.ChunkedArray]`): its columns as Arrow, classes by their names.
        single (`bool`): whether it is one row, not a batch.
    """

    given: Any
    columns: Mapping[str, pa.ChunkedArray]
    single: bool

    @classmethod
    def of(cls, given: Any, query_column: str) -> Batch:
        """The batch behind a lazy batch or row, a dict of lists or arrays, a table or a frame."""
        if isinstance(given, pa.Table):
            return cls(given, named_columns(given), False)
        if hasattr(given, "pa_table"):
            return cls(given, named_columns(given.pa_table), type(given).__name__ == "LazyRow")
        if hasattr(given, "to_dict") and not isinstance(given, Mapping):
            return cls(given, named_columns(pa.Table.from_pandas(given, preserve_index=False)), False)
        single = isinstance(given.get(query_column), str)
        values = {name: [value] if single else value for name, value in given.items()}
        return cls(given, {name: _arrow(value) for name, value in values.items()}, single)

    def with_columns(self, added: Mapping[str, pa.Array], removed: tuple[str, ...] = (), keep: Any = None) -> Any:
        """The batch in the form it came, with columns added or replaced, and others left out.

        Args:
            added (`Mapping[str, pa.Array]`): new columns, already restricted to kept rows.
            removed (`tuple[str, ...]`): columns to leave out.
            keep (`np.ndarray`, *optional*): mask of the rows to keep; all by default.
        """
        read = getattr(self.given, "pa_table", self.given)
        own = {name: read.column(name) for name in read.column_names} if isinstance(read, pa.Table) else self.columns
        kept = {name: column for name, column in own.items() if name not in added and name not in removed}
        if keep is not None:
            kept = {name: column.filter(pa.array(keep)) for name, column in kept.items()}
        table = pa.table({**kept, **added})
        if self.single and not table.num_rows:
            raise ConfigError(
                "A rule that drops rows met one row at a time, which cannot be left out. Use map(..., batched=True), "
                "or on_shortage='keep_fewer' and .filter() afterwards."
            )
        if isinstance(self.given, pa.Table) or (hasattr(self.given, "pa_table") and not self.single):
            return table
        if not isinstance(self.given, Mapping):
            return table.to_pandas()
        if self.single:
            return {name: values[0] for name, values in table.to_pydict().items()}
        new = {name: added[name].to_pylist() for name in added}
        old = {name: value for name, value in self.given.items() if name in kept}
        if keep is not None:
            old = {name: [value[i] for i in np.flatnonzero(keep)] for name, value in old.items()}
        return {**old, **new}


def _arrow(values: Any) -> pa.ChunkedArray:
    if hasattr(values, "detach"):
        values = _numpy(values)
    if isinstance(values, np.ndarray) and values.ndim > 1:
        values = list(values)
    if isinstance(values, list) and values and hasattr(values[0], "detach"):
        values = [_numpy(value) for value in values]
    return pa.chunked_array([pa.array(values)])


def _numpy(tensor: Any) -> np.ndarray:
    """A tensor as NumPy has it; of bfloat16, which NumPy lacks, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def ragged(values: pa.Array, counts: np.ndarray) -> pa.ListArray:
    """A list array of flat values, `counts` (n,) of them in each list."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def flat(column: pa.ChunkedArray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Values and list lengths of a list column: (m,) of `dtype` and (n,) int64."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    counts = np.diff(array.offsets.to_numpy(zero_copy_only=False)).astype(np.int64)
    values = array.flatten().to_numpy(zero_copy_only=False).astype(dtype)
    return values, counts


def matrix(column: pa.ChunkedArray) -> Any:
    """Rows of numbers as a matrix (n, d) where they are equally long, else the values as they are."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    fixed = pa.types.is_fixed_size_list(array.type)
    if not (fixed or pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return array.to_pylist()
    values = array.flatten()
    regular = fixed or len(pc.unique(pc.list_value_length(array))) == 1
    if not regular or array.null_count or values.null_count or not len(array):
        return array.to_pylist()
    return values.to_numpy(zero_copy_only=False).reshape(len(array), -1)
