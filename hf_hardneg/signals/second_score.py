"""What a second retriever says of a candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers import BM25, Dense, Retriever, Searcher, bound, check_retrievers
from hf_hardneg.retrievers.base import BOTH, Takes
from hf_hardneg.signals.base import BoundSignal, Context, Signal


@dataclass(frozen=True)
class SecondScore(Signal):
    """The query's score of a candidate in the other view: BM25 for what vectors found, vectors for what words found.

    Args:
        view (`Retriever`, *optional*): another view, such as `Sparse()`.
    """

    view: Retriever | None = None

    def __post_init__(self) -> None:
        if self.view is None:
            return
        check_retrievers([self.view])
        if not self.view.can_score or self.view.scored_depth:
            raise ConfigError(
                f"Disagreement(view={self.view.name}) needs a view that scores any document of the corpus; retrievers "
                "that can_score are allowed, without a cross-encoder. Give BM25(), Dense() or Sparse()."
            )

    @property
    def name(self) -> str:
        """Such as `"second_score"`, or `"second_score by sparse"`."""
        return "second_score" if self.view is None else f"second_score by {self.view.name}"

    def uses_vectors(self, retriever: Retriever) -> bool:
        """Whether the other view is by vectors that are given."""
        return retriever.score_kind == "bm25" if self.view is None else self.view.uses_vectors

    def takes(self) -> Takes:
        """Which vectors those are."""
        return "dense" if self.view is None else self.view.takes

    @property
    def needs_words(self) -> tuple[str, ...]:
        """See `Signal`: of both sides, unless another view reads none."""
        return BOTH if self.view is None else self.view.needs_words

    def check(self, retriever: Retriever) -> None:
        """Raise where candidates are in no order that a second could contradict."""
        if retriever.score_kind == "none":
            raise ConfigError(
                f"Disagreement() needs a retriever that scores, and {retriever.name} does not. Use bm25 or dense."
            )
        if self.view is not None and self.view.name == retriever.name:
            raise ConfigError(
                f"Disagreement(view={type(self.view).__name__}(...)) would compare {retriever.name} with itself; "
                "another kind of view is allowed. Give one, or drop view=."
            )

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        other = Dense() if context.searcher.score_kind == "bm25" else BM25()
        return _SecondScore(bound(self.view or other, context.sources))


@dataclass(frozen=True)
class _SecondScore:
    searcher: Searcher

    @property
    def identity(self) -> str:
        return f"second score {self.searcher.identity}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        prepared = self.searcher.prepare(queries)
        return self.searcher.score(prepared, candidates.query, candidates.doc)
