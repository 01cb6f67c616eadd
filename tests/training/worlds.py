"""Batches of numbers for texts: a few queries and documents, so that positives and repeats meet by chance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_hardneg.training import Keys

QUERIES, DOCUMENTS, WIDTH = 8, 20, 5


@dataclass(frozen=True)
class Rows:
    """Rows of a batch by number: queries (B,), positives (B,), negatives (B, m), mask (B, m), known (B, p)."""

    query: Tensor
    positive: Tensor
    negative: Tensor
    mask: Tensor
    known: Tensor
    scores: Tensor

    def part(self, rows, width=None):
        """Some rows, of a width that holds all their negatives."""
        cut = [one[rows] for one in (self.query, self.positive, self.negative[:, :width], self.mask[:, :width])]
        return Rows(*cut, self.known[rows], self.scores[rows][:, : None if width is None else 1 + width])

    def keys(self):
        """Numbers of documents as keys; queries are no documents."""
        return Keys(queries=self.query + 1000, positives=self.positive, negatives=self.negative, known=self.known)


def draw(size, seed, negatives=3):
    """Rows at random; each query has three known positives, of which a row lists one."""
    random = torch.Generator().manual_seed(seed)

    def integers(high, *shape):
        return torch.randint(high, shape, generator=random)

    known = torch.stack(
        [torch.randperm(DOCUMENTS, generator=torch.Generator().manual_seed(q))[:3] for q in range(QUERIES)]
    )
    query = integers(QUERIES, size)
    mask = torch.arange(negatives) < integers(negatives + 1, size, 1)
    positive = known[query, integers(3, size)]
    negative = integers(DOCUMENTS, size, negatives)
    scores = torch.randn(size, 1 + negatives, generator=random, dtype=torch.float64)
    return Rows(query, positive, negative, mask, known[query], scores)


def vectors(seed, width=WIDTH):
    """Vectors of all queries and of all documents, float64."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(size, width, generator=random, dtype=torch.float64) for size in (QUERIES, DOCUMENTS)]
