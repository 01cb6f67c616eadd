"""Filters: which candidates may stay. Each is a frozen dataclass with one method, `keep`.

To add one, write the class here and list it in `FILTERS`; the contract tests run over that table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.models.scorers import PairScorer
from hf_hardneg.retrievers import Sources
from hf_hardneg.runtime.arguments import (
    AboveZero,
    AtLeastOne,
    AtLeastZero,
    Name,
    Range,
    Share,
    ShareAboveZero,
    check_fields,
)
from hf_hardneg.signals import (
    POOL,
    SMALLEST_POOL,
    ContainsAnswer,
    NearQuery,
    Overlap,
    PoolShare,
    PositiveSimilarity,
    SameParent,
    SecondScore,
    Signal,
)

Basis = Literal["no_positives", "raw", "survivors"]
Pool = Annotated[int, Range(least=SMALLEST_POOL)]


class Filter(Protocol):
    """What mining asks of a filter; subclasses inherit all but `name` and `keep`."""

    name: ClassVar[str]
    needs_positive: ClassVar[bool] = False
    strict: ClassVar[bool] = False
    """Whether what it removes may not come back as padding either; it then reads `Candidates.signals` alone."""

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What `keep` reads of `Candidates.signals`."""
        return ()

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Boolean mask (n,) of the candidates that stay."""
        raise NotImplementedError

    def depth(self, num_negatives: int) -> int:
        """How many candidates retrieval should bring so that `num_negatives` are likely to stay: ten times as many."""
        return 10 * num_negatives


@runtime_checkable
class ScoringFilter(Filter, Protocol):
    """A filter by scores that are too dear to be computed for all candidates.

    The rescoring step computes them, for the candidates that the filters before it leave and for the positives; `keep`
    finds them in `Candidates.signals` under `name`, NaN where nothing was scored, and the lowest score of the row's
    positives under `of_positive(name)`.
    """

    @property
    def scored_depth(self) -> int:
        """How many of the candidates that are left may be scored, best first."""

    @property
    def exhaustive(self) -> bool:
        """Whether candidates are scored to the full depth even where enough have passed."""
        return False

    @property
    def compares(self) -> bool:
        """Whether a candidate is compared with the `scored_depth` best of its query.

        Then all of those are scored, also what filters before have removed, and `keep` finds the share of them that
        score lower in `Candidates.signals` under `share_of(name)`.
        """
        return False

    @property
    def promotes(self) -> bool:
        """Whether candidates come out as pseudo-positives; then `exhaustive` too."""
        return False

    def bind(self, sources: Sources) -> PairScorer:
        """What scores (query, document) pairs."""

    def fitted(self, scorer: PairScorer) -> ScoringFilter:
        """The filter for scores of that kind."""
        return self

    def promoted(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates that come out as pseudo-positives, where it `promotes`."""
        return np.zeros(len(candidates), bool)


def of_positive(name: str) -> str:
    """Under which key candidates carry the lowest score of their row's positives by a scoring filter."""
    return f"{name}:positive"


def share_of(name: str) -> str:
    """Under which key candidates carry the share of their query's best that a scoring filter gives a lower score."""
    return f"{name}:share"


def rank_by(candidates: Candidates, basis: Basis) -> np.ndarray:
    """Rank of each candidate, 0 first, (n,): among all hits, those outside the exclusion set, or those still there."""
    ranks = {"raw": candidates.rank, "no_positives": candidates.position}
    return ranks[basis] if basis in ranks else candidates.survivor_position()


@dataclass(frozen=True)
class RankWindow(Filter):
    """Keep candidates whose rank lies in `[first, last)`.

    Args:
        first (`int`, defaults to 0): ranks before it are skipped.
        last (`int`, *optional*): first rank that is too deep.
        basis (`str`, defaults to `"no_positives"`): ranks among the hits outside the exclusion set; `"raw"` counts
            positives too, as FlagEmbedding does; `"survivors"` counts what earlier filters left, as
            sentence-transformers does. Windows neither commute with score filters nor are they idempotent.
    """

    first: AtLeastZero = 0
    last: AtLeastOne | None = None
    basis: Basis = "no_positives"
    name: ClassVar[str] = "rank_window"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.last is not None and self.last <= self.first:
            raise ConfigError(
                f"RankWindow(first={self.first}, last={self.last}) keeps nothing; give 0 <= first and last above first."
            )

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates inside the window."""
        rank = rank_by(candidates, self.basis)
        return (rank >= self.first) & (rank < (np.inf if self.last is None else self.last))

    def depth(self, num_negatives: int) -> int:
        """The window's end, or ten times the request beyond its start."""
        return self.last or self.first + 10 * num_negatives


@dataclass(frozen=True)
class AbsoluteMargin(Filter):
    """Remove a candidate if `s + margin > s+`: it must score clearly below the positive (TopK-MarginPos).

    Args:
        margin (`float`, defaults to 0.05): negative values allow candidates above the positive, with a warning.
            arXiv 2407.15831.
    """

    margin: float = 0.05
    name: ClassVar[str] = "absolute_margin"
    needs_positive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.margin < 0:
            warn(
                f"AbsoluteMargin({self.margin}) lets candidates through that score above the positive. "
                "Give a margin of 0 or more unless you want those."
            )

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates below the margin."""
        return ~(candidates.score + self.margin > candidates.anchor())


@dataclass(frozen=True)
class RelativeMargin(Filter):
    """Remove a candidate if `s > s+ - |s+| * margin` (TopK-PercPos of NV-Retriever, arXiv 2407.15831).

    With `|s+|` rather than `s+` the threshold moves down for negative scores too.

    Args:
        margin (`float`, defaults to 0.05): 0 to 1; 0.05 keeps what scores at most 95 % of the positive.
    """

    margin: Share = 0.05
    name: ClassVar[str] = "relative_margin"
    needs_positive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates below the margin."""
        positive = candidates.anchor()
        return ~(candidates.score > positive - np.abs(positive) * self.margin)


@dataclass(frozen=True)
class ScoreBounds(Filter):
    """Keep candidates with `min_score <= s <= max_score`.

    Args:
        min_score, max_score (`float`, *optional*): in the units of the retriever's score.
    """

    min_score: float | None = None
    max_score: float | None = None
    name: ClassVar[str] = "score_bounds"

    def __post_init__(self) -> None:
        check_fields(self)
        low, high = self.min_score, self.max_score
        given = [bound for bound in (low, high) if bound is not None]
        if not given or not given[0] <= given[-1]:
            raise ConfigError(f"ScoreBounds(min_score={low}, max_score={high}) bounds nothing; give min below max.")

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates inside the bounds."""
        low = -np.inf if self.min_score is None else self.min_score
        high = np.inf if self.max_score is None else self.max_score
        return (candidates.score >= low) & (candidates.score <= high)


@dataclass(frozen=True)
class SemiHard(Filter):
    """Keep only `s+ - margin < s < s+`: below the positive, yet within the margin (FaceNet, arXiv 1503.03832).

    The opposite of `AbsoluteMargin`, which removes exactly this band. FaceNet's margin of 0.2 on squared distances is
    0.1 in cosine.

    Args:
        margin (`float`, defaults to 0.1): width of the band.
    """

    margin: AboveZero = 0.1
    name: ClassVar[str] = "semi_hard"
    needs_positive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates inside the band."""
        positive = candidates.anchor()
        return (positive - self.margin < candidates.score) & (candidates.score < positive)

    def depth(self, num_negatives: int) -> int:
        """200: the band may lie deep."""
        return max(200, 10 * num_negatives)


@dataclass(frozen=True)
class _InPool(Filter):
    """Keep candidates whose signal is not among the highest of the query's best candidates.

    Args:
        quantile (`float`, defaults to 0.7): of the pool, above which a candidate goes; a share of the query's own
            candidates, so it suits any model and collection. 1 keeps all.
        pool (`int`, defaults to 50): how many of the best candidates make the pool.
    """

    quantile: ShareAboveZero = 0.7
    pool: Pool = POOL
    signal: ClassVar[Signal]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The share of the pool below each candidate."""
        return (PoolShare(self.signal, self.pool),)

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates below the quantile, and of those of which nothing is known."""
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

    The second view of a dense or hybrid strategy is BM25; that of BM25 is dense, and needs vectors.
    """

    name: ClassVar[str] = "disagreement"
    signal: ClassVar[Signal] = SecondScore()


@dataclass(frozen=True)
class _Absent(Filter):
    """Keep candidates for which a signal is 0."""

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates without it."""
        return ~(candidates.signals[self.signals[0].name] > 0)


@dataclass(frozen=True)
class NearQueryPositive(_Absent):
    """Remove known positives of another query that has the same words."""

    name: ClassVar[str] = "near_query"

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Whether it is one."""
        return (NearQuery(),)


@dataclass(frozen=True)
class AnswerOverlap(_Absent):
    """Remove candidates that contain an answer of the row word for word, as DPR does (arXiv 2004.04906).

    `answer_column=` names the answers and adds this filter.
    """

    name: ClassVar[str] = "contains_answer"
    strict: ClassVar[bool] = True

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Whether it does."""
        return (ContainsAnswer(),)


@dataclass(frozen=True)
class OtherParent(_Absent):
    """Remove candidates that are part of the same larger document as a known positive.

    Args:
        column (`str`): of the corpus, what names the larger document. `parent_column=` adds this filter.
    """

    column: Name = "parent_id"
    name: ClassVar[str] = "same_parent"
    strict: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Whether it is."""
        return (SameParent(self.column),)


@dataclass(frozen=True)
class NearDuplicate(Filter):
    """Remove near-copies of a known positive: Jaccard similarity of their word 3-grams (Broder 1997).

    Args:
        threshold (`float`, defaults to 0.8): similarity from which a candidate goes, above 0 and up to 1.
    """

    threshold: ShareAboveZero = 0.8
    name: ClassVar[str] = "near_duplicate"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The similarity."""
        return (Overlap(),)

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates below the threshold."""
        return candidates.signals[Overlap.name] < self.threshold


FILTERS: dict[str, type[Filter]] = {
    "rank_window": RankWindow,
    "absolute_margin": AbsoluteMargin,
    "relative_margin": RelativeMargin,
    "score_bounds": ScoreBounds,
    "semi_hard": SemiHard,
    "too_similar": TooSimilar,
    "disagreement": Disagreement,
    "near_query": NearQueryPositive,
    "near_duplicate": NearDuplicate,
    "contains_answer": AnswerOverlap,
    "same_parent": OtherParent,
}
"""Every filter by its name."""
