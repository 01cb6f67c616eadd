"""SimANS: candidates that score like the positive."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.runtime.arguments import AboveZero, Checked
from hf_hardneg.samplers.base import Weighted


@dataclass(frozen=True)
class SimANS(Checked, Weighted):
    """Candidates that score like the positive, wherever they rank: `p ~ exp(-a (s - s+ - b)^2)` (arXiv 2210.11773).

    `s+` is the miner's `positive_agg` of the positives' scores; the paper's code draws one positive at every visit, for
    which there is `positive_agg="random"`. We draw negatives without replacement, exactly in proportion; the paper's
    code only nearly so.

    Args:
        a (`float`, defaults to 0.5): how fast weights fall. The paper's value is for dot products, whose gaps are of
            several units: on cosines it draws uniformly, and warns, unless `score_scale` says otherwise.
        b (`float`, defaults to 0): how far above the positive the weights have their top, in units of the scaled score.
        kernel (`str`, defaults to `"gaussian"`): or `"laplace"`, `exp(-a |s - s+ - b|)`, with a = 3 in their MS MARCO
            passage code.
        sign (`str`, defaults to `"paper"`): `"code"` takes `b` with the opposite sign, as their scripts do.
        score_scale (`float` or `"auto"`, defaults to 1): scores are multiplied by it; `"auto"` divides them by the
            standard deviation of the query's candidates.
    """

    a: AboveZero = 0.5
    b: float = 0.0
    _: KW_ONLY
    kernel: Literal["gaussian", "laplace"] = "gaussian"
    sign: Literal["paper", "code"] = "paper"
    score_scale: AboveZero | Literal["auto"] = 1.0
    name: ClassVar[str] = "simans"
    needs_positive: ClassVar[bool] = True

    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """See `Weighted`."""
        shift = self.b if self.sign == "paper" else -self.b
        gap = self._scale(candidates) * (candidates.score - candidates.anchor()) - shift
        return -self.a * (gap**2 if self.kernel == "gaussian" else np.abs(gap))

    def _scale(self, candidates: Candidates) -> float | np.ndarray:
        if self.score_scale != "auto":
            return self.score_scale
        counts = np.maximum(candidates.counts(), 1)
        query, size = candidates.query, candidates.queries
        mean = np.bincount(query, candidates.score, minlength=size) / counts
        variance = np.bincount(query, (candidates.score - mean[query]) ** 2, minlength=size) / counts
        return (1 / np.sqrt(np.where(variance > 0, variance, 1.0)))[query]
