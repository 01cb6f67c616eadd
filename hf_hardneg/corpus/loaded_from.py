"""Where a dataset was loaded from: a Hub id with its commit, files, or the name that the user gave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from datasets import Dataset

MOST_FILES = 8
_HUB_FILE = re.compile(r"^hf://datasets/([^@]+?)@([0-9a-f]{40})/")
_PREPARED = re.compile(r"/([^/]+)/([^/]+)/[\d.]+/([0-9a-f]{40})(?:\.incomplete)?/[^/]+$")
_SNAPSHOT = re.compile(r"(models|datasets)--([^/]+)/snapshots/([0-9a-f]{40})")
_IN_CACHE = re.compile(r"/[^/]+/[^/]+/[\d.]+/[0-9a-f]+(?:\.incomplete)?/[^/]+$")
_LOADERS = {"parquet", "arrow", "json", "csv", "text", "pandas", "sql", "generator", "webdataset", "imagefolder"}
"""What `datasets` calls a dataset where it was only told of files, whose names it keeps nowhere."""

_names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def remember(dataset: Dataset, name: str) -> None:
    """Keep the name by which a user asked for a dataset, as long as the dataset lives."""
    _names[dataset] = name


def origin_of(dataset: Dataset | None) -> dict[str, Any]:
    """Where a dataset was loaded from, as far as its files tell: a Hub id with its commit, else names of files."""
    if dataset is None:
        return {}
    paths = [Path(file["filename"]).as_posix() for file in dataset.cache_files]
    split = None if dataset.split is None else str(dataset.split)
    for url in dataset.info.download_checksums or ():
        if match := _HUB_FILE.match(url):
            hub_id, revision = match.groups()
            return {"hub_id": hub_id, "revision": revision, "config": dataset.info.config_name, "split": split}
    for path in paths:
        if match := _PREPARED.search(path):
            prepared, config, revision = match.groups()
            hub_id = _downloaded(revision) or prepared.replace("___", "/")
            return {
                "hub_id": hub_id,
                "revision": revision,
                "config": dataset.info.config_name or config,
                "split": split,
            }
    return {"files": tuple(dict.fromkeys(Path(path).name for path in paths))[:MOST_FILES]}


def _downloaded(revision: str) -> str | None:
    """The Hub id of a commit that was downloaded; folders of prepared datasets spell it in lower case."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for folder in Path(HF_HUB_CACHE).glob(f"datasets--*/snapshots/{revision}"):
        return hub_id_of(str(folder))[0]
    return None


def hub_id_of(folder: str) -> tuple[str | None, str | None]:
    """The Hub id and the commit of a downloaded snapshot, from its folder."""
    match = _SNAPSHOT.search(Path(folder).as_posix())
    return (match.group(2).replace("--", "/"), match.group(3)) if match else (None, None)


def in_words(datasets: Sequence[Dataset], unit: str) -> str:
    """What datasets are called, where that is known, and how many rows they have.

    Args:
        datasets (`Sequence[Dataset]`): such as the splits of the pairs.
        unit (`str`): what a row is, such as `"documents"`.

    Example:
        >>> from hf_hardneg.corpus.loaded_from import in_words
        >>> in_words([corpus], "documents")
        '13 documents'
    """
    names = dict.fromkeys(name for name in map(_name_of, datasets) if name)
    return ", ".join([*names, f"{sum(map(len, datasets)):,} {unit}"])


def _name_of(dataset: Dataset) -> str:
    """The name that was remembered, a Hub id, or the folder that a dataset was saved to or loaded from."""
    if dataset in _names:
        return _names[dataset]
    if hub_id := origin_of(dataset).get("hub_id"):
        return str(hub_id)
    paths = [Path(file["filename"]) for file in dataset.cache_files]
    if not paths:
        return ""
    if _IN_CACHE.search(paths[0].as_posix()):
        name = dataset.info.dataset_name or ""
        return "" if name in _LOADERS else name
    return paths[0].parent.name
