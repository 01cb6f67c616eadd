"""What a second retriever says of a candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers import BM25, Dense, Searcher
from hf_hardneg.signals.base import BoundSignal, Context


@dataclass(frozen=True)
class SecondScore:
    """The query's score of a candidate in the other view: BM25 for what vectors found, vectors for what words found."""

    name: ClassVar[str] = "second_score"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        if context.searcher.score_kind == "none":
            raise ConfigError("Disagreement() needs a retriever that scores, and random does not. Use bm25 or dense.")
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
        return self.searcher.score_rows(prepared, candidates.query, candidates.doc)
