"""Encoding of texts and images in one call: each kind apart, images decoded a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hf_hardneg.corpus.pictures import Picture, apart, has_pictures, refuse_lost
from hf_hardneg.errors import DataError

DECODED = 64
"""Images that are in memory, decoded, at a time."""


def each_kind_apart(contents: Sequence[str], encode: Callable[[Sequence[Any]], np.ndarray]) -> np.ndarray:
    """Encode texts, and images opened by PIL, in calls of one kind alone; vectors (n, d) in the order of both.

    Args:
        contents (`Sequence[str]`): n texts, and images as each a `Picture`.
        encode (`Callable`): gets texts or images.

    Raises:
        DataError: vectors of images and of texts have other widths, or a text is the name of an image.
    """
    refuse_lost(contents)
    if not has_pictures(contents):
        return encode(contents)
    texts, images = apart(contents)
    parts = [(texts, encode([contents[row] for row in texts]))] if len(texts) else []
    for start in range(0, len(images), DECODED):
        rows = images[start : start + DECODED]
        parts.append((rows, encode([_opened(contents[row]) for row in rows])))
    widths = sorted({vectors.shape[1] for _, vectors in parts})
    if len(widths) > 1:
        raise DataError(
            f"The encoder returned vectors of {widths[0]} and of {widths[1]} values; texts and images need one width, "
            "and one space, to be compared. Give a model of both."
        )
    matrix = np.empty((len(contents), widths[0]), np.float32)
    for rows, vectors in parts:
        matrix[rows] = vectors
    return matrix


def _opened(content: str) -> Any:
    return content.opened() if isinstance(content, Picture) else content
