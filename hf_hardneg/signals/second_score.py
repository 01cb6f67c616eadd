"""What a second retriever says of a candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers import BM25, Dense, Retriever, Searcher
from hf_hardneg.signals.base import BoundSignal, Context, Signal


@dataclass(frozen=True)
class SecondScore(Signal):
    """The query's score of a candidate in the other view: BM25 for what vectors found, vectors for what words found."""

    name: ClassVar[str] = "second_score"

    def uses_vectors(self, retriever: Retriever) -> bool:
        """Whether the other view is by vectors."""
        return retriever.score_kind == "bm25"

    def check(self, retriever: Retriever) -> None:
        """Raise where candidates are in no order that a second could contradict."""
        if retriever.score_kind == "none":
            raise ConfigError(
                f"Disagreement() needs a retriever that scores, and {retriever.name} does not. Use bm25 or dense."
            )

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        other = Dense() if context.searcher.score_kind == "bm25" else BM25()
        return _SecondScore(other.bind(context.sources))


@dataclass(frozen=True)
class _SecondScore:
    searcher: Searcher

    @property
    def identity(self) -> str:
        return f"second score {self.searcher.identity}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        prepared = self.searcher.prepare(queries)
        return self.searcher.score(prepared, candidates.query, candidates.doc)
