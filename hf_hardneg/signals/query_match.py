"""Whether a candidate is a known positive of a query with the same words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.arrays.grouping import among
from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.positives import KnownPositives
from hf_hardneg.corpus.queries import Queries, Reader, known_positives_of, word_keys
from hf_hardneg.signals.base import BoundSignal, Context, Signal


@dataclass(frozen=True)
class QueryMatch(Signal):
    """1 where a candidate is a known positive of a query that has the same words, else 0.

    The same words: in any order, without stop words, case and punctuation.
    """

    name: ClassVar[str] = "near_query"
    needs_words: ClassVar[tuple[str, ...]] = ("query",)  # type: ignore[misc, assignment, unused-ignore]

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        if not context.known:
            return _QueryMatch(context.reader, None)
        return _QueryMatch(context.reader, known_positives_of(context.known, context.reader, by="words"))


@dataclass(frozen=True)
class _QueryMatch:
    reader: Reader
    known: KnownPositives | None

    @property
    def identity(self) -> str:
        return f"near query {self.known and self.known.directory.name}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        if self.known is None:
            return np.zeros(len(candidates))
        groups, _ = self.reader.keys.groups()
        owner, _, rows, _ = self.known.of(word_keys(queries.texts), documents=len(groups))
        inside = rows >= 0
        bounds = np.searchsorted(owner[inside], np.arange(candidates.queries + 1))
        return among(groups[candidates.doc], candidates.query, groups[rows[inside]], bounds)
