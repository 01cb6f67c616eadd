"""Retrieval by words."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

import numpy as np

from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
from hf_hardneg.index.bm25.partitioned_index import PartitionedBM25, build_bm25_parts
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources
from hf_hardneg.retrievers.stores.attached import attached_words
from hf_hardneg.retrievers.stores.store_opening import opened_store
from hf_hardneg.retrievers.stores.store_searchers import WordStoreSearcher
from hf_hardneg.runtime.arguments import AtLeastOne, Checked, IndexParts


@dataclass(frozen=True)
class BM25(Checked, Retriever):
    """Documents that share words with the query.

    Args:
        depth (`int`, defaults to 100): candidates for each query.
        config (`BM25Config`, *optional*): weights and text analysis.
        index_parts (`int`, defaults to 1): in how many parts the index is built and searched, one after the other, so
            that memory holds one of them; the hits are the same.
    """

    depth: AtLeastOne = 100
    _: KW_ONLY
    config: BM25Config = field(default_factory=BM25Config)
    index_parts: IndexParts = 1
    name: ClassVar[str] = "bm25"
    score_kind: ClassVar[str] = "bm25"
    can_score: ClassVar[bool] = True

    def bind(self, sources: Sources) -> Searcher:
        """The BM25 searcher over a corpus, or what searches the index of Elasticsearch that `index=` names."""
        attached = attached_words(sources.dataset, sources.index)
        if attached is not None:
            return WordStoreSearcher(opened_store(attached, sources.corpus, by_row=True))
        if self.index_parts > 1:
            return BM25Searcher(build_bm25_parts(sources.corpus, self.config, self.index_parts))
        return BM25Searcher(BM25Index(directory=build_bm25(sources.corpus, self.config), config=self.config))


@dataclass(frozen=True)
class BM25Searcher(Searcher):
    """Searches a BM25 index."""

    index: BM25Index | PartitionedBM25
    name: ClassVar[str] = "bm25"
    score_kind: ClassVar[str] = "bm25"

    @property
    def identity(self) -> str:
        """The index."""
        return self.index.identity

    def search(self, queries: list[str], k: np.ndarray) -> Hits:
        """See `Searcher`."""
        return self.index.search(queries, k)

    def score(self, queries: list[str], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.index.score_rows(queries, query, rows)

    def score_texts(self, queries: list[str], query: np.ndarray, texts: list[str]) -> np.ndarray:
        """See `Searcher`."""
        return self.index.score_texts(queries, query, texts)
