"""Mark the words of a text that others share with it, so that people see at a glance where texts agree and differ."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

from hf_hardneg.text.analysis import Analyzer
from hf_hardneg.text.words import UNSPACED

LONGEST = 20_000
"""Characters of a text that are shown."""
ALIKE = 0.5
"""Share of a text's words that a positive has too, from which it is told by what differs."""

Mark = Literal["", "query", "shared", "differs"]
_WORDS = re.compile(rf"[{UNSPACED}]{{2}}|[^\W{UNSPACED}]+(?:['\u2019]s\b)?")
_ANALYZE = Analyzer()


class Run(NamedTuple):
    """A piece of a text, and what is said of it.

    Args:
        text (`str`): the piece.
        mark (`str`): `"query"` for words of the query, `"shared"` for words of the positive that it is compared with,
            `"differs"` for words that neither has, and nothing for all between.
    """

    text: str
    mark: Mark


def terms_of(text: str) -> frozenset[str]:
    """Return the stems of a text's words, without stop words: what BM25 compares."""
    return frozenset(_ANALYZE(text[:LONGEST]))


def marked(text: str, query: Collection[str], other: Collection[str]) -> list[Run]:
    """Cut a text into runs; joined, they are the text, or its first `LONGEST` characters and a sign that it goes on.

    A text that has at least half of its words from the other one is told by the words that differ, any other by the
    words that both have.

    Args:
        text (`str`): what is marked.
        query, other (`Collection[str]`): `terms_of` the query, and of the text with which it is compared.
    """
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    places = [(match.start(), match.end(), frozenset(_ANALYZE(match[0]))) for match in _WORDS.finditer(shown)]
    terms = [word for *_, word in places if word]
    is_alike = bool(other) and sum(not word.isdisjoint(other) for word in terms) >= ALIKE * max(len(terms), 1)
    runs, end = [], 0
    for start, stop, word in places:
        mark = _mark(word, query, other, is_alike)
        if mark:
            runs += [Run(shown[end:start], ""), Run(shown[start:stop], mark)]
            end = stop
    return [run for run in [*runs, Run(shown[end:], "")] if run.text]


def _mark(word: frozenset[str], query: Collection[str], other: Collection[str], is_alike: bool) -> Mark:
    if not word:
        return ""
    if not word.isdisjoint(query):
        return "query"
    if word.isdisjoint(other):
        return "differs" if is_alike else ""
    return "" if is_alike else "shared"
