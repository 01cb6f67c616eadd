"""Where words begin and end: by rules that suit any script, or by Lucene's (Unicode Standard Annex #29).

`regex` rather than `re` for what is not ASCII: only it knows the Unicode properties, and that a vowel sign is no end of
a word.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator

import regex

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, kana and Han: written without spaces between words."""

LONGEST = 255
"""Characters after which Lucene cuts a word."""

_EMOJI = (
    r"\p{Regional_Indicator}{2}|[#*]\ufe0f?\u20e3"
    r"|\p{Extended_Pictographic}[\p{Mn}\p{Emoji_Modifier}]*(?:\u200d\p{Extended_Pictographic}[\p{Mn}\p{Emoji_Modifier}]*)*"
)
_ASCII = re.compile(r"\w+(?:(?<=\d)[.,](?=\d)\w+|(?<=\b[a-z])(?:\+\+|#(?!\w)))*(?:'s\b)?", re.ASCII)
_LETTER = rf"[[\p{{L}}\p{{N}}_]--[{UNSPACED}]]"
_INSIDE = rf"[[\p{{L}}\p{{N}}\p{{M}}\p{{Cf}}_]--[\u200b{UNSPACED}]]*"
_UNICODE = regex.compile(
    rf"[{UNSPACED}]+|{_LETTER}{_INSIDE}(?:(?<=\p{{Nd}})[.,\u066b\u066c](?=\p{{Nd}}){_INSIDE}"
    rf"|(?<=\b[a-z])(?:\+\+|\#(?!\w)))*(?:['\u2019]s\b)?|{_EMOJI}",
    regex.V1,
)
_UNSPACED = re.compile(f"[{UNSPACED}]")
_RAISED = regex.compile(r"(?=[[\p{No}\u2120\u2122]--[\u2080-\u2089]])", regex.V1)
_MARKS = regex.compile(r"\p{M}{64}(?=\p{M})", regex.V1)
_SHORT = 1024
_INVISIBLE = regex.compile(r"[\p{Cf}\ufe0e\ufe0f]")
_POSSESSIVE = ("'s", "\u2019s", "\uff07s")


def words(text: str) -> list[str]:
    """The words of a text, lower-cased, of any length.

    Inner points and commas stay within numbers (`1,000.5`), `c++` and `c#` are words, an emoji is one; all other signs
    part words, which may keep an English `'s`. Runs of scripts without spaces become pairs of characters. Compatible
    characters are one (NFKC: wide and narrow forms, ligatures), but raised ones do not join the word before them.
    """
    if text.isascii():
        return _ASCII.findall(text.lower())
    text = compatible(_RAISED.sub(" ", text)).replace("\u0130", "i").lower()
    parts = _UNICODE.findall(text)
    if not _UNSPACED.search(text):
        return parts
    return [part for word in parts for part in (_pairs(word) if _UNSPACED.match(word) else (word,))]


def compatible(text: str) -> str:
    """The text in the form NFKC, in which marks are sorted within runs of at most 64.

    Sorting a run takes time in the square of its length, and no script piles up as many; so a long text is cut there.
    """
    if len(text) <= _SHORT or not _MARKS.search(text):
        return unicodedata.normalize("NFKC", text)
    ends = [0, *(run.end() for run in _MARKS.finditer(text)), len(text)]
    return "".join(unicodedata.normalize("NFKC", text[start:stop]) for start, stop in itertools.pairwise(ends))


def bare(word: str) -> str:
    """A word without the possessive."""
    return word[:-2] if word.endswith(_POSSESSIVE) else word


def plain(word: str) -> str:
    """A word of `words` without underscores around it, the possessive, and what only directs its display.

    Soft hyphens, joiners and variation selectors go, so that a word is one however it is set.
    """
    return bare(word if word.isascii() else _INVISIBLE.sub("", word)).strip("_")


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


def _lucene() -> str:
    """The grammar of Lucene's StandardTokenizer; every class takes along the marks that follow it."""
    mark = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]"

    def marked(characters: str) -> str:
        return f"(?:[{characters}]{mark}*)"

    hebrew, join, katakana = marked(r"\p{WB=Hebrew_Letter}"), marked(r"\p{WB=ExtendNumLet}"), marked(r"\p{WB=Katakana}")
    letter, number = marked(r"\p{WB=ALetter}\p{WB=Hebrew_Letter}"), marked(r"\p{WB=Numeric}\uff10-\uff19")
    quote, double = marked(r"\p{WB=Single_Quote}"), marked(r"\p{WB=Double_Quote}")
    in_word = marked(r"\p{WB=MidLetter}\p{WB=MidNumLet}\p{WB=Single_Quote}")
    in_number = marked(r"\p{WB=MidNum}\p{WB=MidNumLet}\p{WB=Single_Quote}\ufe10\ufe14")
    letters = f"{letter}(?:(?:{join}*|{in_word}){letter})*(?:(?<={hebrew})(?:{double}{hebrew}|{quote}))?"
    numbers = f"{number}(?:(?:{join}*|{in_number}){number})*"
    part = f"(?:{katakana}(?:{join}*{katakana})*|(?:{numbers}|{letters})+)"
    single, unspaced = marked(r"\p{Script=Han}\p{Script=Hiragana}"), marked(r"\p{LB=SA}")
    shown = rf"(?:(?!\ufe0f){mark})*"
    picture = rf"[\p{{Extended_Pictographic}}{_PICTURES}]{shown}\ufe0f?"
    emoji = rf"\u200d?{picture}(?:(?:\u200d|(?<=\u200d)){picture})*|\p{{Emoji_Modifier}}{shown}"
    flag, key = marked(r"\p{Regional_Indicator}") + "{2}", rf"[#*]\ufe0f?\u20e3{mark}*"
    return f"{join}*{part}(?:{join}+{part})*{join}*|{single}|{unspaced}+|{emoji}|{flag}|{key}|{join}+"


_PICTURES = r"\u2388\u2600-\u2605\u2607-\u2612\u2614-\u2685\u2690-\u2705\u2708-\u2712\u2763-\u2767"
"""Pictographs of Unicode 12, by which Lucene goes, that later versions no longer count as such."""

_LUCENE = regex.compile(_lucene())
_LUCENE_ASCII = re.compile(
    r"_*[a-z0-9]+(?:(?:_+|(?<=[a-z])[':.](?=[a-z])|(?<=[0-9])[.,;'](?=[0-9]))[a-z0-9]+)*_*|_+", re.ASCII
)
_JOINS = regex.compile(r"(?:\p{WB=ExtendNumLet}[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]*)+")
"""What only joins letters: alone it is no word, and was matched so as to be passed over."""
_WINDOW = 4096
"""Characters among which the next word is looked for, where words are long."""


def lucene_words(text: str) -> list[str]:
    """The words of a text as Lucene's StandardTokenizer parts it, lower-cased as Java does."""
    if text.isascii():
        text, pattern = text.lower(), _LUCENE_ASCII
    else:
        pattern = _LUCENE
    tokens = pattern.findall(text)
    if max(map(len, tokens), default=0) > LONGEST:
        tokens = list(_cut(text, pattern))
    tokens = [word for word in tokens if word[0].isalnum() or not _JOINS.fullmatch(word)]
    if text.isascii():
        return tokens
    return ["".join(_JAVA.get(letter) or letter.lower() for letter in word) for word in tokens]


_JAVA = {"\u0130": "i"}
"""The letter that Python lowers to two characters, and Java to one."""


def _cut(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    place = 0
    while place < len(text):
        match = pattern.search(text, place, place + _WINDOW)
        if match is None:
            place += _WINDOW - LONGEST
            continue
        cut = pattern.match(text, match.start(), match.start() + LONGEST) or match
        yield cut[0]
        place = cut.end()
