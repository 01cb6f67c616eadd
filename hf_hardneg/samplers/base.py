"""What a sampler is, and one that draws in proportion to weights."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.draws import effective_sample_sizes, sample_without_replacement
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.retrievers import Retriever, Searcher
from hf_hardneg.signals import Signal
from hf_hardneg.text.keys import Dedupe

if TYPE_CHECKING:
    from datasets import Dataset

POOL = 200
FLAT, PEAKED = 0.95, 2.0

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

    def at(self, generation: int) -> Sampler:
        """The sampler of a generation of refreshed negatives, 0 for what is mined once."""
        return self

    def drawn(self, size: int) -> int:
        """How many of `size` negatives are random documents that mining adds; `choose` leaves room for them."""
        return 0

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


class Weighted(Sampler):
    """A keyed draw without replacement, in proportion to weights of the candidates.

    Warns, once in a process, where the weights draw like another sampler: where the effective sample size `1 / sum p^2`
    is nearly the pool (`Uniform` does that) or under 2 (`Top`), on the mean over a batch.
    """

    @abstractmethod
    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """Logarithms of the weights, (n,) float64; `-inf` is never drawn while a query has another."""

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed weighted sample of each query."""
        weights, offsets = self.log_weights(candidates), candidates.offsets()
        self._warn_of_degenerate_draws(weights, offsets, size)
        return sample_without_replacement(weights, uniforms(self.name, candidates), size, offsets)

    def depth(self, num_negatives: int) -> int:
        """200, or the request."""
        return max(POOL, num_negatives)

    def _warn_of_degenerate_draws(self, weights: np.ndarray, offsets: np.ndarray, size: int) -> None:
        pools = np.diff(offsets)
        drawing = pools > size
        if not drawing.any():
            return
        effective = effective_sample_sizes(weights, offsets)[drawing]
        if (effective / pools[drawing]).mean() > FLAT:
            _warn_once(repr(self), "draws almost uniformly: its weights are flat on scores of this scale")
        elif effective.mean() < PEAKED:
            _warn_once(repr(self), "draws almost always the same few: its weights are all but zero for the others")


@functools.lru_cache(maxsize=256)
def _warn_once(sampler: str, finding: str) -> None:
    warn(f"{sampler} {finding}. Look at report(mined), and change its scale, temperature or dimension.")


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
