"""Validation: whether a model's reply holds a negative, and if not, why. Nothing a model says is believed."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_hardneg.errors import ConfigError
from hf_hardneg.generate.prompts import KEYS, PASSAGE
from hf_hardneg.runtime.arguments import ShareAboveZero, ZeroOrMore, check_fields
from hf_hardneg.text.analysis import Analyzer
from hf_hardneg.text.words import compatible

Pairwise = Callable[[list[str], list[str]], Any]
"""From queries and documents, n of each, to n numbers."""

LONGEST = 64 * 1024
REASONS = (
    *("size", "parse", "control", "empty", "refusal", "length", "language", "known_positive"),
    *("duplicate", "near_copy", "echo", "easy", "relevant"),
)
"""The reasons to reject a draft, in the order in which they are checked; see `Validation`."""

ECHO = 8
SHARE = 0.1
_FENCED = re.compile(r"```(?:json)?(.*?)```", re.DOTALL | re.IGNORECASE)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_REFUSAL = re.compile(
    r"""\W*(
      (i\W?m\ (very\ |really\ )?sorry|sorry,|(i\ )?apologi[sz]e)
    | i\ (can\W?t|cannot|can\ not|won\W?t|will\ not|am\ (not\ able|unable))\b
    | (as|i\W?m|i\ am)\ an?\ (ai|large\ language|language|virtual)\b
    | (sure|certainly|of\ course|absolutely)[,!:.]
    | here(\W?s|\ is|\ are)\ (a|an|the|my|your|one)\ [^.]{0,60}(passage|negative|json)
    | (n/?a|none|null|undefined|unknown)\W*$
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_META = re.compile(
    r"""\bas\ an\ ai\b | \b(hard|synthetic)\ negatives?\b | \bnegative[ _]passage\b
    | \b(passage|query|prompt|instructions?|text)\ above\b | \b(given|user\W?s)\ query\b | \bsystem\ prompt\b
    | \bignore\ (all\ |the\ |any\ )?(previous|above|prior)\b
    | \$\{?(query|positive|domain|difficulty|length|schema)\b | \{\{ | \{%
    | <\| | \[/?INST\] | <</?SYS>> | </?(think|system|assistant|user|passage)> | \[(insert|your|todo)\b
    | \blorem\ ipsum\b""",
    re.IGNORECASE | re.VERBOSE,
)
_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_words = Analyzer(language=None)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A reply, and what it must not be.

    Args:
        reply (`str`): all that the model said.
        query (`str`), shown (`str`): the texts of the prompt.
        positives (`tuple[str, ...]`): of the row.
        echoes (`frozenset[tuple[str, ...]]`): runs of `ECHO` words of the prompt's own text, see `runs`.
        easiest (`float`, *optional*): lowest score of the row's retrieved negatives.
    """

    reply: str
    query: str
    shown: str
    positives: tuple[str, ...]
    echoes: frozenset[tuple[str, ...]]
    easiest: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The passage of a reply, as far as there is one, and why it is rejected (`None` where it is not)."""

    text: str
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Checks of a draft, in this order; the first that fails is its reason.

    | reason | the reply or passage |
    |---|---|
    | `size` | is longer than 64 KiB; it is not parsed |
    | `parse` | is not one JSON object of exactly the schema's strings (a code fence or words around it are forgiven) |
    | `control` | holds control, unassigned or private characters, half a surrogate pair, or direction overrides |
    | `empty` | has no word |
    | `refusal` | refuses, talks about the task, or holds template syntax that no text of the row holds |
    | `length` | has fewer or more words, relative to the positive shown, than `length_ratio` |
    | `language` | is mostly in a script that the positive is not in; languages of one script are not told apart |
    | `known_positive` | is, by its text key, the query or a known positive |
    | `duplicate` | is a negative of the row already |
    | `near_copy` | shares `near_copy` of its words (Jaccard) with a positive, contains one or is part of one |
    | `echo` | repeats eight words in a row from the prompt's own text |
    | `easy` | scores below the row's easiest retrieved negative; only with a `scorer` |
    | `relevant` | has a probability of at least `tau_neg` to answer the query; only with a `judge` |

    Args:
        length_ratio (`tuple[float, float]`, defaults to (0.5, 2)): both bounds are allowed.
        near_copy (`float`, defaults to 0.9): Jaccard similarity from which on a draft is a copy.
        scorer (`Callable[[list[str], list[str]], array]`, *optional*): of queries and documents, to scores as
            in `negative_scores`, such as `RetrieverScorer`.
        judge (`Callable[[list[str], list[str]], array]`, *optional*): of the same, to probabilities of relevance, such
            as a cross-encoder's.
        tau_neg (`float`, defaults to 0.1): probability from which on a draft may answer the query.

    Raises:
        ConfigError: bounds that nothing meets.
    """

    length_ratio: tuple[ZeroOrMore, ZeroOrMore] = (0.5, 2.0)
    near_copy: ShareAboveZero = 0.9
    scorer: Pairwise | None = None
    judge: Pairwise | None = None
    tau_neg: ShareAboveZero = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
        low, high = self.length_ratio
        if not low < high:
            raise ConfigError(f"length_ratio={self.length_ratio} lets nothing through; give (low, high), as (0.5, 2).")

    def verdicts(self, drafts: Sequence[Draft], known: Callable[[list[str]], list[str | None]]) -> list[Verdict]:
        """Judge some drafts.

        Args:
            drafts (`Sequence[Draft]`): n.
            known (`Callable`): from the passages of all drafts (n) to `"known_positive"`, `"duplicate"` or `None`.

        Raises:
            ConfigError: the judge returns something else than probabilities, or either not one number for each pair.
        """
        read = [parsed(draft.reply) for draft in drafts]
        texts = [text for text, _ in read]
        keyed = known([text if reason is None else "" for text, reason in read])
        reasons = [
            reason or self._reason(draft, text, key)
            for draft, (text, reason), key in zip(drafts, read, keyed, strict=True)
        ]
        self._score(drafts, texts, reasons)
        return [Verdict(text=text, reason=reason) for text, reason in zip(texts, reasons, strict=True)]

    def _reason(self, draft: Draft, text: str, key: str | None) -> str | None:
        words, shown = _words(text), _words(draft.shown)
        if not words:
            return "empty"
        if _meta(text, (draft.query, *draft.positives)):
            return "refusal"
        low, high = self.length_ratio
        if not low <= len(words) / max(len(shown), 1) <= high:
            return "length"
        if in_another_script(text, draft.shown):
            return "language"
        if key is not None:
            return key
        if any(self._copies(text, words, positive) for positive in draft.positives):
            return "near_copy"
        return "echo" if runs(words) & draft.echoes else None

    def _copies(self, text: str, words: list[str], positive: str) -> bool:
        theirs = _words(positive)
        either = {*words, *theirs}
        if either and len({*words} & {*theirs}) / len(either) >= self.near_copy:
            return True
        inner, outer = f" {' '.join(theirs)} ", f" {' '.join(words)} "
        return bool(theirs) and (inner in outer or outer in inner)

    def _score(self, drafts: Sequence[Draft], texts: list[str], reasons: list[str | None]) -> None:
        """Reject, in place, passages that are not hard, and those that may be relevant."""
        hard = [i for i, reason in enumerate(reasons) if reason is None and drafts[i].easiest is not None]
        for i, score in zip(hard, _numbers("scorer", self.scorer, drafts, texts, hard), strict=True):
            if score < (drafts[i].easiest or 0.0):
                reasons[i] = "easy"
        left = [i for i, reason in enumerate(reasons) if reason is None]
        chances = _numbers("judge", self.judge, drafts, texts, left)
        if ((chances > 1) | ((chances < 0) & np.isfinite(chances))).any():
            raise ConfigError(
                f"judge= returned {chances.min():.3g} to {chances.max():.3g}, which are no probabilities; it must "
                "return values in [0, 1]. Apply a sigmoid if these are logits."
            )
        for i, chance in zip(left, chances, strict=True):
            if chance >= self.tau_neg:
                reasons[i] = "relevant"


def _numbers(
    name: str, function: Pairwise | None, drafts: Sequence[Draft], texts: list[str], places: list[int]
) -> np.ndarray:
    """Return a function's numbers for the drafts at some places, (n,) float64; without one, numbers that pass."""
    if function is None or not places:
        return np.full(len(places), np.inf if name == "scorer" else -np.inf)
    numbers = np.asarray(function([drafts[i].query for i in places], [texts[i] for i in places]), np.float64)
    if numbers.shape != (len(places),) or np.isnan(numbers).any():
        raise ConfigError(
            f"{name}= returned shape {numbers.shape} with {int(np.isnan(numbers).sum())} NaN for {len(places)} pairs; "
            "it must return one number for each pair. A retriever without an encoder cannot score new texts."
        )
    return numbers


def too_long(reply: str) -> bool:
    """Say whether a reply is longer than is read."""
    return len(reply) > LONGEST or len(reply.encode(errors="surrogatepass")) > LONGEST


def content_of(reply: str) -> Any:
    """Return the JSON of a reply, of which a code fence, thoughts and words around it are forgiven; else `None`."""
    reply = _THOUGHT.sub("", reply)
    fenced = _FENCED.search(reply)
    inner = reply[reply.find("{") : reply.rfind("}") + 1]
    for candidate in (reply, fenced[1] if fenced else "", inner):
        with contextlib.suppress(ValueError, RecursionError):  # no JSON: the next candidate may be
            return json.loads(candidate)
    return None


def parsed(reply: str) -> tuple[str, str | None]:
    """Return the passage of a reply, and why it cannot be read, if so."""
    if too_long(reply):
        return "", "size"
    content = content_of(reply)
    if not isinstance(content, dict) or {*content} != {*KEYS} or {*map(type, content.values())} != {str}:
        return "", "parse"
    text = content[PASSAGE].strip()
    return (text, None) if printable(text) else ("", "control")


def printable(text: str) -> bool:
    """Say whether a text holds nothing but characters to be read, and line breaks and tabs."""
    allowed = "\n\r\t"
    return not any(
        (unicodedata.category(char) in ("Cc", "Cs", "Cn", "Co") and char not in allowed) or char in _BIDIRECTIONAL
        for char in text
    )


def _meta(text: str, others: Sequence[str]) -> bool:
    """Say whether a text refuses or talks about the task, in words that the row's own texts do not have."""
    theirs = " ".join(others).casefold()
    said = {words[0].casefold() for words in _META.finditer(text)}
    return bool(_REFUSAL.match(text)) or any(words not in theirs for words in said)


def runs(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """Return every run of `ECHO` words."""
    return frozenset(tuple(words[i : i + ECHO]) for i in range(len(words) - ECHO + 1))


def echoes_of(parts: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """Return the runs of words in the fixed parts of a prompt."""
    return frozenset[tuple[str, ...]]().union(*(runs(_words(part)) for part in parts))


def in_another_script(text: str, model: str) -> bool:
    """Say whether most letters of a text are in a script that less than a tenth of another text's letters are in."""
    scripts, expected = (Counter(map(_script, filter(str.isalpha, compatible(each)))) for each in (text, model))
    if not scripts or not expected:
        return False
    return expected[scripts.most_common(1)[0][0]] < SHARE * expected.total()


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA") else name
