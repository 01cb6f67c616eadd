"""Filters by rank and score: a window of ranks, and scores compared with the positive's or with fixed bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Basis, Candidates
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.filters.base import Filter
from hf_hardneg.runtime.arguments import AboveZero, AtLeastOne, AtLeastZero, Checked, Share, check_fields


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
        rank = candidates.ranks(self.basis)
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
class RelativeMargin(Checked, Filter):
    """Remove a candidate if `s > s+ - |s+| * margin` (TopK-PercPos of NV-Retriever, arXiv 2407.15831).

    With `|s+|` rather than `s+` the threshold moves down for negative scores too.

    Args:
        margin (`float`, defaults to 0.05): 0 to 1; 0.05 keeps what scores at most 95 % of the positive.
    """

    margin: Share = 0.05
    name: ClassVar[str] = "relative_margin"
    needs_positive: ClassVar[bool] = True

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
        bounds = [bound for bound in (low, high) if bound is not None]
        if not bounds or not bounds[0] <= bounds[-1]:
            raise ConfigError(f"ScoreBounds(min_score={low}, max_score={high}) bounds nothing; give min below max.")

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates inside the bounds."""
        low = -np.inf if self.min_score is None else self.min_score
        high = np.inf if self.max_score is None else self.max_score
        return (candidates.score >= low) & (candidates.score <= high)


@dataclass(frozen=True)
class SemiHard(Checked, Filter):
    """Keep only `s+ - margin < s < s+`: below the positive, yet within the margin (FaceNet, arXiv 1503.03832).

    The opposite of `AbsoluteMargin`, which removes exactly this band. FaceNet's margin of 0.2 on squared distances is
    0.1 in cosine.

    Args:
        margin (`float`, defaults to 0.1): width of the band.
    """

    margin: AboveZero = 0.1
    name: ClassVar[str] = "semi_hard"
    needs_positive: ClassVar[bool] = True

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates inside the band."""
        positive = candidates.anchor()
        return (positive - self.margin < candidates.score) & (candidates.score < positive)

    def depth(self, num_negatives: int) -> int:
        """200: the band may lie deep."""
        return max(200, 10 * num_negatives)
