"""Indexes of OpenSearch and Elasticsearch, searched by words, or by vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.retrievers.stores.document_store import ID, TEXT, VECTOR, Description, DocumentStore
from hf_hardneg.retrievers.stores.opensearch_client import EXTRA, SECRET, WRITTEN, asking, connected, error_of, whole
from hf_hardneg.retrievers.stores.opensearch_vectors import VectorField, properties_of
from hf_hardneg.runtime.optional import require

WINDOW = 10_000
"""Hits of one search, where the index does not say otherwise."""
WORDS, VECTORS, BLOCK = 64, 16, 500
"""Queries of one call by words and by vectors, and documents of one."""
EFFORTS = (256, 512, 1024, 2048, 4096, 8192)
EVERYWHERE = {"search_type": "dfs_query_then_fetch"}
"""Counts words over all shards, so that scores do not depend on which one a document is in."""


@dataclass(frozen=True)
class OpenSearch(DocumentStore):
    """An index of OpenSearch or Elasticsearch, searched by BM25, or by vectors where `vector` is given.

    Args:
        address (`str`): such as `"opensearch://host:9200/docs"`, or `"opensearch+https://host:9200/docs"`.
        text (`str`, defaults to `"text"`): the field of texts.
        vector (`str`, *optional*): the field of vectors to search.
        exact (`bool`, defaults to `True`): compare each query with all vectors; `False` takes the approximate search
            of the server, whose recall is measured and whose candidates are scored exactly.
    """

    _: KW_ONLY
    text: str = "text"
    vector: str | None = None
    exact: bool = True
    scheme: ClassVar[str] = "opensearch"
    extra: ClassVar[str] = EXTRA
    secret: ClassVar[str] = SECRET

    @property
    def uses_vectors(self) -> bool:
        """See `DocumentStore`."""
        return self.vector is not None

    def connect(self) -> Any:
        """See `DocumentStore`."""
        return connected(self.place)

    def describe(self) -> Description:
        """See `DocumentStore`; an index is known by its uuid and the writes that its documents are of."""
        indices = self._indices()
        with asking(self.address):
            totals = whole(self.address, self.client.search(index=self.place.collection, body=WRITTEN))
        settings = [told["settings"]["index"] for told in indices]
        field = self._field(indices) if self.vector else None
        built = [field.built] if field and not self.exact else []
        written = str(totals["aggregations"]["written"]["value"])
        return Description(
            score_kind=field.similarity if field else "bm25",
            count=totals["hits"]["total"]["value"],
            width=field.width if field else None,
            mark=" ".join([*(told["uuid"] for told in settings), written, *built]),
            max_k=min(int(told.get("max_result_window", WINDOW)) for told in settings),
            max_batch=VECTORS if field else WORDS,
            has_texts=self.text in properties_of(indices),
            efforts=EFFORTS if field and not self.exact else (),
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `DocumentStore`."""
        if self.vector is None:
            return self._hits([{"query": {"match": {self.text: query}}} for query in queries], k)
        field = self._field(self._indices())
        vectors = [np.asarray(query, np.float32).tolist() for query in queries]
        if self.exact:
            asked = [field.exact(vector) for vector in vectors]
        else:
            proposed = self._hits([field.nearest(vector, k, effort or EFFORTS[0]) for vector in vectors], k)
            asked = [field.exact(vector, ids) for vector, (ids, _) in zip(vectors, proposed, strict=True)]
        return [(ids, field.similarities(scores)) for ids, scores in self._hits(asked, k)]

    def score(self, queries: Sequence[str], ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """See `DocumentStore`."""
        asked = list[dict[str, Any]]()
        for query, names in zip(queries, ids, strict=True):
            chosen = {"must": {"match": {self.text: query}}, "filter": {"ids": {"values": list(names)}}}
            asked.append({"query": {"bool": chosen}})
        known = [dict(zip(*answer, strict=True)) for answer in self._hits(asked, max(map(len, ids)))]
        pairs = zip(ids, known, strict=True)
        return [np.array([hits.get(name, 0) for name in names], np.float32) for names, hits in pairs]

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `DocumentStore`."""
        documents = list[dict[str, Any]]()
        for start in range(0, len(ids), BLOCK):
            body = {"ids": list(ids[start : start + BLOCK])}
            with asking(self.address):
                asked = {"index": self.place.collection, "_source": self._columns(vectors)}
                documents += self.client.mget(body=body, **asked)["docs"]
        if unknown := [document["_id"] for document in documents if not document["found"]]:
            raise error_of(self.address, f"it holds no document {unknown[0]!r}", "Ask for ids that scan() gives.")
        return self._table(documents, vectors)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `DocumentStore`."""
        scan = require("opensearchpy.helpers", extra=EXTRA, needed_by=self.address).scan
        with asking(self.address):
            asked = {"index": self.place.collection, "query": {"_source": self._columns(vectors)}}
            documents = scan(self.client, size=BLOCK, **asked)
            while block := list(islice(documents, BLOCK)):
                yield from self._table(block, vectors).to_batches()

    def _indices(self) -> list[dict[str, Any]]:
        """Settings and mappings of what the name of the index stands for."""
        with asking(self.address):
            return list(self.client.indices.get(index=self.place.collection).values())

    def _field(self, indices: Sequence[dict[str, Any]]) -> VectorField:
        return VectorField.of(self.address, self.vector or "", properties_of(indices))

    def _columns(self, vectors: bool) -> list[str]:
        return [self.text, *([self.vector] if vectors and self.vector else [])]

    def _hits(self, queries: Sequence[dict[str, Any]], k: int) -> list[tuple[list[str], np.ndarray]]:
        """Ids and raw scores of the best `k` of each query."""
        bodies = [part for query in queries for part in (EVERYWHERE, {**query, "size": k, "_source": False})]
        with asking(self.address):
            answers = self.client.msearch(index=self.place.collection, body=bodies)["responses"]
        every = [whole(self.address, answer)["hits"]["hits"] for answer in answers]
        scores = [np.array([hit["_score"] for hit in hits], np.float32) for hits in every]
        return [([hit["_id"] for hit in hits], raw) for hits, raw in zip(every, scores, strict=True)]

    def _table(self, documents: Sequence[dict[str, Any]], vectors: bool) -> pa.Table:
        """What `fetch` returns, of documents of the server."""
        sources = [document["_source"] for document in documents]
        columns = {ID: pa.array([document["_id"] for document in documents], pa.string())}
        columns[TEXT] = pa.array([source.get(self.text) for source in sources], pa.string())
        if vectors:
            columns[VECTOR] = pa.array([source.get(self.vector) for source in sources], pa.list_(pa.float32()))
        return pa.table(columns)
