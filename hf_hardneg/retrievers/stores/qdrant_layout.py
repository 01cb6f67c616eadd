"""How a collection of Qdrant is laid out, and how its points become documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import ConfigError, DocumentStoreError, HardNegError
from hf_hardneg.retrievers.stores.collection import ID, TEXT, VECTOR

KINDS: dict[str, Literal["cosine", "dot", "l2"]] = {"Cosine": "cosine", "Dot": "dot", "Euclid": "l2"}
VARIABLE = "QDRANT_API_KEY"


class NamedParts(Protocol):
    """What an address says of a collection: where it is, and which parts hold ids, texts and vectors."""

    @property
    def address(self) -> str:
        """The URI."""

    @property
    def id(self) -> str:
        """The part of the payload with ids; empty for those that points have."""

    @property
    def text(self) -> str:
        """The part of the payload with texts."""

    @property
    def vector(self) -> str:
        """The name of the vector; empty for the only vector."""


@dataclass(frozen=True, kw_only=True)
class QdrantLayout:
    """A client of Qdrant, and the layout of a collection when it was opened.

    Args:
        asked, models (`Any`): the client, and the classes of what is sent.
        parts (`NamedParts`): what the address says.
        name (`str`): of the vector; empty where it has none.
        width (`int`), score_kind (`str`): of the vectors.
    """

    asked: Any
    models: Any
    parts: NamedParts
    name: str
    width: int
    score_kind: Literal["cosine", "dot", "l2"]

    @classmethod
    def of(cls, parts: NamedParts, client: Any, models: Any, params: Any) -> QdrantLayout:
        """Read what the collection says of itself.

        Raises:
            ConfigError: it has not the vectors that are asked for, or compares them otherwise than we do.
        """
        layouts = params.vectors if isinstance(params.vectors, dict) else {"": params.vectors}
        name = parts.vector or next(iter(layouts), "")
        if name not in layouts or (len(layouts) > 1 and not parts.vector) or layouts[name].multivector_config:
            raise ConfigError(
                f"{parts.address} has the vectors {', '.join(map(repr, layouts)) or 'none'}; searched is a name that "
                "holds a vector for each document. Name it with ?vector= in the address."
            )
        if layouts[name].distance not in KINDS:
            raise ConfigError(
                f"{parts.address} compares by {layouts[name].distance}; {', '.join(KINDS)} are allowed. Use a "
                "collection with one of those."
            )
        width, kind = layouts[name].size, KINDS[layouts[name].distance]
        return cls(asked=client, models=models, parts=parts, name=name, width=width, score_kind=kind)

    def close(self) -> None:
        """Close the connection, or the folder."""
        self.asked.close()

    def options(self, vectors: bool) -> dict[str, Any]:
        """What is asked for with each point."""
        return {"with_payload": True, "with_vectors": ([self.name] if self.name else True) if vectors else False}

    def named(self, ids: Sequence[str]) -> Any:
        """The filter of points with some ids in their payload, be they texts or numbers there."""
        same = [list(ids), [int(each) for each in ids if each.isdecimal()]]
        match, condition = self.models.MatchAny, self.models.FieldCondition
        return self.models.Filter(should=[condition(key=self.parts.id, match=match(any=some)) for some in same if some])

    def hits(self, points: Sequence[Any]) -> tuple[list[str], np.ndarray]:
        """Ids and scores of points; Qdrant scores by the distance where that is Euclidean."""
        scores = np.array([point.score for point in points], np.float32)
        return list(map(self._id, points)), -(scores**2) if self.score_kind == "l2" else scores

    def table(self, points: Sequence[Any], vectors: bool) -> pa.Table:
        """Points as `Collection.fetch` returns documents."""
        columns = {ID: pa.array(map(self._id, points), pa.string())}
        columns[TEXT] = pa.array([_part(point.payload, self.parts.text) for point in points], pa.string())
        if vectors:
            values = [point.vector[self.name] if self.name else point.vector for point in points]
            flat = np.array(values, np.float32).reshape(-1)
            columns[VECTOR] = pa.FixedSizeListArray.from_arrays(pa.array(flat), self.width)
        return pa.table(columns)

    def _id(self, point: Any) -> str:
        if not self.parts.id:
            return str(point.id)
        name = _part(point.payload, self.parts.id)
        if name is None:
            raise ConfigError(
                f"{self.parts.address} has a point, {point.id!r}, without {self.parts.id!r} in its payload; ids of "
                "documents are in each. Name another part with ?id= in the address, or leave it out for ids of points."
            )
        return name


def error_of(address: str, error: Exception) -> HardNegError:
    """What an exception of the client means: what was asked for, what is allowed, what to do."""
    status, words = getattr(error, "status_code", None), str(error)[:300]
    if status == 404 or "not found" in words:
        return ConfigError(f"{address} is no collection ({words}). Give the name of one that is there.")
    if status in (401, 403):
        return DocumentStoreError(
            f"{address} refuses this client ({status}); it takes a key that may read. Set {VARIABLE}."
        )
    if "already accessed" in words:
        return DocumentStoreError(
            f"{address} is open in another process, and a folder is opened by one. Mine with num_proc=1, or serve it: "
            "qdrant://host:6333/collection."
        )
    return DocumentStoreError(
        f"{address} did not answer ({type(error).__name__}: {words}). Look whether it runs and is not too busy; "
        "?timeout= in the address gives it more seconds."
    )


def point_of(name: str) -> int | str:
    """The id of a point, a number or a UUID."""
    return int(name) if name.isdecimal() else name


def _part(payload: Any, name: str) -> str | None:
    """A part of a payload; points in its name separate nested ones."""
    for key in name.split("."):
        payload = payload.get(key) if isinstance(payload, dict) else None
    return None if payload is None else str(payload)
