"""Keyed randomness: every draw is a function of (seed, salt, query, document) and of nothing else.

The answer therefore does not depend on batch size, row order, worker count, process count or numpy's version.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numba import njit

from hf_hardneg.arrays.hashing import GOLDEN, mixed, numbers_of, string_hashes


def keyed_uniforms(seed: int, salt: str, query: str, documents: Iterable[str]) -> np.ndarray:
    """Draws uniformly inside (0, 1) for documents of one query, as `keyed_uniforms_of_pairs` does for many.

    Args:
        seed (`int`): the user's seed.
        salt (`str`): the strategy's name, plus `#<draw>` for several independent draws.
        query (`str`): the query's identity.
        documents (`Iterable[str]`): the n documents' identities.

    Returns:
        `np.ndarray` of shape (n,), float64.
    """
    names = pa.array(list(documents), pa.large_string())
    return keyed_uniforms_of_pairs(seed, salt, [query], np.zeros(len(names), np.int64), names)


def keyed_uniforms_of_pairs(
    seed: int, salt: str, queries: Sequence[str], query: np.ndarray, documents: pa.Array
) -> np.ndarray:
    """Draws uniformly inside (0, 1) for (query, document) pairs, (n,) float64.

    Args:
        seed (`int`), salt (`str`): as for `keyed_uniforms`.
        queries (`Sequence[str]`): identities of the queries.
        query (`np.ndarray`): (n,) int64, which of them each pair is of.
        documents (`pa.Array`): (n,) strings without nulls, identities of the documents.
    """
    keys = string_hashes(pa.array(queries, pa.large_string()))
    return uniforms_of_keys(seed, salt, keys[query], string_hashes(documents))


def uniforms_of_keys(seed: int, salt: str, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Draws uniformly inside (0, 1) for pairs of 64-bit keys, (n,) float64.

    A hash of seed, salt and query is where SplitMix64 begins, the document's key is the place of the number in that
    stream. The draw is `(m + 0.5) * 2**-52` with `m` the upper 52 bits of the number: `m + 0.5` is exact then, and
    `log(-log u)` is always finite.

    Args:
        seed (`int`), salt (`str`): as for `keyed_uniforms`.
        queries, documents (`np.ndarray`): uint64 of shapes that broadcast to (n,): hashes, or numbers of rows.
    """
    base = string_hashes(pa.array([f"{seed}\x1f{salt}"]))[0]
    numbers = numbers_of(mixed(base ^ mixed(queries + GOLDEN)), documents) >> np.uint64(12)
    return (numbers.astype(np.float64) + 0.5) * 2.0**-52


def sample_without_replacement(
    log_weights: np.ndarray, uniforms: np.ndarray, size: int, offsets: np.ndarray | None = None
) -> np.ndarray:
    """Positions of a weighted sample without replacement, ascending; of each group by itself where there are several.

    Gumbel top-k: the `size` largest of `l - log(-log u)` are exactly a successive draw without replacement
    proportional to `exp(l)`, in log space. `-inf` weights are never drawn, unless every weight is `-inf`, when the
    draw is uniform.

    Args:
        log_weights (`np.ndarray`): (n,) float64.
        uniforms (`np.ndarray`): (n,) float64 inside (0, 1).
        size (`int`): how many of each group; more than there are returns them all.
        offsets (`np.ndarray`, *optional*): (groups + 1,) where groups begin and end; one group by default.
    """
    offsets = np.array([0, len(uniforms)]) if offsets is None else offsets
    return largest(gumbel_keys(_drawable(log_weights, offsets), uniforms), size, offsets)


def probabilities(log_weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Probability that each is the first that `sample_without_replacement` draws of its group, (n,) float64.

    Args:
        log_weights (`np.ndarray`): (n,) float64.
        offsets (`np.ndarray`): (groups + 1,) where groups begin and end.
    """
    if not len(log_weights):
        return np.zeros(0)
    group = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    most = np.full(len(offsets) - 1, -np.inf)
    weights = _drawable(log_weights, offsets)
    np.maximum.at(most, group, weights)
    shares = np.exp(weights - most[group])
    return shares / np.bincount(group, shares)[group]


def effective_sample_sizes(log_weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """`1 / sum p^2` of each group, (groups,): its number, were all as likely; 0 for an empty group."""
    shares = probabilities(log_weights, offsets)
    group = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    squares = np.bincount(group, shares**2, minlength=len(offsets) - 1)
    return np.divide(1, squares, out=np.zeros(len(squares)), where=squares > 0)


def _drawable(log_weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The same weights, equal ones for a group that has no finite one."""
    group = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    alive = np.bincount(group[np.isfinite(log_weights)], minlength=len(offsets) - 1) > 0
    return np.where(alive[group], log_weights, 0.0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def largest(keys, size, offsets):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Positions of the `size` largest finite keys of each group, ascending; of equal keys the first ones."""
    chosen, filled = np.empty(len(keys), np.int64), 0
    for group in range(len(offsets) - 1):
        part = keys[offsets[group] : offsets[group + 1]]
        least, ties = np.float64(-np.inf if size else np.inf), 0
        if len(part) > size > 0:
            least, ties = np.partition(part, len(part) - size)[len(part) - size], size
            for key in part:
                ties -= key > least
        for i in range(len(part)):
            tied = part[i] == least and ties > 0
            if part[i] > -np.inf and (tied or part[i] > least):
                ties -= tied
                chosen[filled] = offsets[group] + i
                filled += 1
    return chosen[:filled]


def gumbel_keys(log_weights: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Sampling keys `l - log(-log u)`, shape (n,)."""
    return log_weights - np.log(-np.log(uniforms))
