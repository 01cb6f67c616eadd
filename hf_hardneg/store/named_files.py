"""Files that name the digest of their content: shards that several processes add to one folder, each published whole.

A folder of them has a manifest without files; what is reused is what was written, since every reader compares.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hf_hardneg.store import directories
from hf_hardneg.store.disk import npy, written
from hf_hardneg.store.manifests import Manifest
from hf_hardneg.store.regular_files import opened

NAME = re.compile(r"(?P<number>[0-9]{6}-)?(?P<digest>[0-9a-f]{32})\.npy")
"""A shard: its number, where they are in order, and the digest of its content."""


def publish(folder: Path, prefix: str, array: np.ndarray) -> None:
    """Write a shard, all of it or nothing.

    Args:
        folder (`Path`): where to.
        prefix (`str`): what its name begins with, such as `"000001-"`.
        array (`np.ndarray`): what it holds.

    Raises:
        StoreError: the disk refuses it.
    """
    content = npy(array)
    path = folder / f"{prefix}{directories.bytes_digest(*content)}.npy"
    with written(path, needed=array.nbytes) as partial, partial.open("wb") as stream:
        stream.writelines(content)


def take_over(folder: Path, paths: Iterable[Path]) -> None:
    """Put shards that lie elsewhere into a folder: the same files where one file system holds both, else copies.

    Args:
        folder (`Path`): where to.
        paths (`Iterable[Path]`): of shards.

    Raises:
        StoreError: the disk refuses it.
    """
    for path in paths:
        target = folder / path.name
        if target.exists():
            continue
        with written(target) as partial:
            with contextlib.suppress(OSError):
                os.link(path, partial)
                continue
            shutil.copyfile(path, partial)


def describe(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder of shards, in the place of the one that is there.

    Raises:
        StoreError: the disk refuses it.
    """
    with written(folder / directories.MANIFEST) as partial:
        partial.write_text(manifest.to_json(), encoding="utf-8")


def shards(folder: Path) -> list[Path]:
    """Return the shards of a folder in order, by their names alone; a file that is called otherwise is no shard."""
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if NAME.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def is_intact(path: Path) -> bool:
    """Return whether a shard is a regular file whose content has the digest in its name."""
    try:
        opened(path).close()
        return path.stem.rpartition("-")[2] == directories.file_digest(path)
    except OSError:
        return False
