"""The terms of an index on disk: a memory-mapped hash table, so that a process holds no dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_hardneg.arrays.string_tables import StringTable
from hf_hardneg.store import directories
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.stored_arrays import Schema, Stored

SCHEMA = Schema.of(
    {
        "terms.bytes": Stored(np.uint8, "bytes"),
        "terms.ends": Stored(np.int64, "terms+1", bounds="bytes"),
        "terms.slots": Stored(np.int32, "slots", least=-1, below="terms"),
    }
)


def save_vocabulary(directory: Path, terms: Sequence[str], prefix: str = "") -> list[str]:
    """Write the tables `open_vocabulary` maps, and return their names.

    Args:
        directory (`Path`): where to.
        terms (`Sequence[str]`): distinct; ids are positions in it.
        prefix (`str`, *optional*): what the names of the files begin with.
    """
    table = StringTable.of(terms)
    for name, values in table._asdict().items():
        save_array(directory / f"{prefix}terms.{name}.npy", values)
    return [f"{prefix}terms.{name}.npy" for name in table._fields]


def open_vocabulary(directory: Path, terms: int, prefix: str = "") -> StringTable:
    """The vocabulary of so many terms in a published directory, memory-mapped; see `save_vocabulary`.

    Raises:
        StoreError: a file is altered.
    """
    arrays = SCHEMA.prefixed(prefix).opened(directory, terms=terms)
    vocabulary = StringTable(*(arrays[f"{prefix}terms.{name}"] for name in StringTable._fields))
    free = np.count_nonzero(vocabulary.slots < 0)
    if free == 0 or len(vocabulary.slots) & (len(vocabulary.slots) - 1):
        raise directories.altered(
            directory, f"{prefix}terms.slots.npy", "its table has no free place, or no power of two of places"
        )
    return vocabulary
