"""A softmax over scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.runtime.arguments import AboveZero, Checked
from hf_hardneg.samplers.base import Weighted, refuse_unscored


@dataclass(frozen=True)
class Importance(Checked, Weighted):
    """A softmax over the candidates' scores, `p ~ exp(s / temperature)`.

    In proportion to what InfoNCE would make of each; not the sampler of Wu et al., which is `DistanceWeighted`.

    Args:
        temperature (`float`, defaults to 0.1): in units of the scores; near 0 the best-ranked are taken.
    """

    temperature: AboveZero = 0.1
    name: ClassVar[str] = "importance"

    def check_kind(self, score_kind: str) -> None:
        """Raise for candidates without scores."""
        refuse_unscored("Importance", score_kind)

    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """See `Weighted`."""
        return candidates.score / self.temperature
