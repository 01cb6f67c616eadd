"""The filter by rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Basis, Candidates
from hf_hardneg.errors import ConfigError
from hf_hardneg.filters.base import Filter
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, check_fields


@dataclass(frozen=True)
class RankWindow(Filter):
    """Keep candidates whose rank lies in `[first, last)`.

    Args:
        first (`int`, defaults to 0): ranks before it are skipped.
        last (`int`, *optional*): first rank that is too deep.
        basis (`str`, defaults to `"no_positives"`): ranks among the hits outside the exclusion set; `"raw"` counts
            positives too, as FlagEmbedding does; `"survivors"` counts what earlier filters left, as
            sentence-transformers does. Windows neither commute with score filters nor are they idempotent.
    """

    first: AtLeastZero = 0
    last: AtLeastOne | None = None
    basis: Basis = "no_positives"
    name: ClassVar[str] = "rank_window"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.last is not None and self.last <= self.first:
            raise ConfigError(
                f"RankWindow(first={self.first}, last={self.last}) keeps nothing; give 0 <= first and last above first."
            )

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates inside the window."""
        rank = candidates.ranks(self.basis)
        return (rank >= self.first) & (rank < (np.inf if self.last is None else self.last))

    def depth(self, num_negatives: int) -> int:
        """The window's end, or ten times the request beyond its start."""
        return self.last or self.first + 10 * num_negatives
