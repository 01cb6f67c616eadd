"""Draws in proportion to weights."""

from __future__ import annotations

import functools
from abc import abstractmethod

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.draws import effective_sample_sizes, sample_without_replacement
from hf_hardneg.errors import warn
from hf_hardneg.samplers.base import POOL, Sampler, Uniforms

FLAT, PEAKED = 0.95, 2.0


class Weighted(Sampler):
    """A keyed draw without replacement, in proportion to weights of the candidates.

    Warns, once in a process, where the weights draw like another sampler: where the effective sample size `1 / sum p^2`
    is nearly the pool (`Uniform` does that) or under 2 (`Top`), on the mean over a batch.
    """

    @abstractmethod
    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """Logarithms of the weights, (n,) float64; `-inf` is never drawn while a query has another."""

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed weighted sample of each query."""
        weights, offsets = self.log_weights(candidates), candidates.offsets()
        self._warn_of_degenerate_draws(weights, offsets, size)
        return sample_without_replacement(weights, uniforms(self.name, candidates), size, offsets)

    def depth(self, num_negatives: int) -> int:
        """200, or the request."""
        return max(POOL, num_negatives)

    def _warn_of_degenerate_draws(self, weights: np.ndarray, offsets: np.ndarray, size: int) -> None:
        pools = np.diff(offsets)
        drawing = pools > size
        if not drawing.any():
            return
        effective = effective_sample_sizes(weights, offsets)[drawing]
        if (effective / pools[drawing]).mean() > FLAT:
            _warn_once(repr(self), "draws almost uniformly: its weights are flat on scores of this scale")
        elif effective.mean() < PEAKED:
            _warn_once(repr(self), "draws almost always the same few: its weights are all but zero for the others")


@functools.lru_cache(maxsize=256)
def _warn_once(sampler: str, finding: str) -> None:
    warn(f"{sampler} {finding}. Look at report(mined), and change its scale, temperature or dimension.")
