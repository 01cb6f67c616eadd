"""Rows whose positives are probably noise, since many documents score higher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.filters.base import Filter
from hf_hardneg.runtime.arguments import AtLeastOne, Checked

Inconsistent = Literal["keep", "drop_row"]


@dataclass(frozen=True)
class ConsistentPositive(Checked, Filter):
    """Leave rows out whose positives are not among the best documents of their query (Nomic's consistency filter).

    A row is inconsistent where `consistency_depth` candidates or more, documents outside of the exclusion set, score
    higher than every positive that the row lists. CoRNStack (arXiv 2412.01007) does so with a depth of 2. It removes no
    candidate, and no default has it: a hard but right pair looks the same.

    `report` counts such rows, and a mining that leaves them out says how many.

    Args:
        consistency_depth (`int`, defaults to 20): how many; retrieval is as deep.
        on_inconsistent (`str`, defaults to `"drop_row"`): `"keep"` only counts them.
    """

    consistency_depth: AtLeastOne = 20
    on_inconsistent: Inconsistent = "drop_row"
    name: ClassVar[str] = "consistent_positive"
    needs_positive: ClassVar[bool] = True

    @property
    def drops_rows(self) -> bool:
        """Whether it leaves rows out."""
        return self.on_inconsistent == "drop_row"

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) that keeps all."""
        return np.ones(len(candidates), bool)

    def depth(self, num_negatives: int) -> int:
        """Its depth, at least the request."""
        return max(self.consistency_depth, num_negatives)

    def inconsistent(self, candidates: Candidates, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Say which rows are inconsistent, (queries,) bool; rows without a positive that has a score are not.

        Args:
            candidates (`Candidates`): all of them, before any filter.
            scores (`np.ndarray`), counts (`np.ndarray`): of the positives that each row lists, (k,) and (queries,).
        """
        best = np.full(candidates.queries, -np.inf)
        np.fmax.at(best, np.repeat(np.arange(candidates.queries), counts), scores)
        above = candidates.query[candidates.score > best[candidates.query]]
        return (best > -np.inf) & (np.bincount(above, minlength=candidates.queries) >= self.consistency_depth)
