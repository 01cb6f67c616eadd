import numpy as np
import pytest

from hf_hardneg import Dense, HardNegatives, Strategy, mine, plan
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.dense.dense_index import normalized
from hf_hardneg.samplers import TopicNegatives
from hf_hardneg.signals.topics import centroids_of, topic_of
from tests.worlds import encode, world


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


def by_hand(vectors, directory):
    """Topic of every vector by plain distances to the stored centroids."""
    centroids = np.load(directory / "learned.npy")
    return np.linalg.norm(vectors[:, None] - centroids, axis=2).argmin(axis=1)


def test_negatives_are_of_the_topic_of_their_query():
    pairs, corpus = world(4)
    miner = HardNegatives(corpus, Strategy([Dense(30)], [], TopicNegatives(4)), encoder=encode, known_positives=[pairs])
    directory = miner.rescoring.signals["same_topic@4"].directory
    topics = by_hand(normalized(encode(corpus["text"])), directory)
    asked = by_hand(normalized(encode(pairs["query"])), directory)
    assert len(set(topics)) == 4 and np.load(directory / "values.npy").tolist() == topics.tolist()
    mined = mine(pairs, corpus, Strategy([Dense(30)], [], TopicNegatives(4)), encoder=encode, num_negatives=3)
    rows = dict(zip(corpus["_id"], range(len(corpus)), strict=True))
    for row, topic in zip(mined, asked, strict=True):
        assert {topics[rows[one]] for one in row["negative_ids"]} <= {topic}
    assert sum(map(len, mined["negative_ids"])) > len(pairs)


def test_topics_do_not_depend_on_the_order_of_rows_or_their_repetition():
    pairs, corpus = world(4)
    strategy = Strategy([Dense(30)], [], TopicNegatives(4))
    first = HardNegatives(corpus, strategy, encoder=encode, known_positives=[pairs])
    order = np.random.default_rng(0).permutation(len(pairs))
    halves = [pairs.select(order[:20]), pairs.select(order[20:]), pairs.select([])]
    second = HardNegatives(corpus, strategy, encoder=encode, known_positives=halves)
    assert first.rescoring.signals == second.rescoring.signals
    vectors = pairs.add_column("vector", [one.tolist() for one in encode(pairs["query"])])
    given = HardNegatives(
        corpus, strategy, encoder=encode, known_positives=[vectors], columns={"query_vector": "vector"}
    ).rescoring.signals["same_topic@4"]
    same = first.rescoring.signals["same_topic@4"]
    assert given.directory != same.directory
    assert (np.load(given.directory / "learned.npy") == np.load(same.directory / "learned.npy")).all()


def test_without_known_queries_documents_are_clustered():
    pairs, corpus = world(4)
    miner = HardNegatives(corpus, Strategy([Dense(30)], [], TopicNegatives(4)), encoder=encode)
    assert np.load(miner.rescoring.signals["same_topic@4"].directory / "learned.npy").shape == (4, 16)
    assert len(miner(pairs[:5])["negatives"]) == 5


def test_more_topics_than_queries_is_an_error_before_any_work(tmp_path):
    pairs, corpus = world(4)

    def refuse(texts):
        raise AssertionError("encoded")

    refuse.digest = "never"
    with pytest.raises(ConfigError, match="makes topics of 12 different queries; at most one .* such as 1, or more"):
        mine(pairs, corpus, "topic_negatives", encoder=refuse, cache_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())
    assert plan(pairs, corpus, Strategy([Dense(30)], [], TopicNegatives(12)), encoder=encode).stages
