"""GIST-style guidance: another model says which negatives are nearer to a query than its positive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hf_hardneg.runtime.arguments import Checked, checked
from hf_hardneg.training.similarity import Similarity, all_scores, own_scores

MarginStrategy = Literal["absolute", "relative"]


@dataclass(frozen=True, kw_only=True)
class Guide(Checked):
    """Vectors of the same texts by a guide model, whose dimension may differ (GISTEmbed, arXiv 2402.16829).

    A negative is left out where its guide similarity is above that of the query's positive, lowered by a margin.

    Args:
        queries (`Tensor`): (B, g).
        positives (`Tensor`): (B, g).
        negatives (`Tensor`, *optional*): (B, m, g).
        margin (`float`, defaults to 0): how far below the positive a negative must stay.
        margin_strategy (`str`, defaults to `"absolute"`): `"relative"` takes the margin as a share of the positive's.
        similarity (`str`, defaults to `"cosine"`): of the guide.
    """

    queries: Tensor
    positives: Tensor
    negatives: Tensor | None = None
    margin: float = 0.0
    margin_strategy: MarginStrategy = "absolute"
    similarity: Similarity = "cosine"

    @checked
    def forbids(self, rows: Tensor, others: Tensor) -> Tensor:
        """Say which vectors are too near to a row to be its negatives, (B, n) bool.

        Args:
            rows (`Tensor`): (B, g) the queries or the positives.
            others (`Tensor`): (n, g).
        """
        positive = own_scores(self.queries, self.positives.unsqueeze(1), self.similarity).squeeze(1)
        limit = thresholds(positive, self.margin, self.margin_strategy)
        return all_scores(rows, others, self.similarity) > limit.unsqueeze(1)


def thresholds(positives: Tensor, margin: float, strategy: MarginStrategy) -> Tensor:
    """Return the guide similarity above which a document is no negative, (B,).

    Args:
        positives (`Tensor`): (B,) guide similarity of each query to its positive.
        margin (`float`), strategy (`str`): `s - margin`, or `s - |s| * margin` for `"relative"`, which lowers the
            threshold also where the similarity is negative.
    """
    return positives - (margin if strategy == "absolute" else positives.abs() * margin)
