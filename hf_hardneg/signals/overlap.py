"""How much of its wording a candidate shares with a known positive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.signals.base import BoundSignal, Context, Signal
from hf_hardneg.text.hashes import largest_jaccard, word_grams
from hf_hardneg.text.words import UNSPACED, compatible

_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


@dataclass(frozen=True)
class Overlap(Signal):
    """Largest Jaccard similarity of a candidate's word 3-grams with the 3-grams of a known positive, 0 to 1."""

    name: ClassVar[str] = "overlap"
    needs_words: ClassVar[tuple[str, ...]] = ("document",)  # type: ignore[misc, assignment, unused-ignore]

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        return _Overlap(context.sources.corpus)


@dataclass(frozen=True)
class _Overlap:
    corpus: Corpus
    identity: ClassVar[str] = "overlap"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        positives = pa.array(queries.positives.texts(self.corpus), pa.large_string())
        starts = np.searchsorted(queries.positives.query, np.arange(len(queries) + 1))
        grams = word_grams(self.corpus.texts(candidates.doc), words)
        return largest_jaccard(grams, candidates.offsets(), word_grams(positives, words), starts)


def words(text: str) -> str:
    """The words of a text, normalised, a space before and after each, to look for words in it; ideographs singly."""
    return f" {' '.join(_WORD.findall(compatible(text).casefold()))} "
