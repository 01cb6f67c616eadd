"""Compare negatives with the positive of their query, in one way for reports, audits, cards and metrics.

A negative is compared with the best-scored positive of its query; a pair without a finite score on either side is left
out of every figure. The relative margin is `(s+ - s) / |s+|`, in which 0.05 is 95 % of a positive score above 0.

High scores are no evidence of unlabelled positives. `benchmarks/hardness.py` hides known positives: of Cranfield's
negatives by `dense` that score above their positive 4 % are hidden positives, of the others 3 %; by `bm25` 12 and 6 %,
and without safeguards 25 to 29 % of either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

HARD, EASY = 0.05, 0.5
"""Relative margins below which a negative is hard (NV-Retriever, arXiv 2407.15831), and from which it is easy."""
EDGES = (-np.inf, -0.2, -0.1, 0.0, HARD, 0.1, 0.2, 0.3, 0.4, EASY, 0.6, 0.8, 1.0, np.inf)
"""Edges of the histogram of relative margins; a bin takes its lower edge, not its upper one."""


class Comparison(NamedTuple):
    """Negatives compared with the best-scored positive of their row, where both have a score.

    Args:
        row (`np.ndarray`): (n,) int64, ascending.
        place (`np.ndarray`): (n,) int64, which of all negatives it is.
        margin (`np.ndarray`): (n,) float64, the positive's score minus the negative's.
        relative (`np.ndarray`): (n,) float64, the same in parts of the positive's absolute score.
    """

    row: np.ndarray
    place: np.ndarray
    margin: np.ndarray
    relative: np.ndarray


def best_scores(rows: int, row: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Find the highest finite score of each row, (rows,) float64; NaN where it has none.

    Args:
        rows (`int`): how many there are.
        row (`np.ndarray`): (n,) int64, of each score.
        scores (`np.ndarray`): (n,) float64.
    """
    best = np.full(rows, np.nan)
    finite = np.isfinite(scores)
    np.fmax.at(best, row[finite], scores[finite])
    return best


def compare(best: np.ndarray, row: np.ndarray, scores: np.ndarray) -> Comparison:
    """Compare the negatives that have a finite score with the best positive of their row, where that has one.

    No margin is a part of a positive score of 0: a negative above it has the relative margin `-inf`, one below it
    `inf`, and one that scores 0 too has 0.

    Args:
        best (`np.ndarray`): (rows,) float64, see `best_scores`.
        row (`np.ndarray`): (n,) int64, of each negative.
        scores (`np.ndarray`): (n,) float64, of each negative.
    """
    place = np.flatnonzero(np.isfinite(best[row]) & np.isfinite(scores))
    row, scores = row[place], scores[place]
    margin, size = best[row] - scores, np.abs(best[row])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        relative = np.where(margin == 0, 0.0, margin / size)
    return Comparison(row, place, margin, relative)


@dataclass(frozen=True)
class HardnessHistogram:
    """A histogram of relative margins, and the shares that follow from it; without negatives they are NaN.

    Args:
        counts (`tuple[int, ...]`): negatives in each bin of `EDGES`.
    """

    counts: tuple[int, ...] = (0,) * (len(EDGES) - 1)

    @classmethod
    def of(cls, relative: np.ndarray) -> HardnessHistogram:
        """Count relative margins, (n,)."""
        bins = np.minimum(np.searchsorted(EDGES, relative, side="right"), len(EDGES) - 1) - 1
        return cls(tuple(np.bincount(bins, minlength=len(EDGES) - 1).tolist()))

    def __add__(self, other: HardnessHistogram) -> HardnessHistogram:
        return HardnessHistogram(tuple(map(sum, zip(self.counts, other.counts, strict=True))))

    @property
    def compared(self) -> int:
        """How many negatives are counted."""
        return sum(self.counts)

    @property
    def histogram(self) -> dict[tuple[float, float], int]:
        """Negatives by the ends of each bin."""
        return dict(zip(pairwise(EDGES), self.counts, strict=True))

    @property
    def shares(self) -> dict[str, float]:
        """Parts that add up to 1: `easy` is at most half of the positive's score, `hard` above 95 % of it."""
        easy = self._share([low >= EASY for low, _ in self.histogram])
        moderate = self._share([low >= HARD and high <= EASY for low, high in self.histogram])
        return {"easy": easy, "moderate": moderate, "hard": self.below(HARD)}

    @property
    def above(self) -> float:
        """The share that scores above its positive; a part of the `hard` ones."""
        return self.below(0.0)

    def below(self, edge: float) -> float:
        """The share with a relative margin below an edge of `EDGES`."""
        return self._share([high <= edge for _, high in self.histogram])

    def _share(self, chosen: Sequence[bool]) -> float:
        return sum(np.compress(chosen, self.counts).tolist()) / self.compared if self.compared else float("nan")

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {100 * share:.2f} %" for name, share in self.shares.items())
        return f"{shares} ({100 * self.above:.2f} % above it), of {self.compared:,}"
