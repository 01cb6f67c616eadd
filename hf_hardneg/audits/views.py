"""What several checks ask of a batch and of the facts, computed once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hf_hardneg.audits.audited_rows import AuditedBatch, Side
from hf_hardneg.audits.facts import Facts
from hf_hardneg.reports.hardness import best_scores
from hf_hardneg.text.hashes import contained, largest_jaccard


class Flagged(NamedTuple):
    """Masks of what a check finds wrong: rows (n,), positives and negatives; `None` where it does not look."""

    rows: np.ndarray | None = None
    positives: np.ndarray | None = None
    negatives: np.ndarray | None = None


@dataclass(frozen=True)
class View:
    """A batch, what is known of the dataset, and what several finders ask of both.

    Args:
        batch (`AuditedBatch`): n rows with m negatives.
        facts (`Facts`): facts of the dataset.
    """

    batch: AuditedBatch
    facts: Facts

    @property
    def sides(self) -> tuple[Side, Side]:
        """Positives and negatives."""
        return self.batch.positive, self.batch.negative

    @property
    def has_texts(self) -> bool:
        """Whether both sides have texts."""
        return all(side.texts is not None for side in self.sides)

    @functools.cached_property
    def same_id(self) -> np.ndarray:
        """Negatives with the id of a positive of their row, (m,)."""
        return self._same([side.id for side in self.sides])

    @functools.cached_property
    def same_text(self) -> np.ndarray:
        """Negatives that a reader cannot tell from a positive of their row, (m,)."""
        return self._same([side.seen for side in self.sides])

    @functools.cached_property
    def identical(self) -> np.ndarray:
        """Negatives with the very text of a positive, (m,); characters are compared only where they can be the same."""
        return self._same([side.exact for side in self.sides]) if self.same_text.any() else self.same_text

    @functools.cached_property
    def known(self) -> np.ndarray:
        """Negatives that are a positive of their query in any row, (m,)."""
        side = self.batch.negative
        return side.any_of([contained(keys, self.facts.known) for keys in self.batch.known_as(side)])

    @functools.cached_property
    def overlap(self) -> np.ndarray:
        """Largest Jaccard similarity of each negative's word 3-grams with the 3-grams of a positive of its row,
        (m,)."""
        positive, negative = self.sides
        return largest_jaccard(negative.grams, negative.starts, positive.grams, positive.starts)

    @functools.cached_property
    def best_positive(self) -> np.ndarray:
        """The highest score among the positives of each row, (n,); NaN where none is scored."""
        side = self.batch.positive
        scores = np.full(len(side.owner), np.nan) if side.scores is None else side.scores
        return best_scores(len(self.batch.number), side.owner, scores)

    def _same(self, keys: Sequence[np.ndarray]) -> np.ndarray:
        positives, negatives = (side.in_row(of_side) for side, of_side in zip(self.sides, keys, strict=True))
        return contained(negatives, np.unique(positives))
