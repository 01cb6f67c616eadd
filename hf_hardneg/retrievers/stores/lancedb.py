"""Tables of LanceDB, which lie in a folder and are searched in this process."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores.document_store import ID, TEXT, VECTOR, Description, DocumentStore
from hf_hardneg.runtime.arguments import Name
from hf_hardneg.runtime.optional import require
from hf_hardneg.store import directories

Metric = Literal["cosine", "dot", "l2"]
EFFORTS = (20, 50, 100, 200, 500, 1000, 2000)
"""Lists that an approximate search looks into; ten times as many documents as wanted are then compared exactly."""
REFINED = 10
DISTANCE = "_distance"
BATCH = 256
LOOKED_AT = 16
"""Documents that the mark covers: a table that was dropped and filled anew counts its versions anew."""


@dataclass(frozen=True)
class LanceDB(DocumentStore):
    """A table of LanceDB.

    Args:
        address (`str`): such as `"lancedb:///folder/docs"` for the table `docs` of the database in `/folder`.
        id, text, vector (`str`): names of its columns.
        metric (`str`, *optional*): `"cosine"`, `"dot"` or `"l2"`; by default that of its index, else `"cosine"`.
        exact (`bool`, defaults to `True`): compare each query with all vectors; `False` asks its index, whose recall is
            measured and whose effort is raised.
    """

    _: KW_ONLY
    id: Name = "id"
    text: Name = "text"
    vector: Name = "vector"
    metric: Metric | None = None
    exact: bool = True
    scheme: ClassVar[str] = "lancedb"
    extra: ClassVar[str] = "lancedb"

    def connect(self) -> Any:
        """See `Collection`.

        Raises:
            DocumentStoreError: there is no such folder or table.
        """
        lancedb = require("lancedb", extra=self.extra, needed_by=self.address)
        warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)  # a fork opens a table of its own
        folder, name = self.place.folder, self.place.collection
        with self._said("has no table that can be opened", "Give lancedb:///folder/table of a table that is there."):
            return lancedb.connect(folder, read_consistency_interval=timedelta(0)).open_table(name)

    def describe(self) -> Description:
        """See `Collection`."""
        table = self.client
        with self._said("does not say what it holds", "Look at the table."):
            schema, metric = table.schema, self._metric_of_index(table)
            count, version = table.count_rows(), table.version
        for name in (self.id, self.vector):
            if name not in schema.names:
                raise ConfigError(
                    f"{self.address} has the columns {', '.join(schema.names)} and no {name!r}. Name its columns in "
                    "the address, such as ?id=key&text=body&vector=embedding."
                )
        kind = schema.field(self.vector).type
        if not pa.types.is_fixed_size_list(kind):
            raise ConfigError(f"The column {self.vector!r} of {self.address} holds {kind}, no vectors. Name another.")
        if metric and self.metric not in (None, metric) and not self.exact:
            raise ConfigError(
                f"The index of {self.address} compares by {metric}, not by {self.metric}. Drop metric=, or exact=False."
            )
        with self._said("does not say what it holds", "Look at the table."):
            first = table.search().select(self._columns(True)).limit(LOOKED_AT).to_arrow()
        return Description(
            score_kind=self.metric or metric or "cosine",
            count=count,
            width=kind.list_size,
            mark=f"version {version} {directories.bytes_digest(str(first.to_pydict()).encode())}",
            max_batch=BATCH,
            has_texts=self.text in schema.names,
            efforts=() if self.exact or metric is None else EFFORTS,
        )

    def _metric_of_index(self, table: Any) -> Metric | None:
        """The metric of the index over the vectors, where there is one."""
        names = [index.name for index in table.list_indices() if index.columns == [self.vector]]
        return cast("Metric", table.index_stats(names[0]).distance_type) if names else None

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `Collection`."""
        kind = self.describe().score_kind
        with self._said("cannot be searched", "Look at its index and its vectors."):
            asked = self.client.search(list(queries), vector_column_name=self.vector).distance_type(kind)
            asked = asked.bypass_vector_index() if effort is None else asked.nprobes(effort).refine_factor(REFINED)
            table = asked.limit(k).select([self.id, DISTANCE]).to_arrow()
        distance = table[DISTANCE].to_numpy()
        scores = (-distance if kind == "l2" else 1 - distance).astype(np.float32)
        number = table["query_index"].to_numpy() if len(queries) > 1 else np.zeros(len(scores), np.int64)
        ids, places = table[self.id].cast(pa.string()).to_pylist(), range(len(queries))
        chosen = [np.flatnonzero(number == place) for place in places]
        return [([ids[row] for row in rows], scores[rows]) for rows in chosen]

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `Collection`."""
        is_text = pa.types.is_string(kind := self.client.schema.field(self.id).type) or pa.types.is_large_string(kind)
        with self._said("does not give documents by their ids", "Look at its column of ids."):
            quoted = ", ".join("'" + name.replace("'", "''") + "'" if is_text else str(int(name)) for name in ids)
            rows = self.client.search().where(f"`{self.id}` in ({quoted})").limit(len(ids) + 1)
            table = self._named(rows.select(self._columns(vectors)).to_arrow())
        return self.in_order(table, ids)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `Collection`."""
        with self._said("does not give all its documents", "Look at the table."):
            for batch in self.client.search().select(self._columns(vectors)).limit(None).to_batches():
                yield from self._named(pa.Table.from_batches([batch])).combine_chunks().to_batches()

    def _columns(self, vectors: bool) -> list[str]:
        texts = [self.text] if self.text in self.client.schema.names else []
        return [self.id, *texts, *([self.vector] if vectors else [])]

    def _named(self, table: pa.Table) -> pa.Table:
        """Rename columns as `Collection` calls them, ids as texts."""
        names = {self.id: ID, self.text: TEXT, self.vector: VECTOR}
        columns = {names[name]: table[name] for name in names if name in table.column_names}
        return pa.table({**columns, ID: columns[ID].cast(pa.string())})

    @contextlib.contextmanager
    def _said(self, what: str, do: str) -> Iterator[None]:
        """Have what LanceDB raises say what was asked for and what to do."""
        try:
            yield
        except (ValueError, RuntimeError, OSError, TypeError) as error:
            if isinstance(error, DocumentStoreError):
                raise
            raise DocumentStoreError(f"{self.address} {what} ({str(error)[:200]}). {do}") from error
