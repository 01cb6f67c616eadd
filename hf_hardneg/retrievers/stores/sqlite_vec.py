"""Tables of sqlite-vec (https://github.com/asg017/sqlite-vec): exact search in a file of SQLite.

Many builds of Python leave out extensions of SQLite, so `apsw`, which brings its own SQLite, opens the file.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import DocumentStoreError
from hf_hardneg.retrievers.stores.document_store import ID, TEXT, VECTOR, Description, DocumentStore
from hf_hardneg.retrievers.stores.file_marks import content_mark
from hf_hardneg.retrievers.stores.vec0 import OpenedTable, quoted, tables_of
from hf_hardneg.retrievers.stores.vector_file import as_lists
from hf_hardneg.runtime.optional import require

MAX_K = 4096
BATCH = 64
"""Queries between two looks at the collection; each is a statement of its own."""
BLOCK, PATIENCE_MS = 1024, 5000
WHOLE = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True)
class SqliteVec(DocumentStore):
    """A `vec0` table; searched exactly, one query after the other.

    Args:
        address (`str`): such as `"sqlite-vec:///folder/docs.db?table=docs&text=body"`.
        table (`str`): its name.
        text (`str`, *optional*): its column of texts; without, texts come from a corpus, by id.
        vector (`str`, *optional*): its column of vectors, where it has several.
    """

    _: KW_ONLY
    table: str = ""
    text: str | None = None
    vector: str | None = None
    scheme: ClassVar[str] = "sqlite-vec"
    extra: ClassVar[str] = "sqlite-vec"

    def connect(self) -> OpenedTable:
        """See `DocumentStore`.

        Raises:
            DocumentStoreError: there is no such file or table.
            ConfigError: the table has no vectors that can be used.
        """
        apsw = require("apsw", extra=self.extra, needed_by=self.address)
        extension = require("sqlite_vec", extra=self.extra, needed_by=self.address)
        path = Path(self.place.path)
        if not path.is_file():
            raise self._error(f"{path} is no file", "Give the path of a database.")
        with self._asking():
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(PATIENCE_MS)
            connection.enable_load_extension(True)
            connection.load_extension(extension.loadable_path())
            connection.enable_load_extension(False)
            tables = tables_of(connection.execute("select name, sql from sqlite_master where type = 'table'"))
        if self.table not in tables:
            names = ", ".join(tables) or "none"
            raise self._error(f"table={self.table!r} is none of its tables of vec0", f"Give one of those: {names}.")
        return OpenedTable.of(self.address, connection, tables[self.table], self.vector)

    def describe(self) -> Description:
        """See `DocumentStore`."""
        count = next(self._rows(f"select count(*) from {quoted(self.table)}"))[0]
        told, path = self.client, self.place.path
        return Description(
            score_kind=told.similarity,
            count=count,
            width=told.width,
            mark=content_mark(Path(path), Path(f"{path}-wal")),
            max_k=MAX_K,
            max_batch=BATCH,
            has_texts=self.text is not None,
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `DocumentStore`."""
        key, vector, table = map(quoted, (self.client.key, self.client.vector, self.table))
        nearest, answers = f"select {key}, distance from {table} where {vector} match ? and k = ?", []
        for query in np.asarray(queries, np.float32):
            rows = list(self._rows(nearest, query.tobytes(), k))
            far = np.array([distance for _, distance in rows], np.float64)
            scores = 1 - far if self.client.similarity == "cosine" else -(far**2)
            answers.append(([str(key) for key, _ in rows], scores.astype(np.float32)))
        return answers

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `DocumentStore`; there is no column `text` where the store names none."""
        keys = [name if self.client.key_is_text else WHOLE.fullmatch(name) and int(name) for name in ids]
        among = f"where {quoted(self.client.key)} in (select value from json_each(?))"
        known = {str(row[0]): row for row in self._documents(vectors, among, json.dumps(sorted(set(keys) - {None})))}
        if unknown := [name for name in ids if name not in known]:
            raise self._error(f"it holds no row {unknown[0]!r}", "Ask for keys that scan() gives.")
        return self._table([known[name] for name in ids], vectors)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `DocumentStore`; in the order of the table."""
        rows = self._documents(vectors, "")
        while block := list(islice(rows, BLOCK)):
            yield from self._table(block, vectors).to_batches()

    def _documents(self, vectors: bool, where: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Rows of a key, and of a text and a vector where they are asked for."""
        columns = self.client
        names = (columns.key, self.text, columns.vector if vectors else None)
        chosen = ", ".join(quoted(name) for name in names if name)
        return self._rows(f"select {chosen} from {quoted(self.table)} {where}", *values)

    def _table(self, rows: Sequence[tuple[Any, ...]], vectors: bool) -> pa.Table:
        """What `fetch` returns, of rows of the database."""
        columns = {ID: pa.array([str(row[0]) for row in rows], pa.string())}
        if self.text:
            columns[TEXT] = pa.array([row[1] for row in rows], pa.string())
        if vectors:
            flat = np.frombuffer(b"".join(row[-1] for row in rows), np.float32)
            columns[VECTOR] = as_lists(flat.reshape(len(rows), self.client.width))
        return pa.table(columns)

    def _rows(self, statement: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        with self._asking():
            yield from self.client.connection.execute(statement, values)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn errors of SQLite into ours."""
        apsw = require("apsw", extra=self.extra, needed_by=self.address)
        try:
            yield
        except apsw.Error as error:
            raise self._error(f"SQLite says: {error}", "Look at text=, and at the file.") from error

    def _error(self, what: str, do: str) -> DocumentStoreError:
        return DocumentStoreError(f"{self.address}: {what}; a table of sqlite-vec and its columns are allowed. {do}")
