"""Files that somebody else may have put there: regular ones only, of bounded size, read without ever waiting."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MOST_CONTAINERS = 2_000_000
"""Lists and objects that a JSON file may hold; the tokenizers of the largest models have a third of that."""


class NotRegular(OSError):
    """A link, a folder, a pipe or a device stands in the place of a file."""


def opened(path: Path, *, follow: bool = False) -> BinaryIO:
    """Open a regular file to read it.

    Args:
        path (`Path`): the file.
        follow (`bool`, defaults to `False`): whether it may be a link, as in the folders of the Hub's cache.

    Raises:
        OSError: it is not there, cannot be read, or is a link, a folder, a pipe, a device.
    """
    _regular(path, (os.stat if follow else os.lstat)(path))
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    try:
        _regular(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular(f"{path} is {_KINDS.get(stat.S_IFMT(status.st_mode), 'a special file')}, not a regular file")


_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def content(path: Path, most: int, *, follow: bool = False) -> bytes:
    """Read all bytes of a regular file.

    Raises:
        OSError: it cannot be read, see `opened`.
        ValueError: it holds more than `most` bytes.
    """
    with opened(path, follow=follow) as stream:
        read = stream.read(min(os.fstat(stream.fileno()).st_size, most) + 1)
    if len(read) > most:
        raise ValueError(f"it holds more than {most:,} bytes")
    return read


def json_of(path: Path, most: int, *, follow: bool = False) -> Any:
    """Read a JSON file.

    Raises:
        OSError: it cannot be read, see `opened`.
        ValueError: it is no JSON, or larger or more deeply nested than such files are.
    """
    return parsed(content(path, most, follow=follow))


def parsed(text: bytes) -> Any:
    """Parse the bytes of a JSON file, within bounds of memory.

    Raises:
        ValueError: they are no JSON, or hold more or deeper lists and objects than such files do.
    """
    if text.count(b"[") + text.count(b"{") > MOST_CONTAINERS:
        raise ValueError(f"it holds more than {MOST_CONTAINERS:,} lists and objects")
    try:
        return json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("its lists and objects are nested too deeply") from None
