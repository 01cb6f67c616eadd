"""What people said is read as qrels, keeps documents out of the next mining, and corrects estimates."""

import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import Verdicts, audit, mine, report, to_format
from hf_hardneg.arrays.statistics import wilson_interval
from hf_hardneg.audits.orders import random_sample
from hf_hardneg.audits.verdict_log import HumanVerdict
from hf_hardneg.errors import ColumnError, ConfigError
from hf_hardneg.hub import mined_dataset_card
from hf_hardneg.recipes.recipe import attach
from hf_hardneg.reports.estimates import false_negatives
from tests.hub.mined import RECIPE, ROWS
from tests.hub.mined import mined as by_hand
from tests.worlds import SMALL, encode, world


def write(path, verdicts, *, drawn=False):
    """A file of verdicts: (query, document, score) each."""
    lines = [
        HumanVerdict(
            query_id=query,
            corpus_id=f"id of {text}",
            score=score,
            query=query,
            document=text,
            row=0,
            place=0,
            drawn=drawn,
        ).line()
        for query, text, score in verdicts
    ]
    path.write_bytes(b"".join(lines))
    return Verdicts(path)


def test_they_are_qrels(tmp_path):
    verdicts = write(
        tmp_path / "v.jsonl", [("a", "x", 1), ("a", "y", 0), ("b", "x", 0), ("A ", "X", 0), ("b", "x", None)]
    )
    assert verdicts.dataset.column_names == ["query-id", "corpus-id", "score", "query", "document"]
    assert verdicts.dataset.to_list() == [
        {"query-id": "A ", "corpus-id": "id of X", "score": 0, "query": "A ", "document": "X"},
        {"query-id": "a", "corpus-id": "id of y", "score": 0, "query": "a", "document": "y"},
    ]
    assert len(verdicts) == 2 and len(write(tmp_path / "none.jsonl", []).dataset) == 0


def test_an_audit_reads_them(tmp_path):
    pairs, corpus = world(4)
    mined = mine(pairs, corpus, num_negatives=3)
    row = mined[0]
    said = HumanVerdict(
        query_id=row["query_id"],
        corpus_id=row["negative_ids"][1],
        score=1,
        query=row["query"],
        document=row["negatives"][1],
        row=0,
        place=1,
    )
    (tmp_path / "v.jsonl").write_bytes(said.line())
    assert audit(mined, qrels=Verdicts(tmp_path / "v.jsonl").dataset).counts["judged_relevant"] >= 1


@pytest.mark.parametrize("columns", [None, {"query": "question", "positive": "answer"}])
def test_what_was_judged_relevant_is_no_negative_in_the_next_mining(columns, tmp_path):
    pairs, corpus = world(4)
    if columns:
        pairs = pairs.rename_columns(columns)
    mined = mine(pairs, corpus, num_negatives=3, columns=columns)
    query = (columns or {}).get("query", "query")
    every = {(row[query], text): place % 2 for row in mined for place, text in enumerate(row["negatives"])}
    verdicts = write(tmp_path / "v.jsonl", [(*pair, score) for pair, score in every.items()])
    again = mine(pairs, corpus, num_negatives=3, columns=columns, known_positives=[verdicts.positives(columns)])
    kept = {(row[query], text) for row in again for text in row["negatives"]}
    assert kept and not kept & {pair for pair, score in every.items() if score}
    assert kept & {pair for pair, score in every.items() if not score}
    assert mine(pairs, corpus, num_negatives=3, columns=columns, known_positives=[]).to_dict() == mined.to_dict()


def test_without_relevant_ones_mining_is_as_before(tmp_path):
    pairs, corpus = world(4)
    mined = mine(pairs, corpus, num_negatives=3)
    verdicts = write(tmp_path / "v.jsonl", [("no query", "no document", 0)])
    assert mine(pairs, corpus, num_negatives=3, known_positives=[verdicts.positives()]).to_dict() == mined.to_dict()


def judged(tmp_path, said, recipe=None, **options):
    """The rows of `tests/hub/mined.py` (negatives: one two, three four, five) with verdicts."""
    queries = dict(zip(["one", "two", "three", "four", "five"], [0, 0, 1, 1, 2], strict=True))
    pairs = [(ROWS["query"][queries[text]], text, score) for text, score in said.items()]
    rows = write(tmp_path / "v.jsonl", pairs, **options).on(by_hand())
    if recipe is not None:
        attach(rows, recipe)
    return rows


def test_columns_beside_the_negatives(tmp_path):
    rows = judged(tmp_path, {"two": 1, "five": 0})
    assert rows["negative_verdicts"][:] == [[None, 1], [None, None], [0], []]
    assert rows["negative_drawn"][:] == [[False, False], [False, False], [False], []]
    more = write(tmp_path / "more.jsonl", [("second query", "Three ", 0)]).on(rows.select([1, 0]))
    assert more["negative_verdicts"][:] == [[0, None], [None, None]]
    with pytest.raises(ColumnError, match="A review needs 'query', and the rows have 'x'"):
        write(tmp_path / "x.jsonl", []).on(Dataset.from_dict({"x": [1], "negatives": [["a"]]}))


def test_only_bounds_are_known_where_nothing_tells_of_the_others(tmp_path):
    found = report(judged(tmp_path, {"two": 1, "five": 0, "one": 0})).false_negatives
    assert (found.share, found.low, found.high, found.judged, found.relevant) == (None, 0.2, pytest.approx(0.6), 3, 1)
    assert str(found) == (
        "between 20.00 % and 60.00 %: 1 of 3 that people judged are relevant, and nothing tells of the others"
    )
    assert report(by_hand()).false_negatives is None
    every = report(judged(tmp_path, {"one": 1, "two": 0, "three": 0, "four": 0, "five": 0})).false_negatives
    assert every.share == every.low == pytest.approx(every.high) == 0.2
    assert str(every) == "20.00 %: people judged every negative"


def test_verdicts_stand_in_the_place_of_scores(tmp_path):
    """Scores are 0.1, 0.05, 0.02, 0.08 and 0: with `two` relevant and `five` not, (1 + 0.1 + 0.02 + 0.08) / 5."""
    found = report(judged(tmp_path, {"two": 1, "five": 0}, RECIPE)).false_negatives
    low, high = wilson_interval(0.2, 3)
    assert found.method == "scores" and found.share == pytest.approx(0.24)
    assert (found.low, found.high) == (pytest.approx((1 + 3 * low) / 5), pytest.approx((1 + 3 * high) / 5))
    assert "of 5 that people judged or else the denoising cross-encoder scored; 1 of 2 that people" in str(found)
    every = report(judged(tmp_path, dict.fromkeys(["one", "two", "three", "four", "five"], 0), RECIPE))
    assert every.false_negatives.share == every.false_negatives.high == 0


def drawn_rows(size, start=""):
    return Dataset.from_dict(
        {
            "query": [f"{start}query {number}" for number in range(size)],
            "negatives": [[f"{number} a", f"{number} b"] for number in range(size)],
        }
    )


def sample_of(mined, size):
    order = random_sample(mined, "query")
    places = list(zip(order.row.tolist(), order.place.tolist(), strict=True))[:size]
    return [(mined[row]["query"], mined[row]["negatives"][place]) for row, place in places]


def test_a_random_sample_estimates_all_of_them(tmp_path):
    mined = drawn_rows(200)
    pairs = sample_of(mined, 40)
    said = [(*pair, int(number < 10)) for number, pair in enumerate(pairs)]
    found = false_negatives(write(tmp_path / "v.jsonl", said, drawn=True).on(mined), None)
    low, high = wilson_interval(10, 40)
    assert found.method == "sample" and (found.share, found.low, found.high) == (0.25, low, high)
    assert "by a random sample of 40; 10 of 40 that people judged are relevant" in str(found)


def test_what_is_left_open_in_a_sample_may_be_either(tmp_path):
    mined = drawn_rows(200)
    pairs = sample_of(mined, 40)
    said = [(*pair, int(number < 10)) for number, pair in enumerate(pairs) if number % 4 or number == 39]
    relevant = sum(score for *_, score in said)
    found = false_negatives(write(tmp_path / "v.jsonl", said, drawn=True).on(mined), None)
    assert found.unanswered == 40 - len(said) and found.scored == len(said)
    assert found.low == pytest.approx(wilson_interval(relevant, 40)[0])
    assert found.high == pytest.approx(wilson_interval(relevant + found.unanswered, 40)[1])


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_a_sample_holds_the_truth(seed, tmp_path):
    """Negatives of which 15 % are relevant, judged 20 times on 60 drawn ones: 95 % of the intervals hold 15 %."""
    rng, hits = np.random.default_rng(seed), 0
    for number in range(20):
        mined = drawn_rows(150, f"{seed} {number} ")
        relevant = set(rng.choice(300, 45, replace=False).tolist())
        truth = {
            (row["query"], text): (2 * place + side) in relevant
            for place, row in enumerate(mined)
            for side, text in enumerate(row["negatives"])
        }
        said = [(*pair, int(truth[pair])) for pair in sample_of(mined, 60)]
        found = false_negatives(write(tmp_path / "v.jsonl", said, drawn=True).on(mined), None)
        hits += found.low <= 0.15 <= found.high
    assert hits >= 16


def test_few_drawn_ones_do_not_outweigh_a_cross_encoder(tmp_path):
    rows = judged(tmp_path, {"one": 0, "two": 0}, RECIPE, drawn=True)
    assert report(rows).false_negatives.method == "scores"


def test_the_card_says_what_people_said(tmp_path):
    card = str(mined_dataset_card(judged(tmp_path, {"two": 1, "five": 0}), repo_id="ada/set", recipe=RECIPE))
    assert "negatives that are relevant: 24.00 %, 95 % interval 20.19 % to 57.01 %.\n" in card
    assert "\nPeople judged 2 of 5 negatives, and took 1 for relevant. The columns" in card
    assert "\nMethod: the mean of what people said and, of the others, of the probability" in card
    plain = replace(RECIPE, strategy={**RECIPE.strategy, "filters": []})
    bounds = str(mined_dataset_card(judged(tmp_path, {"two": 1, "five": 0}), repo_id="ada/set", recipe=plain))
    assert "\nBetween 20.00 % and 80.00 % of the negatives are relevant: nothing tells" in bounds
    drawn = judged(tmp_path, dict.fromkeys(["one", "two", "three", "four", "five"], 1), drawn=True)
    assert "\nMethod: the share of relevant ones in a random sample of 5 of the negatives" in str(
        mined_dataset_card(drawn, repo_id="ada/set", recipe=plain)
    )


def test_verdicts_do_not_outlive_the_negatives_they_are_of(tmp_path):
    pairs, corpus = world(4)
    mined = mine(pairs, corpus, num_negatives=3)
    verdicts = write(tmp_path / "v.jsonl", [(mined[0]["query"], mined[0]["negatives"][0], 1)])
    rows = verdicts.on(mined)
    again = mine(rows, corpus, num_negatives=2)
    assert not {"negative_verdicts", "negative_drawn"} & set(again.column_names)
    assert to_format(rows, "triplet").column_names == ["query", "positive", "negative"]
    assert [len(row) for row in to_format(rows, "list", num_negatives=1)["negative_verdicts"]] == [1] * len(rows)


def test_records_of_argilla(tmp_path):
    verdicts = write(tmp_path / "v.jsonl", [("a", "<b>x</b>", 1), ("a", "y\u2028", 0)])
    path = verdicts.to_argilla(tmp_path / "records.jsonl")
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [record["fields"] for record in records] == [
        {"query": "a", "document": "<b>x</b>"},
        {"query": "a", "document": "y\u2028"},
    ]
    values = [record["responses"]["relevance"][0]["value"] for record in records]
    assert values == ["relevant", "not relevant"] and len({record["id"] for record in records}) == 2


def test_records_of_all_negatives_suggest_what_the_model_expects(tmp_path):
    rows = judged(tmp_path, {"two": 1, "five": 0}, RECIPE)
    beside = write(tmp_path / "v.jsonl", [("first query", "two", 1), ("gone", "gone", 0)])
    records = [json.loads(line) for line in beside.to_argilla(tmp_path / "a.jsonl", rows).read_text().splitlines()]
    assert [record["fields"]["document"] for record in records] == ["one", "two", "three", "four", "five", "gone"]
    expected = [record["suggestions"].get("relevance", {}).get("score") for record in records]
    assert expected == pytest.approx([0.1, 0.05, 0.02, 0.08, 0.0, None])
    assert records[0]["suggestions"]["relevance"]["value"] == "not relevant"
    assert [len(record["responses"]) for record in records] == [0, 1, 0, 0, 0, 1]
    attached = Dataset.from_dict(
        {**ROWS, "query": ["q"] * 4, "negatives": [["x"] * len(row) for row in ROWS["negatives"]]}
    )
    assert len(beside.to_argilla(tmp_path / "a.jsonl", attached).read_text().splitlines()) == 1 + 2


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="There is no file of verdicts .*none.jsonl. Give one that review"):
        Verdicts(tmp_path / "none.jsonl")


def test_they_lead_strategies_that_learn_from_the_queries_too(tmp_path):
    """Rows with ids alone stand beside verdicts, which have texts alone."""
    pairs, corpus = world(4)
    pairs = pairs.remove_columns("positive")
    options = {"strategy": SMALL["topic_negatives"], "encoder": encode, "num_negatives": 2}
    row = mine(pairs, corpus, **options)[0]
    verdicts = write(tmp_path / "v.jsonl", [(row["query"], row["negatives"][0], 1)])
    again = mine(pairs, corpus, known_positives=[verdicts.positives()], **options)
    assert row["negatives"][0] not in again[0]["negatives"]
