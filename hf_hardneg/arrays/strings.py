"""Strings at chosen rows of an Arrow column of many chunks, copied straight from where they are mapped.

`ChunkedArray.take` joins the chunks first, which copies the whole column; a take per chunk costs a call for nearly
every string. Here the chunks' buffers are read in place, so the work is that of copying the strings asked for.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from hf_hardneg.errors import StoreError


class Strings(NamedTuple):
    """Where the strings of a column lie; valid in this process, as long as the column lives.

    `memory` uint8 spans all buffers; `starts` (chunks + 1,) int64 are the chunks' first rows; `offsets` and `data`
    (chunks,) int64 say where in `memory` the chunks' int64 or int32 offsets, `width` bytes each, and characters begin.
    """

    memory: np.ndarray
    starts: np.ndarray
    offsets: np.ndarray
    data: np.ndarray
    width: int

    def take(self, rows: np.ndarray) -> pa.Array:
        """The strings at some rows (n,) int64, as a string array; large where they need 64-bit offsets.

        Raises:
            StoreError: a row is beyond the column, so that what named it is of another corpus, or altered.
        """
        check_rows(rows, int(self.starts[-1]))
        begins, ends = _bounds(self.memory, self.starts, self.offsets, self.data, self.width, rows)
        characters = _copied(self.memory, begins, ends)
        small = ends[-1] < 2**31 if len(rows) else True
        kind, array = (np.int32, pa.StringArray) if small else (np.int64, pa.LargeStringArray)
        offsets = np.append(0, ends).astype(kind)
        return array.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(characters))


def check_rows(rows: np.ndarray, count: int) -> None:
    """Raise for rows (n,) that a column, or an index, of `count` rows does not have.

    Raises:
        StoreError: what named them is of another corpus, or altered.
    """
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise StoreError(
            f"Row {rows[rows.argmin() if rows.min() < 0 else rows.argmax()]:,} was asked of a column of "
            f"{count:,} rows: what is stored of it was altered, or is of another corpus. Find it with "
            "verify=True or `hf-hardneg cache verify`, and delete it."
        )


def strings_of(column: pa.ChunkedArray) -> Strings | None:
    """The strings of a column without nulls; `None` where it holds another type.

    Raises:
        StoreError: the offsets of the strings do not lie in their file, which was altered.
    """
    if column.type not in (pa.string(), pa.large_string()):
        return None
    width = 4 if column.type == pa.string() else 8
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    buffers = [chunk.buffers() for chunk in chunks]
    for chunk, held in zip(chunks, buffers, strict=True):
        _check_offsets(chunk, held, np.dtype(f"<i{width}"))
    offsets = np.array([held[1].address + chunk.offset * width for held, chunk in zip(buffers, chunks, strict=True)])
    data = np.array([held[2].address if held[2] else held[1].address for held in buffers])
    starts = np.concatenate([[0], np.cumsum([len(chunk) for chunk in chunks])])
    first = min([*offsets, *data], default=0) // 8 * 8
    last = max([held.address + held.size for pair in buffers for held in pair[1:] if held], default=0)
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * int(last - first)).from_address(int(first)))
    return Strings(memory, starts.astype(np.int64), (offsets - first).astype(np.int64), data - first, width)


def _check_offsets(chunk: pa.Array, held: list[pa.Buffer | None], kind: np.dtype[np.signedinteger]) -> None:
    """Raise unless the offsets of a chunk ascend within its characters."""
    marks, characters = held[1], held[2].size if held[2] else 0
    count = chunk.offset + len(chunk) + 1
    if marks is not None and marks.size >= count * kind.itemsize:
        offsets = np.frombuffer(marks, kind, count)[chunk.offset :]
        if offsets[0] >= 0 and offsets[-1] <= characters and (np.diff(offsets) >= 0).all():
            return
    raise StoreError(
        "A column of texts has strings that do not lie in its file: the file was altered. Make the dataset again; "
        "where it lies in the cache of this library, `hf-hardneg cache verify` names it."
    )


@njit(cache=True, nogil=True)
def _number(memory, place, width):
    """A little-endian integer of 4 or 8 bytes, written out so that compilers read it at once."""
    at, value = np.uint64(place), np.uint64(0)
    for i in range(4):
        value |= np.uint64(memory[at + np.uint64(i)]) << np.uint64(8 * i)
    if width == 8:
        for i in range(4, 8):
            value |= np.uint64(memory[at + np.uint64(i)]) << np.uint64(8 * i)
    return np.int64(value)


@njit(cache=True, nogil=True)
def _chunk(starts, row, guess):
    """The chunk of a row: as a rule the one that it would be in were all of one size."""
    if starts[guess] <= row < starts[guess + 1]:
        return guess
    return np.searchsorted(starts, row, side="right") - 1


@njit(cache=True, nogil=True)
def _bounds(memory, starts, offsets, data, width, rows):
    """Where each string begins in memory, and where it ends in the result."""
    begins, ends, total = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64), np.int64(0)
    share = len(offsets) / max(starts[-1], 1)
    for i in range(len(rows)):
        chunk = _chunk(starts, rows[i], min(np.int64(rows[i] * share), len(offsets) - 1))
        place = offsets[chunk] + (rows[i] - starts[chunk]) * width
        begin = _number(memory, place, width)
        begins[i] = data[chunk] + begin
        total += _number(memory, place + width, width) - begin
        ends[i] = total
    return begins, ends


@njit(cache=True, nogil=True)
def _copied(memory, begins, ends):
    out, start = np.empty(ends[-1] if len(ends) else 0, np.uint8), 0
    for i in range(len(ends)):
        size = ends[i] - start
        for j in range(size):
            out[start + j] = memory[begins[i] + j]
        start = ends[i]
    return out
