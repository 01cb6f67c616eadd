"""Arrays of published directories, mapped: of the type and shape that they are declared with, their values in bounds.

A `Schema` says once how the arrays of a kind of directory lie on disk. Opening checks headers against it, and that
whole numbers which are used as places lie where they must, so that search kernels never follow a place out of a file.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import StoreError
from hf_hardneg.store import directories
from hf_hardneg.store.mapped_memory import drop
from hf_hardneg.store.regular_files import opened

CHECKED = 1 << 18
"""Values looked at together, which stay in the processor's cache."""
MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    r"\{'descr': (?P<descr>.+), 'fortran_order': (?P<fortran>True|False), 'shape': \((?P<shape>[0-9, ]*)\), \} *\n"
)


@dataclass(frozen=True)
class Stored:
    """The form in which an array lies on disk.

    Args:
        dtype (`dtype`): of its values.
        shape (`str`): the names of its sizes, such as `"documents width"`; `"documents+1"` is one more. What has one
            name in a schema has one size.
        below (`str`, *optional*): values are less than the size of that name.
        least (`float`, *optional*): values are numbers of at least that.
        bounds (`str`, *optional*): values ascend from 0 to the size of that name.
    """

    dtype: Any
    shape: str
    below: str | None = None
    least: float | None = None
    bounds: str | None = None


@dataclass(frozen=True)
class Schema:
    """The arrays of a kind of directory, in files `<name>.npy`.

    Args:
        arrays (`tuple[tuple[str, Stored], ...]`): by name.
        private (`bool`, defaults to `False`): whether pages are copied when written to, as torch wants it.
    """

    arrays: tuple[tuple[str, Stored], ...]
    private: bool = False

    @classmethod
    def of(cls, arrays: Mapping[str, Stored], *, private: bool = False) -> Schema:
        """Make a schema of a mapping."""
        return cls(tuple(arrays.items()), private)

    def prefixed(self, prefix: str) -> Schema:
        """Return the schema of arrays whose names begin with `prefix`."""
        return Schema(tuple((f"{prefix}{name}", stored) for name, stored in self.arrays), self.private)

    def opened(self, directory: Path, **sizes: int) -> dict[str, np.ndarray]:
        """Map the arrays of a published directory, and check them once in a process.

        Args:
            directory (`Path`): of the kind.
            **sizes (`int`): those that are known otherwise, such as `documents=100`.

        Raises:
            StoreError: naming the file that is not what was published.
        """
        return _opened(self, directory, tuple(sorted(sizes.items())))

    def read(self, directory: Path, **sizes: int) -> dict[str, np.ndarray]:
        """Map the arrays and check them anew, as directories need whose name is no digest of what they hold."""
        listed = directories.check(directory).files
        arrays = {}
        for name, stored in self.arrays:
            path = directory / f"{name}.npy"
            if path.name not in listed:
                raise StoreError(f"{path} is missing in the manifest. {directories.rebuild(directory)}")
            try:
                arrays[name] = mapped_array(path, stored.dtype, private=self.private)
                _name_sizes(stored.shape.split(), arrays[name].shape, sizes)
            except (OSError, ValueError) as error:
                raise directories.altered(directory, path.name, str(error)) from error
        for name, stored in self.arrays:
            if wrong := _wrong_value(arrays[name], stored, sizes):
                raise directories.altered(directory, f"{name}.npy", wrong)
            drop(arrays[name])
        return arrays


@functools.lru_cache(maxsize=64)
def _opened(schema: Schema, directory: Path, sizes: tuple[tuple[str, int], ...]) -> dict[str, np.ndarray]:
    return schema.read(directory, **dict(sizes))


def mapped_array(path: Path, dtype: Any, *, private: bool = False, follow: bool = False) -> np.ndarray:
    """Map the array in a file.

    Args:
        path (`Path`): the file, as `np.save` writes it.
        dtype (`dtype`): what it must hold.
        private (`bool`, defaults to `False`): see `Schema`; by default it cannot be written to, and keeps no file open.
        follow (`bool`, defaults to `False`): whether the file may be a link.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: its header says something else, or its size is not what the header says.
    """
    with opened(path, follow=follow) as stream:
        shape, fortran = _header(stream.read(len(MAGIC) + 2), stream, np.dtype(dtype))
        start, count = stream.tell(), math.prod(shape)
        size = stream.seek(0, os.SEEK_END)
        if size != start + count * np.dtype(dtype).itemsize:
            raise ValueError(f"it has {size:,} bytes, not those of an array of shape {shape}")
        memory = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_COPY) if private else _read_only(path)
    return np.frombuffer(memory, dtype, count, start).reshape(shape, order="F" if fortran else "C")


def _read_only(path: Path) -> pa.Buffer:
    with pa.memory_map(str(path)) as file:
        return file.read_buffer()


def _header(begin: bytes, stream: Any, dtype: np.dtype) -> tuple[tuple[int, ...], bool]:
    """Read the header of an array file, which has one form: the shape, and whether its first index runs fastest."""
    length = int.from_bytes(begin[len(MAGIC) :], "little")
    header = _HEADER.fullmatch(stream.read(length).decode("latin-1"))
    if not begin.startswith(MAGIC) or header is None:
        raise ValueError("it has no header of an array")
    if header["descr"] != repr(np.lib.format.dtype_to_descr(dtype)):
        raise ValueError(f"it holds values of type {header['descr'][:60]}, not {dtype}")
    sizes = [size.strip() for size in header["shape"].split(",") if size.strip()]
    if any(not size.isdecimal() or len(size) > 18 for size in sizes):
        raise ValueError(f"its shape is ({header['shape'][:60]})")
    return tuple(map(int, sizes)), header["fortran"] == "True"


def _name_sizes(names: list[str], shape: tuple[int, ...], known: dict[str, int]) -> None:
    if len(names) != len(shape):
        raise ValueError(f"it has the shape {shape}, not ({', '.join(names)})")
    for name, size in zip(names, shape, strict=True):
        base = size - name.endswith("+1")
        expected = int(name) if name.isdecimal() else known.setdefault(name.removesuffix("+1"), base)
        if base != expected or base < 0:
            raise ValueError(f"it has the shape {shape}, and its {name} is {expected + size - base}")


def _wrong_value(values: np.ndarray, stored: Stored, sizes: Mapping[str, int]) -> str | None:
    """Say what is wrong with the values of an array, or return `None`."""
    below = None if stored.below is None else sizes[stored.below]
    if stored.bounds is not None:
        return None if _ascends(values, sizes[stored.bounds]) else f"it does not ascend to {sizes[stored.bounds]:,}"
    if stored.least is None:
        return None
    flat = values.reshape(-1, order="A")
    for start in range(0, len(flat), CHECKED):
        block = flat[start : start + CHECKED]
        if not block.min() >= stored.least:
            return f"it holds values below {stored.least}, or that are no numbers"
        if below is not None and block.max() >= below:
            return f"it holds values of {below:,} and more"
    return None


def _ascends(values: np.ndarray, last: int) -> bool:
    """Return whether values (n,) ascend from 0 to `last`."""
    ends = len(values) > 0 and values[0] == 0 and values[-1] == last
    starts = range(0, len(values), CHECKED)
    return bool(ends and all((np.diff(values[start : start + CHECKED + 1]) >= 0).all() for start in starts))
