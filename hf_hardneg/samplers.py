"""Samplers: which of the remaining candidates become negatives. Each is a frozen dataclass with one method, `choose`.

To add one, write the class here and list it in `SAMPLERS`; the contract tests run over that table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.draws import sample_without_replacement
from hf_hardneg.errors import ConfigError
from hf_hardneg.filters import Basis, check_basis, rank_by
from hf_hardneg.retrievers import Searcher
from hf_hardneg.signals import Signal

Uniforms = Callable[[str, Candidates], np.ndarray]
"""Keyed draws under a salt for each candidate: (n,) float64 inside (0, 1)."""


class Sampler(Protocol):
    """What mining asks of a sampler; subclasses inherit all but `name`, `choose` and `depth`."""

    name: ClassVar[str]
    needs_positive: ClassVar[bool] = False

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What `choose` reads of `Candidates.signals`."""
        return ()

    def fitted(self, searcher: Searcher) -> Sampler:
        """The same, with constants that depend on the index; raises where it does not suit the scores."""
        return self

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Ascending positions of the chosen candidates, at most `size` for each query."""
        raise NotImplementedError

    def depth(self, num_negatives: int) -> int:
        """How many candidates retrieval should bring."""
        raise NotImplementedError


@dataclass(frozen=True)
class Top(Sampler):
    """The best-ranked candidates."""

    name: ClassVar[str] = "top"

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of the first `size` candidates of each query."""
        return np.flatnonzero(candidates.survivor_position() < size)

    def depth(self, num_negatives: int) -> int:
        """The request."""
        return num_negatives


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
        return inside[_uniform_sample(candidates.take(inside), size, self.name, uniforms)]

    def depth(self, num_negatives: int) -> int:
        """The pool, or ten times the request."""
        return self.pool or 10 * num_negatives


@dataclass(frozen=True)
class RankZone(Sampler):
    """A uniform sample from ranks `[start, end)`.

    Args:
        start, end (`int`, default to 50 and 200): the zone.
        basis (`str`, defaults to `"no_positives"`): see `RankWindow`.
        anchor (`str`, defaults to `"absolute"`): `"positive_rank"` counts from the rank of the positive instead; a
            query whose positive was not retrieved then has no zone.
    """

    start: int = 50
    end: int = 200
    basis: Basis = "no_positives"
    anchor: Literal["absolute", "positive_rank"] = "absolute"
    name: ClassVar[str] = "rank_zone"

    def __post_init__(self) -> None:
        check_basis(self.basis)
        if self.anchor not in ("absolute", "positive_rank"):
            raise ConfigError(f"RankZone(anchor={self.anchor!r}): allowed are 'absolute' and 'positive_rank'.")
        if self.end <= self.start or (self.start < 0 and self.anchor == "absolute"):
            raise ConfigError(f"RankZone(start={self.start}, end={self.end}) is empty; give end above start.")

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed uniform sample of the zone of each query."""
        rank = rank_by(candidates, self.basis).astype(np.int64)
        in_reach = np.ones(len(candidates), bool)
        if self.anchor == "positive_rank":
            origin = candidates.positive_rank[candidates.query]
            rank, in_reach = rank - origin, origin >= 0
        inside = np.flatnonzero(in_reach & (rank >= self.start) & (rank < self.end))
        return inside[_uniform_sample(candidates.take(inside), size, self.name, uniforms)]

    def depth(self, num_negatives: int) -> int:
        """The zone's end."""
        return self.end


def _uniform_sample(candidates: Candidates, size: int, salt: str, uniforms: Uniforms) -> np.ndarray:
    weights, draws = np.zeros(len(candidates)), uniforms(salt, candidates)
    return sample_without_replacement(weights, draws, size, candidates.offsets())


SAMPLERS: dict[str, type[Sampler]] = {"top": Top, "uniform": Uniform, "rank_zone": RankZone}
"""Every sampler by its name."""
