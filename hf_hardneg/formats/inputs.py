"""Load files and folders as datasets, each cell and each id as it stands in the file."""

from __future__ import annotations

import difflib
import functools
import glob
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from hf_hardneg.corpus.loaded_from import remember
from hf_hardneg.errors import DataError, HardNegError
from hf_hardneg.formats.compressed import COMPRESSED, opened_text, suffix_of, words_of
from hf_hardneg.formats.delimited import Kind, load_delimited
from hf_hardneg.store.disk import writing
from hf_hardneg.text.masking import masked

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

SUFFIXES = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
}
PLAIN_ONLY = ("parquet", "arrow")
NO_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "merlin_metadata.json")
ALLOWED = (
    "a Parquet or Arrow file, a JSONL, JSON, CSV or TSV file, plain, .gz or .zst, a folder of save_to_disk or of such "
    "files, a glob of them, or a Hub id such as org/name, org/name:config or org/name:config:split"
)
SPLITS = ("train", "validation", "valid", "val", "dev", "test", "eval")
"""Words in the name of a file, or of its folder, that say which split it is of."""
PATIENCE = 10.0
"""Seconds that the Hub has to answer the first time."""
_USER = re.compile(r"[^/\s:@]*:[^\s@]+@")
WILD = re.compile(r"[*?\[]")


def load_table(source: str, *, split: str = "train") -> Dataset:
    """Load the dataset behind a path or Hub id, memory-mapped.

    Args:
        source (`str`): a Parquet or Arrow file; a JSONL, JSON, CSV or TSV file, plain, `.gz` or `.zst`, of which CSV
            has quotes and TSV has none; a folder saved by `save_to_disk`, a folder or glob of such files, or a Hub id
            such as `org/name`, `org/name:config` or `org/name:config:split`.
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


def load_splits(
    source: str, *, split: str = "train", kind: Kind = "pairs", told: Collection[str] = ()
) -> Dataset | DatasetDict:
    """Load what `load_table` does, with all splits where it has several.

    Args:
        source (`str`): as for `load_table`.
        split (`str`, defaults to `"train"`): the split that a file without splits becomes.
        kind (`str`, defaults to `"pairs"`): what rows of files without names of columns are: `"pairs"` or
            `"documents"`.
        told (`Collection[str]`, *optional*): names of columns that the user said.

    Raises:
        DataError: nothing has that name, or it cannot be read.
        StoreError: the disk has no room for the Arrow files of `datasets`.
    """
    from datasets import config

    try:
        with writing(config.HF_DATASETS_CACHE, other="the variable HF_DATASETS_CACHE"):
            return _load(source, split, kind, told)
    except HardNegError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):
            raise DataError(f"{source} has no rows, and one is needed at least. Give {ALLOWED}, with rows.") from error
        if isinstance(cause, UnicodeDecodeError):
            line = _line_not_utf8(Path(source))
            place = f" in line {line:,}" if line else ""
            content, start = cause.object, cause.start
            before, strange = content[max(0, start - 20) : start], content[start : cause.end]
            raise DataError(
                f"{source} is not written in UTF-8{place}: it holds {strange!r} after {before!r}. Write it again in "
                "UTF-8, for instance with iconv -f WINDOWS-1252 -t UTF-8."
            ) from error
        what = masked(f"{source} cannot be read ({type(cause).__name__}: {cause})")
        raise DataError(f"{what}. Give {ALLOWED}.") from error


def _load(source: str, split: str, kind: Kind, told: Collection[str]) -> Dataset | DatasetDict:
    from datasets import load_from_disk

    _check_secrets(source)
    path = Path(source)
    if is_saved(path):
        return load_from_disk(source)
    if path.is_dir():
        return load_files(data_files(path), split, kind, told, source)
    if path.exists():
        return load_files([path], split, kind, told, source, named=False)
    if WILD.search(source):
        return load_files(sorted(map(Path, glob.glob(source, recursive=True))), split, kind, told, source)
    if _names_no_dataset(source) or loader_of(path):
        raise DataError(f"There is no file or folder {masked(source)}.{_near(path)} Give {ALLOWED}.")
    return load_from_hub(source)


def _line_not_utf8(path: Path) -> int | None:
    """Return the number of the first line of a plain file that is not UTF-8; `None` for anything else."""
    if not path.is_file() or path.suffix.lower() in COMPRESSED:
        return None
    with path.open("rb") as file:
        return next((number for number, line in enumerate(file, start=1) if not _is_utf8(line)), None)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_secrets(source: str) -> None:
    """Raise, without quoting it, for a name that is no file and may hold a user and a password, also in `%` codes.

    Raises:
        DataError: it does.
    """
    if _USER.search(unquote(source)) and not Path(source).exists():
        raise DataError(
            "What is to be read is no file, and holds what may be a user and a password, so it is not quoted. Give "
            f"{ALLOWED}; or an address, such as scheme://user@host/collection, without its password."
        )


def _names_no_dataset(source: str) -> bool:
    """Tell whether a name can be none of the Hub, where names have one slash, or none and no point."""
    name = source.partition(":")[0]
    return source.startswith(("/", ".", "~")) or name.count("/") > 1 or ("/" not in name and "." in name)


def _near(path: Path) -> str:
    """Name a file beside a path that is not there, where one is called nearly so."""
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f" Did you mean {path.parent / near[0]}?" if near else ""


@functools.cache
def check_hub(source: str) -> None:
    """Ask the Hub once for a data set, so that where it is out of reach nobody waits for others' retries.

    Raises:
        DataError: it does not answer within `PATIENCE`, and `datasets` has no copy of the data set.
    """
    from datasets import config
    from datasets.naming import camelcase_to_snakecase
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    _check_secrets(source)
    name = source.partition(":")[0]
    *owner, last = name.split("/")
    copies = Path(config.HF_DATASETS_CACHE, "___".join([*owner, camelcase_to_snakecase(last)]))
    if config.HF_HUB_OFFLINE or copies.exists():
        return
    try:
        HfApi().dataset_info(name, timeout=PATIENCE)
    except (HfHubHTTPError, HFValidationError):
        return  # it answers; what is wrong is said by loading it
    except Exception as error:
        raise DataError(
            f"There is no file or folder {masked(source)}, and the Hub, where it may be the id of a data set, cannot "
            f"be reached ({type(error).__name__}: {masked(str(error))}).{_near(Path(source))} Give the path of a file "
            "that is there, or an id where the network is."
        ) from error


def load_from_hub(source: str) -> Dataset | DatasetDict:
    """Load `org/name`, `org/name:config` or `org/name:config:split` from the Hub."""
    from datasets import load_dataset

    check_hub(source)
    name, config, split = (*source.split(":", 2), "", "")[:3]
    return load_dataset(name, config or None, split=split or None, trust_remote_code=False)


def data_files(folder: Path) -> list[Path]:
    """List the files of a folder, and of folders in it, that hold rows."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and loader_of(path)]
    inside = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return [path for path in inside if path.name not in NO_DATA]


def loader_of(path: Path) -> str | None:
    """Name the loader of `datasets` that reads a file by its suffix; `None` where none does."""
    loader = SUFFIXES.get(suffix_of(path))
    return None if loader in PLAIN_ONLY and path.suffix.lower() in COMPRESSED else loader


def load_files(
    files: Sequence[Path], split: str, kind: Kind, told: Collection[str], source: str, *, named: bool = True
) -> DatasetDict:
    """Load files of one format; those whose names say so become splits, where `named`.

    Raises:
        DataError: there are none, or of several formats.
    """
    from datasets import load_dataset

    loaders = {loader_of(path): path for path in files}
    if not files:
        raise DataError(f"{masked(source)} holds no file that can be read. Give {ALLOWED}.")
    if None in loaders:
        path = loaders[None]
        raise DataError(f"{path} has the suffix {''.join(path.suffixes[-2:])!r}; give {ALLOWED}.")
    if len(loaders) > 1:
        names = " and ".join(path.name for path in loaders.values() if path)
        raise DataError(f"{source} holds files of several formats, such as {names}. Give a glob of one, such as *.csv.")
    (loader,) = loaders
    is_split = named and kind == "pairs"  # documents of a folder are one corpus
    by_split: dict[str, list[str]] = {}
    for path in files:
        by_split.setdefault((_split_of(path, Path(source)) if is_split else None) or split, []).append(str(path))
    if loader == "csv":
        return load_delimited(by_split, kind, told)
    if loader != "json":
        return load_dataset(loader, data_files=by_split, trust_remote_code=False)
    try:
        loaded = load_dataset("json", data_files=by_split, trust_remote_code=False)
    except Exception as error:
        for path in files:
            _check_json(path, error)
        raise
    return without_times(loaded, by_split)


def _split_of(path: Path, root: Path) -> str | None:
    """Tell of which split a file is by its name, or else by that of its folder inside another."""
    for words in (words_of(path), words_of(path.parent) if root in path.parent.parents else []):
        split = next((word for word in words if word in SPLITS), None)
        if split is not None:
            return split
    return None


def _check_json(path: Path, error: Exception) -> None:
    """Raise for a file of lines that are no JSON, naming the first.

    Raises:
        DataError: a line is no JSON.
    """
    with opened_text(path) as file:
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


def without_times(loaded: DatasetDict, files: dict[str, list[str]]) -> DatasetDict:
    """Read texts of JSON files that look like times as they are written, where `load_dataset` has read times.

    JSON has no times: where all texts of a field look like a time, as ids may, Arrow takes them for times.
    """
    from datasets import Dataset, DatasetDict, Features

    schema = next(iter(loaded.values())).features.arrow_schema
    plain = pa.schema([(field.name, _without_times(field.type)) for field in schema])
    if plain.types == schema.types:
        return loaded
    splits = {}
    for split, paths in files.items():
        rows = [row for path in paths for row in json_rows(Path(path))]
        columns = {name: [row.get(name) for row in rows] for name in plain.names}
        splits[split] = Dataset.from_dict(columns, Features.from_arrow_schema(plain))
    return DatasetDict(splits)


def json_rows(path: Path) -> list[Any]:
    """Read the values of a JSON file: the elements of its array, or a value for each line."""
    with opened_text(path) as file:
        content = file.read()
    if content.lstrip().startswith("["):
        try:
            return json.loads(content)
        except ValueError:  # a line for each row, and rows are arrays
            pass
    return [json.loads(line) for line in content.split("\n") if line.strip()]


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
