"""Which row of the pairs a row of a batch is: batches come shuffled, in whatever process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.corpus.ids import as_text, named_columns
from hf_hardneg.corpus.loaded_from import in_words
from hf_hardneg.corpus.pictures import holds_pictures
from hf_hardneg.corpus.queries import PairColumns, Reader
from hf_hardneg.errors import DataError
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.stored_arrays import Schema, Stored
from hf_hardneg.text.keys import KEY, text_keys

ROWS = Schema.of({"order": Stored(np.int64, "rows", least=0, below="rows"), "keys": Stored(KEY, "rows")})


@dataclass(frozen=True, kw_only=True)
class RowKeys:
    """Which row of the pairs a row of a batch is, by what mining reads of it.

    Args:
        directory (`Path`): the published table.
        columns (`PairColumns`): names in the pairs.
    """

    directory: Path
    columns: PairColumns

    @classmethod
    def of(cls, pairs: Any, reader: Reader) -> RowKeys:
        """Build the table of some pairs, once."""
        plain = pairs.with_format("arrow", columns=_read(pairs.column_names, reader.columns))
        tables = plain.iter(batch_size=1000)
        keys = np.concatenate([_keys(named_columns(table), reader.columns) for table in tables])

        def build(directory: Path) -> None:
            order = np.argsort(keys, kind="stable")
            save_array(directory / "order.npy", order)
            save_array(directory / "keys.npy", keys[order])

        parameters = {"rows": directories.bytes_digest(keys.tobytes()), "count": len(keys)}
        about = {"pairs": in_words([pairs], "rows")}
        directory = directories.obtain(reader.corpus.cache, kinds.ROWS, parameters, build, about)
        return cls(directory=directory, columns=reader.columns)

    def find(self, table: Mapping[str, pa.ChunkedArray]) -> np.ndarray:
        """Return the numbers that rows have in the pairs, (n,) int64.

        Raises:
            DataError: a row is none of the pairs.
        """
        arrays = ROWS.opened(self.directory)
        position, known = isin_sorted(_keys(table, self.columns), arrays["keys"])
        if not known.all():
            text = table[self.columns.query].take([int(np.flatnonzero(~known)[0])]).to_pylist()[0]
            raise DataError(
                f"{int((~known).sum())} rows are none of the pairs that are refreshed, such as the query "
                f"{str(text)[:60]!r}. Rows must have the columns {_read(list(table), self.columns)} as the pairs have "
                "them; remove columns after this callable, and use HardNegatives for other rows."
            )
        return arrays["order"][position]


def _read(present: list[str], columns: PairColumns) -> list[str]:
    """List the columns that mining reads, but for vectors, as far as they are present."""
    return [name for name in columns.read(present) if name != columns.query_vector]


def _keys(table: Mapping[str, pa.ChunkedArray], columns: PairColumns) -> np.ndarray:
    read = {name: table[name] for name in _read(list(table), columns)}
    values = [
        (as_text(column, name) if holds_pictures(column.type) else column).to_pylist() for name, column in read.items()
    ]
    return text_keys(map(repr, zip(*values, strict=True)), "exact")
