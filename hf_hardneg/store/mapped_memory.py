"""Pages of mapped files, given back once they have been read."""

from __future__ import annotations

import bisect
import ctypes
import functools
import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAPS, SIZES = Path("/proc/self/maps"), Path("/proc/self/statm")
WHOLE_FILES = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r--[ps] 0+ \S+ [1-9]", re.MULTILINE)
"""Mappings that begin where a file does and that nobody can write to: all they hold is in the file."""

GROWN = 16 << 20
"""Bytes by which mapped files must have grown in memory before it is worth finding out where they are."""


class _Floor:
    """The least that mapped files held since they were last given back, in bytes."""

    held = 0


def release(columns: Iterable[pa.ChunkedArray]) -> None:
    """Give back the memory of the mapped files that columns lie in; who reads on gets the same bytes again.

    What is read of a mapped file counts as memory of this process until it ends, though the kernel has it anyway and
    may drop it. Columns in memory, and systems without /proc, are left alone.

    Args:
        columns (`Iterable[pa.ChunkedArray]`): such as a batch of a memory-mapped dataset holds.
    """
    if not MAPS.exists():
        return
    held = _held()
    _Floor.held = min(_Floor.held, held)
    if held - _Floor.held < GROWN:
        return
    buffers = (part for column in columns for chunk in column.chunks for part in chunk.buffers())
    addresses = sorted(part.address for part in buffers if part is not None and part.size)
    for start, end in ((int(start, 16), int(end, 16)) for start, end in WHOLE_FILES.findall(MAPS.read_text())):
        if bisect.bisect_left(addresses, start) < bisect.bisect_left(addresses, end):
            _madvise()(start, end - start, mmap.MADV_DONTNEED)
    _Floor.held = _held()


def _held() -> int:
    return int(SIZES.read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def _madvise() -> Any:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return madvise


def drop(array: np.ndarray) -> None:
    """Give back the memory of a whole mapped file, once its array was read through; small ones stay.

    Args:
        array (`np.ndarray`): all the file holds after a header of less than a page, not to be written to.
    """
    if not MAPS.exists() or array.nbytes < GROWN or array.flags.writeable:
        return
    page = os.sysconf("SC_PAGE_SIZE")
    start = array.ctypes.data // page * page
    _madvise()(start, array.ctypes.data + array.nbytes - start, mmap.MADV_DONTNEED)
