"""Rows with every defect by chance, in every layout, against the oracle; and what our own mining returns."""

from unittest import mock

import numpy as np
import pytest
from datasets import Dataset, IterableDataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg import audit, from_format, mine, to_format
from hf_hardneg.audits import CHECKS, audited_rows
from hf_hardneg.formats import LAYOUTS
from tests.audits.oracle import BEYOND, compared, counted
from tests.worlds import SMALL, needed, world

pytestmark = pytest.mark.slow

PLAIN = "one two three four five six seven"
TEXTS = [
    PLAIN,
    f" {PLAIN.upper()}",
    f"{PLAIN} eight",
    "ein Fluß\u00a0im Tal",
    "EIN FLUSS im Tal",
    "b",
    "c d",
    "e f g",
    "q 1",
]
QUERIES = ["q 1", "Q  1", "q 2", "b"]


def chance_rows(seed, size):
    """Rows drawn from so few texts, ids and queries that they run into each other; the first is not short."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(size):
        query = int(rng.integers(len(QUERIES)))
        row = {"query_id": f"Q{query}", "query": QUERIES[query]}
        for kind, texts, most in (("positive", "positive", 2), ("negative", "negatives", 3)):
            drawn = rng.integers(len(TEXTS), size=rng.integers(1, most + 1) if number else most)
            row[texts] = [TEXTS[one] for one in drawn]
            row[f"{kind}_ids"] = [f"D{one}" for one in drawn]
            row[f"{kind}_scores"] = (rng.integers(0, 8, len(drawn)) / 8).tolist()
        row["negative_sources"] = ["dense"] * len(row["negatives"])
        made.append(row)
    return made


@pytest.mark.filterwarnings("ignore:.* rows :hf_hardneg.errors.HardNegWarning")
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 9), batch=st.integers(1, 4))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_counts_are_those_of_the_oracle(layout, seed, size, batch):
    scores = None if layout == "labeled-pair" or LAYOUTS[layout].scores == "never" else "retriever"
    made = to_format(Dataset.from_list(chance_rows(seed, size)), layout, scores=scores, num_negatives=1 + seed % 2)
    named = layout if layout in ("ms-swift-reranker", "labeled-pair") else None
    back = list(from_format(made, named))
    with mock.patch.object(audited_rows, "BATCH", batch):
        found = audit(made, layout=named)
    assert (found.rows, found.negatives) == (len(back), sum(len(row["negatives"]) for row in back))
    assert compared(found) == counted(back)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 9))
def test_a_stream_and_a_mined_dataset(seed, size):
    given = chance_rows(seed, size)
    data = Dataset.from_list(given)
    whole = audit(data)
    assert compared(whole) == counted(given)
    with mock.patch.object(audited_rows, "BATCH", 2):
        assert audit(data.to_iterable_dataset()).to_dict() == whole.to_dict()
    unknown = IterableDataset.from_generator(lambda: iter(given))
    assert unknown.features is None and audit(unknown).to_dict() == whole.to_dict()
    ids = audit(data.remove_columns(["positive", "negatives", "query"]), layout="list")
    without = [{name: one[name] for name in one if name not in ("positive", "negatives", "query")} for one in given]
    assert compared(ids) == counted(without)


def test_chance_plants_every_defect():
    """Else the tests above would show nothing."""
    every = [name for seed in range(60) for name in counted(chance_rows(seed, 9))]
    absent = {"no_positive", "no_negative", "missing_query", "missing_text", "bad_score"}
    assert set(every) == set(CHECKS) - BEYOND - absent


@pytest.mark.parametrize("name", SMALL)
def test_what_we_mine_is_clean(name):
    """No error, and of warnings only those that a strategy does not promise to avoid, as the oracle counts them."""
    pairs, corpus = world(5)
    mined = mine(pairs, corpus, SMALL[name], **needed(SMALL[name]), num_negatives=5)
    found = audit(mined)
    assert found.ok, str(found)
    warned = {one.name for one in found.findings if one.severity == "warning"}
    assert warned <= {"near_duplicate", "above_positive", "no_negative"}
    assert compared(found) == counted(list(mined))
