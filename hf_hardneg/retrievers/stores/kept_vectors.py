"""Vectors that a document store gave, kept in this process: candidates of one batch are candidates of the next."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

ROOM = 1 << 26
"""Bytes that vectors of one collection may take in a process."""


@dataclass
class KeptVectors:
    """Vectors of some documents, all of which are forgotten once there is no room for others.

    Args:
        count, width (`int`): documents of the collection, and dimensions of their vectors.
    """

    count: int
    width: int
    slots: np.ndarray = field(init=False)
    vectors: np.ndarray = field(init=False)
    used: int = 0

    def __post_init__(self) -> None:
        self.slots = np.full(self.count, -1, np.int64)
        self.vectors = np.empty((min(self.count, self.room), self.width), np.float32)

    @property
    def room(self) -> int:
        """How many vectors are kept at most."""
        return max(ROOM // (4 * self.width), 1)

    def of(self, rows: np.ndarray, fetched: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Vectors of at most `room` different rows, (n, d) float32.

        Args:
            rows (`np.ndarray`): (n,) rows of the corpus, each once.
            fetched (`Callable`): gives vectors of rows that are not kept.
        """
        missing = rows[self.slots[rows] < 0]
        if self.used + len(missing) > len(self.vectors):
            self.slots[:], self.used, missing = -1, 0, rows
        if len(missing):
            end = self.used + len(missing)
            self.vectors[self.used : end] = fetched(missing)
            self.slots[missing], self.used = np.arange(self.used, end), end
        return self.vectors[self.slots[rows]]


@functools.lru_cache(maxsize=2)
def kept_vectors(identity: tuple[object, ...], count: int, width: int) -> KeptVectors:
    """The vectors that this process keeps of a collection in one state, by rows of one corpus.

    Args:
        identity (`tuple`): of the collection, its state, the corpus, and how its rows are called.
        count, width (`int`): see `KeptVectors`.
    """
    return KeptVectors(count, width)
