"""One vector of a text in the place of its tokens', whose inner product is near MaxSim (MUVERA, 2405.19504).

In each of several repetitions random hyperplanes part the space into buckets. A query's encoding is the sum of its
tokens in each bucket, a document's the mean; an empty bucket of a document takes the token whose bucket differs from it
in the fewest bits, the first on ties. Random signs then project each bucket to a few dimensions.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numba import njit

from hf_hardneg.arrays.token_rows import TokenRows
from hf_hardneg.runtime.arguments import AtLeastOne

BLOCK = 256
"""Texts that are encoded together."""


@dataclass(frozen=True)
class FixedEncodings:
    """How texts are encoded; the planes and signs are those that the seed draws.

    Args:
        repetitions (`int`, defaults to 20): partitions of the space.
        planes (`int`, defaults to 4): hyperplanes of each, which make 2 to that power buckets.
        dimensions (`int`, defaults to 16): of a bucket.
        seed (`int`, defaults to 0): of the draws.
    """

    repetitions: AtLeastOne = 20
    planes: AtLeastOne = 4
    dimensions: AtLeastOne = 16
    seed: int = 0

    @property
    def parameters(self) -> dict[str, Any]:
        """What the encodings depend on besides the tokens, as plain values."""
        return asdict(self)

    def of(self, rows: TokenRows, *, are_queries: bool) -> np.ndarray:
        """Encode texts, (n, repetitions * 2**planes * dimensions) float32; zeros where a text has no token."""
        planes, signs = _drawn(self, rows.width)
        none = np.zeros((0, self.repetitions * 2**self.planes * self.dimensions), np.float32)
        parts = [fixed_encodings(part, planes, signs, are_queries=are_queries) for part in _blocks(rows)]
        return np.concatenate([none, *parts])

    def blocks(self, rows: TokenRows) -> Iterator[np.ndarray]:
        """Encode documents, block by block."""
        for part in _blocks(rows):
            yield self.of(part, are_queries=False)


def _blocks(rows: TokenRows) -> Iterator[TokenRows]:
    for start in range(0, len(rows), BLOCK):
        yield rows[np.arange(start, min(start + BLOCK, len(rows)))]


@functools.lru_cache(maxsize=4)
def _drawn(encodings: FixedEncodings, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The planes (repetitions, planes, width), and projections (repetitions, dimensions, width), float32."""
    drawn = np.random.default_rng(encodings.seed)
    planes = drawn.normal(size=(encodings.repetitions, encodings.planes, width))
    signs = drawn.choice([-1.0, 1.0], size=(encodings.repetitions, encodings.dimensions, width))
    return planes.astype(np.float32), (signs / np.sqrt(encodings.dimensions)).astype(np.float32)


def fixed_encodings(
    rows: TokenRows, planes: np.ndarray, projections: np.ndarray | None, *, are_queries: bool
) -> np.ndarray:
    """The encodings of texts, (n, repetitions * buckets * dimensions), in the precision of the planes.

    Args:
        rows (`TokenRows`): the texts.
        planes (`np.ndarray`): (repetitions, k, d); bit i of a bucket is set where the product with plane i is above 0.
        projections (`np.ndarray`, *optional*): (repetitions, dimensions, d); by default buckets keep all d.
        are_queries (`bool`): whether buckets hold sums, else means. A query's do not depend on the batch.
    """
    vectors = np.ascontiguousarray(rows.vectors.astype(planes.dtype))
    multiply = _products if are_queries else _products_of_many
    bits = multiply(vectors, planes.reshape(-1, vectors.shape[1])).reshape(-1, *planes.shape[:2]) > 0
    buckets, count = bits @ (1 << np.arange(planes.shape[1])), 2 ** planes.shape[1]
    if projections is None:
        values = np.repeat(vectors[:, None], len(planes), axis=1)
    else:
        flat = projections.reshape(-1, vectors.shape[1])
        values = multiply(vectors, flat).reshape(-1, *projections.shape[:2])
    parts = [
        _filled(np.ascontiguousarray(values[:, number]), buckets[:, number], rows.pointers, count, are_queries)
        for number in range(len(planes))
    ]
    return np.concatenate(parts, axis=1)


def _products_of_many(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    products: np.ndarray = vectors @ others.T
    return products


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _products(vectors, others):
    """Inner products of all rows, each summed in float64, so that none depends on the others."""
    out = np.empty((vectors.shape[0], others.shape[0]), vectors.dtype)
    for i in range(vectors.shape[0]):
        for j in range(others.shape[0]):
            total = 0.0
            for d in range(vectors.shape[1]):
                total += np.float64(vectors[i, d]) * np.float64(others[j, d])
            out[i, j] = total
    return out


@njit(cache=True, nogil=True)
def _filled(values, buckets, pointers, count, are_queries):
    """The buckets of each text, one after the other, (n, count * dimensions)."""
    width = values.shape[1]
    encoded = np.zeros((len(pointers) - 1, count * width), values.dtype)
    for text in range(len(pointers) - 1):
        start, stop = pointers[text], pointers[text + 1]
        held = np.zeros(count, np.int64)
        for token in range(start, stop):
            bucket = buckets[token]
            held[bucket] += 1
            for d in range(width):
                encoded[text, bucket * width + d] += values[token, d]
        if are_queries or start == stop:
            continue
        for bucket in range(count):
            place = bucket * width
            if held[bucket]:
                for d in range(width):
                    encoded[text, place + d] /= held[bucket]
            else:
                nearest = start + _nearest(buckets[start:stop], bucket)
                for d in range(width):
                    encoded[text, place + d] = values[nearest, d]
    return encoded


@njit(cache=True, nogil=True)
def _nearest(buckets, bucket):
    """The first token whose bucket differs in the fewest bits."""
    least, nearest = np.int64(1 << 62), 0
    for token in range(len(buckets)):
        other, bits = buckets[token] ^ bucket, np.int64(0)
        while other:
            bits += other & 1
            other >>= 1
        if bits < least:
            least, nearest = bits, token
    return nearest
