"""64-bit keys of texts, ids and pairs, whole Arrow arrays at once: what rows are compared by in place of their texts.

That two of ten million different texts share a key has a chance of 1 in 370,000; of a billion, 1 in 37. Who makes texts
to collide can: keys are no digests. `NONE` stands for a text or id that is null or empty, and equals no other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.text.keys import normalized

NONE = np.uint64(0)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def exact_keys(texts: pa.Array) -> np.ndarray:
    """Keys of texts by their characters, (n,) uint64."""
    return _keyed(texts, characters(texts), seed=1, fold=False)


def normalized_keys(texts: pa.Array) -> np.ndarray:
    """Keys of what of texts a reader sees (`positives.normalized`), (n,) uint64."""
    return _keyed(texts, characters(only_ascii_as_it_is(texts, normalized)), seed=2, fold=True)


def id_keys(ids: pa.Array) -> np.ndarray:
    """Keys of ids, (n,) uint64; others than those of texts."""
    return _keyed(ids, characters(ids), seed=3, fold=False)


def pair_keys(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Keys of pairs of keys, (n,) uint64; `NONE` where one is."""
    made = _mixed(_mixed(first.astype(np.uint64) + _GOLDEN) ^ second)
    return np.where((first == NONE) | (second == NONE), NONE, made)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mixed(value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """SplitMix64's finaliser, one to one; of a number or an array."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def contained(keys: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Whether each key is in a sorted table, (n,) bool; `NONE` is in none."""
    order = np.argsort(keys)
    found = np.empty(len(keys), bool)
    found[order] = isin_sorted(keys[order], table)[1]
    return found & (keys != NONE)


def characters(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Where the strings begin and end, (n + 1,) int64, and their bytes."""
    large = texts.cast(pa.large_string())
    _, offsets, data = large.buffers()
    bounds = np.frombuffer(offsets, np.int64)[large.offset : large.offset + len(large) + 1] if len(large) else [0]
    return np.asarray(bounds, np.int64), np.frombuffer(data or b"", np.uint8)


def only_ascii_as_it_is(texts: pa.Array, otherwise: Callable[[str], str]) -> pa.Array:
    """The texts, each that is not ASCII put through a function: kernels over bytes know ASCII alone."""
    other = pc.fill_null(pc.invert(pc.string_is_ascii(texts)), False)
    if not pc.any(other).as_py():
        return texts
    made = pa.array(map(otherwise, texts.filter(other).to_pylist()), texts.type)
    return pc.replace_with_mask(texts, other, made)


def _keyed(texts: pa.Array, where: tuple[np.ndarray, np.ndarray], *, seed: int, fold: bool) -> np.ndarray:
    keys = _hashed(*where, np.uint64(seed), fold)
    if texts.null_count:
        keys[texts.is_null().to_numpy(zero_copy_only=False)] = NONE
    return keys


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _hashed(bounds, data, seed, fold):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Keys of strings; with `fold` of their ASCII letters lowered, runs of white space one space, none at the ends."""
    keys = np.empty(len(bounds) - 1, np.uint64)
    for text in range(len(keys)):
        key, word, size, gap = _mixed(seed), np.uint64(0), 0, False
        for byte in data[bounds[text] : bounds[text + 1]]:
            value = np.uint64(byte)
            if fold:
                if byte == 32 or 9 <= byte <= 13 or 28 <= byte <= 31:
                    gap = size > 0
                    continue
                if gap:
                    word |= np.uint64(32) << np.uint64(8 * (size % 8))
                    size += 1
                    gap = False
                    if size % 8 == 0:
                        key, word = _mixed(key ^ word), np.uint64(0)
                if 65 <= byte <= 90:
                    value += np.uint64(32)
            word |= value << np.uint64(8 * (size % 8))
            size += 1
            if size % 8 == 0:
                key, word = _mixed(key ^ word), np.uint64(0)
        keys[text] = _mixed(_mixed(key ^ word) + np.uint64(size)) if size else NONE
    return keys


def word_grams(texts: pa.Array, words: Callable[[str], str]) -> tuple[np.ndarray, np.ndarray]:
    """Keys of each text's word 3-grams, each once in a text: bounds (n + 1,) int64 and keys uint64.

    All words are one where there are fewer than 3, and a text without any has none.

    Args:
        texts (`pa.Array`): (n,) strings.
        words (`Callable[[str], str]`): of a text that is not ASCII, its words with white space between.
    """
    bounds, data = characters(only_ascii_as_it_is(texts, words))
    return _grams(bounds, data, _room(np.diff(bounds).max(initial=0) // 2 + 1))


def _room(most: int) -> int:
    """Slots of a hash table for so many keys, a power of 2."""
    return 1 << int(2 * most).bit_length()


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _grams(bounds, data, room):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    offset, prime = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
    out = np.empty((bounds[-1] - bounds[0]) // 2 + 2 * len(bounds), np.uint64)
    ends, filled = np.zeros(len(bounds), np.int64), 0
    slots, stamps = np.empty(room, np.uint64), np.full(room, -1)
    for text in range(len(bounds) - 1):
        seen, inside, word = 0, False, offset
        older, old = np.uint64(0), np.uint64(0)
        for place in range(bounds[text], bounds[text + 1] + 1):
            byte = data[place] if place < bounds[text + 1] else np.uint8(32)
            lower = byte + 32 if 65 <= byte <= 90 else byte
            if 97 <= lower <= 122 or 48 <= lower <= 57 or lower >= 128:
                word, inside = (word ^ np.uint64(lower)) * prime, True
            elif inside:
                seen += 1
                if seen >= 3:
                    out[filled] = _mixed(_mixed(_mixed(older) + old) + word)
                    filled += _added(slots, stamps, text, out[filled])
                older, old, word, inside = old, word, offset, False
        if 0 < seen < 3:
            out[filled] = _mixed(_mixed(_mixed(older) + old) + np.uint64(seen))
            filled += 1
        ends[text + 1] = filled
    return ends, out[:filled]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _added(slots, stamps, stamp, key):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Puts a key into the set under a stamp; whether it was not there."""
    slot = key & np.uint64(len(slots) - 1)
    while stamps[slot] == stamp:
        if slots[slot] == key:
            return False
        slot = (slot + np.uint64(1)) & np.uint64(len(slots) - 1)
    slots[slot], stamps[slot] = key, stamp
    return True


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _held(slots, stamps, stamp, key):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Whether a key is in the set under a stamp."""
    slot = key & np.uint64(len(slots) - 1)
    while stamps[slot] == stamp:
        if slots[slot] == key:
            return True
        slot = (slot + np.uint64(1)) & np.uint64(len(slots) - 1)
    return False


def largest_jaccard(
    grams: tuple[np.ndarray, np.ndarray],
    starts: np.ndarray,
    other_grams: tuple[np.ndarray, np.ndarray],
    other_starts: np.ndarray,
) -> np.ndarray:
    """Of each text, the largest Jaccard similarity of its grams with those of another text of its row, (n,).

    Args:
        grams, other_grams (`tuple`): as `word_grams` returns, of n texts and of others.
        starts, other_starts (`np.ndarray`): (rows + 1,) where the texts and the others of each row begin and end.
    """
    room = _room(np.diff(other_grams[0]).max(initial=1))
    return _largest_jaccard(*grams, starts, *other_grams, other_starts, room)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _largest_jaccard(  # type: ignore[no-untyped-def]  # noqa: ANN202
    bounds,  # noqa: ANN001
    grams,  # noqa: ANN001
    starts,  # noqa: ANN001
    other_bounds,  # noqa: ANN001
    other_grams,  # noqa: ANN001
    other_starts,  # noqa: ANN001
    room,  # noqa: ANN001
):
    largest = np.zeros(len(bounds) - 1)
    slots, stamps = np.empty(room, np.uint64), np.full(room, -1)
    for row in range(len(starts) - 1):
        for other in range(other_starts[row], other_starts[row + 1]):
            for place in range(other_bounds[other], other_bounds[other + 1]):
                _added(slots, stamps, other, other_grams[place])
            theirs = other_bounds[other + 1] - other_bounds[other]
            for text in range(starts[row], starts[row + 1]):
                both = 0
                for place in range(bounds[text], bounds[text + 1]):
                    both += _held(slots, stamps, other, grams[place])
                either = bounds[text + 1] - bounds[text] + theirs - both
                largest[text] = max(largest[text], both / max(either, 1))
    return largest
