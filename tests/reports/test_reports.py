import math

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, load_from_disk

from hf_hardneg import mine, report
from hf_hardneg.errors import ColumnError, ConfigError
from hf_hardneg.reports.hardness import HardnessHistogram
from tests.worlds import SMALL, needed, world

MINED = {
    "negatives": [["a", "b"], ["c", "c"], []],
    "negative_scores": [[1.0, 3.0], [None, None], []],
    "negative_ranks": [[0, 1], [-1, -1], []],
    "negative_sources": [["bm25", "bm25"], ["pad_random", "pad_random"], []],
    "positive_scores": [[2.0, 1.5], [5.0], [None]],
    "mining": [
        {"retrieved": 5, "known_positive": 1, "margin": 2, "kept": 2, "short": 0},
        {"retrieved": 0, "known_positive": 0, "margin": 0, "kept": 0, "short": 2},
        {"retrieved": 1, "known_positive": 1, "margin": 0, "kept": 0, "short": 2},
    ],
}


def test_worked_out_by_hand():
    made = report(Dataset.from_dict(MINED))
    assert (made.rows, made.negatives, made.short_rows, made.empty_rows, made.repeated_negatives) == (3, 4, 2, 1, 1)
    assert made.funnel == {"retrieved": 6, "known_positive": 2, "margin": 2, "kept": 2}
    assert made.sources == {"bm25": 2, "pad_random": 2}
    assert made.negative_scores[0.5] == 2.0 and made.positive_scores[0.5] == 2.0
    assert made.margins[0.5] == 0.0 and made.hardness.above == 0.5 and made.hardness.compared == 2
    shown = str(made)
    assert "3 rows, 4 negatives, 1.33 per row" in shown
    assert "rows with a repeated negative 1" in shown and "(50.00 % above it), of 2" in shown


def test_negatives_against_their_positive():
    """Relative margins -1, -.2, 0, .05 and -.25, .5, 1.2 and -inf, 0, inf of s+ 0; none without both scores."""
    given = {
        "negatives": [["a", "b", "c", "d"], ["e", "f", "g"], ["h", "i", "j", "k"], ["l"]],
        "negative_scores": [[2.0, 1.2, 1.0, 0.95], [-0.75, -1.5, -2.2], [0.3, 0.0, -0.3, -math.inf], [0.3]],
        "negative_ranks": [[0, 1, 2, 3], [0, 1, 2], [0, 1, 2, 3], [0]],
        "negative_sources": [["dense"] * 4, ["dense"] * 3, ["dense"] * 4, ["dense"]],
        "positive_scores": [[1.0, 0.5], [-1.0, -3.0], [0.0, None], [None]],
        "mining": [{"kept": 4, "short": 0}, {"kept": 3, "short": 0}, {"kept": 4, "short": 0}, {"kept": 1, "short": 0}],
    }
    made = report(Dataset.from_dict({**given, "mining": [{"retrieved": 4, **one} for one in given["mining"]]}))
    counts = {low: count for (low, _), count in made.hardness.histogram.items() if count}
    assert counts == {-math.inf: 3, -0.2: 1, 0.0: 2, 0.05: 1, 0.5: 1, 1.0: 2}
    assert made.hardness.shares == pytest.approx({"easy": 0.3, "moderate": 0.1, "hard": 0.6})
    assert made.hardness.above == 0.4 and sum(made.hardness.shares.values()) == pytest.approx(1)
    shown = "best positive of the query: easy 30.00 %, moderate 10.00 %, hard 60.00 % (40.00 % above it), of 10"
    assert shown in str(made) and "not estimated; scores of retrieval cannot tell" in str(made)
    assert not made.gradient_shares and "gradient" not in str(made)


def test_gradient_shares_are_those_of_infonce():
    scores = {"negative_scores": [[0.7, 0.4], [None, None], []], "positive_scores": [[0.8, 0.3], [0.5], [None]]}
    dataset = Dataset.from_dict({**MINED, **scores})
    shares = [0.2653879288, 0.01321288695]
    assert report(dataset, temperature=0.1).gradient_shares[0.5] == pytest.approx(sum(shares) / 2, rel=1e-8)
    assert report(dataset) == report(dataset, temperature=0.05) != report(dataset, temperature=0.1)
    assert not report(Dataset.from_dict(MINED)).gradient_shares
    with pytest.raises(ConfigError, match=r"report\(temperature=0\) of type int: allowed is a number above 0"):
        report(dataset, temperature=0)


def test_recall_of_approximate_search_is_shown_and_is_no_count():
    recalls = [0.9921875, 0.9765625, None]
    rows = [{**row, "search_recall": recall} for row, recall in zip(MINED["mining"], recalls, strict=True)]
    made, exact = report(Dataset.from_dict({**MINED, "mining": rows})), report(Dataset.from_dict(MINED))
    assert made.search_recall == 0.984375 and "recall of approximate search 0.9844" in str(made)
    assert exact.search_recall is None and "approximate" not in str(exact)
    assert made.funnel == exact.funnel


@pytest.mark.parametrize("name", SMALL)
def test_the_funnel_adds_up(name):
    pairs, corpus = world(2)
    made = report(mine(pairs, corpus, SMALL[name], **needed(SMALL[name])))
    rest = {key: count for key, count in made.funnel.items() if key != "retrieved"}
    assert made.funnel["retrieved"] == sum(rest.values())
    assert made.funnel["kept"] == made.negatives and made.repeated_negatives == 0


def test_it_survives_processes_saving_and_views(tmp_path):
    pairs, corpus = world(2)
    mined = mine(pairs, corpus)
    mined.save_to_disk(tmp_path / "saved")
    assert report(load_from_disk(tmp_path / "saved")) == report(mined) == report(mine(pairs, corpus, num_proc=2))
    assert report(mined.select(range(len(mined)))) == report(mined)
    assert report(mined.select([])).rows == 0


def test_only_mined_data_has_a_report():
    with pytest.raises(ColumnError, match="'negatives', .* are missing; it has 'x'. Give what mine"):
        report(Dataset.from_dict({"x": [1]}))


@pytest.mark.parametrize(
    ("wrap", "advice"),
    [
        (lambda rows: rows.to_iterable_dataset(), "Give its rows, Dataset.from_list"),
        (lambda rows: DatasetDict({"train": rows}), "Give one split of it"),
    ],
)
def test_a_report_is_of_one_dataset(wrap, advice):
    mined = mine(*world(0), num_negatives=2)
    with pytest.raises(ConfigError, match=rf"report\(dataset=.*: allowed is a Dataset\. {advice}"):
        report(wrap(mined))


def test_a_share_of_none_is_not_below_nothing():
    counts = HardnessHistogram.of(np.array([0.7] + [0.01] * 9)).shares
    assert counts == {"easy": 0.1, "moderate": 0.0, "hard": 0.9} and math.copysign(1, counts["moderate"]) == 1
