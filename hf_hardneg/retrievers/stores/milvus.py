"""Documents in a collection of Milvus, on a server or in a file of Milvus Lite."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import DocumentStoreError
from hf_hardneg.retrievers.stores.document_store import Description, DocumentStore
from hf_hardneg.retrievers.stores.milvus_client import EXTRA, SECRET, connected, told_of_milvus
from hf_hardneg.retrievers.stores.milvus_layout import MilvusLayout
from hf_hardneg.runtime.arguments import AtLeastOne
from hf_hardneg.store import directories

MOST, PAGE, LOOKED_AT = 16_384, 1000, 16
"""Hits of a query, documents of an answer, and documents that the mark covers, since Milvus counts no changes."""


@dataclass(frozen=True)
class Milvus(DocumentStore):
    """A collection, such as `milvus://host:19530/database/docs`, or `milvus:///folder/x.db?collection=docs` of Lite.

    A token comes from `MILVUS_TOKEN`; `milvus+https://` connects by TLS. The primary field holds the ids.

    Args:
        text (`str`): fields of the text, with commas between; empty where there is none.
        vector (`str`): the field of the vectors; not needed where there is a single one.
        collection (`str`): its name, in a file.
        timeout (`int`, defaults to 8): seconds that an answer may take.
    """

    text: str = "text"
    vector: str = ""
    collection: str = ""
    timeout: AtLeastOne = 8
    scheme: ClassVar[str] = "milvus"
    extra: ClassVar[str] = EXTRA
    secret: ClassVar[str] = SECRET

    @property
    def within(self) -> str:
        """The name of the collection."""
        return self.collection or self.place.collection

    def connect(self) -> Any:
        """See `Collection`."""
        return connected(self.address, self.place, self.collection, self.timeout)

    def describe(self) -> Description:
        """See `Collection`.

        Raises:
            DocumentStoreError: its index is being built.
        """
        layout = self._layout()
        if layout.index.get("pending_index_rows"):
            raise DocumentStoreError(
                f"{self.address} is still indexing {layout.index['pending_index_rows']:,} documents, and may leave out "
                "some until then; a complete index is needed. Wait until describe_index() of its client says so."
            )
        with told_of_milvus(self.address):
            asked = {"filter": "", "consistency_level": "Strong", "timeout": self.timeout}
            ((count,),) = (row.values() for row in self.client.query(self.within, output_fields=["count(*)"], **asked))
            rows = self.client.query(self.within, output_fields=layout.fields(True), limit=LOOKED_AT, **asked)
            is_searched_by_graph = layout.index["index_type"] != "FLAT" and bool(self.place.host)
            parts = self.client.list_loaded_segments(self.within, timeout=self.timeout) if is_searched_by_graph else []
        state = [
            count,
            layout.built,
            layout.documents(rows, True).to_pydict(),
            sorted(f"{part.segment_id} {part.state}" for part in parts),
        ]
        return Description(
            score_kind=layout.metric,
            count=count,
            width=layout.width,
            mark=directories.bytes_digest(json.dumps(state).encode()),
            max_k=MOST,
            max_batch=32,
            has_texts=bool(self.text),
            efforts=layout.efforts,
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `Collection`."""
        layout = self._layout()
        vectors = np.asarray(queries, np.float32).tolist()
        limit, params = layout.asked(k, effort or 0)
        answers = self._nearest(vectors, layout, limit, params)
        while params.get("nprobe", layout.lists) < layout.lists and min(map(len, answers), default=k) < k:
            params["nprobe"] *= 4  # too few documents are in so few lists
            answers = self._nearest(vectors, layout, limit, params)
        sign = -1 if layout.metric == "l2" else 1
        best = [hits[:k] for hits in answers]
        scores = [np.array([sign * hit["distance"] for hit in hits], np.float32) for hits in best]
        return [([str(hit[layout.id]) for hit in hits], score) for hits, score in zip(best, scores, strict=True)]

    def _nearest(self, vectors: list[list[float]], layout: MilvusLayout, limit: int, params: dict[str, int]) -> Any:
        with told_of_milvus(self.address):
            return self.client.search(
                self.within,
                data=vectors,
                anns_field=layout.vector,
                limit=limit,
                search_params={"params": params},
                output_fields=[layout.id],
                consistency_level="Strong",
                timeout=self.timeout,
            )

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `Collection`."""
        layout = self._layout()
        keys = [int(name) for name in ids if name.lstrip("-").isdecimal()] if layout.has_numbers else list(ids)
        rows = []
        if keys:
            with told_of_milvus(self.address):
                fields = layout.fields(vectors)
                rows = self.client.get(self.within, ids=keys, output_fields=fields, timeout=self.timeout)
        return self.in_order(pa.Table.from_batches([layout.documents(rows, vectors)]), ids)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `Collection`."""
        layout = self._layout()
        with told_of_milvus(self.address):
            asked = {"batch_size": PAGE, "filter": "", "output_fields": layout.fields(vectors)}
            pages = self.client.query_iterator(self.within, **asked, consistency_level="Strong", timeout=self.timeout)
        while rows := self._page(pages):
            yield layout.documents(rows, vectors)

    def _page(self, pages: Any) -> list[Any]:
        with told_of_milvus(self.address):
            return pages.next()

    def _layout(self) -> MilvusLayout:
        with told_of_milvus(self.address):
            client, waited = self.client, {"timeout": self.timeout}
            schema = client.describe_collection(self.within, **waited)
            names = client.list_indexes(self.within)
            indexes = [client.describe_index(self.within, name, **waited) for name in names]
        named = {"address": self.address, "vector": self.vector, "text": self.text}
        return MilvusLayout.of(schema, indexes, **named, is_file=not self.place.host)
