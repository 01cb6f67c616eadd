"""Hard negative mixing (MoCHi) makes negatives in the space of vectors, harder than the mined ones.

Kalantidis et al., Hard Negative Mixing for Contrastive Learning, NeurIPS 2020 (arXiv 2010.01028).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_hardneg.draws import uniforms_of_keys
from hf_hardneg.errors import ConfigError
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, Range, check_fields, checked
from hf_hardneg.training.similarity import all_scores, at_least_single

Mode = Literal["negatives", "positive"]
Mixtures = Annotated[int, Range(least=0, most=10_000)]
OPPOSITE = 1e-6
"""A mixture shorter than this has lost its direction."""


@dataclass(frozen=True, kw_only=True)
class MoCHi:
    """Mixtures of the hardest negatives of a query, and of those and the query, for that query alone.

    Draws are keyed by seed, step and the query's place in the joined batch, so the same on any number of ranks.

    Args:
        n_hard (`int`, defaults to 32): negatives to mix, the most similar of all ranks' that are not masked.
        s1 (`int`, defaults to 16): mixtures of two different negatives, with a share from (0, 1).
        s2 (`int`, defaults to 16): mixtures of the query and a negative.
        beta_max (`float`, defaults to 0.5): the query's share is from (0, beta_max); at most 0.5.
        start1, start2 (`int`, defaults to 5000 and 10000): the step at which each kind begins.
        mode (`str`, defaults to `"negatives"`): `"positive"` mixes the positive, at a share from (0, beta_max), into
            each first kind instead of a second negative. It pushes a query away from its positive's direction.
        seed (`int`, defaults to 42): of the draws.
    """

    n_hard: AtLeastOne = 32
    s1: Mixtures = 16
    s2: Mixtures = 16
    beta_max: Annotated[float, Range(above=0, most=0.5)] = 0.5
    start1: AtLeastZero = 5000
    start2: AtLeastZero = 10000
    mode: Mode = "negatives"
    seed: int = 42

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.s1 + self.s2:
            raise ConfigError(
                "MoCHi(s1=0, s2=0) mixes nothing; s1 + s2 must be at least 1. Leave out mixing= for none."
            )

    @checked
    def __call__(
        self,
        queries: Tensor,
        positives: Tensor,
        pool: Tensor,
        allowed: Tensor,
        *,
        step: AtLeastZero,
        first: AtLeastZero = 0,
    ) -> tuple[Tensor, Tensor]:
        """Return mixtures of unit length, detached, (B, k, d), and which of them can be used, (B, k) bool.

        Args:
            queries (`Tensor`): (B, d).
            positives (`Tensor`): (B, d).
            pool (`Tensor`): (n, d) documents.
            allowed (`Tensor`): (B, n) bool, which are negatives of which query.
            step (`int`): of the training.
            first (`int`, defaults to 0): place of the first query in the joined batch of all ranks.
        """
        query, positive, units = (
            F.normalize(at_least_single(vectors.detach()), dim=-1) for vectors in (queries, positives, pool)
        )
        scores = all_scores(query, units, "dot").masked_fill(~allowed, -torch.inf)
        hard = scores.topk(min(self.n_hard, len(units)), dim=1).indices
        count = allowed.sum(dim=1, keepdim=True).clamp(max=hard.shape[1])
        s1, s2 = self.s1 * (step >= self.start1), self.s2 * (step >= self.start2)
        draws = self._uniforms(len(queries), 3 * s1 + 2 * s2, step, first).to(query)
        pick, other, share1, pick2, share2 = torch.split(draws, [s1, s1, s1, s2, s2], dim=1)
        places, partners = different(pick, other, count)
        if self.mode == "positive":
            kind1 = mix(positive.unsqueeze(1), units[hard.gather(1, places)], self.beta_max * share1)
        else:
            kind1 = mix(units[hard.gather(1, places)], units[hard.gather(1, partners)], share1)
        needed = 1 if self.mode == "positive" else 2
        last, _ = different(pick2, pick2, count)
        kind2 = mix(query.unsqueeze(1), units[hard.gather(1, last)], self.beta_max * share2)
        usable = torch.cat([(count >= needed).expand(-1, s1), (count >= 1).expand(-1, s2)], dim=1)
        mixed = torch.cat([kind1, kind2], dim=1)
        return mixed, usable & (mixed.norm(dim=-1) > 0)

    def _uniforms(self, rows: int, number: int, step: int, first: int) -> Tensor:
        """Draw uniforms by keys, (rows, number) float64, for the row `first` and those behind it."""
        row = np.repeat(np.arange(first, first + rows, dtype=np.uint64), number)
        place = np.tile(np.arange(number, dtype=np.uint64), rows)
        draws = uniforms_of_keys(self.seed, f"mochi@{step}", row, place)
        return torch.from_numpy(draws).view(rows, number)


def mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Scale `share * first + (1 - share) * second` to unit length, (…, d); zeros where the two cancel out.

    Args:
        first, second (`Tensor`): (…, d) unit vectors.
        share (`Tensor`): (…).
    """
    mixed = share.unsqueeze(-1) * first + (1 - share.unsqueeze(-1)) * second
    length = mixed.norm(dim=-1, keepdim=True)
    return torch.where(length > OPPOSITE, mixed / length, 0.0)


def different(first: Tensor, second: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Draw two different places among the first `count`, from two uniform draws; both (B, k) int64.

    Args:
        first, second (`Tensor`): (B, k) inside (0, 1).
        count (`Tensor`): (B, 1); where it is below 2 the second place means nothing, below 1 neither does.
    """
    place, other = _floor(first, count), _floor(second, count - 1)
    return place, (other + (other >= place)).minimum((count - 1).clamp(min=0))


def _floor(uniforms: Tensor, count: Tensor) -> Tensor:
    """Turn draws into places below each count; 0 where it is below 1."""
    return (uniforms * count).long().minimum(count - 1).clamp(min=0)
