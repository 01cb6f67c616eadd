"""64-bit keys of texts, ids and pairs, whole Arrow arrays at once: rows are compared by them in place of their texts.

They are hashes of `hf_hardneg.arrays.hashing`. `NONE` is that of a text or id that is null or empty.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.arrays.hashing import GOLDEN, characters, hashes_within, mixed, string_hashes
from hf_hardneg.text.keys import normalized

NONE = np.uint64(0)


def exact_keys(texts: pa.Array) -> np.ndarray:
    """Keys texts by their characters, (n,) uint64."""
    return string_hashes(texts, seed=1)


def normalized_keys(texts: pa.Array) -> np.ndarray:
    """Keys texts in the form that a reader sees (`keys.normalized`), (n,) uint64."""
    bounds, folded = _folded(*characters(only_ascii_as_it_is(texts, normalized)))
    keys = hashes_within(bounds, folded, np.uint64(2))
    keys[texts.is_null().to_numpy(zero_copy_only=False)] = NONE
    return keys


def id_keys(ids: pa.Array) -> np.ndarray:
    """Keys ids, (n,) uint64; the key of an id is not that of the same text."""
    return string_hashes(ids, seed=3)


def pair_keys(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Keys pairs of keys, (n,) uint64; `NONE` where one of both is."""
    keys = mixed(mixed(first.astype(np.uint64) + GOLDEN) ^ second)
    return np.where((first == NONE) | (second == NONE), NONE, keys)


def contained(keys: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Whether each key is in a sorted table, (n,) bool; `NONE` is in none."""
    order = np.argsort(keys)
    is_in = np.empty(len(keys), bool)
    is_in[order] = isin_sorted(keys[order], table)[1]
    return is_in & (keys != NONE)


def only_ascii_as_it_is(texts: pa.Array, otherwise: Callable[[str], str]) -> pa.Array:
    """The texts, each that is not ASCII put through a function: kernels over bytes know ASCII alone."""
    other = pc.fill_null(pc.invert(pc.string_is_ascii(texts)), False)
    if not pc.any(other).as_py():
        return texts
    changed = pa.array(map(otherwise, texts.filter(other).to_pylist()), texts.type)
    return pc.replace_with_mask(texts, other, changed)


_LOWERED = np.array([byte + 32 if 65 <= byte <= 90 else byte for byte in range(256)], np.uint8)
_SHOWN = np.array([32 if chr(byte).isspace() and byte < 128 else low for byte, low in enumerate(_LOWERED)], np.uint8)
"""Each byte as a reader of ASCII sees it: letters lowered, white space a space."""


@njit(cache=True, nogil=True)
def _folded(bounds, data):
    """Strings with their ASCII letters lowered, runs of white space one space, none at the ends: bounds and bytes."""
    ends, folded = np.zeros(len(bounds), np.int64), np.empty(bounds[-1] - bounds[0] + 1, np.uint8)
    filled = np.uint64(0)
    for text in range(len(bounds) - 1):
        start, gap = filled, True
        for place in range(np.uint64(bounds[text]), np.uint64(bounds[text + 1])):
            byte = _SHOWN[data[place]]
            folded[filled] = byte
            is_space = byte == 32
            filled += np.uint64(not (gap and is_space))
            gap = is_space
        if gap and filled > start:
            filled -= np.uint64(1)
        ends[text + 1] = filled
    return ends, folded


_IN_WORD = np.array([low if low >= 128 or chr(low).isalnum() else 0 for low in _LOWERED.tolist()], np.uint8)
"""The lowered letters and digits, 0 for what parts words."""


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


@njit(cache=True, nogil=True)
def _grams(bounds, data, room):
    out = np.empty((bounds[-1] - bounds[0]) // 2 + 2 * len(bounds), np.uint64)
    ends, filled = np.zeros(len(bounds), np.int64), 0
    slots, stamps = np.empty(room, np.uint64), np.full(room, -1)
    begun = mixed(np.uint64(4))
    for text in range(len(bounds) - 1):
        seen, older, old = 0, np.uint64(0), np.uint64(0)
        key, letters, size = begun, np.uint64(0), np.uint64(0)
        for place in range(np.uint64(bounds[text]), np.uint64(bounds[text + 1]) + np.uint64(1)):
            letter = _IN_WORD[data[place]] if place < np.uint64(bounds[text + 1]) else np.uint8(0)
            if letter:  # `string_hash` of the word, as far as it goes
                letters |= np.uint64(letter) << (np.uint64(8) * (size & np.uint64(7)))
                size += np.uint64(1)
                if not size & np.uint64(7):
                    key, letters = mixed(key ^ letters), np.uint64(0)
            elif size:
                word = mixed(mixed(key ^ letters) + size)
                seen, key, letters, size = seen + 1, begun, np.uint64(0), np.uint64(0)
                if seen >= 3:
                    out[filled] = mixed(mixed(mixed(older) + old) + word)
                    filled += _added(slots, stamps, text, out[filled])
                older, old = old, word
        if 0 < seen < 3:
            out[filled] = mixed(mixed(mixed(older) + old) + np.uint64(seen))
            filled += 1
        ends[text + 1] = filled
    return ends, out[:filled]


@njit(cache=True, nogil=True)
def _slot(slots, stamps, stamp, key):
    """Where a key is in the set under a stamp; else the free slot where it would be."""
    slot = key & np.uint64(len(slots) - 1)
    while stamps[slot] == stamp and slots[slot] != key:
        slot = (slot + np.uint64(1)) & np.uint64(len(slots) - 1)
    return slot


@njit(cache=True, nogil=True)
def _added(slots, stamps, stamp, key):
    """Puts a key into the set under a stamp; whether it was not there."""
    slot = _slot(slots, stamps, stamp, key)
    is_new = stamps[slot] != stamp
    slots[slot], stamps[slot] = key, stamp
    return is_new


def largest_jaccard(
    grams: tuple[np.ndarray, np.ndarray],
    starts: np.ndarray,
    other_grams: tuple[np.ndarray, np.ndarray],
    other_starts: np.ndarray,
) -> np.ndarray:
    """Compares each text with the other texts of its row: the largest Jaccard similarity of their grams, (n,).

    Args:
        grams, other_grams (`tuple`): as `word_grams` returns, of n texts and of others.
        starts, other_starts (`np.ndarray`): (rows + 1,) where the texts and the others of each row begin and end.
    """
    room = _room(np.diff(other_grams[0]).max(initial=1))
    return _largest_jaccard(*grams, starts, *other_grams, other_starts, room)


@njit(cache=True, nogil=True)
def _largest_jaccard(bounds, grams, starts, other_bounds, other_grams, other_starts, room):
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
                    both += stamps[_slot(slots, stamps, other, grams[place])] == other
                either = bounds[text + 1] - bounds[text] + theirs - both
                largest[text] = max(largest[text], both / max(either, 1))
    return largest
