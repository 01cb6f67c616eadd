"""How much of its wording a candidate shares with a known positive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.signals.base import BoundSignal, Context
from hf_hardneg.signals.positive_similarity import paired
from hf_hardneg.text.words import UNSPACED, compatible

_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


@dataclass(frozen=True)
class Overlap:
    """Largest Jaccard similarity of a candidate's word 3-grams with those of a known positive, 0 to 1."""

    name: ClassVar[str] = "overlap"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        return _Overlap(context.sources.corpus)


@dataclass(frozen=True)
class _Overlap:
    corpus: Corpus

    @property
    def identity(self) -> str:
        return "overlap"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        docs, place = np.unique(candidates.doc, return_inverse=True)
        grams = [word_grams(text) for text in self.corpus.texts(docs).to_pylist()]
        known = [word_grams(text) for text in queries.positives.texts(self.corpus)]
        largest = np.zeros(len(candidates))
        for candidate, positive in zip(*paired(candidates, queries.positives.query, len(queries)), strict=True):
            one, other = grams[place[candidate]], known[positive]
            both = len(one & other)
            largest[candidate] = max(largest[candidate], both / max(len(one) + len(other) - both, 1))
        return largest


def word_grams(text: str) -> frozenset[str]:
    """A text's word 3-grams; all its words where it has fewer, and none where it has no word, as `+`."""
    found = words(text).split()
    return frozenset(" ".join(found[i : i + 3]) for i in range(max(len(found) - 2, min(len(found), 1))))


def words(text: str) -> str:
    """The words of a text, normalised, a space before and after each, to look for words in it; ideographs singly."""
    return f" {' '.join(_WORD.findall(compatible(text).casefold()))} "
