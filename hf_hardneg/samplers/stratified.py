"""Candidates spread evenly over the range of a teacher's scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.errors import ConfigError
from hf_hardneg.filters.base import of_positive
from hf_hardneg.runtime.arguments import Checked
from hf_hardneg.samplers.base import Sampler, Uniforms

Spread = Literal["score", "rank"]


@dataclass(frozen=True)
class Stratified(Checked, Sampler):
    """Candidates spread evenly over a teacher's scores: what distils best, by arXiv 2604.04734 (its abstract).

    The teacher is the strategy's denoiser, by the scores that it stores, else the retriever. The range of a query's
    scores is cut into as many strata of equal width as negatives are wanted; from the highest down, each gives the
    candidate nearest to its centre that is not yet taken, of equal ones the best-ranked. So no negative is missing
    where a stratum is empty.

    Args:
        basis (`str`, defaults to `"score"`): `"rank"` cuts the candidates in the order of their scores into strata of
            equal number instead.
        jitter (`bool`, defaults to `False`): draws uniformly within each stratum that is not empty.
    """

    basis: Spread = "score"
    jitter: bool = False
    name: ClassVar[str] = "stratified"

    def check_kind(self, score_kind: str) -> None:
        """Raise for candidates without scores."""
        if score_kind == "none":
            raise ConfigError(
                "Stratified spreads candidates over their scores, but random retrieval scores nothing. "
                "Use a bm25 or dense retriever, or the sampler Uniform()."
            )

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of the candidates that each stratum gives, the highest first."""
        values, low, span = self._cut(candidates)
        step = np.where(span > 0, span, 1.0) / max(size, 1)
        inside = np.minimum(np.floor((values - low) / step), size - 1)
        draws = uniforms(self.name, candidates) if self.jitter else None
        taken = np.zeros(len(candidates), bool)
        for stratum in reversed(range(size)):
            keys = np.abs(values - (low + (stratum + 0.5) * span / size))
            keys[np.isnan(keys)] = np.finfo(np.float64).max
            if draws is not None:
                keys = np.where((inside == stratum) | (span == 0), draws - 1, keys)
            taken[_first_least(np.where(taken, np.inf, keys), candidates)] = True
        return np.flatnonzero(taken)

    def depth(self, num_negatives: int) -> int:
        """Ten times the request."""
        return 10 * num_negatives

    def _cut(self, candidates: Candidates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What strata cut: each candidate's value, where its query's range begins, and how long that is, (n,) each."""
        scores, query = teacher_scores(candidates), candidates.query
        if self.basis == "rank":
            counts, values = candidates.counts()[query], np.empty(len(scores))
            values[np.lexsort((-scores, query))] = -candidates.ranks("survivors")
            return values, 0.5 - counts, counts.astype(np.float64)
        low, high = np.full(candidates.queries, np.inf), np.full(candidates.queries, -np.inf)
        np.fmin.at(low, query, scores)
        np.fmax.at(high, query, scores)
        none = low > high
        low, high = np.where(none, 0.0, low), np.where(none, 0.0, high)
        return scores, low[query], (high - low)[query]


def teacher_scores(candidates: Candidates) -> np.ndarray:
    """The scores of the last filter that scored the candidates, else the retriever's, (n,) float64."""
    scored = [name for name in candidates.signals if of_positive(name) in candidates.signals]
    return candidates.signals[scored[-1]] if scored else candidates.score


def _first_least(keys: np.ndarray, candidates: Candidates) -> np.ndarray:
    """Positions of the least finite key of each query, of equal ones the first."""
    counts = candidates.counts()
    starts = candidates.offsets()[:-1][counts > 0]
    if not len(starts):
        return starts
    least = np.repeat(np.minimum.reduceat(keys, starts), counts[counts > 0])
    rows = np.flatnonzero((keys == least) & (keys < np.inf))
    return rows[np.unique(candidates.query[rows], return_index=True)[1]]
