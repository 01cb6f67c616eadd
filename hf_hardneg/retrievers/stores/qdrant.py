"""Collections of Qdrant, on a server or in a folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from hf_hardneg.corpus.batches import matrix
from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores.document_store import ID, TEXT, VECTOR, Description, DocumentStore
from hf_hardneg.runtime.arguments import AtLeastOne, Name
from hf_hardneg.runtime.optional import require
from hf_hardneg.store import directories

KINDS: dict[str, Literal["cosine", "dot", "l2"]] = {"Cosine": "cosine", "Dot": "dot", "Euclid": "l2"}
EFFORTS = (64, 128, 256, 512, 1024, 2048, 4096)
"""Values of `hnsw_ef`."""
BATCH, PAGE = 32, 1000
"""Queries, and documents, of one call."""
LOOKED_AT = 16
"""Documents that the mark covers, since Qdrant counts no changes: their texts, and where their vectors are largest, as
last bits change in a folder that is searched. Vectors of another model are told by it."""
VARIABLE = "QDRANT_API_KEY"


class OpenedQdrant(NamedTuple):
    """A client of Qdrant, its models, and the layout of the collection when it was opened."""

    asked: Any
    models: Any
    params: Any
    name: str

    @property
    def vectors(self) -> Any:
        """Width and distance of the vectors that are searched."""
        return self.params.vectors[self.name] if isinstance(self.params.vectors, dict) else self.params.vectors

    def close(self) -> None:
        """Close the connection, or the folder."""
        self.asked.close()


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

    def connect(self) -> OpenedQdrant:
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
        layouts = params.vectors if isinstance(params.vectors, dict) else {"": params.vectors}
        name = self.vector or next(iter(layouts), "")
        if name not in layouts or (len(layouts) > 1 and not self.vector) or layouts[name].multivector_config:
            raise ConfigError(
                f"{self.address} has the vectors {', '.join(map(repr, layouts)) or 'none'}; searched are those with a "
                "name that hold a vector for each document. Name it with ?vector= in the address."
            )
        if layouts[name].distance not in KINDS:
            raise ConfigError(
                f"{self.address} compares by {layouts[name].distance}; {', '.join(KINDS)} are allowed. Use a "
                "collection with one of those."
            )
        return OpenedQdrant(client, package.models, params, name)

    def describe(self) -> Description:
        """See `Collection`."""
        client, collection = self.client.asked, self.place.collection
        with self._said():
            params = client.get_collection(collection).config.params
            count = client.count(collection, exact=True).count
            first = next(self._pages(LOOKED_AT, vectors=True), None)
        largest = None if first is None else matrix(first[VECTOR]).argmax(axis=1).tolist()
        looked = None if first is None else [*first.select([ID, TEXT]).to_pylist(), largest]
        return Description(
            score_kind=KINDS[self.client.vectors.distance],
            count=count,
            width=self.client.vectors.size,
            mark=directories.bytes_digest(params.model_dump_json().encode(), json.dumps(looked).encode()),
            max_batch=BATCH,
            has_texts=first is not None and first[TEXT].null_count < len(first),
            efforts=() if self.exact or self.is_local else EFFORTS,
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `Collection`."""
        client, models, _, name = self.client
        params = models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))
        params = params if effort is None else models.SearchParams(hnsw_ef=max(effort, k))
        asked = {"limit": k, "using": name or None, "params": None if self.is_local else params}
        asked |= {"with_payload": [self.id] if self.id else False}
        requests = [models.QueryRequest(query=np.asarray(query).tolist(), **asked) for query in queries]
        with self._said():
            answers = client.query_batch_points(self.place.collection, requests)
        squared = KINDS[self.client.vectors.distance] == "l2"
        hits = [
            ([self._id(point) for point in answer.points], [point.score for point in answer.points])
            for answer in answers
        ]
        return [
            (ids, -np.square(scores, dtype=np.float32) if squared else np.array(scores, np.float32))
            for ids, scores in hits
        ]

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `Collection`."""
        client, models, _, name = self.client
        options = {"with_payload": True, "with_vectors": ([name] if name else True) if vectors else False}
        with self._said():
            if not self.id:
                points = client.retrieve(self.place.collection, [_point(each) for each in ids], **options)
            else:
                same = [list(ids), [int(each) for each in ids if each.isdecimal()]]
                conditions = [
                    models.FieldCondition(key=self.id, match=models.MatchAny(any=some)) for some in same if some
                ]
                only = models.Filter(should=conditions)
                points = client.scroll(self.place.collection, scroll_filter=only, limit=len(ids), **options)[0]
        return self.in_order(self._table(points, vectors), ids)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `Collection`."""
        for table in self._pages(PAGE, vectors=vectors):
            yield from table.combine_chunks().to_batches()

    def _pages(self, size: int, *, vectors: bool) -> Iterator[pa.Table]:
        """Documents in the order of their points, so many at a time."""
        client, _, _, name = self.client
        options = {"with_payload": True, "with_vectors": ([name] if name else True) if vectors else False}
        after, is_last = None, False
        while not is_last:
            with self._said():
                points, after = client.scroll(self.place.collection, limit=size, offset=after, **options)
            is_last = after is None
            if points:
                yield self._table(points, vectors)

    def _table(self, points: Sequence[Any], vectors: bool) -> pa.Table:
        name, width = self.client.name, self.client.vectors.size
        columns = {ID: pa.array(map(self._id, points), pa.string())}
        columns[TEXT] = pa.array([_part(point.payload, self.text) for point in points], pa.string())
        if vectors:
            values = [point.vector[name] if name else point.vector for point in points]
            flat = np.array(values, np.float32).reshape(-1)
            columns[VECTOR] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
        return pa.table(columns)

    def _id(self, point: Any) -> str:
        if not self.id:
            return str(point.id)
        name = _part(point.payload, self.id)
        if name is None:
            raise ConfigError(
                f"{self.address} has a point, {point.id!r}, without {self.id!r} in its payload; ids of documents are "
                "in each. Name another part with ?id= in the address, or leave it out for ids of points."
            )
        return name

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Have what the client raises say what was asked for and what to do."""
        try:
            yield
        except (ConfigError, DocumentStoreError):
            raise
        except Exception as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> Exception:
        status, words = getattr(error, "status_code", None), str(error)[:300]
        if status == 404 or "not found" in words:
            return ConfigError(f"{self.address} is no collection ({words}). Give the name of one that is there.")
        if status in (401, 403):
            return DocumentStoreError(
                f"{self.address} refuses this client ({status}); it takes a key that may read. Set {VARIABLE}."
            )
        if "already accessed" in words:
            return DocumentStoreError(
                f"{self.address} is open in another process, and a folder is opened by one. Mine with num_proc=1, or "
                "serve it: qdrant://host:6333/collection."
            )
        return DocumentStoreError(
            f"{self.address} did not answer ({type(error).__name__}: {words}). Look whether it runs and is "
            "not too busy; ?timeout= in the address gives it more seconds."
        )


def _point(name: str) -> int | str:
    return int(name) if name.isdecimal() else name


def _part(payload: Any, name: str) -> str | None:
    """A part of a payload, points in its name separate nested ones."""
    for key in name.split("."):
        payload = payload.get(key) if isinstance(payload, dict) else None
    return None if payload is None else str(payload)
