import itertools

import numpy as np
import pytest
from scipy import stats

from hf_hardneg.arrays.statistics import (
    alignment,
    infonce,
    intrinsic_dimension,
    paired_difference,
    paired_tests,
    squared_distances,
    uniformity,
)

FIRST = np.array([[1, 0], [0, 1], [0.6, 0.8]])
SECOND = np.array([[0.8, 0.6], [0, 1], [1, 0]])


def test_infonce_is_the_published_vector():
    own, others = infonce(np.array([0.8]), np.array([0.7, 0.4]), np.array([0, 0]), temperature=0.1)
    assert [*own, *others] == pytest.approx([0.7213991843, 0.2653879288, 0.01321288695], rel=1e-8)
    assert -np.log(own[0]) == pytest.approx(0.32656264126747014, rel=1e-8)
    gradients = [(own[0] - 1) / 0.1, *(others / 0.1)]
    assert gradients == pytest.approx([-2.786008157, 2.653879288, 0.1321288695], rel=1e-8)


def test_infonce_gradient_is_that_of_the_loss():
    rng = np.random.default_rng(3)
    query, t, step = np.array([0, 0, 0, 1, 3, 3]), 0.3, 1e-6
    positive, scores = rng.normal(size=4), rng.normal(size=6)

    def loss(positive, scores):
        total = 0.0
        for one, value in enumerate(positive):
            logits = np.append(value, scores[query == one]) / t
            total += np.log(np.exp(logits).sum()) - logits[0]
        return total

    own, others = infonce(positive, scores, query, temperature=t)
    assert own[2] == 1.0
    for place, share in enumerate(others):
        moved = step * (np.arange(6) == place)
        slope = (loss(positive, scores + moved) - loss(positive, scores - moved)) / (2 * step)
        assert share / t == pytest.approx(slope, abs=1e-7)
    for place, share in enumerate(own):
        moved = step * (np.arange(4) == place)
        slope = (loss(positive + moved, scores) - loss(positive - moved, scores)) / (2 * step)
        assert (share - 1) / t == pytest.approx(slope, abs=1e-7)


def test_infonce_of_scores_far_apart_stays_finite():
    own, others = infonce(np.array([9000.0, -9000.0]), np.array([-9000.0, 9000.0]), np.array([0, 1]), temperature=0.01)
    assert own.tolist() == [1.0, 0.0] and others.tolist() == [0.0, 1.0]


def test_alignment_and_uniformity_are_the_published_vectors():
    assert alignment(FIRST, SECOND) == pytest.approx(0.4, rel=1e-8)
    assert uniformity(FIRST) == pytest.approx(-1.499774983941234, rel=1e-8)


def test_intrinsic_dimension_of_a_narrow_cone_is_that_of_its_directions():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(1500, 12))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cone = np.hstack([np.full((1500, 1), 0.9), np.sqrt(1 - 0.81) * directions, np.zeros((1500, 50))])
    assert intrinsic_dimension(directions) == pytest.approx(12, rel=0.05)
    assert intrinsic_dimension(cone) == pytest.approx(intrinsic_dimension(directions), rel=1e-6)
    assert intrinsic_dimension(np.ones((5, 7))) == 7.0


def test_squared_distances_of_equal_vectors_are_not_negative():
    vectors = np.random.default_rng(1).normal(size=(40, 9)).astype(np.float32)
    vectors[20:] = vectors[:20]
    plain = np.linalg.norm(vectors.astype(float)[:, None] - vectors.astype(float), axis=2) ** 2
    assert squared_distances(vectors) == pytest.approx(plain, abs=1e-12) and squared_distances(vectors).min() >= 0


def test_paired_tests_of_few_rows_are_what_all_orders_say():
    """Every row's values in every order, instead of draws."""
    values = np.array([[0.9, 0.1, 0.4], [0.7, 0.2, 0.6], [0.8, 0.5, 0.1], [0.6, 0.3, 0.2]])
    spans = [
        np.ptp(np.mean(rows, axis=0)) for rows in itertools.product(*(itertools.permutations(row) for row in values))
    ]
    means = values.mean(axis=0)
    tests = paired_tests(values, draws=20_000)
    for first, second in itertools.combinations(range(3), 2):
        exact = np.mean(np.array(spans) >= abs(means[first] - means[second]) - 1e-12)
        assert tests.p[first, second] == pytest.approx(exact, abs=0.01) == tests.p[second, first]
    assert tests.p.diagonal() == pytest.approx(1) and tests.detectable == pytest.approx(
        np.quantile(spans, 0.95), abs=0.02
    )


def test_of_two_columns_it_is_the_paired_randomisation_test():
    rng = np.random.default_rng(1)
    first = rng.uniform(size=40)
    second = first + rng.normal(0.03, 0.1, 40)
    difference = lambda one, other: np.mean(one - other)  # noqa: E731
    exact = stats.permutation_test((first, second), difference, permutation_type="samples", n_resamples=20_000, rng=1)
    assert paired_tests(np.stack([first, second], axis=1), draws=20_000).p[0, 1] == pytest.approx(
        exact.pvalue, abs=0.015
    )
    interval = stats.ttest_rel(second, first).confidence_interval()
    mean, low, high = paired_difference(second, first)
    assert mean == pytest.approx(np.mean(second - first)) and (low, high) == pytest.approx(interval, abs=0.002)
    assert paired_difference(np.ones(1), np.zeros(1)) == (1.0, -np.inf, np.inf)
