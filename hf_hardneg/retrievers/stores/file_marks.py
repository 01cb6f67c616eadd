"""Version marks of files: digests of their content, computed anew where a file was written."""

from __future__ import annotations

import functools
from pathlib import Path

from hf_hardneg.store import directories


def content_mark(*paths: Path) -> str:
    """Return the digests of files, joined; those that are missing count as such."""
    return " ".join(_digest(path, *_written(path)) for path in paths)


def _written(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced; nothing where it is missing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _digest(path: Path, *written: int) -> str:
    return directories.file_digest(path) if written else "none"
