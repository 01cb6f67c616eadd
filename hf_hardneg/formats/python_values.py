"""Values of Python as tables: lists, mappings, frames, Arrow tables and streams."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from hf_hardneg.corpus.encodings import CANNOT
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.formats.compressed import opened_text, suffix_of
from hf_hardneg.formats.delimited import Kind
from hf_hardneg.formats.inputs import json_rows
from hf_hardneg.formats.roles import is_usual_name

ID, TEXT = "_id", "text"
HEAD = 1 << 16
BY_COUNT = {2: ("query", "positive"), 3: ("query", "positive", "negative")}


def is_frame(value: Any) -> bool:
    """Tell whether a value is a frame of pandas or polars, or a table or batch of Arrow."""
    library = type(value).__module__.partition(".")[0]
    return isinstance(value, pa.Table | pa.RecordBatch) or (
        library in ("pandas", "polars") and hasattr(type(value), "columns")
    )


def of_frame(frame: Any) -> Any:
    """Make a `Dataset` of a frame; an index of ids becomes a column.

    Raises:
        ConfigError: two columns have one name.
        DataError: a column holds what no table does.
    """
    from datasets import Dataset

    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    if isinstance(frame, pa.Table):
        return Dataset(frame.replace_schema_metadata({}) if frame.schema.pandas_metadata else frame)
    if type(frame).__module__.startswith("polars"):
        return Dataset.from_polars(frame.collect() if hasattr(frame, "collect") else frame)
    if frame.columns.duplicated().any():
        name = frame.columns[frame.columns.duplicated()][0]
        raise ConfigError(f"The frame has several columns {name!r}, and each needs a name of its own. Rename them.")
    if frame.index.nlevels > 1:
        frame = frame.reset_index()
    elif frame.index.name is not None or not _is_counted(frame.index):
        name = frame.index.name or (ID if ID not in frame.columns else "index")
        frame = frame.rename_axis(index=name).reset_index(drop=name in frame.columns)
    frame = frame.set_axis(frame.columns.map(str), axis=1)
    try:
        return Dataset.from_pandas(frame, preserve_index=False)
    except CANNOT as error:
        raise DataError(
            f"The frame cannot be read as a table ({error}). Columns of one type each are allowed, of texts, numbers "
            "or lists. Give such a frame; images as a Dataset, or as a list of mappings."
        ) from error


def _of_rows(rows: Sequence[Mapping[Any, Any]]) -> Any:
    """Make a `Dataset` of mappings, with a column for each key that any of them has."""
    from datasets import Dataset

    return Dataset.from_dict({key: [row.get(key) for row in rows] for key in dict.fromkeys(chain(*rows))})


def _is_counted(index: Any) -> bool:
    """Tell whether an index only counts rows, of which some may be gone: it has whole numbers, and no name."""
    return str(index.dtype).startswith(("int", "uint"))


def of_list(values: Sequence[Any], kind: Kind, what: str) -> Any:
    """Make a `Dataset` of a list of texts, of rows as mappings, or of rows as tuples.

    Raises:
        ConfigError: it is a list of something else.
        DataError: it is empty, or its rows do not go together.
    """
    from datasets import Dataset

    if not len(values):
        raise DataError(f"{what} is an empty list; it needs one element at least. Give texts, or rows as mappings.")
    rows = list(values)
    try:
        if all(isinstance(row, str) for row in rows) and kind == "documents":
            return Dataset.from_dict({TEXT: list(map(str, rows))})
        if all(isinstance(row, Mapping) for row in rows):
            return _of_rows(rows)
        sizes = {len(row) for row in rows if isinstance(row, list | tuple)}
        if kind == "pairs" and len(sizes) == 1 and all(isinstance(row, list | tuple) for row in rows):
            names = BY_COUNT.get(sizes.pop())
            if names is not None:
                return Dataset.from_dict(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    except CANNOT as error:
        raise DataError(
            f"The rows of {what} do not go together ({error}). Give every row the same keys, with values of one type."
        ) from error
    wanted = "texts, or mappings with a text" if kind == "documents" else "mappings, or tuples (query, positive)"
    raise ConfigError(
        f"{what} is a list that begins with a {type(rows[0]).__name__}; all are to be {wanted}. Give such a list."
    )


def of_mapping(values: Mapping[Any, Any], kind: Kind, what: str) -> Any:
    """Make a `Dataset` of a mapping: from ids to documents, from queries to positives, or from names to columns.

    Raises:
        ConfigError: it is none of these.
        DataError: it is empty, or its columns have several lengths.
    """
    from datasets import Dataset

    if not values:
        raise DataError(f"{what} is an empty mapping; it needs one entry at least. Give one from ids to texts.")
    columns, entries = list(values), list(values.values())
    inside = values.get("data")
    if isinstance(inside, Sequence) and inside and isinstance(inside[0], Mapping):
        return of_list(inside, kind, what)
    try:
        if all(isinstance(name, str) for name in columns) and any(map(is_usual_name, columns)):
            if all(map(_is_column, entries)):
                return Dataset.from_dict({name: list(column) for name, column in values.items()})
            if kind == "pairs":
                return Dataset.from_list([dict(values)])
        if kind == "documents" and all(isinstance(entry, str) for entry in entries):
            return Dataset.from_dict({ID: list(map(str, columns)), TEXT: entries})
        if kind == "documents" and all(isinstance(entry, Mapping) for entry in entries):
            rows = [{ID: str(key), **entry} for key, entry in zip(columns, entries, strict=True)]
            return _of_rows(rows)
        if kind == "pairs" and all(isinstance(name, str) for name in columns):
            lists = [[entry] if isinstance(entry, str) else entry for entry in entries]
            if all(_is_column(entry) and all(isinstance(text, str) for text in entry) for entry in lists):
                return Dataset.from_dict({"query": columns, "positive": list(map(list, lists))})
    except CANNOT as error:
        raise DataError(f"{what} cannot be read as a table ({error}). Give entries of one kind.") from error
    strange = next((place for place, entry in enumerate(entries) if not isinstance(entry, (str, Mapping, list))), 0)
    wanted = (
        "from ids to texts, or to mappings with a text" if kind == "documents" else "from queries to their positives"
    )
    raise ConfigError(
        f"{what} is a mapping with the entry {str(columns[strange])[:40]!r}: {type(entries[strange]).__name__}; read "
        f"are mappings {wanted}, and from names of columns to lists. Give one of those."
    )


def _is_column(value: Any) -> bool:
    return isinstance(value, Iterable) and hasattr(value, "__len__") and not isinstance(value, str | bytes | Mapping)


def of_judgements(values: Mapping[Any, Any], what: str) -> Any:
    """Make a table of judgements of a mapping from a query's id to ids of documents, or to their grades.

    Raises:
        ConfigError: it is another mapping.
    """
    from datasets import Dataset

    rows: dict[str, list[Any]] = {"query-id": [], "corpus-id": [], "score": []}
    for query, documents in values.items():
        if not isinstance(documents, Mapping) and not _is_column(documents):
            raise ConfigError(
                f"{what} has a {type(documents).__name__} for the query {str(query)[:40]!r}; judgements map the id of "
                "a query to ids of documents, or to a mapping from those to grades. Give such a mapping."
            )
        grades = documents if isinstance(documents, Mapping) else dict.fromkeys(documents, 1)
        rows["query-id"] += [str(query)] * len(grades)
        rows["corpus-id"] += map(str, grades)
        rows["score"] += map(float, grades.values())
    return Dataset.from_dict(rows)


def value_in_json(path: Path) -> Any:
    """Read a JSON file that is no table: one object over all lines, or an array of texts or arrays; else `None`."""
    is_lines = suffix_of(path) != ".json"
    with opened_text(path) as file:
        start = "".join(file.read(HEAD).split(maxsplit=1))[:2]
        if start[:1] in ("[", '"'):
            return json_rows(path) if is_lines or start[1:] in ('"', "[") else None
        if start[:1] != "{" or is_lines:
            return None
        file.seek(0)
        first = next((line for line in file if line.strip()), "")
        try:
            value = json.loads(first)
            return None if any(line.strip() for line in file) else value
        except ValueError:
            file.seek(0)
        try:
            return json.load(file)
        except ValueError:
            return None
