"""Token vectors: for each text a vector of each of its tokens, as late interaction compares them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.arrays.vectors import as_numbers
from hf_hardneg.errors import DataError

ALLOWED = "a list with a matrix (tokens, width) of finite numbers for each text, all of one width,"
LARGEST = float(np.finfo(np.float16).max)
"""Documents' vectors are stored as float16."""


@dataclass(frozen=True, eq=False)
class TokenRows:
    """Token vectors of n texts.

    Args:
        pointers (`np.ndarray`): (n + 1,) int64, where the tokens of each text begin.
        vectors (`np.ndarray`): (tokens, d) float32 or float16.
    """

    pointers: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.pointers) - 1

    @property
    def width(self) -> int:
        """Width of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def sizes(self) -> np.ndarray:
        """How many tokens each text has, (n,) int64."""
        return np.diff(self.pointers)

    def __getitem__(self, rows: np.ndarray) -> TokenRows:
        """The vectors of some texts, by their positions."""
        pointers, places = chosen(self.pointers, rows)
        return TokenRows(pointers, self.vectors[places])

    @classmethod
    def joined(cls, parts: Sequence[TokenRows]) -> TokenRows:
        """The vectors of one or more lists of texts, one after the other; those without a token have any width."""
        pointers = np.cumsum(np.concatenate([np.zeros(1, np.int64), *(part.sizes for part in parts)]))
        held = [part.vectors for part in parts if len(part.vectors)] or [parts[0].vectors]
        return cls(pointers, np.concatenate(held))


def chosen(pointers: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pointers of some texts, one after the other, and the places of their tokens among all, int64."""
    sizes = np.diff(pointers)[rows]
    group, within = spread(sizes)
    return np.concatenate([[0], np.cumsum(sizes)]), pointers[rows][group] + within


def token_rows(values: Any, *, what: str, count: int | None = None, start: int = 0, width: int = 0) -> TokenRows:
    """Token vectors in any form that NumPy reads, checked; float32.

    Args:
        values: a matrix for each text, as arrays, tensors or lists; an empty one, or `None`, has no token.
        what (`str`): its name, for messages.
        count (`int`, *optional*): how many there must be.
        start (`int`): row number of the first one, for messages.
        width (`int`): that they must have; by default any.

    Raises:
        DataError: it is something else, one vector for each text among them, or holds values that are not finite or
            beyond what float16 stores.
    """
    rows = values if isinstance(values, TokenRows) else _converted(values, what, start, width)
    if count is not None and len(rows) != count:
        raise DataError(f"There are {len(rows)} of the {what} for {count} texts. Give one matrix for each, in order.")
    if width and len(rows.vectors) and rows.width != width:
        raise DataError(f"The {what} are {rows.width} wide, others {width}. Encode both sides with one model.")
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~(np.abs(rows.vectors) <= LARGEST).all(axis=1))
    if len(wrong):
        text = start + int(np.searchsorted(rows.pointers, wrong[0], "right")) - 1
        raise DataError(
            f"The {what} hold NaN, infinite or too large values, first in row {text}; finite numbers up to {LARGEST:g} "
            "are allowed. Look at that text (empty?) and at the model, then encode it again."
        )
    return rows


def _converted(values: Any, what: str, start: int, width: int) -> TokenRows:
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise DataError(f"The {what} are a {type(values).__name__}; {ALLOWED} is allowed. Give one.")
    matrices = [_matrix(value, f"Row {start + row} of the {what}") for row, value in enumerate(values)]
    widths = {matrix.shape[1]: row for row, matrix in enumerate(matrices) if len(matrix)}
    if len(widths) > 1:
        (first, row), (second, other) = sorted(widths.items())[:2]
        raise DataError(
            f"Row {start + row} of the {what} is {first} wide, row {start + other} {second}; {ALLOWED} is allowed. "
            "Encode all with one model."
        )
    none = np.zeros((0, next(iter(widths), width)), np.float32)
    pointers = np.cumsum([0, *map(len, matrices)], dtype=np.int64)
    return TokenRows(pointers, np.concatenate([none, *(matrix for matrix in matrices if len(matrix))]))


def _matrix(value: Any, where: str) -> np.ndarray:
    if value is None or (hasattr(value, "__len__") and not len(value)):
        return np.zeros((0, 0), np.float32)
    try:
        with np.errstate(over="ignore"):
            matrix = as_numbers(value).astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is no matrix of numbers: {error}; {ALLOWED} is allowed. Give one.") from error
    if matrix.ndim != 2 or not matrix.shape[1]:
        of = "one vector of a text, as Dense() takes it" if matrix.ndim == 1 else f"of shape {matrix.shape}"
        raise DataError(f"{where} is {of}; {ALLOWED} is allowed. Give one, or mine with 'dense'.")
    return matrix
