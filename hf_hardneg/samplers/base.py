"""What a sampler is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.draws import sample_without_replacement
from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers import Retriever, Searcher
from hf_hardneg.signals import Signal
from hf_hardneg.text.keys import Dedupe

if TYPE_CHECKING:
    from datasets import Dataset

POOL = 200

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

    def fitted(self, searcher: Searcher, documents: int) -> Sampler:
        """The same, with constants that depend on the index of so many documents; raises where scores do not suit."""
        self.check_kind(searcher.score_kind)
        return self

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Ascending positions of the chosen candidates, at most `size` for each query."""
        raise NotImplementedError

    def depth(self, num_negatives: int) -> int:
        """How many candidates retrieval should bring."""
        raise NotImplementedError

    def check_known(self, known: Sequence[Dataset], columns: PairColumns, dedupe: Dedupe) -> None:
        """Raise where the known pairs are too few for it.

        Raises:
            ConfigError: naming how many it needs.
        """
        return

    def for_one_query(self) -> Sampler:
        """The same where a single query is known: what plans measure on samples."""
        return self

    def check(self, retriever: Retriever) -> None:
        """Raise where a retriever cannot do what it needs.

        Raises:
            ConfigError: naming what it cannot do.
        """
        self.check_kind(retriever.score_kind)

    def check_kind(self, score_kind: str) -> None:
        """Raise where scores of a kind mean nothing to it.

        Raises:
            ConfigError: naming the kinds that do.
        """
        return


def uniform_sample(candidates: Candidates, size: int, salt: str, uniforms: Uniforms) -> np.ndarray:
    """Positions of a keyed uniform sample of each query."""
    weights, draws = np.zeros(len(candidates)), uniforms(salt, candidates)
    return sample_without_replacement(weights, draws, size, candidates.offsets())


def refuse_unscored(sampler: str, score_kind: str) -> None:
    """Raise for candidates of random retrieval."""
    if score_kind == "none":
        raise ConfigError(
            f"{sampler} weighs candidates by their scores, but random retrieval scores nothing. "
            "Use a bm25 or dense retriever, or the sampler Uniform()."
        )
