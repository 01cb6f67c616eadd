"""The terms of an index on disk: a memory-mapped hash table, so that a process holds no dictionary."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from hf_hardneg.arrays.hashing import characters, string_hash
from hf_hardneg.store import directories
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.stored_arrays import Schema, Stored

SEED = np.uint64(5)
NAMES = ("bytes", "ends", "slots")
SCHEMA = Schema.of(
    {
        "terms.bytes": Stored(np.uint8, "bytes"),
        "terms.ends": Stored(np.int64, "terms+1", bounds="bytes"),
        "terms.slots": Stored(np.int32, "slots", least=-1, below="terms"),
    }
)


class Vocabulary(NamedTuple):
    """The V terms of an index.

    `bytes` uint8 is the UTF-8 text of all terms in order of their ids, `ends` (V + 1,) int64 bounds them. `slots`
    int32, a power of two long, is an open-addressing table of ids, -1 where it is free.
    """

    bytes: np.ndarray
    ends: np.ndarray
    slots: np.ndarray

    def ids(self, terms: Sequence[str] | pa.Array) -> np.ndarray:
        """Ids of terms, (n,) int64, -1 for those that are not in the vocabulary."""
        strings = terms if isinstance(terms, pa.Array) else pa.array(terms, pa.large_string())
        return _ids(self, *characters(strings))


def save_vocabulary(directory: Path, terms: Sequence[str], prefix: str = "") -> list[str]:
    """Write the tables `open_vocabulary` maps, and return their names.

    Args:
        directory (`Path`): where to.
        terms (`Sequence[str]`): distinct; ids are positions in it.
        prefix (`str`, *optional*): what the names of the files begin with.
    """
    ends, text = characters(pa.array(terms, pa.large_string()))
    slots = np.full(1 << (2 * len(terms)).bit_length(), -1, np.int32)
    _fill(text, ends, slots)
    for name, values in zip(NAMES, (text, ends, slots), strict=True):
        save_array(directory / f"{prefix}terms.{name}.npy", values)
    return [f"{prefix}terms.{name}.npy" for name in NAMES]


def open_vocabulary(directory: Path, terms: int, prefix: str = "") -> Vocabulary:
    """The vocabulary of so many terms in a published directory, memory-mapped; see `save_vocabulary`.

    Raises:
        StoreError: a file is altered.
    """
    arrays = SCHEMA.prefixed(prefix).opened(directory, terms=terms)
    vocabulary = Vocabulary(*(arrays[f"{prefix}terms.{name}"] for name in NAMES))
    free = np.count_nonzero(vocabulary.slots < 0)
    if free == 0 or len(vocabulary.slots) & (len(vocabulary.slots) - 1):
        raise directories.altered(
            directory, f"{prefix}terms.slots.npy", "its table has no free place, or no power of two of places"
        )
    return vocabulary


@njit(cache=True, nogil=True)
def _fill(text, ends, slots):
    mask = np.uint64(len(slots) - 1)
    for term in range(len(ends) - 1):
        place = string_hash(text, ends[term], ends[term + 1], SEED) & mask
        while slots[place] >= 0:
            place = (place + np.uint64(1)) & mask
        slots[place] = term


@njit(cache=True, nogil=True)
def _same(text, start, stop, other, other_start, other_stop):
    if stop - start != other_stop - other_start:
        return False
    for i in range(stop - start):  # noqa: SIM110
        if text[start + i] != other[other_start + i]:
            return False
    return True


@njit(cache=True, nogil=True)
def _ids(vocabulary, ends, text):
    mask = np.uint64(len(vocabulary.slots) - 1)
    ids = np.full(len(ends) - 1, -1, np.int64)
    for i in range(len(ids)):
        place = string_hash(text, ends[i], ends[i + 1], SEED) & mask
        while vocabulary.slots[place] >= 0:
            term = vocabulary.slots[place]
            bounds = vocabulary.ends[term], vocabulary.ends[term + 1]
            if _same(vocabulary.bytes, bounds[0], bounds[1], text, ends[i], ends[i + 1]):
                ids[i] = term
                break
            place = (place + np.uint64(1)) & mask
    return ids
