"""What a terminal shows of text from outside: the text, never what its control characters would do."""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Control characters but tabs and ends of lines, marks that turn the direction of text, what is invisible or breaks a
line besides, and half surrogates. Joiners stay: scripts and emoji are spelled with them."""


def shown(text: str) -> str:
    r"""The text, with an escape in the place of each character that a terminal would obey or not show.

    Everything from outside goes through here before it is printed: rows, cards, names of files and ids, replies, and
    what errors and warnings quote of them.

    Example:
        >>> from hf_hardneg.terminal import shown
        >>> shown("a name\x1b[2J\r")
        'a name\\x1b[2J\\r'
    """
    return _UNSEEN.sub(_escape, text)


def _escape(character: re.Match[str]) -> str:
    return character.group().encode("unicode_escape").decode("ascii")
