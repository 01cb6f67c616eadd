"""Where a candidate stands among the best of its query by another signal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.retrievers import Retriever
from hf_hardneg.retrievers.base import Takes
from hf_hardneg.signals.base import BoundSignal, Context, Signal

POOL = 50
SMALLEST_POOL = 10


@dataclass(frozen=True)
class PoolShare(Signal):
    """Another signal's rank among the best candidates of the query: a threshold on it suits any collection.

    The share of the query's `pool` best candidates whose value is smaller, 0 to 1; NaN for a query with fewer than 10
    of them, which tell nothing.

    Args:
        signal (`Signal`): the values to rank.
        pool (`int`, defaults to 50): how many of the best candidates are compared with.
    """

    signal: Signal
    pool: int = POOL

    @property
    def name(self) -> str:
        """Such as `"second_score@50"`."""
        return f"{self.signal.name}@{self.pool}"

    def uses_vectors(self, retriever: Retriever) -> bool:
        """Whether the ranked signal does."""
        return self.signal.uses_vectors(retriever)

    def takes(self) -> Takes:
        """Which vectors the ranked signal takes."""
        return self.signal.takes()

    @property
    def needs_words(self) -> tuple[str, ...]:
        """The sides whose words the ranked signal reads."""
        return self.signal.needs_words

    def check(self, retriever: Retriever) -> None:
        """See `Signal`."""
        self.signal.check(retriever)

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        return _PoolShare(self.signal.bind(context), self.pool)


@dataclass(frozen=True)
class _PoolShare:
    signal: BoundSignal
    pool: int

    @property
    def identity(self) -> str:
        return f"{self.signal.identity} @{self.pool}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        return shares_of_pool(self.signal.of(queries, candidates), candidates, self.pool)


def shares_of_pool(values: np.ndarray, candidates: Candidates, pool: int) -> np.ndarray:
    """The share of the query's `pool` best candidates whose value is smaller, (n,); see `PoolShare`."""
    return _shares(np.asarray(values, np.float64), candidates.position < pool, candidates.offsets())


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _shares(values, inside, offsets):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    shares = np.full(len(values), np.nan)
    for group in range(len(offsets) - 1):
        first, last = offsets[group], offsets[group + 1]
        pool = np.sort(values[first:last][inside[first:last] & ~np.isnan(values[first:last])])
        if len(pool) >= SMALLEST_POOL:
            for i in range(first, last):
                if not np.isnan(values[i]):
                    shares[i] = np.searchsorted(pool, values[i]) / len(pool)
    return shares
