"""What an index of RediSearch says of itself, and what its documents look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores.answers import documents

METRICS: dict[str, Literal["cosine", "dot", "l2"]] = {"COSINE": "cosine", "IP": "dot", "L2": "l2"}
TYPES = {"FLOAT16": "<f2", "FLOAT32": "<f4", "FLOAT64": "<f8"}


@dataclass(frozen=True, kw_only=True)
class IndexLayout:
    """An index, its field of vectors, and the fields of its documents' texts.

    Args:
        address (`str`): for messages.
        count (`int`): of its documents.
        name, place (`str`): of the vectors, in queries and in documents.
        dtype (`str`): NumPy's, of vectors as bytes.
        metric (`str`), width (`int`): of the vectors.
        is_approximate (`bool`): whether a graph is searched.
        prefix (`str`): of all keys.
        texts (`list[str]`): fields of the text.
        built (`str`): what is told of the vectors' index.
    """

    address: str
    count: int
    name: str
    place: str
    dtype: str
    metric: Literal["cosine", "dot", "l2"]
    width: int
    is_approximate: bool
    prefix: str
    texts: list[str]
    built: str

    @classmethod
    def of(cls, info: Sequence[Any], *, address: str, vector: str, text: str) -> IndexLayout:
        """The layout that FT.INFO tells.

        Raises:
            DocumentStoreError: the index does not have all documents yet.
            ConfigError: it has no vectors that can be searched.
        """
        told = _paired(info)
        if float(told["percent_indexed"]) < 1:
            raise DocumentStoreError(
                f"{address} is still indexing, {float(told['percent_indexed']):.0%} so far, and would answer of that "
                "part alone; a complete index is needed. Wait until percent_indexed of FT.INFO is 1."
            )
        fields = [field for field in map(_paired, told["attributes"]) if field["type"] == "VECTOR"]
        named = [field for field in fields if vector in ("", field["attribute"])]
        if len(named) != 1 or named[0].get("data_type") not in TYPES:
            names = ", ".join(f"{field['attribute']} ({field.get('data_type')})" for field in fields) or "none"
            raise ConfigError(
                f"{address} has these fields of vectors: {names}; one of {', '.join(TYPES)} is needed. Name it, as "
                "?vector=embedding."
            )
        (field,), definition = named, _paired(told["index_definition"])
        prefixes = [prefix.decode() for prefix in definition["prefixes"]]
        if definition["key_type"] != "HASH":
            raise ConfigError(
                f"{address} is over documents of {definition['key_type']}; hashes are allowed. Store each document as "
                "a hash of its text and the bytes of its vector, and index those."
            )
        return cls(
            address=address,
            count=int(told["num_docs"]),
            name=field["attribute"],
            place=field["identifier"],
            dtype=TYPES[field["data_type"]],
            metric=METRICS[field["distance_metric"]],
            width=int(field["dim"]),
            is_approximate=field["algorithm"] != "FLAT",
            prefix=prefixes[0] if len(prefixes) == 1 else "",
            texts=[name for name in text.split(",") if name],
            built=" ".join(f"{name}={field[name]}" for name in sorted(field)),
        )

    def columns(self, vectors: bool) -> list[str]:
        """Where texts and, asked for, vectors stand in documents."""
        return [*self.texts, *([self.place] if vectors else [])]

    def name_of(self, key: bytes) -> str:
        """The id behind a key."""
        return key.decode().removeprefix(self.prefix)

    def documents(self, rows: Sequence[Sequence[Any]], vectors: bool) -> pa.RecordBatch:
        """Documents, from rows of a key and then places and values by turns.

        Raises:
            ConfigError: one has no vector.
        """
        ids = [self.name_of(row[0]) for row in rows]
        held = [dict(zip(map(bytes.decode, row[1::2]), row[2::2], strict=True)) for row in rows]
        texts = [" ".join(values[name].decode() for name in self.texts if values.get(name)) for values in held]
        if not vectors:
            return documents(ids, texts if self.texts else None, None)
        without = [name for name, values in zip(ids, held, strict=True) if self.place not in values]
        if without:
            raise ConfigError(
                f"{self.address} has {without[0]!r} without a vector in {self.place!r}; each document needs one. "
                "Add it, or have the index leave that document out."
            )
        matrix = np.array([np.frombuffer(values[self.place], self.dtype) for values in held])
        return documents(ids, texts if self.texts else None, matrix)


def _paired(values: Sequence[Any]) -> dict[str, Any]:
    """A dictionary of names and values by turns."""
    read = [value.decode() if isinstance(value, bytes) else value for value in values]
    return dict(zip(read[::2], read[1::2], strict=False))
