"""How similar a candidate is to a known positive."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers import Retriever, Searcher
from hf_hardneg.signals.base import BoundSignal, Context, Signal

PAIRS = 1 << 20
"""(candidate, positive) pairs that are held at a time, where queries have many positives."""


@dataclass(frozen=True)
class PositiveSimilarity(Signal):
    """How similar a candidate is to the known positive nearest to it, as the retriever compares texts."""

    name: ClassVar[str] = "positive_similarity"

    def check(self, retriever: Retriever) -> None:
        """Raise where nothing compares documents."""
        if not retriever.can_score:
            raise ConfigError(
                f"TooSimilar() needs a retriever that scores documents chosen for it, and {retriever.name} does not. "
                "Use bm25 or dense, or drop that filter."
            )

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        return _PositiveSimilarity(context.searcher, context.sources.corpus)


@dataclass(frozen=True)
class _PositiveSimilarity:
    searcher: Searcher
    corpus: Corpus

    @property
    def identity(self) -> str:
        return f"positive similarity {self.searcher.identity}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        best, bounds = np.full(len(candidates), np.nan), candidates.offsets()
        pairs = candidates.counts() * np.bincount(queries.positives.query, minlength=len(queries))
        blocks = np.flatnonzero(np.diff(np.cumsum(pairs) // PAIRS, prepend=-1))
        for first, last in pairwise([*blocks, len(queries)]):
            positives, rows = queries.positives.between(first, last), slice(bounds[first], bounds[last])
            candidate, positive = paired(
                candidates.take(np.arange(rows.start, rows.stop)), positives.query, len(queries)
            )
            prepared = self.searcher.prepare_documents(positives, self.corpus)
            scores = self.searcher.score(prepared, positive, candidates.doc[rows][candidate])
            np.fmax.at(best[rows], candidate, scores)
        return best


def paired(candidates: Candidates, owners: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Every (candidate, entry) with the same query: positions in `candidates` and in `owners`, equally long.

    Args:
        candidates (`Candidates`): n.
        owners (`np.ndarray`): (m,) query of each entry, ascending.
        queries (`int`): how many there are.
    """
    counts = np.bincount(owners, minlength=queries)
    repeats = counts[candidates.query]
    candidate, within = spread(repeats)
    return candidate, (np.cumsum(counts) - counts)[candidates.query[candidate]] + within
