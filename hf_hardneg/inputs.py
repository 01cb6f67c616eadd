"""What the command line is given, as datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hf_hardneg.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

LOADERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".arrow": "arrow"}
ALLOWED = "a Parquet, JSONL, CSV or Arrow file, a folder of save_to_disk or of Parquet files, or a Hub id"


def load_table(source: str, *, split: str = "train") -> Dataset:
    """The dataset behind a path or Hub id, memory-mapped.

    Args:
        source (`str`): a Parquet, JSONL, CSV or Arrow file, a folder saved by `save_to_disk`, a folder of Parquet
            files, or a Hub id such as `org/name` or `org/name:config`.
        split (`str`, defaults to `"train"`): which split, where there are several.

    Raises:
        DataError: there is no such thing, or it cannot be read.
    """
    from datasets import Dataset, DatasetDict

    loaded = load_splits(source, split=split)
    if isinstance(loaded, DatasetDict):
        if split not in loaded:
            raise DataError(f"{source} has no split {split!r}; it has {', '.join(loaded)}. Name one with --split.")
        loaded = loaded[split]
    if not isinstance(loaded, Dataset):
        raise DataError(f"{source} is a {type(loaded).__name__}; give {ALLOWED}.")
    return loaded


def load_saved(folder: str) -> Dataset | DatasetDict:
    """What `save_to_disk` wrote, with all its splits and what it carries.

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
    """The same with all its splits, where it has several.

    Args:
        source (`str`): as there.
        split (`str`, defaults to `"train"`): what files without splits are.

    Raises:
        DataError: there is no such thing, or it cannot be read.
    """
    from datasets import load_dataset, load_from_disk

    path = Path(source)
    try:
        if is_saved(path):
            return load_from_disk(source)
        if path.is_dir():
            return load_dataset("parquet", data_files={split: str(path / "**/*.parquet")})
        if path.exists():
            if path.suffix not in LOADERS:
                raise DataError(f"{source} has the suffix {path.suffix!r}; give {ALLOWED}.")
            loaded = load_dataset(LOADERS[path.suffix], data_files={split: source})
            return without_times(loaded, path) if LOADERS[path.suffix] == "json" else loaded
        name, _, config = source.partition(":")
        return load_dataset(name, config or None)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{source} cannot be read ({type(error).__name__}: {error}). Give {ALLOWED}.") from error


def without_times(loaded: DatasetDict, path: Path) -> DatasetDict:
    """A JSON file that `load_dataset` has read, with its texts that look like times as they are written there.

    JSON has no times: where all texts of a field look like one, as ids may, Arrow takes them for such.
    """
    from datasets import Dataset, DatasetDict, Features

    schema = next(iter(loaded.values())).features.arrow_schema
    plain = pa.schema([(field.name, _without_times(field.type)) for field in schema])
    if plain.types == schema.types:
        return loaded
    with pa.input_stream(str(path)) as stream:
        content = stream.read()
    if content.lstrip().startswith(b"["):
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
    """Whether `save_to_disk` wrote a folder."""
    return (path / "state.json").exists() or (path / "dataset_dict.json").exists()
