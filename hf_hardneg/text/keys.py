"""Keys of texts: equal keys mean the same document.

Two texts are the same document when their keys are equal: Unicode NFKC, case-folded, white space collapsed, compared by
a 128-bit BLAKE2b digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

import numpy as np

from hf_hardneg.text.words import compatible

Dedupe = Literal["normalized", "exact", "off"]
KEY = np.dtype("S16")


def text_keys(texts: Iterable[str], dedupe: Dedupe) -> np.ndarray:
    """Keys of texts, (n,) of 16 bytes each; equal keys mean the same document.

    Args:
        texts (`Iterable[str]`): the texts.
        dedupe (`str`): `"normalized"` compares what a reader sees; `"exact"` and `"off"` compare the characters.
    """
    seen = map(normalized, texts) if dedupe == "normalized" else texts
    return np.array([blake2b(text.encode(), digest_size=16).digest() for text in seen], dtype=KEY)


def normalized(text: str) -> str:
    """Brings a text into the form that a reader sees: Unicode NFKC, case-folded, white space collapsed."""
    plain = text if text.isascii() else compatible(text)
    return " ".join(plain.casefold().split())


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it is empty, or of white space and characters without a width."""
    return not any(character.isprintable() and not character.isspace() for character in text)
