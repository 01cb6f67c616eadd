"""Similarities of vectors; larger is nearer."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from hf_hardneg.errors import unknown_name

Similarity = Literal["cosine", "dot"]
SIMILARITIES: tuple[Similarity, ...] = ("cosine", "dot")


def all_scores(queries: Tensor, documents: Tensor, similarity: Similarity) -> Tensor:
    """Every query with every document, (B, n).

    Args:
        queries (`Tensor`): (B, d).
        documents (`Tensor`): (n, d).
        similarity (`str`): `"cosine"` or `"dot"`.
    """
    return _prepared(queries, similarity) @ _prepared(documents, similarity).T


def own_scores(queries: Tensor, documents: Tensor, similarity: Similarity) -> Tensor:
    """Every query with its own documents, (B, m).

    Args:
        queries (`Tensor`): (B, d).
        documents (`Tensor`): (B, m, d).
        similarity (`str`): `"cosine"` or `"dot"`.
    """
    return (_prepared(documents, similarity) @ _prepared(queries, similarity).unsqueeze(-1)).squeeze(-1)


def _prepared(vectors: Tensor, similarity: Similarity) -> Tensor:
    if similarity not in SIMILARITIES:
        raise unknown_name("similarity", similarity, SIMILARITIES)
    return F.normalize(vectors, dim=-1) if similarity == "cosine" else vectors
