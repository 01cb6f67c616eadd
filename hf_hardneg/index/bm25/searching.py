"""The kernels over all threads of this process: batches of queries, and of chosen pairs, in parts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hf_hardneg.arrays.strings import check_rows
from hf_hardneg.index.bm25 import chosen_pairs, kernel
from hf_hardneg.index.bm25.kernel import Postings, Terms
from hf_hardneg.index.hits import Hits
from hf_hardneg.runtime.process import in_threads, threads

PIECES = 4
"""Parts of a batch for each thread; some queries cost more than others."""
PAIRS = 10_000
"""Pairs that are worth a thread."""


def best_of(
    postings: Postings, terms: Terms, k: np.ndarray, least: np.ndarray | None = None, reach: float = 1.0
) -> Hits:
    """The best documents of each query that share at least one term with it.

    Args:
        postings (`Postings`): the index.
        terms (`Terms`): of n queries, `ordered`.
        k (`np.ndarray`): (n,) int64, how many at most, for each query.
        least (`np.ndarray`, *optional*): (n,) float32, scores below which no document is wanted.
        reach (`float`, defaults to 1.0): see `kernel.search_above`; it changes no hit.
    """
    workers, size = threads(), len(terms.pointers) - 1
    least = np.zeros(size, np.float32) if least is None else least
    pieces = min(PIECES * workers, size // 16) if workers > 1 else 1
    bounds = np.linspace(0, size, max(pieces, 1) + 1, dtype=np.int64)

    def run(first: int, last: int) -> Hits:
        inside = slice(first, last)
        hits = kernel.search_above(terms.of(first, last), k[inside], least[inside], postings, kernel.WINDOW, reach)
        return Hits(hits[0] + first, *hits[1:])

    if pieces <= 1:
        return run(0, size)
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(run, bounds[:-1], bounds[1:]))
    return Hits(*map(np.concatenate, zip(*parts, strict=True)))


def scores_of(postings: Postings, terms: Terms, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scores of chosen (query, document) pairs, (n,) float32, equal to what `best_of` gives.

    Raises:
        StoreError: the index has no such document.
    """
    check_rows(rows, postings.documents)

    def part(pairs: slice) -> np.ndarray:
        return chosen_pairs.score_rows(terms, query[pairs], rows[pairs], postings)

    return np.concatenate(in_threads(part, len(rows), at_least=PAIRS))
