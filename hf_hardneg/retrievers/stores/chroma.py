"""Documents in a collection of a Chroma server, asked over its HTTP interface, version 2."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from hf_hardneg.retrievers.stores.answers import documents, told
from hf_hardneg.retrievers.stores.document_store import TEXT, Description, DocumentStore
from hf_hardneg.runtime.arguments import AtLeastOne
from hf_hardneg.store import directories

METRICS: dict[str, Literal["cosine", "dot", "l2"]] = {"cosine": "cosine", "ip": "dot", "l2": "l2"}
LOOPBACK = ("", "localhost", "127.0.0.1")
"""Hosts to which no proxy of the environment leads."""
EFFORTS = (100, 200, 400, 800, 1600, 3200)
PAGE, LOOKED_AT = 500, 16
"""Documents of one answer, and documents that the mark covers, since Chroma counts no changes."""
REMEDIES = {
    "Collection [": "Give one of the server's collections, as chroma://host:8000/collection.",
    "atabase": "Name a database that the server has with ?database=, and its tenant with ?tenant=.",
    "enant": "Name a tenant that the server has with ?tenant=.",
    "embedding with dimension": "Pass the encoder that filled the collection.",
    "401": "Set CHROMA_API_KEY.",
    "403": "Set CHROMA_API_KEY to a key that may read this database.",
}
"""What to do, by words of what Chroma says."""


@dataclass(frozen=True)
class Chroma(DocumentStore):
    """A collection of a Chroma server, such as `chroma://host:8000/docs`; `chroma+https://` connects by TLS.

    A key, where one is asked for, comes from `CHROMA_API_KEY`. The server searches a graph and has no exact search;
    it looks the harder, the more is asked for, so more is. Of changes it tells the count alone.

    Args:
        tenant, database (`str`): where the collection is.
        timeout (`int`, defaults to 8): seconds that an answer may take.
    """

    tenant: str = "default_tenant"
    database: str = "default_database"
    timeout: AtLeastOne = 8
    scheme: ClassVar[str] = "chroma"
    extra: ClassVar[str] = ""
    secret: ClassVar[str] = "CHROMA_API_KEY"

    def connect(self) -> Any:
        """See `Collection`."""
        import httpx2

        place, key = self.place, os.environ.get("CHROMA_API_KEY")
        server = f"{place.transport or 'http'}://{place.host or 'localhost'}:{place.port or 8000}/api/v2"
        return httpx2.Client(
            base_url=f"{server}/tenants/{self.tenant}/databases/{self.database}/collections/",
            headers={"x-chroma-token": key} if key else {},
            timeout=self.timeout,
            trust_env=place.host not in LOOPBACK,
        )

    def describe(self) -> Description:
        """See `Collection`."""
        collection = self._asked("GET", self.place.collection)
        count = self._asked("GET", f"{collection['id']}/count")
        looked, built = self._documents(True, limit=LOOKED_AT).to_pydict(), collection["configuration_json"]
        return Description(
            score_kind=self._metric(collection),
            count=count,
            width=collection["dimension"],
            mark=directories.bytes_digest(json.dumps([collection["id"], built, count, looked]).encode()),
            max_batch=16,
            has_texts=any(text is not None for text in looked[TEXT]),
            efforts=EFFORTS,
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `Collection`."""
        collection, vectors = self._asked("GET", self.place.collection), np.asarray(queries).tolist()
        asked = {"query_embeddings": vectors, "n_results": max(k, effort or 0), "include": ["distances"]}
        answer = self._asked("POST", f"{collection['id']}/query", **asked)
        nearest = 0 if self._metric(collection) == "l2" else 1
        return [
            (names[:k], (nearest - np.array(distances[:k])).astype(np.float32))
            for names, distances in zip(answer["ids"], answer["distances"], strict=True)
        ]

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `Collection`."""
        wanted = {"ids": list(ids)} if ids else {"limit": 0}
        return self.in_order(pa.Table.from_batches([self._documents(vectors, **wanted)]), ids)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `Collection`."""
        start = 0
        while len(batch := self._documents(vectors, limit=PAGE, offset=start)):
            yield batch
            start += len(batch)

    def _documents(self, vectors: bool, **which: Any) -> pa.RecordBatch:
        identifier = self._asked("GET", self.place.collection)["id"]
        include = ["documents", *(["embeddings"] if vectors else [])]
        answer = self._asked("POST", f"{identifier}/get", include=include, **which)
        return documents(answer["ids"], answer["documents"], answer["embeddings"] if vectors else None)

    def _metric(self, collection: dict[str, Any]) -> Literal["cosine", "dot", "l2"]:
        """The score kind of a collection, which its index is built for."""
        settings = collection["configuration_json"]
        return METRICS[(settings.get("hnsw") or settings["spann"])["space"]]

    def _asked(self, method: str, path: str, **values: Any) -> Any:
        """The answer to a request, read as JSON."""
        import httpx2

        needed, lost = "a collection of a Chroma server", (httpx2.HTTPError,)
        with told(self.address, needed, REMEDIES, lost=lost, refused=(ValueError,)):
            answer = self.client.request(method, path, json=values or None)
            if answer.is_client_error:
                raise ValueError(f"{answer.status_code} {answer.json().get('message', '')}")
            answer.raise_for_status()
            return answer.json()
