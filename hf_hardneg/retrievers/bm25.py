"""Retrieval by words."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

import numpy as np

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.base import Searcher, Sources
from hf_hardneg.runtime.arguments import AtLeastOne, check_fields


@dataclass(frozen=True)
class BM25:
    """Documents that share words with the query.

    Args:
        depth (`int`, defaults to 100): candidates for each query.
        config (`BM25Config`, *optional*): weights and text analysis.
    """

    depth: AtLeastOne = 100
    _: KW_ONLY
    config: BM25Config = field(default_factory=BM25Config)
    name: ClassVar[str] = "bm25"
    score_kind: ClassVar[str] = "bm25"

    def __post_init__(self) -> None:
        check_fields(self)

    def bind(self, sources: Sources) -> Searcher:
        """The BM25 searcher over a corpus."""
        return BM25Searcher(BM25Index(directory=build_bm25(sources.corpus, self.config), config=self.config))


@dataclass(frozen=True)
class BM25Searcher:
    """Searches a BM25 index."""

    index: BM25Index
    sources: ClassVar[tuple[str, ...]] = ("bm25",)
    score_kind: ClassVar[str] = "bm25"
    recall: ClassVar[None] = None

    @property
    def identity(self) -> str:
        """The index."""
        return self.index.directory.name

    def prepare(self, queries: Queries) -> list[str]:
        """The texts themselves."""
        return queries.texts

    def search(self, prepared: list[str], rows: np.ndarray, k: np.ndarray) -> Hits:
        """See `Searcher`."""
        return self.index.search([prepared[row] for row in rows], k)

    def score_positives(self, prepared: list[str], positives: PositiveList) -> np.ndarray:
        """See `Searcher`."""
        inside = positives.row >= 0
        scores = np.empty(len(positives.query), np.float32)
        scores[inside] = self.index.score_rows(prepared, positives.query[inside], positives.row[inside])
        texts = [text for text in positives.text if text is not None]
        if texts:
            scores[~inside] = self.index.score_texts(prepared, positives.query[~inside], texts)
        return scores

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> list[str]:
        """The texts of the positives."""
        return positives.texts(corpus)

    def score_rows(self, prepared: list[str], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.index.score_rows(prepared, query, rows)
