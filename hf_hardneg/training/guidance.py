"""GIST-style guidance: another model, or the trained one itself, says which negatives are too near to a query."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from hf_hardneg.runtime.arguments import Checked, ShareBelow, checked
from hf_hardneg.training.similarity import Similarity, all_scores, own_scores

MarginStrategy = Literal["absolute", "relative"]
OwnScores = Literal["own_mask", "own_weights"]
PRESETS: dict[OwnScores, dict[str, Any]] = {
    "own_mask": {"margin": -0.1},
    "own_weights": {"margin": 0.05, "margin_strategy": "relative", "weight": 0.5},
}
"""What a `Guide` is told where the trained model guides itself: as Qwen3-Embedding (arXiv 2506.05176) leaves out what
scores above `s+ + 0.1`, and as colpali-engine 0.3.18 halves the weight of what scores above `0.95 s+`."""


@dataclass(frozen=True, kw_only=True)
class Guide(Checked):
    """Vectors of the same texts by a guide model, whose dimension may differ (GISTEmbed, arXiv 2402.16829).

    A negative is left out where its guide similarity is above that of the query's positive, lowered by a margin; or
    weighs less.

    Args:
        queries (`Tensor`): (B, g).
        positives (`Tensor`): (B, g).
        negatives (`Tensor`, *optional*): (B, m, g).
        margin (`float`, defaults to 0): how far below the positive a negative must stay; below 0, how far above it may.
        margin_strategy (`str`, defaults to `"absolute"`): `"relative"` takes the margin as a share of the positive's.
        similarity (`str`, defaults to `"cosine"`): of the guide.
        weight (`float`, defaults to 0): what is too near counts so much of a negative in the sum of exponentials, below
            1; 0 leaves it out.
    """

    queries: Tensor
    positives: Tensor
    negatives: Tensor | None = None
    margin: float = 0.0
    margin_strategy: MarginStrategy = "absolute"
    similarity: Similarity = "cosine"
    weight: ShareBelow = 0.0

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

    @property
    def log_weight(self) -> float:
        """What is added to the logit of a negative that is too near and not left out."""
        return math.log(self.weight) if self.weight > 0 else 0.0


def own_guide(
    rule: OwnScores, queries: Tensor, positives: Tensor, negatives: Tensor | None, similarity: Similarity
) -> Guide:
    """Return the guide that is the trained model itself, by its vectors of the batch, detached.

    Args:
        rule (`str`): of `PRESETS`.
        queries (`Tensor`): (B, d).
        positives (`Tensor`): (B, d).
        negatives (`Tensor`, *optional*): (B, m, d).
        similarity (`str`): of the loss.
    """
    mined = None if negatives is None else negatives.detach()
    return Guide(
        queries=queries.detach(), positives=positives.detach(), negatives=mined, similarity=similarity, **PRESETS[rule]
    )


def thresholds(positives: Tensor, margin: float, strategy: MarginStrategy) -> Tensor:
    """Return the guide similarity above which a document is no negative, (B,).

    Args:
        positives (`Tensor`): (B,) guide similarity of each query to its positive.
        margin (`float`), strategy (`str`): `s - margin`, or `s - |s| * margin` for `"relative"`, which lowers the
            threshold also where the similarity is negative.
    """
    return positives - (margin if strategy == "absolute" else positives.abs() * margin)
