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
SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    np.uint64,
)
ROUNDS = 12
BLOCK = 128
DIGEST_BYTES = 8
PARAMETERS = np.uint64(0x01010000 ^ DIGEST_BYTES)


def digests(prefixes: list[bytes], owner: np.ndarray, offsets: np.ndarray, data: np.ndarray) -> np.ndarray:
    """64-bit BLAKE2b digests of `prefix + string`, (n,) uint64, the digest's bytes read big-endian.

    Args:
        prefixes (`list[bytes]`): m prefixes.
        owner (`np.ndarray`): (n,) int64, which prefix each string follows.
        offsets (`np.ndarray`): (n + 1,) where the strings begin and end in `data`.
        data (`np.ndarray`): (bytes,) uint8.
    """
    starts = np.concatenate([[0], np.cumsum([len(prefix) for prefix in prefixes])]).astype(np.int64)
    heads = np.frombuffer(b"".join(prefixes), np.uint8)
    return _digests(heads, starts, owner, offsets, data).byteswap()


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _digests(heads, starts, owner, offsets, data):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    out, longest = np.empty(len(owner), np.uint64), np.int64(0)
    for i in range(len(owner)):
        size = starts[owner[i] + 1] - starts[owner[i]] + offsets[i + 1] - offsets[i]
        longest = max(longest, size)
    message = np.zeros((longest // BLOCK + 1) * BLOCK, np.uint8)
    words, state = message.view(np.uint64), np.empty(8, np.uint64)
    written = -1
    for i in range(len(owner)):
        begin, size = starts[owner[i]], starts[owner[i] + 1] - starts[owner[i]]
        if owner[i] != written:
            for j in range(size):
                message[j] = heads[begin + j]
            written = owner[i]
        for j in range(offsets[i], offsets[i + 1]):
            message[size] = data[j]
            size += 1
        padded = max((size + BLOCK - 1) // BLOCK, 1) * BLOCK
        for j in range(size, padded):
            message[j] = 0
        for j in range(8):
            state[j] = IV[j]
        state[0] ^= PARAMETERS
        for start in range(0, padded, BLOCK):
            _compress(state, words, start // 8, min(start + BLOCK, size), start + BLOCK == padded)
        out[i] = state[0]
    return out


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _turned(value, right, left):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return (value >> np.uint64(right)) | (value << np.uint64(left))


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
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


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _compress(h, words, at, counter, last):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    v0, v1, v2, v3, v4, v5, v6, v7 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    v8, v9, v10, v11, v12, v13, v14, v15 = IV[0], IV[1], IV[2], IV[3], IV[4], IV[5], IV[6], IV[7]
    m = words[at : at + 16]
    v12 ^= np.uint64(counter)
    if last:
        v14 = ~v14
    for turn in range(ROUNDS):
        s = SIGMA[turn % len(SIGMA)]
        v0, v4, v8, v12 = _mixed(v0, v4, v8, v12, m[s[0]], m[s[1]])
        v1, v5, v9, v13 = _mixed(v1, v5, v9, v13, m[s[2]], m[s[3]])
        v2, v6, v10, v14 = _mixed(v2, v6, v10, v14, m[s[4]], m[s[5]])
        v3, v7, v11, v15 = _mixed(v3, v7, v11, v15, m[s[6]], m[s[7]])
        v0, v5, v10, v15 = _mixed(v0, v5, v10, v15, m[s[8]], m[s[9]])
        v1, v6, v11, v12 = _mixed(v1, v6, v11, v12, m[s[10]], m[s[11]])
        v2, v7, v8, v13 = _mixed(v2, v7, v8, v13, m[s[12]], m[s[13]])
        v3, v4, v9, v14 = _mixed(v3, v4, v9, v14, m[s[14]], m[s[15]])
    h[0] ^= v0 ^ v8
    h[1] ^= v1 ^ v9
    h[2] ^= v2 ^ v10
    h[3] ^= v3 ^ v11
    h[4] ^= v4 ^ v12
    h[5] ^= v5 ^ v13
    h[6] ^= v6 ^ v14
    h[7] ^= v7 ^ v15
