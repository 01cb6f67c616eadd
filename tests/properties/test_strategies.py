"""What every strategy must satisfy, over the whole table."""

import pickle
import unicodedata
from collections import defaultdict

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_hardneg import HardNegatives, mine
from hf_hardneg.strategies import STRATEGIES
from tests.worlds import SMALL, needed, world

pytestmark = pytest.mark.slow

COMPARED = ("query_id", "negative_ids", "negatives", "negative_scores", "negative_ranks", "negative_sources", "mining")
quick = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def test_the_small_table_covers_the_whole_table():
    assert set(STRATEGIES) <= set(SMALL)


def seen(text):
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@pytest.mark.parametrize("name", SMALL)
@quick
@given(seed=st.integers(0, 10_000))
def test_nothing_of_the_exclusion_set_comes_out(name, seed):
    pairs, corpus = world(seed)
    mined = mine(pairs, corpus, SMALL[name], **needed(SMALL[name]), num_negatives=5)
    texts = dict(zip(corpus["_id"], corpus["text"], strict=True))
    forbidden = defaultdict(set)
    for row in pairs:
        forbidden[row["query_id"]] |= {seen(row["query"]), *map(seen, row["positive"])}
        forbidden[row["query_id"]] |= {seen(texts[one]) for one in row["positive_ids"]}
    for row in mined:
        negatives = [seen(text) for text in row["negatives"]]
        assert not forbidden[row["query_id"]].intersection(negatives)
        assert len(set(negatives)) == len(negatives)
        assert [texts[one] for one in row["negative_ids"]] == row["negatives"]
        counts = row["mining"]
        assert counts["kept"] == len(negatives) == 5 - counts["short"]
        assert counts["retrieved"] == sum(n for key, n in counts.items() if key not in ("retrieved", "short"))


@pytest.mark.parametrize("name", SMALL)
@quick
@given(seed=st.integers(0, 10_000))
def test_output_depends_on_the_row_alone(name, seed):
    pairs, corpus = world(seed)
    whole = mine(pairs, corpus, SMALL[name], **needed(SMALL[name]))
    order = np.random.default_rng(seed).permutation(len(pairs))
    shuffled = mine(pairs.select(order), corpus, SMALL[name], **needed(SMALL[name]), batch_size=7)
    for place, row in enumerate(shuffled):
        assert {key: row[key] for key in COMPARED} == {key: whole[int(order[place])][key] for key in COMPARED}
    miner = HardNegatives(corpus, SMALL[name], **needed(SMALL[name]))
    again = pickle.loads(pickle.dumps(miner))
    batch = pairs[:10]
    assert again(batch)["negative_ids"] == miner(batch)["negative_ids"]


@pytest.mark.parametrize("name", SMALL)
def test_corpora_that_cannot_give_enough(name):
    """More negatives than documents, one document, all alike: a short list and a count, never an exception."""
    for texts in (["word1 word2"], ["word1"] * 4, ["word1 word2", "word3", "word1"], ["word1 word5", "word1 word6"]):
        corpus = Dataset.from_dict({"_id": [f"d{i}" for i in range(len(texts))], "text": texts})
        pairs = Dataset.from_dict({"query": ["word1 word9"], "positive_ids": [["d0"]]})
        row = mine(pairs, corpus, SMALL[name], **needed(SMALL[name]), num_negatives=50)[0]
        assert row["mining"]["kept"] == len(row["negatives"]) < len(texts)
        assert row["mining"]["short"] == 50 - len(row["negatives"])


@pytest.mark.parametrize("name", SMALL)
def test_equal_scores_and_missing_numbers(name):
    corpus = Dataset.from_dict({"_id": list("abcdef"), "text": [f"word1 same{i}" for i in range(6)]})
    pairs = Dataset.from_dict({"query": ["word1"], "positive_ids": [["a"]]})

    def constant(texts):
        return np.ones((len(texts), 4), np.float32)

    model = needed(SMALL[name])
    if "encoder" in model and SMALL[name].takes == "dense":
        model = {"encoder": constant}
    row = mine(pairs, corpus, SMALL[name], **model)[0]
    assert "a" not in row["negative_ids"]
    if name in ("dense", "bm25"):
        assert row["negative_ids"] == ["b", "c", "d", "e"]
