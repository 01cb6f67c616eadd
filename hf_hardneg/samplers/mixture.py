"""Another sampler's choice, with a share of random documents in each list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers import Retriever, Searcher
from hf_hardneg.runtime.arguments import ShareBetween, check_fields, check_parts
from hf_hardneg.samplers.base import Sampler, Uniforms
from hf_hardneg.samplers.top import Top
from hf_hardneg.signals import Signal
from hf_hardneg.text.keys import Dedupe

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Mixture(Sampler):
    """What another sampler chooses, and a share of random documents, so that easy cases are not unlearnt.

    Rerankers that are trained on hard negatives alone lose them (arXiv 2411.11767, as sentence-transformers cites it).
    Random documents come from the whole corpus, as `Random` draws them, but for the exclusion set and what filters have
    removed. They stand behind the others: their source is `"random"`, they have no score and the rank -1. Nothing
    scores them, a denoiser neither.

    In a chain of names, `"denoised+stratified+mixture"`, it adds to the last sampler among the others.

    Args:
        share (`float`, defaults to 0.25): of `num_negatives`, rounded to a whole number of them.
        of (`Sampler`, defaults to `Top()`): chooses the others.
    """

    share: ShareBetween = 0.25
    of: Sampler = field(default_factory=Top)
    name: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        check_fields(self)
        check_parts([self.of], "sampler", "choose", "Top()")
        if isinstance(self.of, Mixture):
            raise ConfigError(
                f"Mixture(of={self.of!r}) mixes what is mixed; any other sampler is allowed. Give the sum as share=."
            )

    @property
    def needs_positive(self) -> bool:  # type: ignore[override]
        """Whether the other sampler does."""
        return self.of.needs_positive

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What the other sampler reads."""
        return self.of.signals

    def fitted(self, searcher: Searcher, documents: int) -> Mixture:
        """The same with the other sampler fitted."""
        return replace(self, of=self.of.fitted(searcher, documents))

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of what the other sampler chooses."""
        return self.of.choose(candidates, size - self.drawn(size), uniforms)

    def at(self, generation: int) -> Mixture:
        """The same with the other sampler of a generation."""
        return replace(self, of=self.of.at(generation))

    def drawn(self, size: int) -> int:
        """The share of a list."""
        return int(self.share * size + 0.5)

    def depth(self, num_negatives: int) -> int:
        """What the other sampler needs."""
        return self.of.depth(num_negatives)

    def check_known(self, known: Sequence[Dataset], columns: PairColumns, dedupe: Dedupe) -> None:
        """Raise where the other sampler does."""
        self.of.check_known(known, columns, dedupe)

    def for_one_query(self) -> Mixture:
        """The same with the other sampler's."""
        return replace(self, of=self.of.for_one_query())

    def check(self, retriever: Retriever) -> None:
        """Raise where the other sampler does."""
        self.of.check(retriever)
