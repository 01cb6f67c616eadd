"""Batches in every form `datasets` hands to a callable, and the same form back.

Only the columns that are read become Arrow. All others pass as the objects they are: images, audio, JSON, arrays of
several dimensions.

`Dataset.map` gives a lazy batch over an Arrow table; it gets a table back, which keeps types when a batch holds no
negatives at all and is ten times faster than lists. A table replaces the row, so `remove_columns=` has no effect there.
A formatted or streamed batch is a mapping, which `map` merges into the columns it has: it gets the new ones alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined
from hf_hardneg.corpus.encodings import as_arrow, ordinary, plain
from hf_hardneg.corpus.ids import class_names, named, named_columns
from hf_hardneg.errors import ColumnError, ConfigError

MERGING = ("datasets.arrow_dataset", "datasets.iterable_dataset")
"""Modules whose `map` merges a mapping that it gets into the one that it gave."""


@dataclass(frozen=True)
class LazyColumns(Mapping[str, pa.ChunkedArray]):
    """Columns that become Arrow when they are asked for.

    Args:
        names (`tuple[str, ...]`): what there is.
        read (`Callable[[str], Any]`): the values of a column.
    """

    names: tuple[str, ...]
    read: Callable[[str], Any]
    done: dict[str, pa.ChunkedArray] = field(default_factory=dict)

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        if name not in self.names:
            raise KeyError(name)
        if name not in self.done:
            self.done[name] = as_arrow(self.read(name), name)
        return self.done[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names


@dataclass(frozen=True)
class Batch:
    """One call's input.

    Args:
        original (`Any`): the object that the callable got.
        columns (`Mapping[str, pa.ChunkedArray]`): its columns as Arrow, converted when they are read, classes by names.
        single (`bool`): whether it is one row, not a batch.
    """

    original: Any
    columns: Mapping[str, pa.ChunkedArray]
    single: bool

    @classmethod
    def of(cls, original: Any, query_column: str) -> Batch:
        """The batch behind a lazy batch or row, a dict of lists or arrays, a table, a record batch or a frame.

        Raises:
            ConfigError: it is none of those.
        """
        if isinstance(original, pa.Table | pa.RecordBatch):
            table = original if isinstance(original, pa.Table) else pa.Table.from_batches([original])
            return cls(original, named_columns(table), False)
        if hasattr(original, "pa_table"):
            single = type(original).__name__ == "LazyRow"
            labels = class_names(original.pa_table.schema)

            def read(name: str) -> Any:
                column = as_arrow(_current(original, name, single), name)
                return named(column.combine_chunks(), labels[name]) if name in labels else column

            return cls(original, LazyColumns(tuple(original.data), read), single)
        if isinstance(original, Mapping):
            single = query_column in original and _is_one(original[query_column])
            return cls(
                original,
                LazyColumns(tuple(original), lambda name: [original[name]] if single else original[name]),
                single,
            )
        if hasattr(original, "columns") and hasattr(original, "__getitem__"):
            return cls(original, LazyColumns(tuple(original.columns), original.__getitem__), False)
        raise ConfigError(
            f"A batch of type {type(original).__name__} was given; allowed are a row or batch of datasets, a dict of "
            "columns, a pyarrow table or record batch, a pandas or polars frame. Give columns, not a list of rows."
        )

    def fields(self, name: str) -> tuple[str, ...]:
        """The names inside a column of structs, none of another."""
        if isinstance(self.original, Mapping) and not hasattr(self.original, "pa_table"):
            value = self.original[name]
            first = value if self.single else next(iter(value), None)
            return tuple(first) if isinstance(first, Mapping) else ()
        kind = self.columns[name].type
        return tuple(part.name for part in kind) if pa.types.is_struct(kind) else ()

    def with_columns(self, added: Mapping[str, pa.Array], removed: tuple[str, ...] = (), keep: Any = None) -> Any:
        """The batch in the form it came, with columns added or replaced, and others left out.

        Args:
            added (`Mapping[str, pa.Array]`): new columns, already restricted to kept rows.
            removed (`tuple[str, ...]`): columns to leave out.
            keep (`np.ndarray`, *optional*): mask of the rows to keep; all by default.
        """
        if self.single and keep is not None and not keep.any():
            raise ConfigError(
                "A rule that drops rows met one row at a time, which cannot be left out. Use map(..., batched=True), "
                "or on_shortage='keep_fewer' and .filter() afterwards."
            )
        kept = [name for name in self.columns if name not in added and name not in removed]
        if isinstance(self.original, pa.Table | pa.RecordBatch) or hasattr(self.original, "pa_table"):
            return self._table(kept, added, keep)
        if not isinstance(self.original, Mapping):
            return self._frame(kept, added, keep)
        return self._mapping(kept, added, removed, keep)

    def _table(self, kept: list[str], added: Mapping[str, pa.Array], keep: Any) -> pa.Table | pa.RecordBatch:
        arrow = getattr(self.original, "pa_table", self.original)
        of_given = {name: arrow.schema.field(name) for name in kept if name in arrow.schema.names}
        values = {name: self._stored(name) for name in kept}
        if keep is not None:
            values = {name: column.filter(pa.array(keep)) for name, column in values.items()}
        values |= added
        fields = [pa.field(name, column.type) for name, column in values.items()]
        fields = [old if (old := of_given.get(field.name, field)).type == field.type else field for field in fields]
        schema = pa.schema(fields, metadata=arrow.schema.metadata)
        table = pa.Table.from_arrays(list(values.values()), schema=schema)
        if isinstance(self.original, pa.RecordBatch):
            return table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], schema)
        return table

    def _stored(self, name: str) -> pa.ChunkedArray:
        """A column of a table or lazy batch as it lies there, classes by their numbers."""
        lazy = hasattr(self.original, "pa_table")
        return as_arrow(_current(self.original, name, self.single) if lazy else self.original.column(name), name)

    def _mapping(
        self, kept: list[str], added: Mapping[str, pa.Array], removed: tuple[str, ...], keep: Any
    ) -> dict[str, Any]:
        new = {name: column.to_pylist() for name, column in added.items()}
        merging = _merging()
        if self.single:
            new = {name: values[0] for name, values in new.items()}
        if merging and keep is None:
            nothing = None if self.single else [None] * len(next(iter(added.values())))
            return {**dict.fromkeys(removed, nothing), **new}
        old = {name: self.original[name] for name in kept}
        if keep is not None and not self.single:
            self._check_formatted(merging, old)
            old = {name: [value[i] for i in np.flatnonzero(keep)] for name, value in old.items()}
        return {**old, **new}

    def _check_formatted(self, merging: str | None, old: Mapping[str, Any]) -> None:
        formatted = [name for name, value in old.items() if not isinstance(value, list)]
        if merging == MERGING[0] and formatted:
            raise ConfigError(
                f"A rule that drops rows met a dataset formatted as arrays, such as its column {formatted[0]!r}, which "
                "could not be written back as they were. Use with_format(None) before map, and the format after it."
            )

    def _frame(self, kept: list[str], added: Mapping[str, pa.Array], keep: Any) -> Any:
        """A frame of the same library; for `map`, which writes it, a table, whose types stay where nothing is mined."""
        if _merging():
            return self._written(kept, added, keep)
        new = pa.table(dict(added))
        old = self.original[kept] if keep is None else self._rows(self.original[kept], keep)
        if hasattr(self.original, "to_arrow"):
            import polars as pl

            return old.hstack(pl.from_arrow(new))
        import pandas as pd

        frame = new.to_pandas()
        frame.index = old.index
        return pd.concat([old, frame], axis=1)

    def _rows(self, frame: Any, keep: np.ndarray) -> Any:
        if hasattr(frame, "to_arrow"):
            return frame.filter(keep)
        frame = frame[keep]
        return frame.reset_index(drop=True) if type(self.original.index).__name__ == "RangeIndex" else frame

    def _written(self, kept: list[str], added: Mapping[str, pa.Array], keep: Any) -> pa.Table:
        try:
            old = {name: self.columns[name] for name in kept}
        except ColumnError as error:
            raise ColumnError(
                f"{error} The frame's format decoded it, and map() cannot write it back as it was: use "
                "with_format(None) or 'arrow' before map, and the format after it."
            ) from error
        old = {name: column.cast(ordinary(column.type)) for name, column in old.items()}
        if keep is not None:
            old = {name: column.filter(pa.array(keep)) for name, column in old.items()}
        return pa.table({**old, **added})


def _is_one(value: Any) -> bool:
    """Whether the value of a mapping's column is that of one row."""
    return value is None or isinstance(value, str | int | float | np.generic) or getattr(value, "ndim", 1) == 0


def _current(batch: Any, name: str, single: bool) -> Any:
    """A column of a lazy batch or row: what it was made of, unless a caller has put something else there."""
    if name in batch.keys_to_format:
        return batch.pa_table[name]
    value = batch.data[name]
    if name in batch.pa_table.column_names and _is_same(batch.format(name), value):
        return batch.pa_table[name]
    from datasets.arrow_writer import OptimizedTypedSequence

    kind = (batch.formatter.features or {}).get(name)
    return pa.array(OptimizedTypedSequence([value] if single else value, try_type=kind, col=name))


def _is_same(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except (TypeError, ValueError):
        return False


def _merging() -> str | None:
    """The module of `datasets` whose `map` called this package, and merges what it gets into what it gave."""
    package, frame = __name__.partition(".")[0], sys._getframe(1)
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith(f"{package}."):
        frame = frame.f_back
    name = frame.f_globals.get("__name__")
    return name if name in MERGING else None


def matrix(column: pa.ChunkedArray) -> Any:
    """Rows of numbers as a matrix (n, d) where they are equally long, else the values as they are."""
    array = combined(column)
    array = array if pa.types.is_fixed_size_list(array.type) else plain(array)
    fixed = pa.types.is_fixed_size_list(array.type)
    if not (fixed or pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return array.to_pylist()
    values = array.flatten()
    regular = fixed or len(pc.unique(pc.list_value_length(array))) == 1
    if not regular or array.null_count or values.null_count or not len(array) or pa.types.is_nested(values.type):
        return array.to_pylist()
    return values.to_numpy(zero_copy_only=False).reshape(len(array), -1)
