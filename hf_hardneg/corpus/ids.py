"""Ids as texts, whatever type their column has; and what such a column is called."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.corpus.encodings import plain
from hf_hardneg.corpus.pictures import are_pictures, names_of
from hf_hardneg.errors import ColumnError, DataError

ROW_NUMBER = "row_number"
"""The column of the role `id` where ids are row numbers from 0, unless a column is called so."""

_DOCUMENTS = (
    *("answer", "article", "candidate", "chunk", "context", "corpus", "ctx", "d", "doc", "document", "entry", "item"),
    *("p", "page", "para", "paragraph", "passage", "product", "psg", "record", "segment", "sentence", "text"),
)
USUAL = frozenset({"id", "uid", "uuid", "guid", "docno", *(f"{document}id" for document in _DOCUMENTS)})
"""Names of id columns, in lower case and without separators: `_id`, `docid`, `doc_id`, `corpus-id`, `DocID`, …"""
LARGE = 2**31
"""Bytes of text from which offsets need 64 bits."""
MOST_EXACT = 2**53
"""Up to here every whole number is a float64 of its own."""


def usual_names(present: Sequence[str]) -> list[str]:
    """Picks the columns that are called as id columns are."""
    return [name for name in present if re.sub(r"[\W_]", "", name).lower() in USUAL]


def row_ids(rows: np.ndarray, id_column: str | None) -> pa.Array:
    """Ids of rows (n,) of a corpus without a column of them, a string array.

    They are `row-0`, `row-1`, …, which no id of anybody's is taken for, or where `id_column` asks for it `0`, `1`, ….
    """
    numbers = pa.array(rows).cast(pa.string())
    return numbers if id_column == ROW_NUMBER else pc.binary_join_element_wise("row", numbers, "-")


def named_columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns of a table, classes (`ClassLabel`, also in lists) by their names instead of their numbers."""
    columns = dict(zip(table.column_names, table.columns, strict=True))
    for name, labels in class_names(table.schema).items():
        if name in columns:
            columns[name] = pa.chunked_array([named(plain(columns[name]), labels)])
    return columns


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of the classes in each column of `ClassLabel`, as `datasets` notes them in a schema."""
    noted = (schema.metadata or {}).get(b"huggingface", b"")
    if b"ClassLabel" not in noted:
        return {}
    labels_of = {name: _labels(feature) for name, feature in json.loads(noted)["info"]["features"].items()}
    return {name: labels for name, labels in labels_of.items() if labels is not None}


def _labels(feature: Any) -> list[str] | None:
    while isinstance(feature, Mapping) and "feature" in feature:
        feature = feature["feature"]
    return feature.get("names") if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" else None


def named(array: pa.Array, labels: list[str] | None) -> pa.Array:
    """Names for the numbers of classes, `None` where there are none; a number without a name, as -1, is null."""
    if labels is None:
        return array
    if is_listed(array.type):
        return lists_of(named(array.flatten(), labels), array)
    if not pa.types.is_integer(array.type):
        return array
    numbers = pc.if_else(pc.and_(pc.greater_equal(array, 0), pc.less(array, len(labels))), array, None)
    return pa.array(labels, pa.string()).take(numbers)


def is_listed(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def lists_of(values: pa.Array, lists: pa.Array) -> pa.LargeListArray:
    """Lists as long as others, null where those are, of flat values."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    missing = lists.is_null() if lists.null_count else None
    return pa.LargeListArray.from_arrays(offsets, values, mask=missing)


def as_text(column: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    """The values of a column of ids as strings, in lists where it holds lists; null stays null.

    Strings stay as they are, images are named by their pixels, and whole numbers are written in digits, also where a
    column that had holes made floats of them. Columns of mixed values, which `datasets` holds as JSON, are read value
    by value.

    Args:
        column (`pa.Array` or `pa.ChunkedArray`): (n,) values, or lists of values.
        name (`str`): of the column, for messages.

    Raises:
        ColumnError: the type is none of ids, such as a date or a fraction.
        DataError: a float is no whole number, or so large that digits are lost.
    """
    array = plain(column)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return as_text(array.dictionary_decode(), name)
    if is_listed(kind):
        return lists_of(as_text(array.flatten(), name), array)
    if isinstance(kind, pa.BaseExtensionType):
        return _of_extension(array, name)
    if are_pictures(kind):
        return names_of(array)
    if pa.types.is_floating(kind):
        array = _whole(array, name)
    whole = pa.types.is_decimal(kind) and kind.scale == 0
    if not (whole or is_text(kind) or pa.types.is_integer(array.type) or pa.types.is_null(kind)):
        _refuse(kind, name)
    return array if array.nbytes >= LARGE else array.cast(pa.string())


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def id_texts(column: pa.Array | pa.ChunkedArray, name: str, first_row: int | None = None) -> list[str]:
    """The ids in a column of one for each row, (n,); `flat_texts` says of what and when it raises."""
    texts = as_text(column, name)
    if is_listed(texts.type):
        _refuse(texts.type, name)
    refuse_nulls(texts, name, first_row)
    ids: list[str] = texts.to_pylist()
    return ids


def flat_texts(column: pa.Array | pa.ChunkedArray, name: str, first_row: int | None = None) -> tuple[np.ndarray, Any]:
    """Owner row (m,) int64 and value, a string array, of each id in a column of ids or of lists of them; none is null.

    Args:
        column (`pa.Array` or `pa.ChunkedArray`): (n,) values, or lists of values.
        name (`str`): of the column.
        first_row (`int`, *optional*): the row of the dataset that is the first of the column, for messages.

    Raises:
        ColumnError, DataError: as `as_text`, or a value is null.
    """
    texts = as_text(column, name)
    refuse_nulls(texts, name, first_row)
    if not is_listed(texts.type):
        return np.arange(len(texts)), texts
    owner = pc.list_parent_indices(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    values = texts.flatten()
    refuse_nulls(values, name, first_row, owner)
    return owner, values


def refuse_nulls(array: pa.Array, name: str, first_row: int | None = None, owner: np.ndarray | None = None) -> None:
    """Raise if a value is null, naming its row.

    Args:
        array (`pa.Array`): (n,) values.
        name (`str`): of the column.
        first_row (`int`, *optional*): the row of the dataset that is the first one here; by default rows are counted
            within the batch.
        owner (`np.ndarray`, *optional*): (n,) row of each value, where there are several in a row.

    Raises:
        DataError: one is.
    """
    if not array.null_count:
        return
    place = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
    row = (place if owner is None else int(owner[place])) + (first_row or 0)
    where = "of the batch" if first_row is None else "of the dataset"
    raise DataError(
        f"Column {name!r} is null in row {row} {where}; texts and ids may not be. Drop such rows with .filter() first, "
        "or fill them."
    )


def _whole(array: pa.Array, name: str) -> pa.Array:
    values = array.to_numpy(zero_copy_only=False).astype(np.float64)
    missing = np.isnan(values)
    wrong = np.flatnonzero(~missing & ((values != np.trunc(values)) | (np.abs(values) > MOST_EXACT)))
    if len(wrong):
        raise DataError(
            f"Column {name!r} holds floats, such as {values[wrong[0]].item()!r}; ids and texts are strings or whole "
            "numbers, and floats above 2**53 have lost digits. Read the column as strings where it comes from, such as "
            "by dtype=str in pandas."
        )
    return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)


def _of_extension(array: pa.Array, name: str) -> pa.Array:
    if array.type.extension_name == "arrow.json":
        return _of_json(array.storage.cast(pa.string()).to_pylist(), name)
    if array.type.extension_name == "arrow.uuid":
        texts = [None if value is None else str(UUID(bytes=value)) for value in array.storage.to_pylist()]
        return pa.array(texts, pa.string())
    _refuse(array.type, name)


def _of_json(values: list[str | None], name: str) -> pa.Array:
    """Ids that `datasets` keeps as JSON, since they are of several types; texts stand there with or without quotes."""
    read = [json.loads(value) if value is not None and value[:1] in ('"', "[", "{") else value for value in values]
    lists = [value if isinstance(value, list) else [value] for value in read]
    for value in (value for values in lists for value in values):
        if not isinstance(value, str | int | None) or isinstance(value, bool):
            raise ColumnError(
                f"Column {name!r} holds values of several types, such as {value!r}, which datasets keeps as Json; ids "
                "and texts are strings or whole numbers, or lists of those. Make them strings where they come from: "
                "casting the column would write JSON, with its quotes."
            )
    texts = [[None if value is None else str(value) for value in values] for values in lists]
    if any(isinstance(value, list) for value in read):
        return pa.array([None if value is None else row for value, row in zip(read, texts, strict=True)], _TEXTS)
    return pa.array([row[0] for row in texts], pa.string())


_TEXTS = pa.list_(pa.string())


def _refuse(kind: pa.DataType, name: str) -> NoReturn:
    cause = ""
    if pa.types.is_temporal(kind):
        cause = " Texts that look like dates or times were probably taken for such when the file was read."
    raise ColumnError(
        f"Column {name!r} holds {kind}; ids and texts are strings or whole numbers, or lists of those.{cause} Read the "
        "column as strings, such as by load_dataset(..., features=...), or name another."
    )
