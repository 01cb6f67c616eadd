"""Rows whose positives are probably noise: counted, and left out where that is asked."""

import numpy as np
import pytest
from datasets import disable_progress_bars, enable_progress_bars

from hf_hardneg import BM25, ConsistentPositive, Dense, Random, Strategy, mine, report
from hf_hardneg.errors import ConfigError
from hf_hardneg.strategies import resolve
from tests.filters.test_filters import table
from tests.worlds import encode, world


def test_the_positives_of_a_row_are_compared_with_all_candidates():
    candidates = table([1.0, 0.875, 0.75, 0.625, 0.5], 0.0)
    for scores, depth, expected in (
        ([0.65], 3, True),
        ([0.65], 4, False),
        ([0.75], 3, False),  # only what scores higher counts
        ([0.65, 0.9], 2, False),  # the best of the row
        ([np.nan, 0.65], 3, True),
        ([np.nan], 1, False),
        ([], 1, False),
    ):
        found = ConsistentPositive(depth).inconsistent(
            candidates, np.array(scores, np.float32), np.array([len(scores)])
        )
        assert found.tolist() == [expected], (scores, depth)
    assert ConsistentPositive().keep(candidates).all() and ConsistentPositive(30).depth(4) == 30


@pytest.fixture(scope="module")
def rows():
    return world(6, documents=120, queries=20)


def expected_of(pairs, corpus, depth):
    """Which rows are inconsistent, by brute force over cosines; texts that are the same count once."""
    texts = dict(zip(corpus["_id"], corpus["text"], strict=True))

    def seen(text):
        return " ".join(text.casefold().split())

    def unit(text):
        vector = encode([text])[0].astype(np.float64)
        return vector / np.linalg.norm(vector)

    known = {}
    for row in pairs:
        known.setdefault(row["query_id"], set()).update(map(seen, [*row["positive"], texts[row["positive_ids"][0]]]))
    flags = []
    for row in pairs:
        query, others = unit(row["query"]), {}
        for text in corpus["text"]:
            if seen(text) not in known[row["query_id"]] and seen(text) != seen(row["query"]):
                others.setdefault(seen(text), unit(text) @ query)
        best = max(unit(text) @ query for text in row["positive"])
        flags.append(sum(score > best + 1e-6 for score in others.values()) >= depth)
    return flags


def test_rows_are_left_out_or_only_counted(rows, capsys):
    pairs, corpus = rows
    expected = expected_of(pairs, corpus, 8)
    assert 0 < sum(expected) < len(expected)
    strategies = [Strategy([Dense()], [ConsistentPositive(8, rule)]) for rule in ("keep", "drop_row")]
    counted = mine(pairs, corpus, strategies[0], encoder=encode)
    assert [row["inconsistent"] == 1 for row in counted["mining"]] == expected
    assert report(counted).inconsistent_rows == sum(expected) and "probably noise" in str(report(counted))
    assert report(mine(pairs, corpus, "bm25")).inconsistent_rows is None
    enable_progress_bars()
    try:
        left = mine(pairs, corpus, strategies[1], encoder=encode)
    finally:
        disable_progress_bars()
    assert left["query"][:] == [row["query"] for row, out in zip(pairs, expected, strict=True) if not out]
    assert report(left).inconsistent_rows == 0
    assert f"{sum(expected)} of {len(expected)} rows are left out" in capsys.readouterr().err


def test_no_default_has_it_and_its_name_is_a_part():
    assert ConsistentPositive() in resolve("bm25+consistent_positive").filters
    assert not any(isinstance(stage, ConsistentPositive) for stage in resolve("dense").filters)
    with pytest.raises(ConfigError, match="compares with the positive's score, but random retrieval"):
        Strategy([Random()], [ConsistentPositive()])
    with pytest.raises(ConfigError, match="known are drop_row, keep"):
        ConsistentPositive(on_inconsistent="drop")
    assert Strategy([BM25(10)], [ConsistentPositive(60)]).depth(4) == 60
