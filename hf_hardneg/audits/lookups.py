"""Texts and ids of a table, found by either: 8 bytes a row for each of the sorted keys and places that are used."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.corpus.columns import Columns
from hf_hardneg.corpus.documents import BATCH, Corpus, open_corpus
from hf_hardneg.errors import DataError
from hf_hardneg.text.hashes import NONE, exact_keys, id_keys, normalized_keys


@dataclass(frozen=True)
class Lookup:
    """Documents, or queries, by id or by text.

    Args:
        table (`Corpus`): their ids and texts.
        originals (`Corpus`, *optional*): a column of ids that those of the rows stand for, as its texts.
    """

    table: Corpus
    originals: Corpus | None = None

    def rows_of_ids(self, ids: pa.Array) -> np.ndarray:
        """Row of each id, (n,) int64; -1 where there is none."""
        return _found(id_keys(ids), *self._by_id)

    def rows_of_texts(self, texts: pa.Array) -> np.ndarray:
        """First row of each text as a reader sees it, (n,) int64; -1 where there is none."""
        return _found(normalized_keys(texts), *self._by_text)

    def texts(self, rows: np.ndarray) -> pa.Array:
        """Texts at rows; null at -1."""
        return _nulled(self.table.texts(np.maximum(rows, 0)), rows)

    def ids(self, rows: np.ndarray) -> pa.Array:
        """Ids at rows, the original ones; null at -1."""
        places = np.maximum(rows, 0)
        of = self.table.ids(places) if self.originals is None else self.originals.texts(places)
        return _nulled(of.cast(pa.string()), rows)

    def exact(self, rows: np.ndarray) -> np.ndarray:
        """Exact keys of the texts at rows, (n,) uint64; `NONE` at -1."""
        return np.where(rows < 0, NONE, self._exact[np.maximum(rows, 0)])

    @functools.cached_property
    def _exact(self) -> np.ndarray:
        return np.concatenate([exact_keys(texts) for texts in self.table.batches()])

    @functools.cached_property
    def _by_id(self) -> tuple[np.ndarray, np.ndarray]:
        every = range(0, len(self.table), BATCH)
        parts = [np.arange(start, min(start + BATCH, len(self.table))) for start in every]
        keys, order = _sorted(np.concatenate([id_keys(self.table.ids(part)) for part in parts]))
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            shown = self.table.ids(order[twice[:1]])[0].as_py()
            raise DataError(
                f"{len(twice)} rows repeat the id of another, such as {shown!r}; every id must stand once. "
                "Drop the copies, or name another id column."
            )
        return keys, order

    @functools.cached_property
    def _by_text(self) -> tuple[np.ndarray, np.ndarray]:
        return _sorted(np.concatenate([normalized_keys(texts) for texts in self.table.batches()]))


def open_lookup(dataset: Any, columns: Columns) -> Lookup:
    """The lookup of a dataset.

    Raises:
        ColumnError: it is no `Dataset`, or lacks a column.
        DataError: it is empty, or a text is null.
    """
    return Lookup(open_corpus(dataset, columns=columns))


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    return keys[order], order


def _found(keys: np.ndarray, table: np.ndarray, places: np.ndarray) -> np.ndarray:
    position, found = isin_sorted(keys, table)
    return np.where(found & (keys != NONE), places[position], -1)


def _nulled(values: pa.Array, rows: np.ndarray) -> pa.Array:
    return values.take(pa.array(np.arange(len(rows)), mask=rows < 0)) if (rows < 0).any() else values
