"""Numbers and vectors as other libraries return them, as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_hardneg.errors import DataError


def as_numbers(values: Any) -> np.ndarray:
    """The numbers in an array, a tensor of any device and precision, or lists of them, in a type that NumPy has.

    Raises:
        TypeError, ValueError: they are no real numbers, or no rectangle of them.
    """
    array = np.asarray(_on_cpu(values))
    if array.dtype.kind == "O":
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf" and "float" not in array.dtype.name:
        raise TypeError(f"values of type {array.dtype.name}")
    return array if array.dtype.kind in "biuf" else array.astype(np.float32)


def _on_cpu(values: Any) -> Any:
    """Replaces tensors, whose bfloat16 NumPy does not know, by arrays."""
    if isinstance(values, list | tuple):
        return [_on_cpu(value) for value in values] if any(hasattr(value, "detach") for value in values[:1]) else values
    if not hasattr(values, "detach"):
        return values
    if str(getattr(values, "layout", "torch.strided")) != "torch.strided":
        raise TypeError(f"a tensor of layout {values.layout}; call its to_dense()")
    plain = values.detach()
    return (plain.float() if plain.is_floating_point() else plain).cpu().numpy()


def checked_vectors(vectors: Any, *, what: str, width: int | None = None, start: int = 0) -> np.ndarray:
    """Vectors as a finite float32 matrix (n, d).

    Args:
        vectors (array-like): what was given, numbers of any type but 8-bit integers, which may be packed bits.
        what (`str`): its name, for messages.
        width (`int`, *optional*): the d it must have.
        start (`int`): row number of the first vector, for messages.

    Raises:
        DataError: it is not a matrix of numbers, has another width, or holds NaN or infinite values.
    """
    try:
        with np.errstate(over="ignore"):
            numbers = as_numbers(vectors)
            matrix = np.ascontiguousarray(numbers, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The {what} are not a matrix of numbers: {_irregular(vectors, start) or error}. Give one vector per row, "
            "all as wide."
        ) from error
    if numbers.dtype in (np.int8, np.uint8):
        raise DataError(
            f"The {what} are of type {numbers.dtype}, which holds whole numbers or packed bits and does not say which. "
            "Cast numbers to float32; unpack bits to -1 and 1: np.unpackbits(packed.view(np.uint8), axis=1) * 2.0 - 1."
        )
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise DataError(f"The {what} have shape {matrix.shape}. Give a matrix (rows, width), one vector for each row.")
    if width is not None and matrix.shape[1] != width:
        raise DataError(
            f"The {what} are {matrix.shape[1]} wide, the index is {width} wide. Encode both sides with one model."
        )
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        rows = ", ".join(str(start + int(row)) for row in bad[:5])
        raise DataError(
            f"{len(bad)} of the {what} hold NaN, infinite or missing values, in rows {rows}. "
            "Look at those texts (empty ones?) and at the model, then encode them again."
        )
    return matrix


def _irregular(vectors: Any, start: int) -> str | None:
    """Says which row keeps a list of vectors from being a matrix: one without a vector, or of another width."""
    if not isinstance(vectors, list | tuple | np.ndarray):
        return None
    sizes = [len(row) if hasattr(row, "__len__") and not isinstance(row, str) else None for row in vectors]
    for row, size in enumerate(sizes):
        if vectors[row] is None:
            return f"row {start + row} has none"
        if size != sizes[0]:
            return f"row {start + row} is {size} wide, row {start} {sizes[0]}"
    return None
