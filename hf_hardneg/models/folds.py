"""Cross-fitting: several models of one kind, each of which scores only queries it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.models.scorers import PairScorer, ScoreKind
from hf_hardneg.store.directories import digest_of


def folds_of(queries: Sequence[str], folds: int) -> np.ndarray:
    """Say which fold each query is in, (n,) int64: a function of its text alone."""
    return (keyed_uniforms(0, "folds", "", queries) * folds).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class CrossFitted:
    """Scores of a query by the model of its fold, which was trained on the other folds.

    Args:
        scorers (`tuple[PairScorer, ...]`): one for each fold.
    """

    scorers: tuple[PairScorer, ...]

    @property
    def digest(self) -> str:
        """The identity of all models together."""
        return digest_of({"folds": [scorer.digest for scorer in self.scorers]})

    @property
    def kind(self) -> ScoreKind:
        """The kind of the models' scores."""
        return self.scorers[0].kind

    @property
    def device(self) -> str:
        """Where the models run."""
        return str(getattr(self.scorers[0], "device", "cpu"))

    @property
    def share(self) -> float | None:
        """The models' share, if they have one."""
        return getattr(self.scorers[0], "share", None)

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Score (query, document) pairs, (n,) float32."""
        scores = np.empty(len(queries), np.float32)
        fold = folds_of(queries, len(self.scorers))
        for number, scorer in enumerate(self.scorers):
            rows = np.flatnonzero(fold == number).tolist()
            scores[rows] = scorer.score([queries[i] for i in rows], [documents[i] for i in rows])
        return scores
