"""What a collection of Milvus says of itself, and what its documents look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers.stores.answers import documents

METRICS: dict[str, Literal["cosine", "dot", "l2"]] = {"COSINE": "cosine", "IP": "dot", "L2": "l2"}
LISTS = (1, 4, 16, 64, 256, 1024)
"""Efforts of indexes that look into a number of lists, `nprobe`."""
EFFORTS = (64, 100, 200, 400, 800, 1600, 3200)
"""Efforts of others: `ef` of a graph; of an unknown index so many hits are asked for, and the best are kept."""


@dataclass(frozen=True, kw_only=True)
class MilvusLayout:
    """The fields of a collection, and the index of its vectors.

    Args:
        id, vector (`str`), texts (`list[str]`): fields.
        has_numbers (`bool`): whether ids are whole numbers.
        width (`int`), metric (`str`): of the vectors.
        index (`Mapping`): what the client tells of it.
        is_file (`bool`): whether Milvus Lite searches.
    """

    id: str
    vector: str
    texts: list[str]
    has_numbers: bool
    width: int
    metric: Literal["cosine", "dot", "l2"]
    index: Mapping[str, Any]
    is_file: bool

    @classmethod
    def of(
        cls,
        schema: Mapping[str, Any],
        indexes: Sequence[Mapping[str, Any]],
        *,
        address: str,
        vector: str,
        text: str,
        is_file: bool,
    ) -> MilvusLayout:
        """The layout that a client tells.

        Raises:
            ConfigError: a field is missing, or has no index of a metric that is compared by here.
        """
        fields = {field["name"]: field for field in schema["fields"]}
        texts = [name for name in text.split(",") if name]
        vectors = [
            name for name, field in fields.items() if field["type"].name == "FLOAT_VECTOR" and vector in ("", name)
        ]
        missing = [] if schema.get("enable_dynamic_field") else [name for name in texts if name not in fields]
        if missing or len(vectors) != 1:
            what = f"no field {missing[0]!r}" if missing else f"{len(vectors)} fields of vectors that it may mean"
            raise ConfigError(
                f"{address} has {what}, but {', '.join(fields)}; those with texts and one with vectors of float32 are "
                "needed. Name them, as ?text=body&vector=embedding."
            )
        index = next((index for index in indexes if index["field_name"] == vectors[0]), {})
        if index.get("metric_type") not in METRICS:
            raise ConfigError(
                f"{address} has no index of {vectors[0]!r} by one of {', '.join(METRICS)} but by "
                f"{index.get('metric_type')}; a metric of these is needed. Build such an index and load the collection."
            )
        (key,) = (field for field in schema["fields"] if field.get("is_primary"))
        return cls(
            id=key["name"],
            vector=vectors[0],
            texts=texts,
            has_numbers=key["type"].name == "INT64",
            width=int(fields[vectors[0]]["params"]["dim"]),
            metric=METRICS[index["metric_type"]],
            index=index,
            is_file=is_file,
        )

    @property
    def lists(self) -> int:
        """Into how many lists its index divides the vectors at most; 0 where it searches a graph, or all of them."""
        kind = self.index["index_type"]
        return int(self.index.get("nlist", LISTS[-1])) if kind.startswith("IVF") or kind == "SCANN" else 0

    @property
    def efforts(self) -> tuple[int, ...]:
        """See `Description`."""
        if self.lists:
            return (*(lists for lists in LISTS if lists < self.lists), self.lists)
        return () if self.index["index_type"] == "FLAT" else EFFORTS

    @property
    def built(self) -> dict[str, str]:
        """How its index was built, without what changes while it is."""
        return {name: str(told) for name, told in self.index.items() if "rows" not in name and "state" not in name}

    def asked(self, k: int, effort: int) -> tuple[int, dict[str, int]]:
        """How many hits are asked for, and the parameters of the search."""
        if self.lists:
            return k, {"nprobe": effort or 1}
        if self.index["index_type"] == "HNSW" or self.is_file:
            return k, {"ef": max(k, effort)}
        return max(k, effort), {}

    def fields(self, vectors: bool) -> list[str]:
        """The fields of a document; an answer without a list of them would hold all."""
        return [self.id, *self.texts, *([self.vector] if vectors else [])]

    def documents(self, rows: Sequence[Mapping[str, Any]], vectors: bool) -> pa.RecordBatch:
        """Documents, from rows as the client returns them."""
        texts = [" ".join(str(row[name]) for name in self.texts if row.get(name) is not None) for row in rows]
        held = [row[self.vector] for row in rows] if vectors else None
        return documents([str(row[self.id]) for row in rows], texts if self.texts else None, held)
