"""Tables that number distinct strings, compared by their bytes: plain arrays, so that they can be mapped from disk."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from hf_hardneg.arrays.hashing import characters, string_hash

SEED = np.uint64(5)


class StringTable(NamedTuple):
    """Numbers n distinct strings from 0.

    `bytes` uint8 is the UTF-8 text of all strings in order of their numbers, `ends` (n + 1,) int64 bounds them. `slots`
    int32, a power of two long, is an open-addressing table of numbers, -1 where it is free.
    """

    bytes: np.ndarray
    ends: np.ndarray
    slots: np.ndarray

    @classmethod
    def of(cls, strings: Sequence[str]) -> StringTable:
        """A table of distinct strings, numbered by their positions."""
        nothing = cls(np.zeros(0, np.uint8), np.zeros(1, np.int64), np.zeros(0, np.int32))
        return nothing.extended(strings)

    def extended(self, strings: Sequence[str]) -> StringTable:
        """A table that has further strings, none of which it has, numbered after the others."""
        ends, data = characters(pa.array(strings, pa.large_string()))
        ends = np.concatenate([self.ends, self.ends[-1] + ends[1:] - ends[0]])
        count, known, slots = len(ends) - 1, len(self.ends) - 1, self.slots.copy()
        if 2 * count >= len(slots):
            known, slots = 0, np.full(1 << (2 * count).bit_length(), -1, np.int32)
        table = StringTable(np.concatenate([self.bytes, data]), ends, slots)
        _fill(table, known)
        return table

    def numbers(self, strings: Sequence[str] | pa.Array) -> np.ndarray:
        """The numbers of some strings, (n,) int64, -1 for those that are not in the table."""
        array = strings if isinstance(strings, pa.Array) else pa.array(strings, pa.large_string())
        return numbers_within(self, *characters(array))


@njit(cache=True, nogil=True)
def _fill(table, known):
    """Enter the strings from the number `known` on."""
    mask = np.uint64(len(table.slots) - 1)
    for number in range(known, len(table.ends) - 1):
        place = string_hash(table.bytes, table.ends[number], table.ends[number + 1], SEED) & mask
        while table.slots[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table.slots[place] = number


@njit(cache=True, nogil=True)
def _same(text, start, stop, other, other_start, other_stop):
    if stop - start != other_stop - other_start:
        return False
    for i in range(stop - start):  # noqa: SIM110
        if text[start + i] != other[other_start + i]:
            return False
    return True


@njit(cache=True, nogil=True)
def numbers_within(table, ends, text):
    """Numbers the strings that lie between `ends` (n + 1,) in uint8 data, (n,) int64; -1 for those it has not."""
    mask = np.uint64(len(table.slots) - 1)
    numbers = np.full(len(ends) - 1, -1, np.int64)
    for i in range(len(numbers)):
        place = string_hash(text, ends[i], ends[i + 1], SEED) & mask
        while table.slots[place] >= 0:
            number = table.slots[place]
            if _same(table.bytes, table.ends[number], table.ends[number + 1], text, ends[i], ends[i + 1]):
                numbers[i] = number
                break
            place = (place + np.uint64(1)) & mask
    return numbers
