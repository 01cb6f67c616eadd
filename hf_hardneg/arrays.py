"""Numbers as other libraries return them, as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


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
    """The same without tensors, whose bfloat16 NumPy does not know."""
    if isinstance(values, list | tuple):
        return [_on_cpu(one) for one in values] if any(hasattr(one, "detach") for one in values[:1]) else values
    if not hasattr(values, "detach"):
        return values
    if str(getattr(values, "layout", "torch.strided")) != "torch.strided":
        raise TypeError(f"a tensor of layout {values.layout}; call its to_dense()")
    plain = values.detach()
    return (plain.float() if plain.is_floating_point() else plain).cpu().numpy()
