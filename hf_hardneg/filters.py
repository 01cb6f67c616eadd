"""Filters: which candidates may stay. Each is a frozen dataclass with one method, `keep`.

To add one, write the class here and list it in `FILTERS`; the contract tests run over that table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.errors import ConfigError, unknown_name

Basis = Literal["no_positives", "raw", "survivors"]
BASES: tuple[Basis, ...] = ("no_positives", "raw", "survivors")


class Filter(Protocol):
    """What mining asks of a filter."""

    name: ClassVar[str]
    needs_positive: ClassVar[bool]

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Boolean mask (n,) of the candidates that stay."""

    def depth(self, num_negatives: int) -> int:
        """How many candidates retrieval should bring so that `num_negatives` are likely to stay."""


def rank_by(candidates: Candidates, basis: Basis) -> np.ndarray:
    """Rank of each candidate, 0 first, (n,): among all hits, those outside the exclusion set, or those still there."""
    ranks = {"raw": candidates.rank, "no_positives": candidates.position}
    return ranks[basis] if basis in ranks else candidates.survivor_position()


def check_basis(basis: str) -> None:
    """Raise for a rank basis that does not exist.

    Raises:
        UnknownNameError: naming those that do.
    """
    if basis not in BASES:
        raise unknown_name("rank basis", basis, BASES)


@dataclass(frozen=True)
class RankWindow:
    """Keep candidates whose rank lies in `[first, last)`.

    Args:
        first (`int`, defaults to 0): ranks before it are skipped.
        last (`int`, *optional*): first rank that is too deep.
        basis (`str`, defaults to `"no_positives"`): ranks among the hits outside the exclusion set; `"raw"` counts
            positives too, as FlagEmbedding does; `"survivors"` counts what earlier filters left, as
            sentence-transformers does. Windows neither commute with score filters nor are they idempotent.
    """

    first: int = 0
    last: int | None = None
    basis: Basis = "no_positives"
    name: ClassVar[str] = "rank_window"
    needs_positive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_basis(self.basis)
        if self.first < 0 or (self.last is not None and self.last <= self.first):
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
class AbsoluteMargin:
    """Remove a candidate if `s + margin > s+`: it must score clearly below the positive (TopK-MarginPos).

    Args:
        margin (`float`, defaults to 0.05): negative values allow candidates above the positive. arXiv 2407.15831.
    """

    margin: float = 0.05
    name: ClassVar[str] = "absolute_margin"
    needs_positive: ClassVar[bool] = True

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates below the margin."""
        return ~(candidates.score + self.margin > candidates.anchor())

    def depth(self, num_negatives: int) -> int:
        """Ten times the request."""
        return 10 * num_negatives


@dataclass(frozen=True)
class RelativeMargin:
    """Remove a candidate if `s > s+ - |s+| * margin` (TopK-PercPos of NV-Retriever, arXiv 2407.15831).

    With `|s+|` rather than `s+` the threshold moves down for negative scores too.

    Args:
        margin (`float`, defaults to 0.05): 0 to 1; 0.05 keeps what scores at most 95 % of the positive.
    """

    margin: float = 0.05
    name: ClassVar[str] = "relative_margin"
    needs_positive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 1:
            raise ConfigError(
                f"RelativeMargin({self.margin}) is a fraction of the positive's score; give 0 to 1, such as 0.05."
            )

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates below the margin."""
        positive = candidates.anchor()
        return ~(candidates.score > positive - np.abs(positive) * self.margin)

    def depth(self, num_negatives: int) -> int:
        """Ten times the request."""
        return 10 * num_negatives


@dataclass(frozen=True)
class ScoreBounds:
    """Keep candidates with `min_score <= s <= max_score`.

    Args:
        min_score, max_score (`float`, *optional*): in the units of the retriever's score.
    """

    min_score: float | None = None
    max_score: float | None = None
    name: ClassVar[str] = "score_bounds"
    needs_positive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        low, high = self.min_score, self.max_score
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise ConfigError(f"ScoreBounds(min_score={low}, max_score={high}) bounds nothing; give min below max.")

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates inside the bounds."""
        low = -np.inf if self.min_score is None else self.min_score
        high = np.inf if self.max_score is None else self.max_score
        return (candidates.score >= low) & (candidates.score <= high)

    def depth(self, num_negatives: int) -> int:
        """Ten times the request."""
        return 10 * num_negatives


@dataclass(frozen=True)
class SemiHard:
    """Keep only `s+ - margin < s < s+`: below the positive, yet within the margin (FaceNet, arXiv 1503.03832).

    The opposite of `AbsoluteMargin`, which removes exactly this band. FaceNet's margin of 0.2 on squared distances is
    0.1 in cosine.

    Args:
        margin (`float`, defaults to 0.1): width of the band.
    """

    margin: float = 0.1
    name: ClassVar[str] = "semi_hard"
    needs_positive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.margin <= 0:
            raise ConfigError(f"SemiHard({self.margin}) is an empty band; give a margin above 0, such as 0.1.")

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates inside the band."""
        positive = candidates.anchor()
        return (positive - self.margin < candidates.score) & (candidates.score < positive)

    def depth(self, num_negatives: int) -> int:
        """200: the band may lie deep."""
        return max(200, 10 * num_negatives)


FILTERS: dict[str, type[Filter]] = {
    "rank_window": RankWindow,
    "absolute_margin": AbsoluteMargin,
    "relative_margin": RelativeMargin,
    "score_bounds": ScoreBounds,
    "semi_hard": SemiHard,
}
"""Every filter by its name."""
