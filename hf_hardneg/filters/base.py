"""What a filter is."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.models.scorers import PairScorer
from hf_hardneg.retrievers import Sources
from hf_hardneg.retrievers.base import BOTH
from hf_hardneg.signals import Signal


class Filter(Protocol):
    """What mining asks of a filter; subclasses inherit all but `name` and `keep`."""

    name: ClassVar[str]
    needs_positive: ClassVar[bool] = False
    strict: ClassVar[bool] = False
    """Whether what it removes may not come back as padding either; it then reads `Candidates.signals` alone."""

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What `keep` reads of `Candidates.signals`."""
        return ()

    @property
    def needs_words(self) -> tuple[str, ...]:
        """Of which sides, `"query"` and `"document"`, it reads the words; those cannot be images."""
        return tuple(side for signal in self.signals for side in signal.needs_words)

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Boolean mask (n,) of the candidates that stay."""
        raise NotImplementedError

    def depth(self, num_negatives: int) -> int:
        """How many candidates retrieval should bring so that `num_negatives` are likely to stay: ten times as many."""
        return 10 * num_negatives


@runtime_checkable
class ScoringFilter(Filter, Protocol):
    """A filter by scores that cost too much to be computed for all candidates.

    The rescoring step computes them, for the candidates that the filters before it leave and for the positives; `keep`
    finds them in `Candidates.signals` under `name`, NaN where nothing was scored, and the lowest score of the row's
    positives under `of_positive(name)`.
    """

    @property
    def needs_words(self) -> tuple[str, ...]:
        """Both sides: models of pairs read texts."""
        return BOTH

    @property
    def scored_depth(self) -> int:
        """How many of the candidates that are left may be scored, best first."""

    @property
    def exhaustive(self) -> bool:
        """Whether candidates are scored to the full depth even where enough have passed."""
        return False

    @property
    def compares(self) -> bool:
        """Whether a candidate is compared with the `scored_depth` best of its query.

        Then all of those are scored, also what filters before have removed, and `keep` finds the share of them that
        score lower in `Candidates.signals` under `share_of(name)`.
        """
        return False

    @property
    def promotes(self) -> bool:
        """Whether candidates come out as pseudo-positives; then `exhaustive` too."""
        return False

    def bind(self, sources: Sources) -> PairScorer:
        """What scores (query, document) pairs."""

    def fitted(self, scorer: PairScorer) -> ScoringFilter:
        """The filter for scores of that kind."""
        return self

    def promoted(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates that come out as pseudo-positives, where it `promotes`."""
        return np.zeros(len(candidates), bool)


def of_positive(name: str) -> str:
    """Under which key candidates carry the lowest score of their row's positives by a scoring filter."""
    return f"{name}:positive"


def share_of(name: str) -> str:
    """Under which key candidates carry the share of their query's best that a scoring filter gives a lower score."""
    return f"{name}:share"
