import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg import mine, to_format
from hf_hardneg.errors import ColumnError, ConfigError, HardNegWarning, UnknownNameError
from tests.worlds import world

SHORT = "1 of 3 rows are left out of the layout '{}': 1 have no negative"
MINED = {
    "query": ["q1", "q2", "q3"],
    "positive": [["p1", "p2"], ["p3"], ["p4"]],
    "negatives": [["a", "b"], ["c"], []],
    "negative_ids": [["1", "2"], ["3"], []],
    "negative_scores": [[0.5, 0.25], [0.125], []],
    "negative_ranks": [[0, 1], [4], []],
    "negative_sources": [["bm25", "bm25"], ["bm25"], []],
    "positive_scores": [[0.75, 1.0], [2.0], [3.0]],
}

EXPECTED = {
    ("triplet", False): {
        "query": ["q1", "q1", "q1", "q1", "q2"],
        "positive": ["p1", "p1", "p2", "p2", "p3"],
        "negative": ["a", "b", "a", "b", "c"],
    },
    ("triplet", True): {
        "query": ["q1", "q1", "q1", "q1", "q2"],
        "positive": ["p1", "p1", "p2", "p2", "p3"],
        "negative": ["a", "b", "a", "b", "c"],
        "scores": [[0.75, 0.5], [0.75, 0.25], [1.0, 0.5], [1.0, 0.25], [2.0, 0.125]],
    },
    ("n-tuple", True): {
        "query": ["q1", "q1"],
        "positive": ["p1", "p2"],
        "negative_1": ["a", "a"],
        "negative_2": ["b", "b"],
        "scores": [[0.75, 0.5, 0.25], [1.0, 0.5, 0.25]],
    },
    ("labeled-pair", False): {
        "query": ["q1", "q1", "q1", "q1", "q2", "q2", "q3"],
        "positive": ["p1", "p2", "a", "b", "p3", "c", "p4"],
        "label": [1, 1, 0, 0, 1, 0, 1],
    },
    ("labeled-pair", True): {
        "query": ["q1", "q1", "q1", "q1", "q2", "q2", "q3"],
        "positive": ["p1", "p2", "a", "b", "p3", "c", "p4"],
        "score": [0.75, 1.0, 0.5, 0.25, 2.0, 0.125, 3.0],
    },
    ("labeled-list", False): {
        "query": ["q1", "q1", "q2"],
        "positive": [["p1", "a", "b"], ["p2", "a", "b"], ["p3", "c"]],
        "labels": [[1, 0, 0], [1, 0, 0], [1, 0]],
    },
    ("labeled-list", True): {
        "query": ["q1", "q1", "q2"],
        "positive": [["p1", "a", "b"], ["p2", "a", "b"], ["p3", "c"]],
        "scores": [[0.75, 0.5, 0.25], [1.0, 0.5, 0.25], [2.0, 0.125]],
    },
}


@pytest.mark.parametrize("case", EXPECTED, ids=str)
def test_worked_out_by_hand(case):
    layout, scores = case
    scores = "retriever" if scores else None
    if layout == "labeled-pair":
        made = to_format(Dataset.from_dict(MINED), layout, scores=scores)
    else:
        with pytest.warns(HardNegWarning, match=SHORT.format(layout) if layout != "n-tuple" else "2 of 3 rows"):
            made = to_format(Dataset.from_dict(MINED), layout, scores=scores)
    assert made.column_names == list(EXPECTED[case])
    assert made.to_dict() == EXPECTED[case]


def test_the_list_layout_is_mined_data_and_can_be_cut():
    mined = Dataset.from_dict(MINED)
    assert to_format(mined, "list").to_dict() == MINED
    cut = to_format(mined, "list", num_negatives=1).to_dict()
    assert cut["negatives"] == [["a"], ["c"], []] and cut["negative_ranks"] == [[0], [4], []]
    assert cut["positive"] == MINED["positive"]


def test_a_width_cuts_and_drops():
    mined = Dataset.from_dict(MINED)
    with pytest.warns(HardNegWarning, match=SHORT.format("n-tuple")):
        tuples = to_format(mined, "n-tuple", num_negatives=1)
    assert tuples.to_dict() == {
        "query": ["q1", "q1", "q2"],
        "positive": ["p1", "p2", "p3"],
        "negative_1": ["a", "a", "c"],
    }
    whole = mined.select([0, 1])
    assert len(to_format(whole, "triplet", num_negatives=1)) == 3
    with pytest.warns(HardNegWarning, match="1 of 2 rows have fewer than 2 negatives and give fewer rows or shorter"):
        assert len(to_format(whole, "triplet", num_negatives=2)) == 5


def test_a_positive_that_is_a_string():
    flat = Dataset.from_dict(MINED | {"positive": ["p1", "p3", "p4"], "positive_scores": [[0.75], [2.0], [3.0]]})
    assert to_format(flat.select([0, 1]), "triplet").to_dict() == {
        "query": ["q1", "q1", "q2"],
        "positive": ["p1", "p1", "p3"],
        "negative": ["a", "b", "c"],
    }


def test_types_views_splits_and_formats():
    mined = Dataset.from_dict(MINED)
    pairs = to_format(mined, "labeled-pair")
    assert pairs.features["label"] == Value("int64")
    view, whole = mined.select([1, 0]), mined.select([0, 1])
    assert to_format(view, "triplet")["query"][:] == ["q2", "q1", "q1", "q1", "q1"]
    assert to_format(whole.with_format("numpy"), "triplet").to_dict() == EXPECTED["triplet", False]
    both = to_format(DatasetDict({"a": whole, "b": view}), "triplet", num_negatives=1)
    assert {name: len(split) for name, split in both.items()} == {"a": 3, "b": 3}
    renamed = whole.rename_columns({"query": "question", "positive": "answer"})
    made = to_format(renamed, "triplet", columns={"query": "question", "positive": "answer"})
    assert made.column_names == ["question", "answer", "negative"]


def nested_loops(rows, layout, width):
    """An obvious oracle."""
    made = []
    for row in rows:
        negatives = row["negatives"][:width]
        if layout == "labeled-pair":
            made += [(row["query"], text, 1) for text in row["positive"]]
            made += [(row["query"], text, 0) for text in negatives]
            continue
        for positive in row["positive"]:
            if layout == "triplet":
                made += [(row["query"], positive, negative) for negative in negatives]
            elif layout == "n-tuple" and len(negatives) == width:
                made.append((row["query"], positive, *negatives))
            elif layout == "labeled-list" and negatives:
                made.append((row["query"], [positive, *negatives], [1] + [0] * len(negatives)))
    return made


counts = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=8)


@pytest.mark.filterwarnings("ignore:.* rows:hf_hardneg.errors.HardNegWarning")
@settings(max_examples=25, deadline=None)
@given(counts, st.sampled_from(["triplet", "n-tuple", "labeled-pair", "labeled-list"]), st.integers(1, 4))
def test_nested_loops(counts, layout, width):
    rows = [
        {
            "query": f"q{number}",
            "positive": [f"p{number}.{i}" for i in range(positives)],
            "negatives": [f"n{number}.{i}" for i in range(negatives)],
            "negative_scores": [float(i) for i in range(negatives)],
            "positive_scores": [float(i) for i in range(positives)],
        }
        for number, (positives, negatives) in enumerate([*counts, (1, 4)])
    ]
    made = to_format(Dataset.from_list(rows), layout, num_negatives=width)
    assert list(zip(*made.to_dict().values(), strict=True)) == nested_loops(rows, layout, width)


def test_a_large_set_in_batches():
    pairs, corpus = world(3, queries=400)
    mined = mine(pairs, corpus, num_negatives=3)
    lengths = [len(row["negatives"]) * len(row["positive"]) for row in mined]
    assert len(mined) > 1000 and len(to_format(mined, "triplet")) == sum(lengths)


def test_errors():
    mined = Dataset.from_dict(MINED)
    with pytest.raises(
        UnknownNameError, match="Unknown layout 'tripel'; known are colbert, .*labeled-list, .* Did you mean 'triplet'"
    ):
        to_format(mined, "tripel")
    with pytest.raises(ColumnError, match="needs 'negatives'.*Give what mine"):
        to_format(Dataset.from_dict({"query": ["x"], "positive": ["y"]}), "triplet")
    with pytest.raises(ConfigError, match="num_negatives=0. of type int: allowed is a whole number of at least 1"):
        to_format(mined, "triplet", num_negatives=0)
    with pytest.raises(ConfigError, match="No row has a negative, so 'n-tuple' would be empty"):
        to_format(mined.select([2]), "n-tuple")
    unscored = mined.select([0, 1]).map(
        lambda row: {"negative_scores": [None] * len(row["negatives"])}, features=mined.features
    )
    with pytest.raises(ConfigError, match="some documents have no score: random or padded"):
        to_format(unscored, "triplet", scores="retriever")
    assert len(to_format(unscored, "triplet")) == 5


def test_scores_are_those_of_the_row():
    pairs, corpus = world(7)
    mined = mine(pairs, corpus, num_negatives=2)
    made = to_format(mined, "triplet", scores="retriever")
    expected = [
        [positive, negative]
        for row in mined
        for positive in row["positive_scores"]
        for negative in row["negative_scores"]
    ]
    np.testing.assert_allclose(np.array(made["scores"][:]), np.array(expected))
