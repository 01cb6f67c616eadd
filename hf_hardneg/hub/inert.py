"""Show user text in Markdown as it is, and never as more than text.

Tokens are masked, line ends and other white space become one space, and what cannot be seen (control characters,
marks that turn the direction of text, half surrogates) becomes U+FFFD.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from hf_hardneg.text.masking import masked

JOINERS = "\u200c\u200d"
"""Invisible characters that are part of how Persian, Indic scripts and emoji are spelled."""
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_SIMPLE = re.compile(r"[A-Za-z0-9_./:@+=,-]+(?: [A-Za-z0-9_./:@+=,-]+)*")


class Markdown(str):
    """Markdown of our own; any other text that a template prints goes through `inline`."""

    __slots__ = ()


def visible(text: str) -> str:
    """Put text on one line, without what cannot be seen."""
    words = " ".join(masked(text).split())
    return "".join(c if c in JOINERS or unicodedata.category(c)[0] != "C" else "\ufffd" for c in words)


def inline(text: str) -> Markdown:
    """Write running text with punctuation as character references, so that no renderer reads markup in it."""
    return Markdown(_PUNCTUATION.sub(lambda match: f"&#{ord(match[0])};", visible(text)) or "(empty)")


def name(text: str) -> Markdown:
    """Write a name as code where it holds letters, digits and the punctuation of names, else as running text."""
    shown = visible(text)
    return Markdown(f"`{shown}`") if _SIMPLE.fullmatch(shown) else inline(text)


def cut(text: str, length: int) -> str:
    """Put text on one line, without its end where it is longer than `length` characters."""
    shown = visible(text[: 100 * length])
    return shown if len(shown) <= length else f"{shown[: length - 1].rstrip()}…"


def fenced(code: str, language: str) -> Markdown:
    """Write a block of code, in a fence longer than any within."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", code)), 0)
    return Markdown(f"{fence}{language}\n{code.rstrip()}\n{fence}")


def printed(value: Any) -> Any:
    """Print a value in a template: numbers and our own Markdown as they are, all else through `inline`."""
    return value if isinstance(value, Markdown | int | float) else inline(str(value))
