"""The best hits over parts of a corpus that are searched one after the other."""

from __future__ import annotations

import numpy as np

from hf_hardneg.index.hits import Hits, best_first


class RunningBest:
    """The best hits of each query so far, exact and with ties in row order.

    Args:
        k (`np.ndarray`): (n,) int64, how many are wanted of each query.
    """

    def __init__(self, k: np.ndarray) -> None:
        self.k = k
        self._parts: list[Hits] = []
        self._scores = np.full((len(k), int(k.max(initial=0))), -np.inf, np.float32)

    def add(self, hits: Hits, first: int) -> None:
        """Add the hits in a part, as `Hits`, whose first document is the row `first`; parts come in row order."""
        self._parts.append(Hits(hits.query, hits.doc + first, hits.score))
        counts = np.bincount(hits.query, minlength=len(self.k))
        if not len(hits.query):
            return
        more = np.full((len(self.k), int(counts.max())), -np.inf, np.float32)
        place = np.arange(len(hits.query)) - (np.cumsum(counts) - counts)[hits.query]
        more[hits.query, place] = hits.score
        both = np.concatenate([self._scores, more], axis=1)
        width = self._scores.shape[1]
        self._scores = -np.sort(np.partition(-both, width - 1, axis=1)[:, :width], axis=1) if width else self._scores

    def least(self) -> np.ndarray:
        """The least score with which a later document is among the best of each query, (n,) float32.

        It is -inf until there are enough; an equal score comes too late.
        """
        if not self._scores.shape[1]:
            return np.full(len(self.k), -np.inf, np.float32)
        last = self._scores[np.arange(len(self.k)), np.maximum(self.k - 1, 0)]
        return np.where(np.isneginf(last), last, np.nextafter(last, np.float32(np.inf)))

    def hits(self) -> Hits:
        """The best hits of all parts."""
        none = Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        return best_first(Hits(*map(np.concatenate, zip(none, *self._parts, strict=True))), self.k)
