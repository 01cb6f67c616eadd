"""Directories on disk that are built once, published whole, and checked before use.

A directory `<kind>-<digest>/` holds data files and `manifest.json`, which records what it was built from and the size,
time and checksum of each file. It is built in a temporary sibling, synced, and renamed into place under a file lock:
a killed build leaves nothing that is later taken for an index, and a second process waits and reuses.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hf_hardneg.disk import published, writing
from hf_hardneg.errors import StoreError

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"

_may_build: ContextVar[bool] = ContextVar("_may_build", default=True)


class NotPublished(StoreError):
    """Nothing is published under those parameters, and building is not wanted here."""


@contextlib.contextmanager
def without_building() -> Iterator[None]:
    """Inside, `obtain` opens what is published and raises `NotPublished` where it would build."""
    token = _may_build.set(False)
    try:
        yield
    finally:
        _may_build.reset(token)


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where indexes live: `cache_dir`, or `hf_hardneg` under the datasets cache.

    Raises:
        StoreError: a file is there.
    """
    if cache_dir is not None:
        if Path(cache_dir).is_file():
            raise StoreError(f"cache_dir={os.fspath(cache_dir)!r} is a file; indexes are kept in a folder. Give one.")
        return Path(cache_dir)
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / "hf_hardneg"


def digest_of(parameters: Mapping[str, Any]) -> str:
    """Hex digest (32 characters) of plain parameters, independent of their order."""
    text = json.dumps(parameters, sort_keys=True, ensure_ascii=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def place(root: Path, kind: str, parameters: Mapping[str, Any]) -> Path:
    """Where `obtain` puts what is built from some parameters."""
    return root / f"{kind}-{digest_of(parameters)}"


def obtain(root: Path, kind: str, parameters: Mapping[str, Any], build: Callable[[Path], object]) -> Path:
    """The checked directory of `kind` for `parameters`, built first if it does not exist.

    Args:
        root (`Path`): the cache.
        kind (`str`): such as `"bm25"`; first part of the directory's name.
        parameters (`Mapping`): everything the content depends on, as plain JSON values.
        build (`Callable[[Path], object]`): writes the data files into the given empty directory.

    Raises:
        StoreError: the directory exists and its files are missing, truncated or altered.
        NotPublished: it does not exist, `without_building()`.
    """
    from filelock import FileLock

    target = place(root, kind, parameters)
    if target.exists():
        return _reused(target, parameters)
    if not _may_build.get():
        raise NotPublished(f"{target} does not exist, and here only what exists is opened. Build it first.")
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{target.name}.lock"):
            if target.exists():
                return _reused(target, parameters)
            publish(target, kind, parameters, build)
    return target


def _reused(target: Path, parameters: Mapping[str, Any]) -> Path:
    check(target)
    if read_manifest(target)["parameters"] != parameters:
        raise StoreError(f"{target} was built for another corpus, encoder or setting. {_rebuild(target)}")
    logger.info("reusing %s", target)
    with contextlib.suppress(OSError):
        os.utime(target / MANIFEST)
    return target


def publish(target: Path, kind: str, parameters: Mapping[str, Any], build: Callable[[Path], object]) -> None:
    """Build a directory in a sibling and rename it into place, whole and synced, or leave nothing.

    Args:
        target (`Path`): must not exist.
        kind, parameters, build: as for `obtain`, whose lock is not taken here.

    Raises:
        StoreError: the disk is full or closed; what was written is taken away again.
    """
    with writing(target.parent), published(target) as partial:
        partial.mkdir()
        build(partial)
        written = [path for path in sorted(partial.rglob("*")) if path.is_file()]
        files = {str(path.relative_to(partial)): _describe(path) for path in written}
        manifest = {"format": FORMAT, "kind": kind, "parameters": dict(parameters), "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False))
        for path in [*partial.rglob("*"), partial]:
            sync(path)
    sync(target.parent)


def _describe(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "blake2b": file_digest(path)}


def file_digest(path: Path) -> str:
    """Hex BLAKE2b digest (32 characters) of a file's content."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def bytes_digest(*parts: Any) -> str:
    """Hex BLAKE2b digest (32 characters) of buffers, one after the other."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(memoryview(part))
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Have a file, or the entries of a directory, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a published directory.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        if not directory.exists():
            raise StoreError(
                f"{directory} is not there: the cache was cleaned, or the miner was made on another machine, and "
                "miners travel as paths. Construct the miner again here, which builds what is missing."
            ) from error
        raise StoreError(f"{path} is missing. {_rebuild(directory)}") from error
    except ValueError as error:
        raise StoreError(f"{path} is not readable JSON: it was truncated or altered. {_rebuild(directory)}") from error
    if manifest.get("format") != FORMAT:
        given = manifest.get("format")
        raise StoreError(f"{path} has format {given!r}; this version reads {FORMAT}. {_rebuild(directory)}")
    return manifest


def check(directory: Path) -> None:
    """Raise if a file of a published directory is missing, truncated or altered.

    Sizes and times are compared always; contents are read only where the time differs from the recorded one, as it
    does after an edit or a copy.

    Raises:
        StoreError: naming the file and how to rebuild.
    """
    for name, recorded in read_manifest(directory)["files"].items():
        path = directory / name
        if not path.exists():
            raise StoreError(f"{path} is missing. {_rebuild(directory)}")
        stat = path.stat()
        if stat.st_size != recorded["size"]:
            size = f"{stat.st_size:,} bytes where {recorded['size']:,} were written"
            raise StoreError(f"{path} is truncated or altered: {size}. {_rebuild(directory)}")
        if stat.st_mtime_ns != recorded["mtime_ns"] and file_digest(path) != recorded["blake2b"]:
            raise StoreError(f"{path} was altered: its checksum is not the recorded one. {_rebuild(directory)}")


def _rebuild(directory: Path) -> str:
    return f"Delete the directory to rebuild it on the next run: rm -r {directory}"
