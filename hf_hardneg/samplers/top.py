"""The best-ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.samplers.base import Sampler, Uniforms


@dataclass(frozen=True)
class Top(Sampler):
    """The best-ranked candidates."""

    name: ClassVar[str] = "top"

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of the first `size` candidates of each query."""
        return np.flatnonzero(candidates.ranks("survivors") < size)

    def depth(self, num_negatives: int) -> int:
        """The request."""
        return num_negatives
