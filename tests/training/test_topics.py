from collections import Counter

import numpy as np
import pytest
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from hf_hardneg.errors import ConfigError, DataError, UnknownNameError
from hf_hardneg.training import TopicBatchSampler, margin_bins, query_topics

MARGINS = np.array([0.1, 0.2, 0.3, 2.5, 5.0, 10.1])


def test_bins_of_the_vector():
    assert margin_bins(MARGINS, np.zeros(6, int)).tolist() == [0, 0, 0, 2, 4, 9]


def test_bins_are_each_querys_own_and_equal_margins_have_one():
    queries = np.repeat([0, 1, 2], [6, 2, 1])
    margins = np.concatenate([MARGINS, [3.0, 3.0], [7.0]])
    assert margin_bins(margins, queries).tolist() == [0, 0, 0, 2, 4, 9, 0, 0, 0]


def epochs(sampler, number):
    for epoch in range(number):
        sampler.set_epoch(epoch)
        yield list(sampler)


def test_pairs_are_drawn_as_in_the_vector():
    sampler = TopicBatchSampler([0] * 6, 1, queries=["q"] * 6, margins=MARGINS)
    counts = Counter(batch[0] for batches in epochs(sampler, 8000) for batch in batches)
    shares = np.array([counts[row] / 8000 for row in range(6)])
    np.testing.assert_allclose(shares, [1 / 12] * 3 + [0.25] * 3, atol=0.015)


def test_pairs_without_margins_are_drawn_uniformly():
    sampler = TopicBatchSampler([0] * 6, 1, queries=["q"] * 6)
    counts = Counter(batch[0] for batches in epochs(sampler, 4000) for batch in batches)
    np.testing.assert_allclose([counts[row] / 4000 for row in range(6)], 1 / 6, atol=0.02)


def test_queries_of_a_topic_are_drawn_uniformly_without_replacement():
    sampler = TopicBatchSampler([0] * 7, 3)
    batches = [batch for drawn in epochs(sampler, 3000) for batch in drawn]
    assert all(len(set(batch)) == 3 for batch in batches)
    for place in range(3):
        counts = Counter(batch[place] for batch in batches)
        np.testing.assert_allclose([counts[row] / len(batches) for row in range(7)], 1 / 7, atol=0.02)
    pairs = Counter(tuple(sorted(batch)) for batch in batches)
    np.testing.assert_allclose(sorted(pairs.values()), len(batches) / 35, rtol=0.3)


def small(**options):
    """Three topics of 40, 20 and 5 queries with three pairs each, in any order."""
    topics = np.repeat([7, 3, 9], [40, 20, 5])
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(65), 3))
    names = np.array([f"query {one}" for one in rows])
    return topics[rows], names, TopicBatchSampler(topics[rows], 16, queries=names, **options)


def test_batches_are_full_of_one_topic_and_of_different_queries():
    topics, names, sampler = small()
    seen = []
    for batches in epochs(sampler, 20):
        assert len(batches) == len(sampler) == 4
        for batch in batches:
            assert len(batch) == 16 == len(set(names[batch]))
            counts = Counter(topics[batch].tolist())
            seen.append(max(counts, key=counts.get) if len(counts) == 1 else 9)
            assert len(counts) == 1 or (len(counts) == 2 and counts[9] == 5)
    np.testing.assert_allclose([seen.count(topic) / 80 for topic in (7, 3, 9)], 1 / 3, atol=0.15)


def test_topics_by_size_are_drawn_in_proportion():
    topics, _, sampler = small(topic_weight="size")
    topped = sum(9 in topics[batch] for batches in epochs(sampler, 100) for batch in batches)
    assert topped / 400 < 0.15


def test_a_batch_of_several_topics():
    topics, _, sampler = small(topics_per_batch=2)
    for batch in sampler:
        counts = sorted(Counter(topics[batch].tolist()).values())
        assert counts in ([8, 8], [3, 5, 8])
    alone = TopicBatchSampler([1] * 20, 10, topics_per_batch=4)
    assert all(len(set(batch)) == 10 for batch in alone)


def test_draws_depend_on_seed_and_epoch_and_not_on_the_order_of_rows():
    topics, names, sampler = small()
    first, second = epochs(sampler, 2)
    assert first != second and first == next(epochs(sampler, 1))
    assert list(small(seed=1)[2]) != first
    order = np.random.default_rng(1).permutation(len(names))
    moved = TopicBatchSampler(topics[order], 16, queries=names[order])
    assert [names[batch].tolist() for batch in first] == [names[order][batch].tolist() for batch in moved]


@pytest.mark.parametrize("split", [True, False])
def test_accelerate_shards_the_batches_and_moves_the_epoch_on(split):
    topics, _, whole = small()
    for epoch in range(2):
        whole.set_epoch(epoch)
        expected = list(whole)
        parts = []
        for rank in range(2):
            loader = DataLoader(np.arange(len(topics)), batch_sampler=small()[2], collate_fn=list)
            options = {"num_processes": 2, "process_index": rank, "split_batches": split, "put_on_device": False}
            sharded = prepare_data_loader(loader, **options)
            runs = [[list(map(int, batch)) for batch in sharded] for _ in range(epoch + 1)]
            parts.append(runs[epoch])
        if split:
            joined = [one + other for one, other in zip(*parts, strict=True)]
        else:
            joined = [batch for pair in zip(*parts, strict=True) for batch in pair]
        assert joined == expected


def test_topics_of_vectors():
    centers = np.eye(4)[[0, 1, 2]] * [[1], [3], [9]]
    vectors = np.repeat(centers, 50, axis=0) + np.random.default_rng(0).normal(size=(150, 4)) * 0.05
    topics = query_topics(vectors, topics=3)
    assert [len(set(topics[start : start + 50])) for start in (0, 50, 100)] == [1, 1, 1] and len(set(topics)) == 3
    assert (query_topics(vectors, topics=3) == topics).all()
    assert not query_topics(vectors).any()
    with pytest.raises(ConfigError, match="topics=151 of 150"):
        query_topics(vectors, topics=151)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (([0, 1], 3), {}, ConfigError, "more than the 2 different queries"),
        (([0, 1], 0), {}, ConfigError, "batch_size=0"),
        (([0, 1], 1), {"bins": 0}, ConfigError, "bins=0"),
        (([0, 1], 1), {"topic_weight": "largest"}, UnknownNameError, "size, uniform"),
        (([0, 1], 1), {"queries": ["a"]}, DataError, "2 topics, 1 queries"),
        (([0, 1], 1), {"queries": ["a", "a"]}, DataError, "different topics"),
    ],
)
def test_what_cannot_work_says_so(arguments, options, error, message):
    with pytest.raises(error, match=message):
        TopicBatchSampler(*arguments, **options)
