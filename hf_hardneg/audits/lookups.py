"""Look up rows of a table by text or id: 8 bytes a row for each of the sorted keys and places that are used."""

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
        originals (`Corpus`, *optional*): has as its texts the original ids, for which the ids of rows stand.
    """

    table: Corpus
    originals: Corpus | None = None

    def rows_of_ids(self, ids: pa.Array) -> np.ndarray:
        """Find the row of each id, (n,) int64; -1 where the table lacks it."""
        return _rows_of(id_keys(ids), *self._by_id)

    def rows_of_texts(self, texts: pa.Array) -> np.ndarray:
        """Find the first row of each text as a reader sees it, (n,) int64; -1 where the table lacks it."""
        return _rows_of(normalized_keys(texts), *self._by_text)

    def texts(self, rows: np.ndarray) -> pa.Array:
        """Return the texts at rows; null at -1."""
        return _nulled(self.table.texts(np.maximum(rows, 0)), rows)

    def ids(self, rows: np.ndarray) -> pa.Array:
        """Return the original ids at rows; null at -1."""
        places = np.maximum(rows, 0)
        ids = self.table.ids(places) if self.originals is None else self.originals.texts(places)
        return _nulled(ids.cast(pa.string()), rows)

    def exact(self, rows: np.ndarray) -> np.ndarray:
        """Return exact keys of the texts at rows, (n,) uint64; `NONE` at -1."""
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
    """Open a dataset as a lookup.

    Raises:
        ColumnError: it is no `Dataset`, or lacks a column.
        DataError: it is empty, or a text is null.
    """
    return Lookup(open_corpus(dataset, columns=columns))


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    return keys[order], order


def _rows_of(keys: np.ndarray, table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    position, known = isin_sorted(keys, table)
    return np.where(known & (keys != NONE), rows[position], -1)


def _nulled(values: pa.Array, rows: np.ndarray) -> pa.Array:
    return values.take(pa.array(np.arange(len(rows)), mask=rows < 0)) if (rows < 0).any() else values
