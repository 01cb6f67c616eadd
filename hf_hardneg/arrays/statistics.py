"""Diagnostics of negatives and vectors, as pure functions of arrays."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

DRAWS = 4_000
"""Draws of a randomisation test; a p below 0.05 is then known to about 0.003."""


class PairedTests(NamedTuple):
    """Whether the means of k columns differ, over the same rows.

    Args:
        p (`np.ndarray`): (k, k) float64, how often so large a difference of two means comes about by chance.
        detectable (`float`): the least difference of two means whose p is below 0.05.
    """

    p: np.ndarray
    detectable: float


def infonce(
    positive: np.ndarray, scores: np.ndarray, query: np.ndarray, *, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the InfoNCE softmax over a query's positive and its negatives: `p+` (q,) and `p` (n,).

    The loss is `-log p+`. Its gradient is `p / temperature` in a negative's score and `(p+ - 1) / temperature` in the
    positive's, so `p` is a negative's share of the largest gradient that it could get.

    Args:
        positive (`np.ndarray`): (q,) score of each query's positive.
        scores (`np.ndarray`): (n,) scores of all negatives.
        query (`np.ndarray`): (n,) int64, which query each negative is of.
        temperature (`float`): above 0, in the units of the scores.
    """
    most = np.array(positive, dtype=np.float64)
    np.maximum.at(most, query, scores)
    of_positive, others = np.exp((positive - most) / temperature), np.exp((scores - most[query]) / temperature)
    total = of_positive + np.bincount(query, others, minlength=len(of_positive))
    return of_positive / total, others / total[query]


def alignment(first: np.ndarray, second: np.ndarray, *, power: float = 2.0) -> float:
    """Mean distance of positive pairs, `mean ||x - y||^power`; smaller is better (arXiv 2005.10242).

    Args:
        first, second (`np.ndarray`): (n, d) unit vectors, a pair in each row.
        power (`float`, defaults to 2): the paper's alpha.
    """
    return float((np.linalg.norm(first - second, axis=1) ** power).mean())


def uniformity(vectors: np.ndarray, *, t: float = 2.0) -> float:
    """How evenly vectors lie on the sphere, `ln mean_{i<j} exp(-t ||x_i - x_j||^2)`; smaller is better.

    Args:
        vectors (`np.ndarray`): (n, d) unit vectors, at least 2; all pairs are compared, so give a sample.
        t (`float`, defaults to 2): arXiv 2005.10242.
    """
    squares = squared_distances(vectors)[np.triu_indices(len(vectors), 1)]
    return float(np.log(np.exp(-t * squares).mean()))


def squared_distances(vectors: np.ndarray) -> np.ndarray:
    """Squared distances of all pairs, (n, n) float64."""
    exact = vectors.astype(np.float64)
    lengths = (exact**2).sum(axis=1)
    squares = np.maximum(lengths[:, None] + lengths - 2 * exact @ exact.T, 0.0)
    np.fill_diagonal(squares, 0.0)
    return squares


def intrinsic_dimension(vectors: np.ndarray) -> float:
    """The n whose sphere has pairwise squared distances of the same mean and variance: `mean^2 / variance`.

    Directions that are uniform in n dimensions, at any radius and around any centre, have `Var[d^2] / E[d^2]^2 = 1/n`.

    Args:
        vectors (`np.ndarray`): (m, d); all pairs are compared, so give a sample.
    """
    squares = squared_distances(vectors)[np.triu_indices(len(vectors), 1)]
    spread = squares.var() if len(squares) else 0.0
    return float(squares.mean() ** 2 / spread) if spread > 0 else float(vectors.shape[1])


def wilson_interval(successes: float, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Lowest and highest share that `successes` of `trials` independent ones agree with (Wilson 1927).

    Args:
        successes (`float`), trials (`int`): counts, or how many are expected; without a trial every share agrees.
        confidence (`float`, defaults to 0.95): between 0 and 1, of both sides together.
    """
    if not trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, scale = successes / trials, 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * (share * (1 - share) / trials + z * z / (4 * trials**2)) ** 0.5
    return max(centre - half, 0.0), min(centre + half, 1.0)


def paired_tests(values: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> PairedTests:
    """Test all pairs of columns at once, by the randomised form of Tukey's honestly significant difference.

    Were all columns alike, the values of a row might stand in any order. So each draw shuffles every row and notes the
    largest difference of two means; p is the share of draws whose largest difference is at least that of a pair. It
    therefore holds for all pairs together, also where the best column was chosen by the same values. Of two columns it
    is the paired randomisation test (Carterette 2012, doi 10.1145/2094072.2094076).

    Args:
        values (`np.ndarray`): (n, k) float64, such as a measure of n queries under k systems.
        draws (`int`): how many.
        seed (`int`, defaults to 0): of the draws.
    """
    exact, random = np.array(values, np.float64), np.random.default_rng(seed)
    spans = np.empty(draws)
    for number in range(draws):
        spans[number] = np.ptp(random.permuted(exact, axis=1).mean(axis=0))
    means = exact.mean(axis=0)
    differences = np.abs(means[:, None] - means)
    reached = draws - np.searchsorted(np.sort(spans), differences - 1e-12)
    return PairedTests((1 + reached) / (1 + draws), float(np.quantile(spans, 0.95)))


def paired_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Mean of `first - second` over the same rows, and the ends of its 95 % interval by its standard error.

    Args:
        first, second (`np.ndarray`): (n,) float64; of one row nothing is known, and the ends are infinite.
    """
    differences = np.asarray(first, np.float64) - second
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return mean, -float("inf"), float("inf")
    half = NormalDist().inv_cdf(0.975) * float(differences.std(ddof=1)) / count**0.5
    return mean, mean - half, mean + half
