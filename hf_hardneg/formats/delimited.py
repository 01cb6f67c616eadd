"""CSV and TSV: what separates the cells, whether the first line names the columns, and every cell as it stands.

A first line names the columns where a cell is called as columns are, such as `question` or `docid`, or where it looks
like names and the lines below do not. Else it is a row, and columns are named by their number and by what is read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from hf_hardneg.errors import DataError
from hf_hardneg.formats.compressed import opened_text
from hf_hardneg.formats.roles import LABELS, is_usual_name

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Kind = Literal["pairs", "documents"]
NUMBERS = LABELS
"""Columns of CSV and TSV files that are numbers where all their values are; every other column is text as it stands."""
SEPARATORS = (",", ";", "\t", "|")
LOOKED_AT = 20
"""Rows below the first line that are compared with it."""
LONGEST_NAME, MOST_WORDS = 40, 3
LONGEST_CELL = 1 << 30
_FRACTION = re.compile(r"[+-]?\d+[.,]\d+")
_OF_EXCEL = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
"""The first line with which Excel writes down what separates the cells."""
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_NAMES_OF_PAIRS: dict[int, tuple[str, ...]] = {2: ("query", "positive"), 3: ("query", "positive", "negative")}
_NAMES_OF_DOCUMENTS: dict[int, tuple[str, ...]] = {
    1: ("text",),
    2: ("_id", "text"),
    3: ("_id", "title", "text"),
    4: ("_id", "url", "title", "text"),
}


def load_delimited(files: dict[str, list[str]], kind: Kind, told: Collection[str] = ()) -> DatasetDict:
    """Load files with all columns as text but `NUMBERS`, so that ids keep their zeros; empty cells are null.

    Args:
        files (`dict[str, list[str]]`): paths by split; all are read as the first one is.
        kind (`str`): what rows without names are: `"pairs"` or `"documents"`.
        told (`Collection[str]`, *optional*): names of columns that the user said, which the first line then holds.

    Raises:
        DataError: the file is empty; or it may or may not have names in its first line.
    """
    from datasets import DatasetDict, Features, Value, load_dataset

    first = Path(next(paths[0] for paths in files.values()))
    form = _form(first)
    lines = _first_lines(first, form)
    if not lines:
        raise DataError(
            f"{first} is empty; a CSV or TSV file has one row at least, and names of columns in its first line. Give "
            "one with rows."
        )
    is_named = _are_names(lines, told, first)
    names = _filled(lines[0], first) if is_named else _names_of(lines, kind, first)
    for path in (Path(path) for paths in files.values() for path in paths):
        _check_width(path, form, len(lines[0]))
        _check_alike(lines[0], is_named, _first_lines(path, form)[:1], path, first)
    if list(names) != lines[0]:
        form |= {"names": list(names), "header": 0 if is_named else None}
    options = {"features": Features(dict.fromkeys(names, Value("string"))), "keep_default_na": False}
    loaded = load_dataset("csv", data_files=files, na_values=[""], trust_remote_code=False, **options, **form)
    return DatasetDict({name: _with_numbers(rows) for name, rows in loaded.items()})


def _form(path: Path) -> dict[str, Any]:
    """Tell how a file is written: TSV has no quotes; CSV has them, and commas, or what Excel puts in their place."""
    with opened_text(path) as file:
        line = file.readline(LONGEST_CELL)
    said = _OF_EXCEL.fullmatch(line)
    skipped = {"skiprows": 1} if said else {}
    if ".tsv" in path.suffixes:
        return {"delimiter": "\t", "quoting": csv.QUOTE_NONE, **skipped}
    if said:
        return {"delimiter": said[1], **skipped}
    cells = {sign: next(csv.reader([line], delimiter=sign), []) for sign in SEPARATORS}
    named = [sign for sign in SEPARATORS if len(cells[sign]) > 1 and any(map(is_usual_name, cells[sign]))]
    if named or len(cells[","]) > 1:
        return {"delimiter": named[0] if named else ","}
    return {"delimiter": max(SEPARATORS, key=lambda sign: len(cells[sign]))}


def _filled(header: Sequence[str], path: Path) -> list[str]:
    """Name the columns that a header leaves without, as pandas writes its index, after their place.

    Raises:
        DataError: two columns have one name.
    """
    names = [cell if cell.strip() else f"column_{place}" for place, cell in enumerate(header)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"The first line of {path} names several columns {twice!r}; each needs its own. Rename one.")
    return names


def _check_alike(first: Sequence[str], is_named: bool, begins: list[list[str]], path: Path, as_in: Path) -> None:
    """Raise for a file beside others that does not begin as they do.

    Raises:
        DataError: one has names in its first line and the other has not, or has others.
    """
    if not begins or begins[0] == first:
        return
    if is_named and all(first) and sorted(begins[0]) == sorted(first):
        return
    if not is_named and len(begins[0]) == len(first) and not _are_usual(begins[0]):
        return
    raise DataError(
        f"{path} begins with {', '.join(map(repr, begins[0]))[:80]}, and {as_in} with "
        f"{', '.join(map(repr, first))[:80]}. Give files with the same names of columns in their first line, or read "
        "them one by one."
    )


def _are_usual(cells: Sequence[str]) -> bool:
    """Tell whether all cells that are not empty are called as columns are, be it with a mark behind."""
    words = [cell.strip().rstrip(" ?:*") for cell in cells if cell.strip()]
    return bool(words) and all(map(is_usual_name, words))


def _first_lines(path: Path, form: dict[str, Any]) -> list[list[str]]:
    return [row for _, row in _first_rows(path, form)]


def _first_rows(path: Path, form: dict[str, Any]) -> list[tuple[int, list[str]]]:
    """Read the first rows that are not empty, each with the number of the line where it ends."""
    before = csv.field_size_limit(LONGEST_CELL)
    skipped = form.get("skiprows", 0)
    try:
        with opened_text(path) as file:
            for _ in range(skipped):
                file.readline(LONGEST_CELL)
            reader = csv.reader(
                file, **{name: value for name, value in form.items() if name in ("delimiter", "quoting")}
            )
            rows = ((reader.line_num + skipped, row) for row in reader if row)
            return [numbered for _, numbered in zip(range(LOOKED_AT + 1), rows, strict=False)]
    finally:
        csv.field_size_limit(before)


def _check_width(path: Path, form: dict[str, Any], width: int) -> None:
    """Raise for a row of more cells than the first line has, which pandas would take for a row with a name in front.

    Raises:
        DataError: one of the first rows is so.
    """
    for line, row in _first_rows(path, form):
        if len(row) > width:
            raise DataError(
                f"Line {line} of {path} has {len(row)} cells, {', '.join(map(repr, row))[:80]}, and its first line "
                f"{width}. Put a text that holds {form['delimiter']!r} in double quotes, or name every column."
            )


def _are_names(lines: list[list[str]], told: Collection[str], path: Path) -> bool:
    """Tell whether the first line names the columns.

    Raises:
        DataError: it may be either.
    """
    first, below = lines[0], lines[1:]
    if set(told) & set(first):
        return True
    if _are_usual(first):
        return True
    if len(set(first)) < len(first) or not all(map(_may_be_name, first)) or _continues(first, below):
        return False
    if any(map(is_usual_name, first)) or not below:
        return True
    columns = zip(*(row for row in below if len(row) == len(first)), strict=True)
    if any(not any(map(_may_be_name, column)) for column in columns):
        return True
    raise DataError(
        f"The first line of {path}, {', '.join(map(repr, first))[:80]}, may be names of columns or a row. Begin the "
        "file with a line of names such as query and positive, or say what its columns are with columns=."
    )


def _may_be_name(cell: str) -> bool:
    """Tell whether a cell can be the name of a column: short, of a few words, no number and no sentence."""
    text = cell.strip()
    is_short = 0 < len(text) <= LONGEST_NAME and len(text.split()) <= MOST_WORDS
    return is_short and text[-1] not in ".?!" and not _NUMBER.fullmatch(text)


def _continues(first: Sequence[str], below: list[list[str]]) -> bool:
    """Tell whether the first line goes on below: `d1` stands above `d2`, as no name of a column does."""
    forms = [[re.sub(r"\d+", "0", cell) for cell in row] for row in (first, *below) if len(row) == len(first)]
    columns = list(zip(*forms, strict=True))
    return len(forms) > 1 and any("0" in column[0] and len(set(column)) == 1 for column in columns)


def _names_of(lines: list[list[str]], kind: Kind, path: Path) -> tuple[str, ...]:
    """Name the columns of a file without names.

    Raises:
        DataError: nothing says what so many columns are.
    """
    columns = list(zip(*(row for row in lines if len(row) == len(lines[0])), strict=True))
    if kind == "documents":
        names = _NAMES_OF_DOCUMENTS.get(len(columns))
        names = ("title", "text") if len(columns) == 2 and any(" " in cell.strip() for cell in columns[0]) else names
    else:
        names = _NAMES_OF_PAIRS.get(len(columns))
        if names is not None and len(columns) == 3 and all(_is_id(cell) for column in columns for cell in column):
            names = ("query_id", "positive_ids", "negative_pid")
        elif names is not None and len(columns) == 3 and all(map(_NUMBER.fullmatch, columns[2])):
            names = ("query", "positive", "label")
        elif names is not None and len(columns) == 3 and not any(" " in cell.strip() for cell in columns[0]):
            names = ("query_id", "query", "positive")
    if names is None:
        what = "a query and its positive, and a negative or label" if kind == "pairs" else "an id, a title and a text"
        raise DataError(
            f"{path} has {len(columns)} columns without names; without names are read {what}, in this order. Begin "
            "the file with a line of names."
        )
    return names


def _is_id(cell: str) -> bool:
    return any(map(str.isdigit, cell)) and " " not in cell.strip() and not _FRACTION.fullmatch(cell.strip())


def _with_numbers(rows: Dataset) -> Dataset:
    """Cast the columns `NUMBERS` to the first kind of number that fits all their values; else they stay text."""
    from datasets import Value

    for name in set(NUMBERS) & set(rows.column_names):
        values = rows.data.column(name)
        for kind in ("int64", "float64"):
            try:
                values.cast(kind)
            except pa.ArrowInvalid:
                continue
            rows = rows.cast_column(name, Value(kind))
            break
    return rows
