"""Uniform draws from the best-ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.errors import ConfigError
from hf_hardneg.samplers.base import Sampler, Uniforms, uniform_sample


@dataclass(frozen=True)
class Uniform(Sampler):
    """A uniform sample, without replacement, from the first `pool` candidates ("sampled top-k" of arXiv 2407.15831).

    Args:
        pool (`int`, *optional*): how many of the best candidates take part; all by default.
    """

    pool: int | None = None
    name: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        if self.pool is not None and self.pool < 1:
            raise ConfigError(f"Uniform(pool={self.pool}) draws from nothing; give a pool of at least 1.")

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed uniform sample of each query."""
        inside = np.flatnonzero(candidates.survivor_position() < (self.pool or np.inf))
        return inside[uniform_sample(candidates.take(inside), size, self.name, uniforms)]

    def depth(self, num_negatives: int) -> int:
        """The pool, or ten times the request."""
        return self.pool or 10 * num_negatives
