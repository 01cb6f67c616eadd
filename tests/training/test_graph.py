"""Batches of rows that are hard for each other: every row once, no known positive as a negative, harder than others."""

from collections import defaultdict

import numpy as np
import pytest
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from hf_hardneg.errors import ConfigError, DataError, HardNegWarning
from hf_hardneg.training import GraphBatchSampler, TopicBatchSampler, query_topics
from hf_hardneg.training.communities import grown, refine

SIZE = 16


def rows_of(seed, queries=260, documents=320):
    """Rows of one or two positives a query, the nearest other documents as candidates, and the vectors."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(25, 8))
    documents = centers[random.integers(0, 25, documents)] + 0.6 * random.normal(size=(documents, 8))
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    positives = [random.choice(len(documents), random.integers(1, 3), replace=False) for _ in range(queries)]
    vectors = np.stack([documents[own].mean(axis=0) + 0.15 * random.normal(size=8) for own in positives])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-vectors @ documents.T, axis=1)
    rows = []
    for query, own in enumerate(positives):
        names = [f"d{doc}" for doc in order[query] if doc not in own][:40]
        rows += [(f"q{query}", f"d{doc}", names) for doc in own]
    return rows, vectors, documents


@pytest.fixture(scope="module")
def world():
    return rows_of(0)


def sampler_of(rows, **options):
    queries, positives, candidates = (list(column) for column in zip(*rows, strict=True))
    return GraphBatchSampler(positives, SIZE, **{"candidates": candidates, "queries": queries, **options})


def epochs(sampler, number=3):
    for epoch in range(number):
        sampler.set_epoch(epoch)
        yield list(sampler)


def collisions(batches, rows):
    """Pairs of a batch in which one row brings a known positive of the other's query."""
    known = defaultdict(set)
    for query, positive, _ in rows:
        known[query].add(positive)
    return sum(
        rows[other][1] in known[rows[row][0]] for batch in batches for row in batch for other in batch if row != other
    )


def test_every_row_comes_once_an_epoch_and_no_known_positive_is_a_negative(world):
    rows = world[0]
    sampler = sampler_of(rows)
    seen = [sorted(map(tuple, batches)) for batches in epochs(sampler)]
    for batches in epochs(sampler):
        assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
        assert [len(batch) for batch in batches[:-1]] == [SIZE] * (len(batches) - 1)
        assert len(batches) == len(sampler) == -(-len(rows) // SIZE)
        assert collisions(batches, rows) == 0
    assert seen[0] != seen[1] != seen[2]
    shuffled = np.random.default_rng(0).permutation(len(rows))
    assert collisions(np.array_split(shuffled, len(rows) // SIZE), rows) > 0


def mean_similarity(batches, rows, vectors, documents):
    """Of queries and other rows' positives in a batch, by brute force; without pairs that answer each other."""
    known = defaultdict(set)
    for query, positive, _ in rows:
        known[query].add(positive)
    found = [
        vectors[int(rows[row][0][1:])] @ documents[int(rows[other][1][1:])]
        for batch in batches
        for row in batch
        for other in batch
        if rows[other][1] not in known[rows[row][0]]
    ]
    return np.mean(found)


def test_batches_are_harder_than_those_of_topics_and_of_chance(world):
    rows, vectors, documents = world
    graph = mean_similarity([batch for drawn in epochs(sampler_of(rows)) for batch in drawn], rows, vectors, documents)
    by_query = np.array([int(query[1:]) for query, _, _ in rows])
    topics = {
        number: TopicBatchSampler(
            query_topics(vectors, topics=number)[by_query], SIZE, queries=[row[0] for row in rows]
        )
        for number in (2, 8, 16, 32)
    }
    topical = {
        number: mean_similarity([batch for drawn in epochs(sampler) for batch in drawn], rows, vectors, documents)
        for number, sampler in topics.items()
    }
    chance = mean_similarity(list(sampler_of(rows, candidates=None)), rows, vectors, documents)
    smaller = mean_similarity(list(sampler_of(rows, community_size=4)), rows, vectors, documents)
    assert graph > max(topical.values()) and min(topical.values()) > chance and graph > smaller > chance


def test_batches_of_one_language_and_what_is_left_together(world):
    rows = world[0]
    languages = [("en", "de", "fr")[int(query[1:]) % 3] for query, _, _ in rows]
    sampler = sampler_of(rows, groups=languages)
    for batches in epochs(sampler):
        assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
        mixed = [len({languages[row] for row in batch}) > 1 for batch in batches]
        assert sum(mixed) <= 3 and not any(mixed[: len(mixed) - sum(mixed)])
        assert collisions(batches, rows) == 0


def test_groups_alone_make_batches_too():
    batches = list(GraphBatchSampler([f"d{row}" for row in range(12)], 4, groups=[0, 1, 2] * 4))
    assert [sorted(batch) for batch in sorted(batches)] != [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert all(len({row % 3 for row in batch}) == 1 for batch in batches)


def test_candidates_that_are_left_out_lead_nowhere():
    """Two rings: by the first candidates 0-1 and 2-3 belong together, by the second 0-2 and 1-3."""
    candidates = [["b", "c"], ["a", "d"], ["d", "a"], ["c", "b"]]
    for options, pairs in (({"neighbours": 1}, [[0, 1], [2, 3]]), ({"skip": 1}, [[0, 2], [1, 3]])):
        for epoch in range(4):
            sampler = GraphBatchSampler(["a", "b", "c", "d"], 2, candidates=candidates, **options)
            sampler.set_epoch(epoch)
            assert sorted(map(sorted, sampler)) == pairs


def test_the_same_on_every_process_and_by_the_seed(world):
    rows = world[0]
    first, again, other = (list(sampler_of(rows, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert list(sampler_of(rows, seed=1)) == first
    sampler = sampler_of(rows, seed=1)
    for batch in sampler:
        batch.append(0)
    assert list(sampler) == first


@pytest.mark.parametrize("split", [True, False])
def test_accelerate_shards_the_batches_and_moves_the_epoch_on(world, split):
    rows = world[0]
    whole = sampler_of(rows)
    for epoch, expected in enumerate(epochs(whole, 2)):
        parts = []
        for rank in range(2):
            loader = DataLoader(np.arange(len(rows)), batch_sampler=sampler_of(rows), collate_fn=list)
            options = {"num_processes": 2, "process_index": rank, "split_batches": split, "put_on_device": False}
            sharded = prepare_data_loader(loader, even_batches=False, **options)
            parts.append([[list(map(int, batch)) for batch in sharded] for _ in range(epoch + 1)][epoch])
        found = [row for part in parts for batch in part for row in batch]
        assert sorted(found) == sorted(row for batch in expected for row in batch) == list(range(len(rows)))


def test_rows_that_share_many_positives_make_short_batches_and_say_so():
    positives = [["a", "b"], ["a", "b"], ["a", "c"], ["b", "c"], ["d"], ["e"]]
    sampler = GraphBatchSampler(positives, 2)
    with pytest.warns(HardNegWarning, match="batches have fewer than 2 rows: so many share queries and positives"):
        batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(6)) and len(sampler) == len(batches) == 4


def test_a_positive_that_a_row_lists_twice_is_one():
    sampler = GraphBatchSampler([["a", "a"], ["b"], ["c"]], 2, candidates=[["b"], ["a"], []], queries=["q", "r", "r"])
    once = GraphBatchSampler(["a", "b", "c"], 2, candidates=[["b"], ["a"], []], queries=["q", "r", "r"])
    assert list(sampler) == list(once)


@pytest.mark.parametrize(
    ("positives", "candidates", "held"),
    [
        (["text a", "text b"], [["1"], ["0"]], "'1' .str., positives 'text a' .str."),
        ([0, 1], [["1"], ["0"]], "'1' .str., positives '0' .int."),
    ],
)
def test_candidates_that_are_named_otherwise_are_told_of(positives, candidates, held):
    with pytest.warns(HardNegWarning, match=f"No candidate is a positive of any row.*{held}.* both as ids"):
        GraphBatchSampler(positives, 2, candidates=candidates)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((["a", "a", "a"], 2), {}, ConfigError, "3 rows share one positive, and 3 rows make 2 batches of 2"),
        ((["a", "b"], 2), {"queries": [7, 7]}, ConfigError, "2 rows share one query"),
        ((["a", "b"], 0), {}, ConfigError, "batch_size=0"),
        ((["a", "b"], 2), {"candidates": [["b"]]}, DataError, "2 rows of positives and 1 of candidates"),
        ((["a", 1.5], 2), {}, DataError, "positives holds 1.5 in row 1; each row must hold an id or text"),
        ((["a", "b"], 2), {"candidates": [["b"], [None]]}, DataError, "candidates holds \\[None\\] in row 1"),
        ((["a", "b"], 2), {"groups": [[1], {}]}, DataError, "groups holds no ids or texts"),
    ],
)
def test_what_cannot_work_says_so(arguments, options, error, message):
    with pytest.raises(error, match=message):
        GraphBatchSampler(*arguments, **options)


def test_compiled_code_names_no_class_of_ours(world):
    """Else a class that is called otherwise leaves files that numba cannot read."""
    list(sampler_of(world[0]))
    signatures = [str(signature) for kernel in (grown, refine) for signature in kernel.signatures]
    assert signatures and not any("Named" in signature for signature in signatures)


def test_no_rows_make_no_batches():
    assert list(GraphBatchSampler([], 2)) == [] and len(GraphBatchSampler([], 2)) == 0
