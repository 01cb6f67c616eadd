"""The table that flows between the stages of mining."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Retrieved documents of a batch of queries, as one flat table sorted by (query, raw rank).

    Args:
        queries (`int`): number of queries in the batch.
        query (`np.ndarray`): (n,) int64, position of the query in the batch, ascending.
        doc (`np.ndarray`): (n,) int64, row of the document in the corpus.
        score (`np.ndarray`): (n,) float64, exact upcast of the stored float32. Higher is better.
        rank (`np.ndarray`): (n,) int32, position among all raw hits, 0 first, never renumbered.
        position (`np.ndarray`): (n,) int32, position among the hits outside the exclusion set.
        positive (`np.ndarray`): (queries,) float64, the query's anchor score; NaN where there is none.
        positive_rank (`np.ndarray`): (queries,) int32, best raw rank of a known positive; -1 where none was retrieved.
        score_kind (`str`): `"cosine"`, `"dot"`, `"bm25"` or `"none"`.
        source (`str`): the retriever's name.
    """

    queries: int
    query: np.ndarray
    doc: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    position: np.ndarray
    positive: np.ndarray
    positive_rank: np.ndarray
    score_kind: str
    source: str

    def __len__(self) -> int:
        return len(self.doc)

    def take(self, keep: np.ndarray) -> Candidates:
        """The candidates under a boolean mask or at ascending positions; the order is kept."""
        fields = {name: getattr(self, name)[keep] for name in ("query", "doc", "score", "rank", "position")}
        return replace(self, **fields)

    def counts(self) -> np.ndarray:
        """Candidates per query, (queries,) int64."""
        return np.bincount(self.query, minlength=self.queries)

    def offsets(self) -> np.ndarray:
        """Where each query's candidates begin and end, (queries + 1,) int64."""
        return np.concatenate([[0], np.cumsum(self.counts())])

    def anchor(self) -> np.ndarray:
        """The positive score each candidate is compared with, (n,) float64."""
        return self.positive[self.query]

    def survivor_position(self) -> np.ndarray:
        """Position of each candidate among those still in the table for its query, (n,) int64."""
        return np.arange(len(self)) - self.offsets()[self.query]
