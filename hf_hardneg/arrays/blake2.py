"""BLAKE2b (RFC 7693) of many short strings at once, compiled; `hashlib` is the oracle in the tests.

Keyed draws hash one string per (query, document) pair, millions in a job, where a Python call for each costs more than
everything else in the selection.
"""

from __future__ import annotations

import numpy as np
from numba import njit

IV = np.array(
    [
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    np.uint64,
)
SIGMA = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
BLOCK, WORDS, STATE = 128, 16, 8
LANES = 64
"""Short strings hashed together; compilers turn the loop over them into vector instructions."""
DIGEST_BYTES = 8
PARAMETERS = np.uint64(0x01010000 ^ DIGEST_BYTES)
LAST = np.uint64(0xFFFFFFFFFFFFFFFF)


def digests(prefixes: list[bytes], owner: np.ndarray, offsets: np.ndarray, data: np.ndarray) -> np.ndarray:
    """64-bit BLAKE2b digests of `prefix + string`, (n,) uint64, the digest's bytes read big-endian.

    Args:
        prefixes (`list[bytes]`): m prefixes.
        owner (`np.ndarray`): (n,) int64, which prefix each string follows.
        offsets (`np.ndarray`): (n + 1,) int64, where the strings begin and end in `data`.
        data (`np.ndarray`): (bytes,) uint8.
    """
    starts = np.concatenate([[0], np.cumsum([len(prefix) for prefix in prefixes])]).astype(np.int64)
    heads = np.frombuffer(b"".join(prefixes), np.uint8)
    return _digests(heads, starts, owner, offsets, data).byteswap()


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _digests(heads, starts, owner, offsets, data):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    out, lane, last = np.empty(len(owner), np.uint64), 0, -1
    words, sizes = np.empty((WORDS, LANES), np.uint64), np.zeros(LANES, np.uint64)
    states, state = np.empty((STATE, LANES), np.uint64), np.empty((STATE, 1), np.uint64)
    front, hashed, head = np.empty((WORDS, 1), np.uint64), 0, heads[:0]
    waiting, done = np.empty(LANES, np.int64), np.empty(LANES, np.uint64)
    for i in range(len(owner)):
        if owner[i] != last:
            last = owner[i]
            head = heads[starts[last] : starts[last + 1]]
            hashed = max(len(head) - 1, 0) // BLOCK * BLOCK
            _absorb(state, head, head[:0], 0, hashed)
            _fill(front, head, head[:0], hashed)
        tail = data[offsets[i] : offsets[i + 1]]
        size = len(head) + len(tail)
        if size - hashed > BLOCK:
            out[i] = _rest(state.copy(), head, tail, hashed)
            continue
        words[:, lane], states[:, lane] = front[:, 0], state[:, 0]
        _append(words, lane, len(head) - hashed, tail)
        waiting[lane], sizes[lane] = i, size
        lane += 1
        if lane == LANES:
            _finish(states, words, sizes, done)
            out[waiting[:lane]] = done[:lane]
            lane = 0
    if lane:
        _finish(states, words, sizes, done)
        out[waiting[:lane]] = done[:lane]
    return out


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _fill(words, head, tail, start):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The words of the block of `head + tail` that begins at `start`, little-endian, zeros at the end."""
    words[:] = 0
    for j in range(start, min(start + BLOCK, len(head) + len(tail))):
        byte = head[j] if j < len(head) else tail[j - len(head)]
        words[(j - start) >> 3, 0] |= np.uint64(byte) << np.uint64(8 * ((j - start) & 7))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _append(words, lane, place, tail):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Put the bytes of a tail behind the first `place` ones of a lane."""
    for j in range(len(tail)):
        words[(place + j) >> 3, lane] |= np.uint64(tail[j]) << np.uint64(8 * ((place + j) & 7))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _absorb(state, head, tail, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Hash the whole blocks of `head + tail` from `start` to `stop`, none of them the last; from the start, anew."""
    words = np.empty((WORDS, 1), np.uint64)
    if start == 0:
        state[:, 0] = IV
        state[0, 0] ^= PARAMETERS
    for begin in range(start, stop, BLOCK):
        _fill(words, head, tail, begin)
        v = _permuted(_of_lane(state, 0), words, 0, np.uint64(begin + BLOCK), np.uint64(0))
        for i in range(STATE):
            state[i, 0] ^= v[i] ^ v[i + STATE]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _rest(state, head, tail, hashed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """First word of the digest of a string that is several blocks long after those that are hashed."""
    size, words = len(head) + len(tail), np.empty((WORDS, 1), np.uint64)
    last = (size - 1) // BLOCK * BLOCK
    _absorb(state, head, tail, hashed, last)
    _fill(words, head, tail, last)
    done = np.empty(1, np.uint64)
    _finish(state, words, np.array([size], np.uint64), done)
    return done[0]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _finish(states, words, sizes, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """First words of the digests of strings whose last block is in `words`, lane by lane."""
    for lane in range(out.shape[0]):
        v = _permuted(_of_lane(states, lane), words, lane, sizes[lane], LAST)
        out[lane] = states[0, lane] ^ v[0] ^ v[8]


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _of_lane(s, lane):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return s[0, lane], s[1, lane], s[2, lane], s[3, lane], s[4, lane], s[5, lane], s[6, lane], s[7, lane]


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _turned(value, right, left):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return (value >> np.uint64(right)) | (value << np.uint64(left))


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mixed(a, b, c, d, x, y):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    a = a + b + x
    d = _turned(d ^ a, 32, 32)
    c = c + d
    b = _turned(b ^ c, 24, 40)
    a = a + b + y
    d = _turned(d ^ a, 16, 48)
    c = c + d
    b = _turned(b ^ c, 63, 1)
    return a, b, c, d


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _round(v, m, lane, s):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15 = v
    v0, v4, v8, v12 = _mixed(v0, v4, v8, v12, m[s[0], lane], m[s[1], lane])
    v1, v5, v9, v13 = _mixed(v1, v5, v9, v13, m[s[2], lane], m[s[3], lane])
    v2, v6, v10, v14 = _mixed(v2, v6, v10, v14, m[s[4], lane], m[s[5], lane])
    v3, v7, v11, v15 = _mixed(v3, v7, v11, v15, m[s[6], lane], m[s[7], lane])
    v0, v5, v10, v15 = _mixed(v0, v5, v10, v15, m[s[8], lane], m[s[9], lane])
    v1, v6, v11, v12 = _mixed(v1, v6, v11, v12, m[s[10], lane], m[s[11], lane])
    v2, v7, v8, v13 = _mixed(v2, v7, v8, v13, m[s[12], lane], m[s[13], lane])
    v3, v4, v9, v14 = _mixed(v3, v4, v9, v14, m[s[14], lane], m[s[15], lane])
    return v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _permuted(h, m, lane, counter, last):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The twelve rounds over one block, written out so that no index is left to the running program."""
    v = (*h, IV[0], IV[1], IV[2], IV[3], IV[4] ^ counter, IV[5], IV[6] ^ last, IV[7])
    v = _round(v, m, lane, SIGMA[0])
    v = _round(v, m, lane, SIGMA[1])
    v = _round(v, m, lane, SIGMA[2])
    v = _round(v, m, lane, SIGMA[3])
    v = _round(v, m, lane, SIGMA[4])
    v = _round(v, m, lane, SIGMA[5])
    v = _round(v, m, lane, SIGMA[6])
    v = _round(v, m, lane, SIGMA[7])
    v = _round(v, m, lane, SIGMA[8])
    v = _round(v, m, lane, SIGMA[9])
    v = _round(v, m, lane, SIGMA[0])
    return _round(v, m, lane, SIGMA[1])
