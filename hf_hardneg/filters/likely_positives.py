"""Filters of likely positives: what resembles a known positive, holds an answer, or ranks high in a second view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.filters.base import Filter
from hf_hardneg.retrievers import Retriever
from hf_hardneg.runtime.arguments import Checked, Name, Range, ShareAboveZero
from hf_hardneg.signals import (
    POOL,
    SMALLEST_POOL,
    AnswerMatch,
    Overlap,
    ParentMatch,
    PoolShare,
    PositiveSimilarity,
    QueryMatch,
    SecondScore,
    Signal,
)

Pool = Annotated[int, Range(least=SMALLEST_POOL)]


@dataclass(frozen=True)
class _InPool(Checked, Filter):
    """Keep candidates whose signal is not among the highest of the query's best candidates.

    Args:
        quantile (`float`, defaults to 0.7): of the pool, above which a candidate goes; a share of the query's own
            candidates, so it suits any model and collection. 1 keeps all.
        pool (`int`, defaults to 50): how many of the best candidates make the pool.
    """

    quantile: ShareAboveZero = 0.7
    pool: Pool = POOL
    signal: ClassVar[Signal]

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The share of the pool below each candidate."""
        return (PoolShare(self.signal, self.pool),)

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates below the quantile, and of the candidates of which nothing is known."""
        return ~(candidates.signals[self.signals[0].name] >= np.float32(self.quantile))

    def depth(self, num_negatives: int) -> int:
        """The pool, or ten times the request."""
        return max(self.pool, 10 * num_negatives)


@dataclass(frozen=True)
class TooSimilar(_InPool):
    """Remove what is most similar to a known positive, document to document: an unlabelled positive resembles it.

    Similarity is the retriever's own: between vectors, or BM25 with the positive as the query.
    """

    name: ClassVar[str] = "too_similar"
    signal: ClassVar[Signal] = PositiveSimilarity()


@dataclass(frozen=True)
class Disagreement(_InPool):
    """Remove what a second retriever ranks high too: an unlabelled positive is near in both views.

    The second view of a dense, sparse or hybrid strategy is BM25; that of BM25 is dense, and needs vectors.

    Args:
        view (`Retriever`, *optional*): another second view, such as `Sparse(encoder=...)`.
    """

    view: Retriever | None = None
    name: ClassVar[str] = "disagreement"

    def __post_init__(self) -> None:
        super().__post_init__()
        SecondScore(self.view)

    @property
    def signal(self) -> Signal:  # type: ignore[override]
        """The score in the second view."""
        return SecondScore(self.view)

    def fitted(self) -> Disagreement:
        """The same, the encoder of its view only named."""
        return self if self.view is None else replace(self, view=self.view.fitted())


@dataclass(frozen=True)
class _Absent(Checked, Filter):
    """Keep candidates for which a signal is 0."""

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates without it."""
        return ~(candidates.signals[self.signals[0].name] > 0)


@dataclass(frozen=True)
class NearQuery(_Absent):
    """Remove known positives of another query that has the same words."""

    name: ClassVar[str] = "near_query"
    signals: ClassVar[tuple[Signal, ...]] = (QueryMatch(),)


@dataclass(frozen=True)
class ContainsAnswer(_Absent):
    """Remove candidates that contain an answer of the row word for word, as DPR does (arXiv 2004.04906).

    `columns={"answer": ...}` names the answers and adds this filter.
    """

    name: ClassVar[str] = "contains_answer"
    signals: ClassVar[tuple[Signal, ...]] = (AnswerMatch(),)
    strict: ClassVar[bool] = True


@dataclass(frozen=True)
class SameParent(_Absent):
    """Remove candidates that are part of the same larger document as a known positive.

    Args:
        column (`str`): of the corpus, what names the larger document. `columns={"parent": ...}` adds this filter.
    """

    column: Name = "parent_id"
    name: ClassVar[str] = "same_parent"
    strict: ClassVar[bool] = True

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Whether it is."""
        return (ParentMatch(self.column),)


@dataclass(frozen=True)
class NearDuplicate(Checked, Filter):
    """Remove near-copies of a known positive: Jaccard similarity of their word 3-grams (Broder 1997).

    Args:
        threshold (`float`, defaults to 0.8): similarity from which a candidate goes, above 0 and up to 1.
    """

    threshold: ShareAboveZero = 0.8
    name: ClassVar[str] = "near_duplicate"
    signals: ClassVar[tuple[Signal, ...]] = (Overlap(),)

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates below the threshold."""
        return candidates.signals[Overlap.name] < self.threshold
