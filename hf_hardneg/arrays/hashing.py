"""64-bit hashes by SplitMix64 (Steele, Lea and Flood, 2014): what draws are keyed by, and sets in memory compare.

That two of ten million different strings share a hash has a chance of 1 in 370,000; of a billion, 1 in 37. Who writes
strings to collide can: these are no digests. What names things on disk is BLAKE2b of 128 bits, by `hashlib`.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""By what the state of SplitMix64 grows from number to number."""


@njit(cache=True, nogil=True)
def mixed(value):
    """Mixes the bits of a number or an array, uint64: the last step of SplitMix64, which is one to one."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def numbers_of(states, places):
    """The number at a place, from 0, of the stream that SplitMix64 begins at a state; uint64 numbers or arrays."""
    return mixed(states + (places + np.uint64(1)) * GOLDEN)


@njit(cache=True, nogil=True)
def string_hash(data, start, stop, seed):
    """Hashes the bytes `start` to `stop` of uint8 data; 0 for none."""
    size = np.uint64(stop - start)
    key, first, whole = mixed(seed), np.uint64(start), size - (size & np.uint64(7))
    for place in range(first, first + whole, np.uint64(8)):
        word = np.uint64(0)
        for byte in range(np.uint64(8)):  # by places without a sign, so that compilers read all at once
            word |= np.uint64(data[place + byte]) << (np.uint64(8) * byte)
        key = mixed(key ^ word)
    word = np.uint64(0)
    for byte in range(size - whole):
        word |= np.uint64(data[first + whole + byte]) << (np.uint64(8) * byte)
    return mixed(mixed(key ^ word) + size) if size else np.uint64(0)


@njit(cache=True, nogil=True)
def hashes_within(bounds, data, seed):
    """Hashes the strings that lie between `bounds` (n + 1,) in uint8 data, (n,) uint64."""
    hashes = np.empty(len(bounds) - 1, np.uint64)
    for string in range(len(hashes)):
        hashes[string] = string_hash(data, bounds[string], bounds[string + 1], seed)
    return hashes


def string_hashes(strings: pa.Array, seed: int = 0) -> np.ndarray:
    """Hashes strings by their UTF-8 bytes, (n,) uint64; 0 for one that is empty or null.

    Args:
        strings (`pa.Array`): (n,) strings.
        seed (`int`, defaults to 0): another one brings other hashes.
    """
    hashes = hashes_within(*characters(strings), np.uint64(seed))
    if strings.null_count:
        hashes[strings.is_null().to_numpy(zero_copy_only=False)] = 0
    return hashes


def characters(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Says where strings begin and end, (n + 1,) int64, and gives their bytes, uint8."""
    large = strings.cast(pa.large_string())
    _, offsets, data = large.buffers()
    bounds = np.frombuffer(offsets, np.int64)[large.offset : large.offset + len(large) + 1] if len(large) else [0]
    return np.asarray(bounds, np.int64), np.frombuffer(data or b"", np.uint8)
