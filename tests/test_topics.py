import numpy as np

from hf_hardneg.index.dense import normalized
from hf_hardneg.topics import centroids_of, topic_of


def test_a_centroid_is_the_mean_of_its_topic():
    vectors = np.random.default_rng(2).normal(size=(300, 6)).astype(np.float32)
    for unit in (True, False):
        given = normalized(vectors) if unit else vectors
        centroids = centroids_of(given, 4, seed=1, unit=unit)
        topics = topic_of(given, centroids)
        means = np.stack([given[topics == topic].mean(axis=0) for topic in range(4)])
        assert np.allclose(normalized(means) if unit else means, centroids, atol=0.03)
        assert (centroids_of(given, 4, seed=1, unit=unit) == centroids).all()


def test_nearest_by_distance_not_by_product():
    vectors, centroids = np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[5.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert topic_of(vectors, centroids).tolist() == [1, 0]
    many = np.random.default_rng(0).normal(size=(9000, 3))
    plain = np.linalg.norm(many[:, None] - many[:17], axis=2).argmin(axis=1)
    assert (topic_of(many, many[:17]) == plain).all()


def test_as_many_topics_as_queries():
    vectors = normalized(np.random.default_rng(3).normal(size=(10, 6)).astype(np.float32))
    assert sorted(topic_of(vectors, centroids_of(vectors, 10, seed=0, unit=True))) == list(range(10))
