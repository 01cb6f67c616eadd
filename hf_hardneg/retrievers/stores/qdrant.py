"""Collections of Qdrant, on a server or in a folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.corpus.batches import matrix
from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores.document_store import ID, TEXT, VECTOR, Description, DocumentStore
from hf_hardneg.retrievers.stores.qdrant_layout import VARIABLE, QdrantLayout, error_of, point_of
from hf_hardneg.runtime.arguments import AtLeastOne, Name
from hf_hardneg.runtime.optional import require
from hf_hardneg.store import directories

EFFORTS = (64, 128, 256, 512, 1024, 2048, 4096)
"""Values of `hnsw_ef`."""
BATCH, PAGE = 32, 1000
"""Queries, and documents, of one call."""
LOOKED_AT = 16
"""Documents that the mark covers, since Qdrant counts no changes: their texts, and where their vectors are largest, as
last bits change in a folder that is searched. Vectors of another model are told by it."""


@dataclass(frozen=True)
class Qdrant(DocumentStore):
    """A collection of Qdrant.

    Args:
        address (`str`): `"qdrant://host:6333/docs"`, `"qdrant+https://…"`, or `"qdrant:///folder/docs"` for the
            collection `docs` in a folder, which a single process opens. The key of a server is in `QDRANT_API_KEY`.
        id (`str`): the part of the payload that holds the ids of documents; by default points have the ids.
        text (`str`, defaults to `"text"`): the part of the payload that holds texts; points separate nested names.
        vector (`str`): the name of a vector; by default the only vector.
        exact (`bool`, defaults to `True`): compare each query with all vectors; `False` asks its index, whose recall is
            measured and whose effort is raised.
        timeout (`int`, defaults to 8): seconds that an answer may take.
    """

    _: KW_ONLY
    id: str = ""
    text: Name = "text"
    vector: str = ""
    exact: bool = True
    timeout: AtLeastOne = 8
    scheme: ClassVar[str] = "qdrant"
    extra: ClassVar[str] = "qdrant"
    secret: ClassVar[str] = VARIABLE

    @property
    def is_local(self) -> bool:
        """Whether the collection lies in a folder."""
        return not self.place.host

    def connect(self) -> QdrantLayout:
        """See `Collection`.

        Raises:
            DocumentStoreError: the server does not answer, refuses, or the folder is in use.
            ConfigError: there is no such collection, or not the vectors that are asked for.
        """
        package = require("qdrant_client", extra=self.extra, needed_by=self.address)
        place, key = self.place, os.environ.get(VARIABLE) or None
        url = f"{'https' if place.transport == 'https' else 'http'}://{place.host}:{place.port or 6333}{place.folder}"
        where = {"path": place.folder} if self.is_local else {"url": url, "api_key": key, "timeout": self.timeout}
        with self._said():
            client = package.QdrantClient(**where, check_compatibility=False)
            params = client.get_collection(place.collection).config.params
        return QdrantLayout.of(self, client, package.models, params)

    def describe(self) -> Description:
        """See `Collection`."""
        client, collection = self.client.asked, self.place.collection
        with self._said():
            about = client.get_collection(collection)
            count = client.count(collection, exact=True).count
            first = next(self._pages(LOOKED_AT, vectors=True), None)
        largest = None if first is None else matrix(first[VECTOR]).argmax(axis=1).tolist()
        looked = None if first is None else [*first.select([ID, TEXT]).to_pylist(), largest]
        graph = about.config.model_dump(mode="json", include={"hnsw_config", "quantization_config"})
        built = None if self.exact else [graph, about.indexed_vectors_count]
        told = [about.config.params.model_dump_json(), built, looked]
        return Description(
            score_kind=self.client.score_kind,
            count=count,
            width=self.client.width,
            mark=directories.bytes_digest(json.dumps(told).encode()),
            max_batch=BATCH,
            has_texts=first is not None and first[TEXT].null_count < len(first),
            efforts=() if self.exact or self.is_local else EFFORTS,
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `Collection`."""
        layout, models = self.client, self.client.models
        params = models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))
        params = params if effort is None else models.SearchParams(hnsw_ef=max(effort, k))
        asked = {"limit": k, "using": layout.name or None, "params": None if self.is_local else params}
        asked |= {"with_payload": [self.id] if self.id else False}
        requests = [models.QueryRequest(query=np.asarray(query).tolist(), **asked) for query in queries]
        with self._said():
            answers = layout.asked.query_batch_points(self.place.collection, requests)
        return [layout.hits(answer.points) for answer in answers]

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `Collection`."""
        layout, options = self.client, self.client.options(vectors)
        with self._said():
            if not self.id:
                points = layout.asked.retrieve(self.place.collection, list(map(point_of, ids)), **options)
            else:
                only = layout.named(ids)
                points = layout.asked.scroll(self.place.collection, scroll_filter=only, limit=len(ids), **options)[0]
        return self.in_order(layout.table(points, vectors), ids)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `Collection`."""
        for table in self._pages(PAGE, vectors=vectors):
            yield from table.combine_chunks().to_batches()

    def _pages(self, size: int, *, vectors: bool) -> Iterator[pa.Table]:
        """Documents in the order of their points, so many at a time."""
        layout, after, is_last = self.client, None, False
        while not is_last:
            with self._said():
                asked = {"limit": size, "offset": after, **layout.options(vectors)}
                points, after = layout.asked.scroll(self.place.collection, **asked)
            is_last = after is None
            if points:
                yield layout.table(points, vectors)

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Have what the client raises say what was asked for and what to do."""
        try:
            yield
        except (ConfigError, DocumentStoreError):
            raise
        except Exception as error:
            raise error_of(self.address, error) from error
