"""A table of PostgreSQL that holds documents: connections, statements with its names, and errors in words."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Timer
from typing import Any, ClassVar

import pyarrow as pa

from hf_hardneg.retrievers.stores.answers import documents, told
from hf_hardneg.retrievers.stores.document_store import DocumentStore
from hf_hardneg.runtime.arguments import AtLeastOne
from hf_hardneg.runtime.optional import require

PAGE = 1000
NAMED = "Give database, table and columns, as postgresql://user@host/db?table=docs&id=id&text=body&vector=embedding."
REMEDIES = {
    "password": "Set PGPASSWORD, or write it into ~/.pgpass.",
    'type "vector"': "Run CREATE EXTENSION vector in that database, or name another.",
    "dimensions": "Pass the encoder that filled the table.",
    "exist": NAMED,
    "invalid input syntax": "Give the corpus that the table was filled from, or name its column of ids with ?id=.",
    "invalid sslmode": "Set sslmode to disable, require or verify-full.",
    "denied": "Grant SELECT on the table to that user.",
    "statement timeout": "Build an index of HNSW and pass exact=False, or ask a server with less to do.",
}
"""What to do, by words of what PostgreSQL says."""


@dataclass(frozen=True)
class PostgresTable(DocumentStore):
    """A table of PostgreSQL; a password comes from `PGPASSWORD` or `~/.pgpass`.

    Args:
        table (`str`): its name, maybe after its schema and a point.
        id, vector (`str`): columns.
        text (`str`): columns of the text, with commas between; empty where there is none.
        host (`str`): a folder with the server's socket, in place of the address' host.
        sslmode (`str`): of libpq, such as `"verify-full"`.
        timeout (`int`, defaults to 8): seconds that an answer may take.
    """

    table: str = "documents"
    id: str = "id"
    text: str = "text"
    vector: str = "vector"
    host: str = ""
    sslmode: str = ""
    timeout: AtLeastOne = 8
    extra: ClassVar[str] = "pgvector"
    secret: ClassVar[str] = "PGPASSWORD"
    has_users: ClassVar[bool] = True
    told_by: ClassVar[str] = "vector"

    def connect(self) -> Any:
        """See `Collection`."""
        place = self.place
        named = {"host": self.host or place.host, "port": place.port, "user": place.user, "dbname": place.collection}
        named = {name: value for name, value in {**named, "sslmode": self.sslmode}.items() if value}
        with self.watched():
            connection = self._psycopg().connect(autocommit=True, connect_timeout=self.timeout, **named)
        with self.watched(connection):
            connection.execute(f"set statement_timeout = {900 * self.timeout}")
            connection.execute("select '[0]'::vector")  # loads the library, which brings its settings
        return connection

    def asked(self, statement: str, **values: Any) -> list[Any]:
        """The rows that a statement returns, not prepared: a cached plan keeps to what it was made for."""
        connection = self.client
        with self.watched(connection):
            return connection.execute(self.sql(statement), values, prepare=False, binary=True).fetchall()

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `Collection`."""
        statement = self.sql(self.rows(vectors) + " order by {id}")
        with (
            contextlib.closing(self.connect()) as connection,
            connection.transaction(),
            connection.cursor(name="documents", binary=True) as cursor,
        ):
            with self.watched(connection):
                cursor.execute(statement)
            while rows := self._page(connection, cursor):
                yield self.documents(rows)

    def _page(self, connection: Any, cursor: Any) -> list[Any]:
        with self.watched(connection):
            return cursor.fetchmany(PAGE)

    def rows(self, vectors: bool) -> str:
        """A statement for ids, texts and, asked for, vectors of all documents."""
        text = ["concat_ws(' ', {text})"] if self.text else []
        columns = ", ".join(["{id}::text", *text, *(["{vector}::real[]"] if vectors else [])])
        return f"select {columns} from {{table}} where {{vector}} is not null"

    def documents(self, rows: Sequence[Any]) -> pa.RecordBatch:
        """The rows that such a statement returns, as columns."""
        ids, *others = zip(*rows, strict=True) if rows else ((), (), ())
        texts = others.pop(0) if self.text else None
        return documents(ids, texts, others[0] if others else None)

    def sql(self, statement: str) -> Any:
        """A statement with the names of the table and its columns, quoted."""
        self._psycopg()
        from psycopg.sql import SQL, Identifier

        texts = SQL(", ").join(map(Identifier, self.text.split(",")))
        table, name, vector = Identifier(*self.table.split(".")), Identifier(self.id), Identifier(self.vector)
        return SQL(statement).format(table=table, id=name, vector=vector, text=texts)

    @contextlib.contextmanager
    def watched(self, connection: Any = None) -> Iterator[None]:
        """Raise what PostgreSQL says as an error of ours, and end a connection that says nothing for too long.

        Raises:
            DocumentStoreError: there is no answer.
            ConfigError: the answer is no.
        """
        psycopg = self._psycopg()
        watch = Timer(self.timeout, _hang_up, [connection and connection.fileno()])
        watch.start()
        lost, refused = (psycopg.OperationalError,), (psycopg.Error,)
        try:
            with told(self.address, "a table that this user may read", REMEDIES, lost=lost, refused=refused):
                yield
        finally:
            watch.cancel()

    def _psycopg(self) -> Any:
        return require("psycopg", extra=self.extra, needed_by="A table of PostgreSQL")


def _hang_up(descriptor: int | None) -> None:
    if descriptor is not None:
        with socket.socket(fileno=os.dup(descriptor)) as line:
            line.shutdown(socket.SHUT_RDWR)
