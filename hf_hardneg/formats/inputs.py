"""Load what the command line is given as datasets."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hf_hardneg.corpus.loaded_from import remember
from hf_hardneg.errors import DataError, HardNegError
from hf_hardneg.store.disk import writing

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

LOADERS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    **{f".{name}{packed}": "json" for name in ("jsonl", "json") for packed in ("", ".gz")},
    **{f".{name}{packed}": "csv" for name in ("csv", "tsv") for packed in ("", ".gz")},
}
ALLOWED = (
    "a Parquet or Arrow file, a JSONL, JSON, CSV or TSV file, plain or .gz, a folder of save_to_disk or of Parquet "
    "files, or a Hub id"
)
NUMBERS = ("label", "labels", "score", "scores")
"""Columns of CSV and TSV files that are numbers where all their values are; every other column is text as it stands."""


def load_table(source: str, *, split: str = "train") -> Dataset:
    """Load the dataset behind a path or Hub id, memory-mapped.

    Args:
        source (`str`): a Parquet or Arrow file; a JSONL, JSON, CSV or TSV file, plain or `.gz`, of which CSV has quotes
            and TSV has none, and both have names in the first line; a folder saved by `save_to_disk`, a folder of
            Parquet files, or a Hub id such as `org/name` or `org/name:config`.
        split (`str`, defaults to `"train"`): which of several splits.

    Raises:
        DataError: nothing has that name, or it cannot be read.
    """
    from datasets import Dataset, DatasetDict

    loaded = load_splits(source, split=split)
    if isinstance(loaded, DatasetDict):
        if split not in loaded:
            raise DataError(f"{source} has no split {split!r}; it has {', '.join(loaded)}. Name one with --split.")
        loaded = loaded[split]
    if not isinstance(loaded, Dataset):
        raise DataError(f"{source} is a {type(loaded).__name__}; give {ALLOWED}.")
    remember(loaded, Path(source).name if Path(source).exists() else source)
    return loaded


def load_saved(folder: str) -> Dataset | DatasetDict:
    """Load what `save_to_disk` wrote, with all its splits and what it carries.

    Raises:
        DataError: the folder holds nothing of the kind.
    """
    from datasets import load_from_disk

    try:
        return load_from_disk(folder)
    except Exception as error:
        raise DataError(
            f"{folder} cannot be read ({type(error).__name__}: {error}). Give a folder that hf-hardneg mine or "
            "save_to_disk() wrote."
        ) from error


def load_splits(source: str, *, split: str = "train") -> Dataset | DatasetDict:
    """Load what `load_table` does, with all splits where it has several.

    Args:
        source (`str`): as for `load_table`.
        split (`str`, defaults to `"train"`): the split that a file without splits becomes.

    Raises:
        DataError: nothing has that name, or it cannot be read.
        StoreError: the disk has no room for the Arrow files of `datasets`.
    """
    from datasets import config

    try:
        with writing(config.HF_DATASETS_CACHE, other="the variable HF_DATASETS_CACHE"):
            return _load(source, split)
    except HardNegError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):
            raise DataError(f"{source} has no rows, and one is needed at least. Give {ALLOWED}, with rows.") from error
        raise DataError(f"{source} cannot be read ({type(cause).__name__}: {cause}). Give {ALLOWED}.") from error


def _load(source: str, split: str) -> Dataset | DatasetDict:
    from datasets import load_dataset, load_from_disk

    path = Path(source)
    if is_saved(path):
        return load_from_disk(source)
    if path.is_dir():
        return load_dataset("parquet", data_files={split: str(path / "**/*.parquet")}, trust_remote_code=False)
    if path.exists():
        return _load_file(path, split)
    if loader_of(path) or source.startswith(("/", ".", "~")) or source.count("/") > 1:
        raise DataError(f"There is no file or folder {source}. Give {ALLOWED}.")
    name, _, settings = source.partition(":")
    return load_dataset(name, settings or None, trust_remote_code=False)


def loader_of(path: Path) -> str | None:
    """Name the loader of `datasets` that reads a file by its suffix; `None` where none does."""
    return LOADERS.get("".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]))


def _load_file(path: Path, split: str) -> DatasetDict:
    from datasets import load_dataset

    loader, files = loader_of(path), {split: str(path)}
    if loader is None:
        raise DataError(f"{path} has the suffix {''.join(path.suffixes[-2:])!r}; give {ALLOWED}.")
    if loader == "csv":
        return _load_csv(path, split)
    if loader != "json":
        return load_dataset(loader, data_files=files, trust_remote_code=False)
    try:
        loaded = load_dataset("json", data_files=files, trust_remote_code=False)
    except Exception as error:
        _check_json(path, error)
        raise
    return without_times(loaded, path)


def _load_csv(path: Path, split: str) -> DatasetDict:
    """Load a file with all columns as text but `NUMBERS`, so that ids keep their zeros; empty cells are null."""
    from datasets import DatasetDict, Features, Value, load_dataset

    is_tsv = ".tsv" in path.suffixes
    form: Any = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if is_tsv else {"delimiter": ","}
    with _opened(path) as file:
        header = next(csv.reader(file, **form), [])
    if not header:
        raise DataError(f"{path} is empty; its first line must name the columns. Give {ALLOWED}.")
    text = Features(dict.fromkeys(header, Value("string")))
    form |= {"features": text, "keep_default_na": False, "na_values": [""]}
    loaded = load_dataset("csv", data_files={split: str(path)}, trust_remote_code=False, **form)
    return DatasetDict({name: _with_numbers(rows) for name, rows in loaded.items()})


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


def _opened(path: Path) -> Any:
    """Open a file of text, unpacked."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")


def _check_json(path: Path, error: Exception) -> None:
    """Raise for a file of lines that are no JSON, naming the first.

    Raises:
        DataError: a line is no JSON.
    """
    with _opened(path) as file:
        start = file.read(1)
        if start in ("", "["):
            return
        file.seek(0)
        for number, line in enumerate(file, start=1):
            try:
                json.loads(line.strip() or "null")
            except ValueError as broken:
                raise DataError(
                    f"Line {number} of {path} is no JSON ({broken}): {line[:60]!r}. Every line must be an object, such "
                    'as {"_id": "1", "text": "…"}; mend or drop that line.'
                ) from error


def without_times(loaded: DatasetDict, path: Path) -> DatasetDict:
    """Read texts of a JSON file that look like times as they are written, where `load_dataset` has read times.

    JSON has no times: where all texts of a field look like a time, as ids may, Arrow takes them for times.
    """
    from datasets import Dataset, DatasetDict, Features

    schema = next(iter(loaded.values())).features.arrow_schema
    plain = pa.schema([(field.name, _without_times(field.type)) for field in schema])
    if plain.types == schema.types:
        return loaded
    with _opened(path) as file:
        content = file.read()
    if content.lstrip().startswith("["):
        rows = json.loads(content)
    else:
        rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    columns = {name: [row.get(name) for row in rows] for name in plain.names}
    return DatasetDict(dict.fromkeys(loaded, Dataset.from_dict(columns, Features.from_arrow_schema(plain))))


def _without_times(kind: Any) -> Any:
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _without_times(field.type)) for field in kind])
    return kind


def is_saved(path: Path) -> bool:
    """Tell whether `save_to_disk` wrote a folder."""
    return (path / "state.json").exists() or (path / "dataset_dict.json").exists()
