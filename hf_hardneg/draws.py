"""Keyed randomness: every draw is a function of (seed, salt, query, document) and of nothing else.

The answer therefore does not depend on batch size, row order, worker count, process count or numpy's version.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np


def keyed_uniforms(seed: int, salt: str, query: str, documents: Iterable[str]) -> np.ndarray:
    """Uniform draws strictly inside (0, 1), one per document.

    `u = (n + 0.5) * 2**-52` with `n` the upper 52 bits of the 64-bit BLAKE2b digest of the four parts joined by the
    unit separator. 52 bits, so that `n + 0.5` is exact and `log(-log u)` is always finite.

    Args:
        seed (`int`): the user's seed.
        salt (`str`): the strategy's name, plus `#<draw>` for several independent draws.
        query (`str`): the query's identity.
        documents (`Iterable[str]`): the documents' identities.

    Returns:
        `np.ndarray` of shape (n,), float64.
    """
    prefix = f"{seed}\x1f{salt}\x1f{query}\x1f".encode()
    base = blake2b(prefix, digest_size=8)
    numbers = []
    for document in documents:
        digest = base.copy()
        digest.update(document.encode())
        numbers.append(int.from_bytes(digest.digest(), "big") >> 12)
    return (np.array(numbers, dtype=np.float64) + 0.5) * 2.0**-52


def sample_without_replacement(log_weights: np.ndarray, uniforms: np.ndarray, size: int) -> np.ndarray:
    """Positions of a weighted sample without replacement, ascending.

    Gumbel top-k: the `size` largest of `l - log(-log u)` are exactly a successive draw without replacement
    proportional to `exp(l)`, in log space. `-inf` weights are never drawn, unless every weight is `-inf`, when the
    draw is uniform.

    Args:
        log_weights (`np.ndarray`): (n,) float64.
        uniforms (`np.ndarray`): (n,) float64 inside (0, 1).
        size (`int`): how many; more than there are returns them all.
    """
    keys = gumbel_keys(log_weights, uniforms)
    if not np.isfinite(keys).any():
        keys = gumbel_keys(np.zeros_like(uniforms), uniforms)
    possible = np.flatnonzero(np.isfinite(keys))
    return np.sort(possible[np.argsort(-keys[possible], kind="stable")[:size]])


def gumbel_keys(log_weights: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Sampling keys `l - log(-log u)`, shape (n,)."""
    return log_weights - np.log(-np.log(uniforms))
