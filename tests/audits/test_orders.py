import math

import numpy as np
from datasets import Dataset

from hf_hardneg.audits.orders import as_mined, random_sample, suspicious_first
from hf_hardneg.text.keys import normalized


def rows(seed, size=200):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, size)
    scores = [[None if rng.random() < 0.1 else float(rng.normal()) for _ in range(count)] for count in counts]
    anchors = [[None if rng.random() < 0.2 else float(rng.normal()) for _ in range(rng.integers(1, 3))] for _ in counts]
    return Dataset.from_dict(
        {
            "query": [f"query {number % 50}" for number in range(size)],
            "negatives": [[f"document {rng.integers(0, 90)}" for _ in range(count)] for count in counts],
            "negative_scores": scores,
            "positive_scores": anchors,
        }
    )


def suspicion(score, anchors):
    """By hand: how near a score comes to the best positive, in parts of its size."""
    known = [anchor for anchor in anchors if anchor is not None]
    if score is None or not known:
        return -math.inf
    return (score - max(known)) / abs(max(known))


def test_the_most_suspicious_comes_first():
    mined = rows(1)
    order = suspicious_first(mined, "query")
    expected = [[suspicion(score, row["positive_scores"]) for score in row["negative_scores"]] for row in mined]
    tops = [max(values, default=-math.inf) for values in expected]
    assert order.row.tolist() == sorted(range(len(mined)), key=lambda row: -tops[row])
    for row, place in zip(order.row.tolist(), order.place.tolist(), strict=True):
        assert place == (expected[row].index(tops[row]) if expected[row] else 0)
    assert not order.alone


def test_a_judge_is_asked_before_the_retriever():
    mined = Dataset.from_dict(
        {
            "query": ["a", "b", "c"],
            "negatives": [["x", "y"], ["z"], []],
            "negative_scores": [[9.0, 1.0], [1.0], []],
            "positive_scores": [[1.0]] * 3,
            "negative_denoised_scores": [[0.1, 0.4], [0.9], []],
        }
    )
    order = suspicious_first(mined, "query")
    assert (order.row.tolist(), order.place.tolist()) == ([1, 0, 2], [0, 1, 0])


def test_without_scores_rows_stay_in_their_order():
    mined = rows(2).remove_columns(["negative_scores", "positive_scores"])
    order = suspicious_first(mined, "query")
    assert order.row.tolist() == as_mined(mined, "query").row.tolist() == list(range(len(mined)))


def test_a_random_sample_has_every_pair_once_and_depends_on_the_texts_alone():
    mined = rows(3)
    pairs = {(normalized(row["query"]), normalized(text)) for row in mined for text in row["negatives"]}

    def drawn(data):
        order = random_sample(data, "query")
        places = zip(order.row.tolist(), order.place.tolist(), strict=True)
        assert order.alone
        return [(data[row]["query"], data[row]["negatives"][place]) for row, place in places]

    sample = drawn(mined)
    assert len(sample) == len(pairs) and set(sample) == pairs
    assert drawn(mined.select(range(len(mined) - 1, -1, -1))) == sample
    numbers = [int(query.split()[1]) for query, _ in sample]
    halves = np.mean(numbers[: len(numbers) // 2]), np.mean(numbers[len(numbers) // 2 :])
    assert abs(halves[0] - halves[1]) < 5


def test_empty_texts_are_not_drawn():
    mined = Dataset.from_dict({"query": ["a", " "], "negatives": [["x", ""], ["y"]]})
    order = random_sample(mined, "query")
    assert (order.row.tolist(), order.place.tolist()) == ([0], [0])
