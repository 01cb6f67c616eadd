"""Other negatives of a row each epoch: many are mined, few are trained with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.arrays.hashing import string_hashes
from hf_hardneg.arrays.lists import lengths, listed, ragged
from hf_hardneg.corpus.batches import Batch
from hf_hardneg.corpus.columns import missing_column
from hf_hardneg.draws import uniforms_of_keys
from hf_hardneg.errors import ColumnError, DataError
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, Name, check_fields, checked
from hf_hardneg.training.batch_columns import BatchColumns

OF_ROW = ("query", "query_id", "positive", "positive_ids")
"""Roles of the columns that tell a row from others, as far as it has them."""


def _shared() -> Tensor:
    """Return a number that workers of a loader see change, also those that live on."""
    number = torch.zeros((), dtype=torch.int64)
    number.share_memory_()  # type: ignore[no-untyped-call]
    return number


@dataclass(frozen=True)
class FreshNegatives:
    """Some of the negatives of each row, others in each epoch; all are used equally often, without luck.

    A permutation of a row's n negatives is keyed by the seed and the row's texts, and epoch e takes places
    `e k` to `(e + 1) k - 1` of it, modulo n. So ranks, workers and a resumed run, in whatever order, see the same.
    FlagEmbedding and LateOn's collator draw with replacement at every access instead.

    Pass it to `with_transform`, or to `CrossBatchCollator` as `num_negatives=`, and call `set_epoch` at the start of
    each epoch, as of a sampler; workers that are running already learn of it too.

    Args:
        size (`int`): k, how many negatives of a row an epoch has; a row with fewer has all of them.
        seed (`int`, defaults to 42): of the permutations.
        columns (`BatchColumns`, *optional*): names of columns.
        beside (`tuple[str, ...]`, defaults to `()`): more columns with a value for each negative, such as a teacher's
            scores, which are cut alike; those called `negative_…` are anyway.

    A `CrossBatchCollator` that has it goes by its own `columns` and `score_columns`. Copies share the epoch.

    Example:
        >>> fresh = FreshNegatives(2)
        >>> rows = mined.with_transform(fresh)
        >>> fresh.set_epoch(1)
        >>> len(rows[0]["negatives"])
        2
    """

    size: AtLeastOne
    seed: int = 42
    columns: BatchColumns | None = None
    beside: tuple[Name, ...] = ()
    epoch_number: Tensor = field(default_factory=_shared, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> FreshNegatives:
        """Return itself: `datasets` copies transforms, and a copy that had its own epoch would stay at it."""
        return self

    @checked
    def reading(self, columns: BatchColumns | None, beside: Sequence[str] = ()) -> FreshNegatives:
        """Return the same, of the same epoch whenever that changes, for columns of other names and more of them."""
        view = copy.copy(self)
        object.__setattr__(view, "columns", columns)
        object.__setattr__(view, "beside", (*self.beside, *beside))
        return view

    @property
    def epoch(self) -> int:
        """The epoch whose negatives it gives."""
        return int(self.epoch_number)

    @checked
    def set_epoch(self, epoch: AtLeastZero) -> None:
        """Give the negatives of another epoch."""
        self.epoch_number.fill_(epoch)

    @checked
    def __call__(self, batch: Any) -> Any:
        """Return the batch in the form it came, its columns of negatives cut: those called `negatives` or `negative_…`.

        Raises:
            ColumnError: there is no column of negatives, or none of those in `beside`.
            DataError: columns of negatives whose lists are of different lengths.
        """
        rows = Batch.of(batch, self._column("query"))
        counts = lengths(listed(rows.columns[self._negatives_in(rows.columns)]))
        told = [rows.columns[name].to_pylist() for name in self._telling(rows.columns)]
        places = self._places([repr(values) for values in zip(*told, strict=True)] or ["()"] * len(counts), counts)
        lists = {name: rows.columns[name] for name in rows.columns if self._is_of_negatives(name)}
        lists = {name: column for name, column in lists.items() if _holds_lists(column)}
        return rows.with_columns({name: _cut(name, column, counts, places) for name, column in lists.items()})

    @checked
    def of_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return rows, as a collator gets them, with fewer negatives.

        Raises:
            ColumnError: a row has no column of negatives, or none of those in `beside`.
            DataError: columns of negatives whose lists are of different lengths.
        """
        identities = [repr(tuple(_plain(row[name]) for name in self._telling(row))) for row in rows]
        counts = np.array([_length(row[self._negatives_in(row)]) for row in rows], np.int64)
        chosen = []
        for row, count, places in zip(rows, counts.tolist(), self._places(identities, counts), strict=True):
            cut = {name: row[name] for name in row if self._is_of_negatives(name)}
            cut = {name: value for name, value in cut.items() if np.ndim(value) or isinstance(value, list | tuple)}
            for name, value in cut.items():
                _check_length(name, len(value), count)
            chosen.append({**row, **{name: [value[place] for place in places] for name, value in cut.items()}})
        return chosen

    def _places(self, identities: Sequence[str], counts: np.ndarray) -> list[np.ndarray]:
        """Return which of its negatives each row has in this epoch, places in its lists."""
        row, place = spread(counts)
        keys = string_hashes(pa.array(identities, pa.large_string()))
        draws = uniforms_of_keys(self.seed, "fresh", keys[row], place.astype(np.uint64))
        order, starts = place[np.lexsort((draws, row))], np.cumsum(counts) - counts
        chosen = []
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            size = min(self.size, count)
            within = (self.epoch * size + np.arange(size)) % max(count, 1)
            chosen.append(order[start + within])
        return chosen

    def _column(self, role: str) -> str:
        named: Any = self.columns or {}
        return str(named.get(role, role))

    def _negatives_in(self, present: Mapping[str, Any]) -> str:
        """Return the column of negatives.

        Raises:
            ColumnError: it is missing, or a column is that has a value for each.
        """
        name = self._column("negatives")
        if name not in present:
            raise missing_column(name, list(present), "batch", "negatives")
        for more in self.beside:
            if more not in present:
                raise ColumnError(
                    f"The batch has no column {more!r}; it has {', '.join(map(repr, present))}. "
                    "Name the right one with beside=, or with score_columns= of the collator."
                )
        return name

    def _telling(self, present: Mapping[str, Any]) -> list[str]:
        """List the columns that tell a row from others."""
        return [name for name in map(self._column, OF_ROW) if name in present]

    def _is_of_negatives(self, name: str) -> bool:
        of_each = (self._column("negatives"), self._column("false_negative"), *self.beside)
        return name in of_each or name.startswith("negative_")


def _length(value: Any) -> int:
    """Return how many negatives a row has, of which one may stand alone."""
    if isinstance(value, str):
        return 1
    return 0 if value is None else len(value)


def _plain(value: Any) -> Any:
    """Return Python's own numbers, strings and lists, in whatever format rows come."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _holds_lists(column: pa.ChunkedArray) -> bool:
    kind = column.type
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _cut(name: str, column: pa.ChunkedArray, counts: np.ndarray, places: Sequence[np.ndarray]) -> pa.ListArray:
    """Return a column of lists with the values at some places of each; a null list stays null."""
    lists = listed(column)
    null, sizes = np.asarray(lists.is_null()), lengths(lists)
    starts = np.cumsum(sizes) - sizes
    taken, kept = [np.zeros(0, np.int64)], []
    for row, (size, count) in enumerate(zip(sizes.tolist(), counts.tolist(), strict=True)):
        if not null[row]:
            _check_length(name, size, count)
            taken.append(starts[row] + places[row])
        kept.append(0 if null[row] else len(places[row]))
    cut = ragged(lists.flatten().take(pa.array(np.concatenate(taken))), np.array(kept, np.int64))
    if not null.any():
        return cut
    return pa.ListArray.from_arrays(cut.offsets, cut.values, mask=pa.array(null))


def _check_length(name: str, values: int, negatives: int) -> None:
    if values != negatives:
        raise DataError(
            f"Column {name!r} has a list of {values} beside {negatives} negatives; columns that begin with "
            "'negative_', and those of chances and beside=, need a value for each negative. Rename it, or leave it out "
            "with remove_columns()."
        )
