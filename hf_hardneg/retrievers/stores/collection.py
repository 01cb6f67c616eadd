"""What is asked of a document store: where documents of the user's lie, and who searches them."""

from __future__ import annotations

import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.errors import DocumentStoreError

T = TypeVar("T")
ID, TEXT, VECTOR = "id", "text", "vector"
"""The columns of what `fetch` and `scan` return."""
FOUND = "found"
"""How a collection is read whose documents are too many: what queries find, and no more."""
ASKED = ("depth", "recall", "timeout", "reads")
"""Fields that change no hit of a search."""
TIMEOUT = 5.0
"""Seconds that a driver waits for an answer."""
PAUSES, PATIENCE = (0.2, 1.0), 4.0
"""Seconds before a store is asked again, and after which it is not."""

_clients: dict[tuple[Any, ...], Any] = {}
"""Connections of this process: no connection of its parent is used after a fork."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a document store says of one collection.

    Args:
        score_kind (`str`): `"cosine"`, `"dot"`, `"l2"` or `"bm25"`.
        count (`int`): documents.
        width (`int`, *optional*): dimensions of its vectors; `None` where it searches by words.
        mark (`str`): changes whenever the collection does, as far as the store can tell; part of every identity.
        max_k (`int`, *optional*): the most hits for one query.
        max_batch (`int`, *optional*): the most queries of one call.
        has_texts (`bool`, defaults to `True`): whether it holds texts beside vectors.
        efforts (`tuple[int, ...]`, *optional*): values of `effort` that `search` takes, rising, where the search is
            approximate; empty where it is exact.
    """

    score_kind: Literal["cosine", "dot", "l2", "bm25"]
    count: int
    width: int | None
    mark: str
    max_k: int | None = None
    max_batch: int | None = None
    has_texts: bool = True
    efforts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Collection(ABC):
    """One collection of a document store; pickles as its address and options, never with a connection or a secret.

    Args:
        address (`str`): the URI of the collection, without a secret.
    """

    address: str
    scheme: ClassVar[str]
    """The first part of its addresses, such as `"qdrant"`."""
    extra: ClassVar[str]
    """The extra of this package that installs its client."""

    @property
    def settings(self) -> dict[str, Any]:
        """Where the collection is and how it is read, as plain values; how much is asked for is no part of that."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name not in ASKED}

    @property
    def client(self) -> Any:
        """The connection of this process, opened when it is first asked for."""
        if self._key not in _clients:
            _clients[self._key] = self.connect()
        return _clients[self._key]

    @property
    def _key(self) -> tuple[Any, ...]:
        return (os.getpid(), type(self), *self.settings.values())

    def disconnect(self) -> None:
        """Close the connection of this process; the next call opens another."""
        client = _clients.pop(self._key, None)
        with contextlib.suppress(Exception):  # of a connection that is broken
            client.close()

    def in_order(self, table: pa.Table, ids: Sequence[str]) -> pa.Table:
        """The rows of a table in the order of their ids.

        Raises:
            DocumentStoreError: an id is not among them.
        """
        places = pc.index_in(pa.array(ids, pa.string()), value_set=table[ID].combine_chunks())
        if places.null_count:
            missing = ids[places.is_null().index(True).as_py()]
            raise DocumentStoreError(
                f"{self.address} has no document {missing!r}, and the corpus has; both must name documents alike. Give "
                "the corpus that the store was filled from, name its column of ids with columns={'id': ...}, or the "
                "store's with ?id= in its address."
            )
        return table.take(places)

    def patiently(self, question: Callable[[], T]) -> T:
        """The answer to a question, asked again over a new connection where the store does not give one.

        Raises:
            DocumentStoreError: it gives none three times, or within `PATIENCE` seconds.
        """
        begun = time.monotonic()
        for pause in PAUSES:
            try:
                return question()
            except DocumentStoreError:
                self.disconnect()
                if time.monotonic() - begun > PATIENCE:
                    raise
                time.sleep(pause)
        return question()

    @abstractmethod
    def connect(self) -> Any:
        """A new connection."""

    @abstractmethod
    def describe(self) -> Description:
        """What the collection is now."""

    @abstractmethod
    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """Ids and scores of the best hits of each query, in any order; never more than k, maybe fewer.

        Args:
            queries (`np.ndarray` or `Sequence[str]`): vectors (n, d) float32, or texts where the kind is `"bm25"`; at
                most `max_batch`.
            k (`int`): at most `max_k`.
            effort (`int`, *optional*): of `efforts`. Where it is not given, the search is exact if the store can, else
                as the store does it by default.

        Returns:
            For each query its ids, and their scores (hits,) float32; higher is better: cosine similarity, inner
            product, negative *squared* Euclidean distance, or BM25.
        """

    def score(self, queries: Sequence[str], ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Scores of chosen documents, where words are searched: for each query one for each of its ids, (ids,) float32.

        What shares no word with its query has 0. A store that searches words and does not define this scores only what
        it finds.
        """
        raise NotImplementedError

    @abstractmethod
    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """Columns `id`, `text` and, asked for, `vector`, in the order asked.

        Raises:
            DocumentStoreError: an id is unknown.
        """

    @abstractmethod
    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """All documents once, as `fetch` returns them, in an order that stays while nothing changes."""
