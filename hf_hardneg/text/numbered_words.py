"""Terms of many texts as numbers: ASCII is cut into words by a kernel, and each distinct word is analysed once."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from hf_hardneg.arrays.hashing import characters
from hf_hardneg.arrays.string_tables import StringTable, numbers_within
from hf_hardneg.text.analysis import MOST_REMEMBERED, Analyzer


class _Known(NamedTuple):
    """Words met so far: their table, their terms, "" for a stop word, and the numbers of those, -1 where left out."""

    table: StringTable
    terms: list[str]
    numbers: np.ndarray


def _nothing() -> _Known:
    return _Known(StringTable.of([]), [], np.zeros(0, np.int64))


def _unnumbered(terms: list[str]) -> np.ndarray:
    return np.full(len(terms), -1, np.int64)


@dataclass
class NumberedWords:
    """Finds the terms of texts as an `Analyzer` does, without asking it for a word twice.

    Args:
        analyzer (`Analyzer`): from texts to terms.
        number (`Callable[[list[str]], np.ndarray]`, *optional*): from n terms to their numbers, (n,) int64; those below
            0 are left out.
    """

    analyzer: Analyzer
    number: Callable[[list[str]], np.ndarray] = _unnumbered
    known: _Known = field(default_factory=_nothing, repr=False)

    def terms(self, texts: Sequence[str]) -> list[list[str]]:
        """The terms of each text, in order, repeated as often as they occur."""
        known, places, counts = self._placed(texts)
        terms = [known.terms[place] for place in places.tolist()]
        bounds = itertools.pairwise(np.concatenate([[0], np.cumsum(counts)]).tolist())
        return [[term for term in terms[first:last] if term] for first, last in bounds]

    def numbers(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the terms of n texts, in their order, (m,) int64, and where each text's begin, (n + 1,)."""
        known, places, counts = self._placed(texts)
        numbers = known.numbers[places]
        is_kept = numbers >= 0
        pointers = np.concatenate([[0], np.cumsum(is_kept)])[np.concatenate([[0], np.cumsum(counts)])]
        return numbers[is_kept], pointers

    def _placed(self, texts: Sequence[str]) -> tuple[_Known, np.ndarray, np.ndarray]:
        """What is known of words, the places of all words of the texts there, and how many each text has."""
        plain = self.analyzer.keeps_ascii
        other = [i for i, text in enumerate(texts) if not (plain and isinstance(text, str) and text.isascii())]
        ends, words, counts = _cut(*characters(pa.array(_without(texts, other), pa.large_string())))
        if not other:
            known, places = self._looked_up(ends, words)
            return known, places, counts
        cut = [self.analyzer.words(texts[i]) for i in other]
        more = pa.array(itertools.chain.from_iterable(cut), pa.large_string())
        further, letters = characters(more)
        ends, words = np.concatenate([ends, ends[-1] + further[1:]]), np.concatenate([words, letters])
        known, places = self._looked_up(ends, words)
        owner = np.concatenate([np.repeat(np.arange(len(texts)), counts), np.repeat(other, list(map(len, cut)))])
        return known, places[np.argsort(owner, kind="stable")], np.bincount(owner, minlength=len(texts))

    def _looked_up(self, ends: np.ndarray, words: np.ndarray) -> tuple[_Known, np.ndarray]:
        """What is known of words, and the places there of those that lie between `ends` in UTF-8 `words`."""
        known = self.known
        places = numbers_within(known.table, ends, words)
        new = np.flatnonzero(places < 0)
        if not len(new):
            return known, places
        if len(known.terms) >= MOST_REMEMBERED:
            self.known = _nothing()
            return self._looked_up(ends, words)
        text = words.tobytes()
        self.known = known = self._extended(known, dict.fromkeys(text[ends[i] : ends[i + 1]] for i in new.tolist()))
        return known, numbers_within(known.table, ends, words)

    def _extended(self, known: _Known, words: Iterable[bytes]) -> _Known:
        added = [word.decode() for word in words]
        terms = self.analyzer.terms(added)
        held = [place for place, term in enumerate(terms) if term]
        numbers = np.full(len(added), -1, np.int64)
        numbers[held] = self.number([terms[place] for place in held])
        return _Known(known.table.extended(added), [*known.terms, *terms], np.concatenate([known.numbers, numbers]))


def _without(texts: Sequence[str], left_out: list[int]) -> list[str]:
    """The texts with nothing in place of some."""
    kept = list(texts)
    for i in left_out:
        kept[i] = ""
    return kept


@njit(cache=True, nogil=True)
def _is_word(byte):
    return 97 <= byte <= 122 or 48 <= byte <= 57 or byte == 95


@njit(cache=True, nogil=True)
def _cut(bounds, data):
    """Cuts ASCII texts as `words.words` does: the bounds and the bytes of all words, and how many each text has."""
    out, filled = np.empty(bounds[-1] - bounds[0], np.uint8), 0
    ends, words = np.zeros(len(out) + 1, np.int64), 0
    counts = np.zeros(len(bounds) - 1, np.int64)
    for text in range(len(counts)):
        first, stop = bounds[text], bounds[text + 1]
        lower = np.empty(stop - first + 3, np.uint8)
        size = stop - first
        for i in range(size):
            byte = data[first + i]
            lower[i] = byte + 32 if 65 <= byte <= 90 else byte
        lower[size:] = 0
        place, before = 0, words
        while place < size:
            if not _is_word(lower[place]):
                place += 1
                continue
            end = _end_of_word(lower, place)
            out[filled : filled + end - place] = lower[place:end]
            filled += end - place
            words += 1
            ends[words] = filled
            place = end
        counts[text] = words - before
    return ends[: words + 1], out[:filled], counts


@njit(cache=True, nogil=True)
def _end_of_word(lower, start):
    """Where the word ends that begins at a place of lowered ASCII with three zeros behind it; see `words._ASCII`."""
    end, run = start, start  # `run`: where the letters, digits and underscores that end at `end` begin
    while True:
        while _is_word(lower[end]):
            end += 1
        last, sign, then = lower[end - 1], lower[end], lower[end + 1]
        if 48 <= last <= 57 and (sign == 44 or sign == 46) and 48 <= then <= 57:
            end += 1
            run = end
            continue
        if end - run == 1 and 97 <= last <= 122:
            if sign == 43 and then == 43:
                end += 2
            elif sign == 35 and not _is_word(then):
                end += 1
        break
    if lower[end] == 39 and lower[end + 1] == 115 and not _is_word(lower[end + 2]):
        end += 2
    return end
