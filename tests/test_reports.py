import pytest
from datasets import Dataset, load_from_disk

from hf_hardneg import mine, report
from hf_hardneg.errors import ColumnError
from tests.worlds import SMALL, encode, world

MINED = {
    "negatives": [["a", "b"], ["c", "c"], []],
    "negative_scores": [[1.0, 3.0], [None, None], []],
    "negative_ranks": [[0, 1], [-1, -1], []],
    "negative_sources": [["bm25", "bm25"], ["pad_random", "pad_random"], []],
    "positive_scores": [[2.0, 4.0], [5.0], [None]],
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
    assert made.negative_scores[0.5] == 2.0 and made.positive_scores[0.5] == 4.0
    assert made.margins[0.5] == 0.0 and made.above_positive == 0.5
    shown = str(made)
    assert "3 rows, 4 negatives, 1.33 per row" in shown
    assert "rows with a repeated negative 1" in shown and "above their positive 50.00 %" in shown


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
    made = report(mine(pairs, corpus, SMALL[name], encoder=encode))
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
