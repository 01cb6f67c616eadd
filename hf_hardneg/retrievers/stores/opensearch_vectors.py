"""Vectors in OpenSearch and Elasticsearch: how they are asked for, and how scores are read back.

Both turn similarities into positive scores, each in its own ways; exact scores are asked for by a script whose formula
is known, and scores of approximate search are not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from hf_hardneg.errors import ConfigError

Similarity = Literal["cosine", "dot", "l2"]
SPACES: dict[str, dict[str, Similarity]] = {
    "dense_vector": {"cosine": "cosine", "dot_product": "dot", "max_inner_product": "dot", "l2_norm": "l2"},
    "knn_vector": {"cosinesimil": "cosine", "innerproduct": "dot", "l2": "l2"},
}
"""By the type of the field, Elasticsearch's or OpenSearch's, what their similarities are here."""
SCRIPTS: dict[Similarity, str] = {
    "cosine": "cosineSimilarity(params.query_value, params.field) + 1.0",
    "dot": "double d = dotProduct(params.query_value, params.field); return d < 0 ? 1 / (1 - d) : d + 1;",
    "l2": "double d = l2norm(params.query_value, params.field); return 1 / (1 + d * d);",
}
"""Of Elasticsearch, with the formulas that OpenSearch's `knn_score` has."""


class VectorField(NamedTuple):
    """A field of vectors: name, type, space there and here, width of its vectors, and how its index is built."""

    name: str
    kind: str
    space: str
    similarity: Similarity
    width: int
    built: str

    @classmethod
    def of(cls, where: str, name: str, properties: Mapping[str, Any]) -> VectorField:
        """The field of that name.

        Args:
            where (`str`): what errors call the index.
            name (`str`): as the user called it.
            properties (`Mapping`): the fields of the index.

        Raises:
            ConfigError: there is no such field of vectors, or its similarity cannot be used.
        """
        field = properties.get(name, {})
        kind = field.get("type", "")
        if kind not in SPACES:
            known = [other for other, told in properties.items() if told.get("type") in SPACES]
            raise ConfigError(
                f"{where} has the fields of vectors {', '.join(known) or 'none'}, and vector={name!r} was given; the "
                "name of one of them is allowed. Give it, or leave vector= out to search words."
            )
        method = field.get("method", {})
        usual = "l2" if kind == "knn_vector" else "cosine"
        space = field.get("similarity") or method.get("space_type") or field.get("space_type") or usual
        if space not in SPACES[kind] or field.get("element_type", field.get("data_type", "float")) != "float":
            raise ConfigError(
                f"{where} keeps {field.get('element_type', field.get('data_type', 'float'))} vectors with the "
                f"similarity {space} in {name!r}; float with {', '.join(SPACES[kind])} is allowed. Use such a field."
            )
        width, built = int(field.get("dims") or field["dimension"]), json.dumps(field, sort_keys=True)
        return cls(name, kind, space, SPACES[kind][space], width, built)

    def exact(self, query: Sequence[float], among: Sequence[str] | None = None) -> dict[str, Any]:
        """The query whose scores `similarities` reads: of all documents, or among some ids."""
        chosen = {"exists": {"field": self.name}} if among is None else {"ids": {"values": list(among)}}
        params: dict[str, Any] = {"field": self.name, "query_value": query}
        if self.kind == "knn_vector":
            script = {"lang": "knn", "source": "knn_score", "params": {**params, "space_type": self.space}}
        else:
            script = {"source": SCRIPTS[self.similarity], "params": params}
        return {"query": {"script_score": {"query": chosen, "script": script}}}

    def nearest(self, query: Sequence[float], k: int, effort: int) -> dict[str, Any]:
        """The approximate query for the `k` nearest."""
        if self.kind == "dense_vector":
            return {"knn": {"field": self.name, "query_vector": query, "k": k, "num_candidates": max(effort, k)}}
        asked = {"vector": query, "k": k, "method_parameters": {"ef_search": max(effort, k)}}
        return {"query": {"knn": {self.name: asked}}}

    def similarities(self, scores: np.ndarray) -> np.ndarray:
        """What the scores (n,) of `exact` stand for, (n,) float32."""
        raw = scores.astype(np.float64)
        if self.similarity == "cosine":
            return (raw - 1).astype(np.float32)
        if self.similarity == "l2":
            return (1 - 1 / raw).astype(np.float32)
        return np.where(raw < 1, 1 - 1 / raw, raw - 1).astype(np.float32)


def properties_of(indices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The fields that several indices have."""
    return {name: field for told in indices for name, field in told["mappings"].get("properties", {}).items()}
