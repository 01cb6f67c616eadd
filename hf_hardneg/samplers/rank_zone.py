"""Uniform draws from a zone of ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from hf_hardneg.candidates import Basis, Candidates
from hf_hardneg.errors import ConfigError
from hf_hardneg.runtime.arguments import AtLeastOne, check_fields
from hf_hardneg.samplers.base import POOL, Sampler, Uniforms, uniform_sample


@dataclass(frozen=True)
class RankZone(Sampler):
    """A uniform sample from ranks `[start, end)`.

    Args:
        start, end (`int`, default to 50 and 200): the zone.
        basis (`str`, defaults to `"no_positives"`): see `RankWindow`.
        anchor (`str`, defaults to `"absolute"`): `"positive_rank"` counts from the rank of the positive instead, among
            the 200 best; a query whose positive was not retrieved then has no zone.
    """

    start: int = 50
    end: AtLeastOne = 200
    basis: Basis = "no_positives"
    anchor: Literal["absolute", "positive_rank"] = "absolute"
    name: ClassVar[str] = "rank_zone"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.end <= self.start or (self.anchor == "absolute" and self.start < 0):
            raise ConfigError(f"RankZone(start={self.start}, end={self.end}) is empty; give end above start.")

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed uniform sample of the zone of each query."""
        rank = candidates.ranks(self.basis)
        in_reach = np.ones(len(candidates), bool)
        if self.anchor == "positive_rank":
            origin = candidates.positive_rank[candidates.query]
            rank, in_reach = rank - origin, origin >= 0
        inside = np.flatnonzero(in_reach & (rank >= self.start) & (rank < self.end))
        return inside[uniform_sample(candidates.take(inside), size, self.name, uniforms)]

    def depth(self, num_negatives: int) -> int:
        """The zone's end, behind a positive among the 200 best where it counts from there."""
        return self.end + (POOL if self.anchor == "positive_rank" else 0)
