"""Uniform draws from the best-ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.runtime.arguments import AtLeastOne, Checked
from hf_hardneg.samplers.base import Sampler, Uniforms, uniform_sample


@dataclass(frozen=True)
class Uniform(Checked, Sampler):
    """A uniform sample, without replacement, from the first `pool` candidates ("sampled top-k" of arXiv 2407.15831).

    Args:
        pool (`int`, *optional*): how many of the best candidates take part; all by default.
    """

    pool: AtLeastOne | None = None
    name: ClassVar[str] = "uniform"

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed uniform sample of each query."""
        inside = np.flatnonzero(candidates.ranks("survivors") < (self.pool or np.inf))
        return inside[uniform_sample(candidates.take(inside), size, self.name, uniforms)]

    def depth(self, num_negatives: int) -> int:
        """The pool, or ten times the request."""
        return self.pool or 10 * num_negatives
