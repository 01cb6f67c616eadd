"""BM25 as a `datasets` index: `corpus.search("bm25", text, k)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets.search import BaseIndex, BatchedSearchResults, SearchResults  # noqa: TID253

from hf_hardneg.index.bm25.bm25_index import BM25Index


class BM25Search(BaseIndex):  # type: ignore[misc]
    """Adapter from a BM25 index to the search contract of `datasets`.

    Args:
        index (`BM25Index`): the index.
    """

    def __init__(self, index: BM25Index) -> None:
        self.index = index

    def search(self, query: str, k: int = 10, **_: Any) -> SearchResults:
        """Scores and rows of the `k` best documents that share a term with the query, best first."""
        hits = self.index.search([query], np.array([k]))
        return SearchResults(hits.score.tolist(), hits.doc.tolist())

    def search_batch(self, queries: Sequence[str], k: int = 10, **_: Any) -> BatchedSearchResults:
        """`search` for many queries at once."""
        hits = self.index.search(list(queries), np.full(len(queries), k))
        ends = np.searchsorted(hits.query, np.arange(1, len(queries)))
        return BatchedSearchResults(
            [part.tolist() for part in np.split(hits.score, ends)], [part.tolist() for part in np.split(hits.doc, ends)]
        )
