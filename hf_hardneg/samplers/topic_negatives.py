"""Uniform draws from the query's topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import PairColumns, query_keys
from hf_hardneg.errors import ConfigError
from hf_hardneg.runtime.arguments import AtLeastOne, Checked, Seed
from hf_hardneg.samplers.base import POOL, Sampler, Uniforms, uniform_sample
from hf_hardneg.signals import Signal
from hf_hardneg.signals.topics import SameTopic
from hf_hardneg.text.keys import Dedupe

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class TopicNegatives(Checked, Sampler):
    """A uniform sample from the candidates of the query's topic.

    Topics are clusters of the known queries' vectors, by k-means, or of documents' where no query is known; a document
    belongs to the nearest. TAS-B (arXiv 2104.06967), often taken for this, composes training batches of one topic.

    Args:
        topics (`int`, defaults to 100): how many; at most the known queries.
        seed (`int`, defaults to 42): of k-means.
    """

    topics: AtLeastOne = 100
    seed: Seed = 42
    name: ClassVar[str] = "topic_negatives"

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Whether a candidate is of the query's topic."""
        return (SameTopic(self.topics, self.seed),)

    def check_known(self, known: Sequence[Dataset], columns: PairColumns, dedupe: Dedupe) -> None:
        """Raise for more topics than known queries."""
        keys = [query_keys(rows, columns, dedupe) for rows in known]
        different = len(np.unique(np.concatenate(keys))) if keys else self.topics
        if different < self.topics:
            raise ConfigError(
                f"TopicNegatives(topics={self.topics}) makes topics of {different} different queries; at most one for "
                f"each is allowed. Give fewer, such as {max(different // 10, 1)}, or more pairs."
            )

    def for_one_query(self) -> TopicNegatives:
        """The same with one topic."""
        return replace(self, topics=1)

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed uniform sample of the topic's candidates of each query."""
        inside = np.flatnonzero(candidates.signals[self.signals[0].name] == 1)
        return inside[uniform_sample(candidates.take(inside), size, self.name, uniforms)]

    def depth(self, num_negatives: int) -> int:
        """200, or ten times the request."""
        return max(POOL, 10 * num_negatives)
