"""What a signal is: a configuration, and what it becomes once it is bound to a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import Queries, Reader
from hf_hardneg.retrievers import Dense, Retriever, Searcher, Sources, vector_part
from hf_hardneg.retrievers.base import Takes

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a signal may be bound to.

    Args:
        sources (`Sources`): what the user gave.
        searcher (`Searcher`): of the strategy's retriever.
        reader (`Reader`): reads the pairs, with every known positive.
        known (`Sequence[Dataset]`): the datasets those come from.
    """

    sources: Sources
    searcher: Searcher
    reader: Reader
    known: Sequence[Dataset] = ()

    def vectors(self) -> Searcher:
        """What holds the vectors of the corpus: the strategy's retriever, or one beside it.

        Raises:
            ConfigError: there is nothing that gives vectors.
        """
        return vector_part(self.searcher) or Dense().bind(self.sources)


class BoundSignal(Protocol):
    """A signal bound to a corpus; pickles as paths."""

    @property
    def identity(self) -> str:
        """What its values depend on, besides queries and candidates."""

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        """Values of the candidates, (n,) float; NaN where it cannot be told."""


class Signal(Protocol):
    """What a filter or sampler asks to be computed; a subclass is a frozen dataclass with a `name` and `bind`."""

    @property
    def name(self) -> str:
        """The key in `Candidates.signals`; equal for equal signals only."""

    def uses_vectors(self, retriever: Retriever) -> bool:
        """Whether it reads vectors that `encoder=` or the like give, beside the vectors of a strategy's retriever."""
        return False

    def takes(self) -> Takes:
        """Which vectors those are, see `Retriever`."""
        return "dense"

    @property
    def needs_words(self) -> tuple[str, ...]:
        """Of which sides, `"query"` and `"document"`, it reads the words; those cannot be images."""
        return ()

    def check(self, retriever: Retriever) -> None:
        """Raise where a strategy's retriever cannot do what the signal asks of it.

        Raises:
            ConfigError: naming what it cannot do.
        """
        return

    def bind(self, context: Context) -> BoundSignal:
        """The signal over a corpus; builds or opens what it needs.

        Raises:
            ConfigError: there is nothing to compute it from.
        """


class OfVectors(Signal, Protocol):
    """A signal that is computed from vectors of documents: the retriever's, or others beside it."""

    def uses_vectors(self, retriever: Retriever) -> bool:
        """Whether others are needed, since the retriever has none."""
        return not retriever.has_vectors
