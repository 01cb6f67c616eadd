"""Similarities of vectors; larger is nearer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_hardneg.errors import unknown_name

Similarity = Literal["cosine", "dot"]
SIMILARITIES: tuple[Similarity, ...] = ("cosine", "dot")


def all_scores(queries: Tensor, documents: Tensor, similarity: Similarity) -> Tensor:
    """Compare every query with every document, (B, n).

    Args:
        queries (`Tensor`): (B, d).
        documents (`Tensor`): (n, d).
        similarity (`str`): `"cosine"` or `"dot"`.
    """
    with torch.autocast(queries.device.type, enabled=False):
        query, document = _prepared(queries, documents, similarity)
        return query @ document.T


def own_scores(queries: Tensor, documents: Tensor, similarity: Similarity) -> Tensor:
    """Compare every query with its own documents, (B, m).

    Args:
        queries (`Tensor`): (B, d).
        documents (`Tensor`): (B, m, d).
        similarity (`str`): `"cosine"` or `"dot"`.
    """
    with torch.autocast(queries.device.type, enabled=False):
        query, document = _prepared(queries, documents, similarity)
        return (document @ query.unsqueeze(-1)).squeeze(-1)


def at_least_single(vectors: Tensor) -> Tensor:
    """Return vectors in float32 or finer: a cosine over a temperature of 0.05 has no room in 16 bits."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))


def _prepared(queries: Tensor, documents: Tensor, similarity: Similarity) -> tuple[Tensor, Tensor]:
    """Return both in the finer of their types, and of unit length where directions are compared."""
    if similarity not in SIMILARITIES:
        raise unknown_name("similarity", similarity, SIMILARITIES)
    kind = torch.promote_types(at_least_single(queries).dtype, documents.dtype)
    query, document = queries.to(kind), documents.to(kind)
    return (F.normalize(query, dim=-1), F.normalize(document, dim=-1)) if similarity == "cosine" else (query, document)
