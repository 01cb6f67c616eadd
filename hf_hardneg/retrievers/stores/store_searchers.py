"""Searchers over document stores: by vectors, and by words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.base import Searcher
from hf_hardneg.retrievers.dense_searcher import DenseSearcher
from hf_hardneg.retrievers.stores.collection import Collection
from hf_hardneg.retrievers.stores.store_index import StoreIndex


class StoreSearcher(DenseSearcher):
    """Searches the vectors of a document store, under its name."""

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Searcher`."""
        return (self.index.factory,)


@dataclass(frozen=True)
class WordStoreSearcher(Searcher):
    """Searches the words of a document store, and scores chosen pairs where the store does."""

    index: StoreIndex
    name: ClassVar[str] = "words"
    score_kind: ClassVar[str] = "bm25"

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Searcher`."""
        return (self.index.factory,)

    @property
    def identity(self) -> str:
        """The store and its state."""
        return self.index.identity

    def search(self, queries: list[str], k: np.ndarray) -> Hits:
        """See `Searcher`."""
        return self.index.search(queries, k)

    @property
    def can_score(self) -> bool:
        """See `Searcher`."""
        return type(self.index.collection).score is not Collection.score

    def score(self, queries: list[str], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.index.score_words(queries, query, rows) if self.can_score else super().score(queries, query, rows)
