"""Whether a candidate contains an answer of the row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.signals.base import BoundSignal, Context, Signal
from hf_hardneg.signals.overlap import words


@dataclass(frozen=True)
class AnswerMatch(Signal):
    """1 where a candidate's text contains an answer of the row, word for word, else 0."""

    name: ClassVar[str] = "contains_answer"
    needs_words: ClassVar[tuple[str, ...]] = ("document",)  # type: ignore[misc, assignment, unused-ignore]

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        if context.reader.columns.answer is None:
            raise ConfigError(
                "ContainsAnswer() needs answers and no column of them is named; pass columns={'answer': ...}."
            )
        return _AnswerMatch(context.sources.corpus)


@dataclass(frozen=True)
class _AnswerMatch:
    corpus: Corpus
    identity: ClassVar[str] = "contains answer"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        asked = queries.answer_counts()[candidates.query] > 0
        contained = np.zeros(len(candidates))
        texts = iter(map(words, self.corpus.texts(candidates.doc[asked]).to_pylist()))
        spoken = [words(answer) for answer in queries.answer]
        bounds = np.concatenate([[0], np.cumsum(queries.answer_counts())])
        for place in np.flatnonzero(asked):
            text, query = next(texts), candidates.query[place]
            answers = spoken[bounds[query] : bounds[query + 1]]
            contained[place] = any(answer.strip() and answer in text for answer in answers)
        return contained
