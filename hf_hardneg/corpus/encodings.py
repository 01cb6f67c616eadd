"""Columns of any library as Arrow, and Arrow's encodings of texts and lists as the plain ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.corpus.pictures import as_stored
from hf_hardneg.errors import ColumnError

CANNOT = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What Arrow raises for values that it has no type for."""


def as_arrow(values: Any, name: str) -> pa.ChunkedArray:
    """The values of a column, in whatever a user or library keeps them, as Arrow.

    Args:
        values (`Any`): a list, array, tensor, series or Arrow array, or a list of arrays or tensors.
        name (`str`): of the column, for the error.

    Raises:
        ColumnError: Arrow has no type for them.
    """
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, pa.Array):
        return pa.chunked_array([values])
    try:
        array = pa.array(_of_python(values), from_pandas=True)
    except CANNOT as error:
        raise ColumnError(
            f"Column {name!r} of type {type(values).__name__} cannot be read ({error}). Mining reads strings, whole "
            "numbers, lists of those, and vectors. Cast it, or name another column."
        ) from error
    if pa.types.is_null(array.type) and not len(array):
        array = pa.array([], pa.string())  # an empty frame of objects, from which engines infer what comes out
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _of_python(values: Any) -> Any:
    """Values that `pa.array` takes."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.float() if values.dtype.itemsize == 2 and values.is_floating_point() else values).numpy()
    if hasattr(values, "to_arrow"):
        return values.to_arrow()
    if isinstance(values, pa.Array) or hasattr(values, "__arrow_array__") or hasattr(values, "dtypes"):
        return values
    if hasattr(values, "__array__"):
        values = np.asarray(values)
    if isinstance(values, np.ndarray):
        return values if values.ndim == 1 and values.dtype.kind != "T" else list(values)
    if isinstance(values, Sequence) and not isinstance(values, str):
        return as_stored([_of_python(value) if hasattr(value, "detach") else value for value in values])
    return values


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array without dictionaries, views and fixed sizes: strings, numbers, lists."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    if pa.types.is_fixed_size_list(kind):
        return array.cast(pa.list_(kind.value_type))
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return pa.array(array.to_pylist(), pa.list_(kind.value_type))  # pyarrow 26 casts them to invalid arrays
    return array


def ordinary(kind: pa.DataType) -> pa.DataType:
    """The type of the same values as `datasets` infers it: strings and lists of 32-bit offsets, without views."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_dictionary(kind):
        return ordinary(kind.value_type)
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(ordinary(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(part.name, ordinary(part.type)) for part in kind])
    return kind
