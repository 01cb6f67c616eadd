"""Collections of Weaviate, by its REST and GraphQL routes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores.document_store import ID, TEXT, TIMEOUT, VECTOR, Description, DocumentStore

DISTANCES: dict[str, Literal["cosine", "dot", "l2"]] = {"cosine": "cosine", "dot": "dot", "l2-squared": "l2"}
MAX_K = 10_000
"""Of a server that was not configured otherwise (`QUERY_MAXIMUM_RESULTS`)."""
BATCH, BLOCK = 64, 500
"""Queries between two looks at the collection, and documents of one call."""
AS_IT_IS = (1,)
"""The only effort of a graph: its `ef` belongs to the collection."""


@dataclass(frozen=True)
class Weaviate(DocumentStore):
    """A collection of Weaviate with one vector for each object.

    Args:
        address (`str`): such as `"weaviate://host:8080/Docs"`, or `"weaviate+https://host:443/Docs"`.
        id (`str`, *optional*): the property that holds ids of documents; by default the UUIDs of objects are ids.
        text (`str`, defaults to `"text"`): the property that holds texts.
    """

    _: KW_ONLY
    id: str | None = None
    text: str = "text"
    scheme: ClassVar[str] = "weaviate"
    extra: ClassVar[str] = ""
    secret: ClassVar[str] = "WEAVIATE_API_KEY"

    def connect(self) -> Any:
        """See `DocumentStore`."""
        import httpx2

        key, place = os.environ.get("WEAVIATE_API_KEY"), self.place
        base = f"{'https' if place.transport == 'https' else 'http'}://{place.host}:{place.port or 8080}{place.folder}"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=base, headers=headers, timeout=TIMEOUT)

    def describe(self) -> Description:
        """See `DocumentStore`; the mark is the newest time at which an object was written."""
        told = self._asked("GET", f"/v1/schema/{self.place.collection}")
        settings, kind = told.get("vectorIndexConfig", {}), told.get("vectorIndexType", "hnsw")
        distance = settings.get("distance", "cosine")
        if told.get("vectorConfig") or distance not in DISTANCES:
            what = "several named vectors" if told.get("vectorConfig") else f"the distance {distance}"
            raise ConfigError(
                f"{self.address} has {what}; one vector with {', '.join(DISTANCES)} is allowed. Use such a collection."
            )
        count = self._graphql("Aggregate", "", "meta { count }")[0]["meta"]["count"]
        newest = 'sort: [{path: ["_lastUpdateTimeUnix"], order: desc}], limit: 1'
        first = self._graphql("Get", f"({newest})", "_additional { lastUpdateTimeUnix vector }") if count else []
        built = json.dumps([kind, settings], sort_keys=True)
        return Description(
            score_kind=DISTANCES[distance],
            count=count,
            width=len(first[0]["_additional"]["vector"]) if first else None,
            mark=" ".join([*(hit["_additional"]["lastUpdateTimeUnix"] for hit in first), built]),
            max_k=MAX_K,
            max_batch=BATCH,
            has_texts=self.text in {field["name"] for field in told.get("properties", [])},
            efforts=() if kind == "flat" and not settings.get("pq", {}).get("enabled") else AS_IT_IS,
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `DocumentStore`; Weaviate gives distances: one less the cosine, the negative product, or the square."""
        answers, wanted = [], f"{self.id or ''} _additional {{ id distance }}"
        told = self._asked("GET", f"/v1/schema/{self.place.collection}").get("vectorIndexConfig", {})
        cosine = told.get("distance", "cosine") == "cosine"
        for query in np.asarray(queries, np.float32).tolist():
            near = f"(nearVector: {{vector: {json.dumps(query)}}}, limit: {k})"
            hits = self._graphql("Get", near, wanted)
            far = np.array([hit["_additional"]["distance"] for hit in hits], np.float64)
            ids = [str(hit[self.id] if self.id else hit["_additional"]["id"]) for hit in hits]
            answers.append((ids, (1 - far if cosine else -far).astype(np.float32)))
        return answers

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `DocumentStore`."""
        rows = list[dict[str, Any]]()
        for start in range(0, len(ids), BLOCK):
            names, path = json.dumps(list(ids[start : start + BLOCK])), json.dumps([self.id or "id"])
            among = f"(where: {{path: {path}, operator: ContainsAny, valueText: {names}}}, limit: {BLOCK})"
            rows += self._graphql("Get", among, f"{self.id or ''} {self.text} _additional {{ id vector }}")
        known = [{**row, "id": row["_additional"]["id"], "properties": row} for row in rows]
        return self.in_order(self._table(known, vectors, lambda row: row["_additional"]["vector"]), ids)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `DocumentStore`; in the order of the UUIDs."""
        after = ""
        while True:
            asked = {"class": self.place.collection, "limit": BLOCK, "after": after}
            asked |= {"include": "vector"} if vectors else {}
            rows = self._asked("GET", "/v1/objects", params=asked)["objects"]
            if not rows:
                return
            yield from self._table(rows, vectors, lambda row: row["vector"]).to_batches()
            after = rows[-1]["id"]

    def _table(self, rows: Sequence[dict[str, Any]], vectors: bool, vector_of: Callable[[Any], Any]) -> pa.Table:
        """What `fetch` returns, of objects."""
        names = [row["properties"].get(self.id) if self.id else row["id"] for row in rows]
        columns = {ID: pa.array(map(str, names), pa.string())}
        columns[TEXT] = pa.array([row["properties"].get(self.text) for row in rows], pa.string())
        if vectors:
            columns[VECTOR] = pa.array(map(vector_of, rows), pa.list_(pa.float32()))
        return pa.table(columns)

    def _graphql(self, verb: str, among: str, wanted: str) -> list[dict[str, Any]]:
        name = self.place.collection
        query = f"{{ {verb} {{ {name}{among} {{ {wanted} }} }} }}"
        told = self._asked("POST", "/v1/graphql", json={"query": query})
        if told.get("errors"):
            raise self._error(f"it answered {told['errors'][0].get('message')}", "Look at the names of its properties.")
        return told["data"][verb][name]

    def _asked(self, verb: str, path: str, **options: Any) -> Any:
        import httpx2

        try:
            answer = self.client.request(verb, path, **options)
        except httpx2.HTTPError as error:
            what = f"it did not answer ({type(error).__name__})"
            raise self._error(what, "Look whether it runs, and at its host and port.") from error
        if answer.status_code in (401, 403):
            raise self._error(f"it refuses who asks ({answer.status_code})", f"Set {self.secret}.")
        if answer.status_code == 404:
            raise self._error("it has no such collection", f"Give one that is there, not {self.place.collection!r}.")
        if answer.status_code != 200:
            raise self._error(f"it answered {answer.status_code}, {answer.text[:200]}", "Look at the server.")
        return answer.json()

    def _error(self, what: str, do: str) -> DocumentStoreError:
        return DocumentStoreError(f"{self.address}: {what}; a collection that answers is allowed. {do}")
