"""Retrievers: where candidates come from. A retriever is a configuration; bound to a corpus it is a searcher.

To add one, write both in a module of its name and list the configuration in `RETRIEVERS`.
"""

from __future__ import annotations

from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources, bound, check_retrievers, rows_of, vector_part
from hf_hardneg.retrievers.bm25 import BM25, BM25Searcher
from hf_hardneg.retrievers.dense import Dense
from hf_hardneg.retrievers.dense_searcher import DenseSearcher, dense_index, dense_part
from hf_hardneg.retrievers.hybrid import Hybrid, HybridSearcher, fused
from hf_hardneg.retrievers.late_interaction import LateInteraction, LateInteractionSearcher
from hf_hardneg.retrievers.random import Random, RandomSearcher
from hf_hardneg.retrievers.reranked import Reranked, RerankedSearcher
from hf_hardneg.retrievers.sparse import Sparse, SparseSearcher

__all__ = [
    "BM25",
    "BM25Searcher",
    "Dense",
    "DenseSearcher",
    "Hits",
    "Hybrid",
    "HybridSearcher",
    "LateInteraction",
    "LateInteractionSearcher",
    "RETRIEVERS",
    "Random",
    "RandomSearcher",
    "Reranked",
    "RerankedSearcher",
    "Retriever",
    "Searcher",
    "Sources",
    "Sparse",
    "SparseSearcher",
    "bound",
    "check_retrievers",
    "dense_index",
    "dense_part",
    "fused",
    "rows_of",
    "vector_part",
]

RETRIEVERS: dict[str, type[Retriever]] = {
    "bm25": BM25,
    "dense": Dense,
    "sparse": Sparse,
    "late_interaction": LateInteraction,
    "random": Random,
    "hybrid": Hybrid,
    "reranked": Reranked,
}
"""Every retriever by its name."""
