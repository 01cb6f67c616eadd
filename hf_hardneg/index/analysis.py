"""How texts become terms: words with stop words and stems, character bigrams where scripts have no spaces."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hf_hardneg.errors import unknown_name, warn
from hf_hardneg.identity import identify
from hf_hardneg.optional import require

STOP_WORDS = {
    "chinese": "STOPWORDS_CHINESE",
    "danish": "STOPWORDS_DANISH",
    "dutch": "STOPWORDS_DUTCH",
    "english": "STOPWORDS_EN",
    "french": "STOPWORDS_FRENCH",
    "german": "STOPWORDS_GERMAN",
    "italian": "STOPWORDS_ITALIAN",
    "korean": "STOPWORDS_KOREAN",
    "norwegian": "STOPWORDS_NORWEGIAN",
    "portuguese": "STOPWORDS_PORTUGUESE",
    "russian": "STOPWORDS_RUSSIAN",
    "spanish": "STOPWORDS_SPANISH",
    "swedish": "STOPWORDS_SWEDISH",
    "turkish": "STOPWORDS_TURKISH",
}
"""Languages with a stop word list, and its name in `bm25s.stopwords`."""

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff"
)
"""Thai, Lao, Burmese, Khmer, kana and Han: written without spaces between words."""

_WORD = re.compile(r"\b\w\w+\b")
_RUN = re.compile(rf"[{UNSPACED}]+|[^\W{UNSPACED}][^\W{UNSPACED}]+")
_UNSPACED = re.compile(rf"[{UNSPACED}]")


@dataclass(frozen=True, kw_only=True)
class Analyzer:
    """Lower-cased words of two or more characters; character bigrams in scripts without spaces.

    Args:
        language (`str`, *optional*, defaults to `"english"`): whose stop words are dropped; `None` drops none.
        stem (`bool`, defaults to `False`): reduce words to Snowball stems of `language`; needs the `stem` extra.
    """

    language: str | None = "english"
    stem: bool = False

    def __post_init__(self) -> None:
        if self.language is not None and self.language not in STOP_WORDS:
            raise unknown_name("language", self.language, STOP_WORDS)
        if self.stem:
            _stemmer(self.language)

    def __call__(self, text: str) -> list[str]:
        """The terms of a text, in order, repeated as often as they occur."""
        text = text.lower()
        if text.isascii() or not _UNSPACED.search(text):
            terms = _WORD.findall(text)
        else:
            terms = [term for run in _RUN.findall(text) for term in _split_run(run)]
        stop = _stop_words(self.language)
        terms = [term for term in terms if term not in stop]
        return _stemmer(self.language).stemWords(terms) if self.stem else terms


def _split_run(run: str) -> list[str]:
    if not _UNSPACED.match(run):
        return [run]
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


@functools.cache
def _stop_words(language: str | None) -> frozenset[str]:
    if language is None:
        return frozenset()
    import bm25s.stopwords

    return frozenset(getattr(bm25s.stopwords, STOP_WORDS[language]))


@functools.cache
def _stemmer(language: str | None) -> Any:
    stemmer = require("Stemmer", extra="stem", needed_by="Analyzer(stem=True)")
    known = [name for name in STOP_WORDS if name in stemmer.algorithms()]
    if language not in known:
        raise unknown_name("stemming language", str(language), known)
    return stemmer.Stemmer(language)


Tokenizer = Callable[[str], Sequence[str]]


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """What identifies a tokenizer: its fields where it is an `Analyzer`, else its code and state, see `identify`."""
    if type(tokenizer) is Analyzer:
        return repr({field.name: getattr(tokenizer, field.name) for field in fields(tokenizer)})
    return identify(tokenizer, what="tokenizer")


ENOUGH_TO_JUDGE = 200
"""Characters below which the lengths of terms say nothing about a tokenizer."""


def warn_if_broken(characters: int, terms: int) -> None:
    """Warn when terms are implausibly long or short for what was read, as after a tokenizer for another script.

    Args:
        characters (`int`): read so far, without white space.
        terms (`int`): produced from them.
    """
    if characters >= ENOUGH_TO_JUDGE and not 1.2 <= characters / max(terms, 1) <= 25:
        warn(
            f"The tokenizer made {terms} terms of {characters} characters ({characters / max(terms, 1):.1f} characters "
            "per term; 2 to 15 is usual). Retrieval will be poor: pass a tokenizer for this language, "
            "tokenizer=callable(str) -> list[str]."
        )
