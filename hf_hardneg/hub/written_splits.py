"""Write splits as Parquet files, and describe them in a card's YAML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

CORPUS = "corpus"
"""The config of the documents that were mined."""
SHARD = 500_000_000
"""Bytes of rows in a file, approximately."""


@dataclass(frozen=True, kw_only=True)
class WrittenSplit:
    """One split of one config, written to files.

    Args:
        config, split (`str`): their names.
        info (`dict`): features, rows and bytes, as `dataset_info` has them.
        files (`dict[str, Path]`): paths in the repository, and the files on this machine.
    """

    config: str
    split: str
    info: dict[str, Any]
    files: dict[str, Path]

    @classmethod
    def write(cls, rows: Dataset, config: str, split: str, folder: Path) -> WrittenSplit:
        """Write rows as Parquet under `folder`; the same rows always give the same bytes."""
        from datasets import DatasetInfo
        from datasets.info import DatasetInfosDict
        from datasets.splits import SplitDict, SplitInfo
        from huggingface_hub import DatasetCardData

        rows = _embedded(rows)
        size = rows.data.nbytes * len(rows) / max(1, rows.data.num_rows)
        number = max(1, min(len(rows), math.ceil(size / SHARD)))
        (folder / config).mkdir(exist_ok=True)
        files, written = {}, 0
        for index in range(number):
            path = f"{config}/{split}-{index:05d}-of-{number:05d}.parquet"
            files[path] = folder / path
            written += rows.shard(number, index, contiguous=True).to_parquet(str(files[path]))
        splits = SplitDict()
        splits.add(SplitInfo(name=split, num_bytes=written, num_examples=len(rows)))
        data = DatasetCardData()
        DatasetInfosDict({config: DatasetInfo(features=rows.features, splits=splits)}).to_dataset_card_data(data)
        return cls(config=config, split=split, info=data["dataset_info"], files=files)


def _embedded(rows: Dataset) -> Dataset:
    """Put the bytes of images and sounds into rows, in place of paths on this machine."""
    from datasets.features.features import require_storage_embed
    from datasets.table import embed_table_storage

    if not any(require_storage_embed(feature) for feature in rows.features.values()):
        return rows
    return rows.with_format("arrow").map(embed_table_storage, batched=True, desc="Embedding files").with_format(None)


def written(configs: Mapping[str, DatasetDict], folder: Path) -> list[WrittenSplit]:
    """Write every split of every config under `folder`."""
    return [
        WrittenSplit.write(rows, config, split, folder)
        for config, splits in configs.items()
        for split, rows in splits.items()
    ]


def stale(shards: Iterable[WrittenSplit], present: Iterable[str], *, whole: bool) -> list[str]:
    """List the files of a repository that the written ones replace.

    Args:
        shards (`Iterable[WrittenSplit]`): what was written.
        present (`Iterable[str]`): paths in the repository.
        whole (`bool`): whether the configs have no splits but these.
    """
    new = {path for shard in shards for path in shard.files}
    prefixes = tuple(f"{shard.config}/" if whole else f"{shard.config}/{shard.split}-" for shard in shards)
    return sorted(path for path in present if path.startswith(prefixes) and path not in new)


def described(
    metadata: Mapping[str, Any], shards: list[WrittenSplit], sizes: Mapping[str, int], *, whole: bool
) -> dict[str, Any]:
    """Describe what was written in a card's `configs` and `dataset_info`; other entries stay.

    Args:
        metadata (`Mapping`): metadata of the card so far.
        shards (`list[WrittenSplit]`): what was written.
        sizes (`Mapping[str, int]`): the files of the repository after the push.
        whole (`bool`): whether the configs have no splits but these.

    Raises:
        ConfigError: a config has other splits, with other columns.
        DataError: the old entries are no list of configs.
    """
    configs, infos = _listed(metadata, "configs"), _listed(metadata, "dataset_info")
    for name in dict.fromkeys(shard.config for shard in shards):
        splits = [shard for shard in shards if shard.config == name]
        try:
            _describe_files(_entry(configs, name), splits, whole=whole)
            _describe_rows(_entry(infos, name), splits, sizes, whole=whole)
        except (TypeError, KeyError) as error:
            raise DataError(
                f"What the card that is there says of the config {name!r} is not as datasets writes it ({error!r}). "
                "Repair its configs and dataset_info first; nothing was overwritten."
            ) from error
    if not any(entry.get("default") or entry["config_name"] == "default" for entry in configs):
        _entry(configs, shards[0].config)["default"] = True
    return {"configs": configs, "dataset_info": infos if len(infos) > 1 else infos[0]}


def config_names(metadata: Mapping[str, Any]) -> list[str]:
    """Name the configs that a card lists, in order; what is no config is passed over."""
    configs = metadata.get("configs")
    entries = configs if isinstance(configs, list) else []
    return [str(entry["config_name"]) for entry in entries if isinstance(entry, dict) and "config_name" in entry]


def _listed(metadata: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    value = metadata.get(field) or []
    entries = [value] if isinstance(value, dict) else value
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("config_name", ""), str) for entry in entries
    ):
        raise DataError(
            f"The {field!r} of the card that is there holds {str(value)[:40]!r}; it must be a list of configs, each "
            "with config_name. Repair it first; nothing was overwritten."
        )
    return [{"config_name": "default"} | entry for entry in entries]


def _entry(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for entry in entries:
        if entry["config_name"] == name:
            return entry
    entries.append({"config_name": name})
    return entries[-1]


def _describe_files(entry: dict[str, Any], shards: list[WrittenSplit], *, whole: bool) -> None:
    before = [] if whole or not isinstance(entry.get("data_files"), list) else entry["data_files"]
    old = [files for files in before if isinstance(files, dict) and {"split", "path"} <= set(files)]
    patterns = {files["split"]: files["path"] for files in old}
    patterns |= {shard.split: f"{shard.config}/{shard.split}-*" for shard in shards}
    entry["data_files"] = [{"split": split, "path": path} for split, path in patterns.items()]


def _describe_rows(entry: dict[str, Any], shards: list[WrittenSplit], sizes: Mapping[str, int], *, whole: bool) -> None:
    splits: dict[str, Any] = {}
    if not whole and isinstance(entry.get("splits"), list):
        splits |= {old["name"]: old for old in entry["splits"] if isinstance(old, dict) and "num_bytes" in old}
    features = shards[0].info["features"]
    splits |= {shard.split: split for shard in shards for split in shard.info["splits"]}
    others = set(splits) - {shard.split for shard in shards}
    if others and entry.get("features") != features:
        raise ConfigError(
            f"The config {entry['config_name']!r} has the splits {', '.join(sorted(others))} with other columns, and "
            "one config has the same in all. Push a DatasetDict of all splits, or another config."
        )
    inside = [size for path, size in sizes.items() if path.startswith(f"{entry['config_name']}/")]
    entry |= {
        "features": features,
        "splits": list(splits.values()),
        "download_size": sum(inside),
        "dataset_size": sum(split["num_bytes"] for split in splits.values()),
    }
