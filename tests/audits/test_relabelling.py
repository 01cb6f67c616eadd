"""Negatives that a judge keeps, drops or promotes."""

import numpy as np
import pytest
from datasets import Dataset, Image, concatenate_datasets

from hf_hardneg import Denoised, Strategy, demote, mine, relabel, report
from hf_hardneg.audits import relabelling
from hf_hardneg.corpus.pictures import named
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegWarning
from hf_hardneg.hub import mined_dataset_card
from hf_hardneg.retrievers import BM25
from tests.drawn import KINDS, draw, saved
from tests.worlds import shared_words, world

KEPT, DROPPED, PROMOTED = range(3)


@pytest.fixture(scope="module")
def data():
    return world(1)


@pytest.fixture(scope="module")
def mined(data):
    return mine(*data, "bm25", num_negatives=6, safeguards=False)


def by_length(queries, documents):
    """A judge whose thresholds lie among negatives as well as positives."""
    return [1 / (1 + len(document)) for document in documents]


def texts(value):
    return [value] if isinstance(value, str) else list(value)


def verdict_of(mined, low, high):
    """A loop over pairs: the quantiles of the distinct known pairs decide."""
    known = {(row["query"], text) for row in mined for text in texts(row["positive"])}
    bars = np.quantile(np.float32(by_length(*zip(*known, strict=True))).astype(float), [low, high])
    return lambda text: int(sum(np.float32(by_length([""], [text])[0]) >= bars))


class Placed:
    """A judge of lists that places texts by their length, the shortest first, and knows no order of some queries."""

    at_once = 4

    def __init__(self, unknown=()):
        self.unknown, self.sizes = unknown, set()

    def order(self, queries, documents):
        self.sizes |= set(map(len, documents))
        return [
            None if query in self.unknown else np.argsort([len(text) for text in listed], kind="stable")
            for query, listed in zip(queries, documents, strict=True)
        ]


@pytest.mark.parametrize("promote", ["off", "mark", "merge"])
def test_thresholds_calibrated_by_known_positives_decide(mined, promote):
    rows = relabel(mined, by_length, promote=promote, drop_from=0.3, promote_from=0.7)
    verdict, seen = verdict_of(mined, 0.3, 0.7), set()
    for row, before in zip(rows, mined, strict=True):
        said = [verdict(text) for text in before["negatives"]]
        seen |= set(said)
        kept = [place for place, each in enumerate(said) if each == KEPT]
        for name in ("negatives", "negative_ids", "negative_scores", "negative_ranks", "negative_sources"):
            assert row[name] == [before[name][place] for place in kept]
        promoted = [text for text, each in zip(before["negatives"], said, strict=True) if each == PROMOTED]
        ids = [name for name, each in zip(before["negative_ids"], said, strict=True) if each == PROMOTED]
        merged = promote == "merge"
        assert texts(row["positive"]) == texts(before["positive"]) + promoted * merged
        assert row["positive_ids"] == before["positive_ids"] + ids * merged
        assert row["positive_scores"] == before["positive_scores"] + [None] * len(ids) * merged
        where = {"mark": "pseudo_positives", "merge": "promoted"}.get(promote)
        assert where is None or row[where] == promoted
        assert row["mining"]["judged"] == len(said) - len(kept) == before["mining"]["kept"] - row["mining"]["kept"]
        assert row["mining"]["kept"] + row["mining"]["short"] == 6
    assert seen == {KEPT, DROPPED, PROMOTED}
    assert rows.info.description == mined.info.description


def test_what_is_merged_is_counted_shown_and_taken_out_again(mined):
    options = {"drop_from": 0.3, "promote_from": 0.7}
    merged, marked = (relabel(mined, by_length, promote=how, **options) for how in ("merge", "mark"))
    count = sum(map(len, marked["pseudo_positives"]))
    assert demote(merged)[:] == marked[:]
    assert relabel(marked, promote="merge")[:] == merged[:]
    assert (report(marked).marked, report(marked).merged) == (count, 0)
    assert (report(merged).marked, report(merged).merged) == (0, count)
    assert f"0 marked, {count} merged into positives" in str(report(merged))
    card = str(mined_dataset_card(merged, repo_id="a/b"))
    assert f"{count} of the positives are documents that a judge found relevant and nobody labelled" in card
    gone = sum(row["judged"] for row in merged["mining"])
    assert f"A judge took {gone} negatives away after mining" in card


def test_what_is_merged_is_a_known_positive_from_then_on(data, mined):
    merged = relabel(mined, by_length, promote="merge", drop_from=0.3, promote_from=0.7)
    assert sum(map(len, merged["promoted"]))
    again = mine(merged, data[1], "bm25", num_negatives=6, safeguards=False)
    of_query = {}
    for row in merged:
        of_query.setdefault(row["query"], set()).update(row["promoted_ids"])
    for row in again:
        assert not of_query[row["query"]] & set(row["negative_ids"])
    assert again["promoted"][:] == merged["promoted"][:]
    assert demote(again)["positive"][:] == [texts(each) for each in mined["positive"][:]]


def test_a_judge_of_lists_compares_with_the_positives_of_the_row(mined):
    judge = Placed()
    rows = relabel(mined, judge, promote="mark")
    assert max(judge.sizes) <= 4
    said = {}
    for row in mined:
        known = texts(row["positive"])[:2]
        for text in row["negatives"]:
            shorter = [len(text) < len(each) for each in known]
            one = PROMOTED if all(shorter) else DROPPED if any(shorter) else KEPT
            said.setdefault((row["query"], text), set()).add(one)
    final = {pair: next(iter(each)) if len(each) == 1 else DROPPED for pair, each in said.items()}
    assert set(final.values()) == {KEPT, DROPPED, PROMOTED}
    for row, before in zip(rows, mined, strict=True):
        verdicts = [final[row["query"], text] for text in before["negatives"]]
        pairs = list(zip(before["negatives"], verdicts, strict=True))
        assert row["negatives"] == [text for text, verdict in pairs if verdict == KEPT]
        assert row["pseudo_positives"] == [text for text, verdict in pairs if verdict == PROMOTED]


def test_lists_without_an_order_stay_as_they_are(mined):
    query = mined[0]["query"]
    with pytest.warns(HardNegWarning, match="lists have no valid order, so their negatives stay as they are"):
        rows = relabel(mined, Placed([query]))
    assert [row["negatives"] for row in rows if row["query"] == query] == [
        row["negatives"] for row in mined if row["query"] == query
    ]


def test_pseudo_positives_of_a_denoiser_are_merged(data):
    stage = Denoised(shared_words, pseudo_positives="all", promote_above=0.6)
    mined = mine(*data, Strategy([BM25(20)], [stage]))
    rows = relabel(mined, promote="merge")
    assert sum(map(len, rows["promoted"])) == sum(map(len, mined["pseudo_positives"])) > 0
    for row, before in zip(rows, mined, strict=True):
        assert texts(row["positive"]) == texts(before["positive"]) + before["pseudo_positives"]
        assert row["positive_denoised_scores"][: len(before["positive_ids"])] == before["positive_denoised_scores"]
    assert demote(rows)["pseudo_positives"][:] == mined["pseudo_positives"][:]


def test_an_order_is_checked(mined):
    for wrong, message in (
        ([], r"gave \[\] for"),
        ([[0, 0]], "an order has each place from 0 on once"),
        ([[0.5, 1.5]], "an order has each place"),
        ([[[0], [1, 2]]], "an order has each place"),
        ([0], "ordered 4 documents as 0; an order has each place"),
    ):
        judge = Placed()
        judge.order = lambda queries, documents, wrong=wrong: wrong * len(queries)
        with pytest.raises(DataError, match=message):
            relabel(mined, judge)


@pytest.mark.parametrize("orders", [None, 3, iter([])], ids=["none", "number", "iterator"])
def test_what_holds_no_orders_is_refused(mined, orders):
    judge = Placed()
    judge.order = lambda queries, documents: orders
    with pytest.raises(DataError, match="must return a list of one order for each"):
        relabel(mined, judge)


@pytest.mark.parametrize("at_once", [1, 0, -3, None, "4", 2.5, True])
def test_a_judge_of_lists_reads_two_or_more_at_once(mined, at_once):
    judge = Placed()
    judge.at_once = at_once
    with pytest.raises(ConfigError, match="judge.at_once=.*allowed is a whole number of at least 2"):
        relabel(mined, judge)
    with pytest.raises(ConfigError, match="judge= got the class Placed.* Give Placed"):
        relabel(mined, Placed)


def test_a_positive_counts_once_however_many_batches_its_rows_are_in(mined, monkeypatch):
    monkeypatch.setattr(relabelling, "BATCH", 3)
    often = concatenate_datasets([mined, mined.select([0] * 90)])
    options = {"promote": "mark", "drop_from": 0.3, "promote_from": 0.7}
    assert relabel(often, by_length, **options)[: len(mined)] == relabel(mined, by_length, **options)[:]


def test_transforms_stay(mined):
    shout = mined.with_transform(lambda rows: {"query": [text.upper() for text in rows["query"]]})
    rows = relabel(shout, Placed(), promote="merge")
    assert rows[0] == demote(rows)[0] == shout[0]


def test_lists_that_are_empty_everywhere_take_what_is_promoted(mined):
    empty = mined.add_column("pseudo_positives", [[]] * len(mined)).add_column("pseudo_positive_ids", [[]] * len(mined))
    assert relabel(empty, Placed(), promote="mark")[:] == relabel(mined, Placed(), promote="mark")[:]


def test_lists_of_the_user_stay_wherever_they_happen_to_be_as_long(mined, monkeypatch):
    monkeypatch.setattr(relabelling, "BATCH", 1)
    tags = [list(range(6 - row % 2)) for row in range(len(mined))]
    kept = relabel(mined.add_column("negative_tags", tags), Placed())
    assert kept["negative_tags"][:] == tags
    full = [list(range(6))] * len(mined)
    assert [len(each) for each in relabel(mined.add_column("negative_tags", full), Placed())["negative_tags"]] == [
        row["mining"]["kept"] for row in kept
    ]
    with pytest.raises(DataError, match="'negative_ids' must hold a value for each of a row's 'negatives'"):
        relabel(mined.map(lambda row: {"negative_ids": row["negative_ids"][1:]}), Placed())


def test_scores_of_positives_come_back_whatever_rows_stand_side_by_side(mined):
    scores = [[0.5] * (1 + row % 3) for row in range(len(mined))]
    rows = relabel(mined.add_column("positive_other_scores", scores), by_length, promote="merge", promote_from=0.7)
    assert {len(row["promoted"]) for row in rows} >= {1, 2}
    assert [demote(rows.select([place]))[0]["positive_other_scores"] for place in range(len(rows))] == scores


def test_columns_of_other_things_are_refused(mined):
    flagged = mined.add_column("promoted", [True] * len(mined))
    assert report(flagged).merged == 0
    for rows in (flagged, mined.add_column("pseudo_positives", [["a"]] * len(mined))):
        with pytest.raises(ColumnError, match="lists of texts, both or none. Rename"):
            relabel(rows, Placed(), promote="mark")
    with pytest.raises(ColumnError, match="'promoted' of bool, 'promoted_ids' of string"):
        demote(flagged.add_column("promoted_ids", ["a"] * len(mined)))
    with pytest.raises(ColumnError, match="holds int64, labels and no texts"):
        relabel(mined.remove_columns("positive").add_column("positive", [1] * len(mined)), Placed())
    with pytest.raises(ColumnError, match="no column 'negative_ids'"):
        relabel(mined.remove_columns("negative_ids"), Placed(), promote="mark")
    with pytest.raises(DataError, match="got 0 rows"):
        relabel(mined.select([]), Placed())


def test_images_are_refused(mined):
    image = saved(draw(*KINDS[0], np.random.default_rng(0)))
    asked = mined.remove_columns("query").add_column("query", [image] * len(mined)).cast_column("query", Image())
    listed = mined.map(lambda row: {"negatives": [named(image) for _ in row["negatives"]]})
    for rows in (asked, listed):
        with pytest.raises(ConfigError, match="relabel.. reads texts, and got images"):
            relabel(rows, Placed())


def test_what_cannot_be_relabelled_is_refused(mined):
    with pytest.raises(ConfigError, match="drop_from=0.9 is above promote_from=0.1"):
        relabel(mined, by_length, drop_from=0.9, promote_from=0.1)
    with pytest.raises(ColumnError, match="no column 'pseudo_positives'.* Give a judge"):
        relabel(mined, promote="merge")
    with pytest.raises(ConfigError, match="promote='mark'. without a judge= would change nothing"):
        relabel(relabel(mined, by_length, promote="mark"), promote="mark")
    with pytest.raises(DataError, match="at least 20 are needed to calibrate"):
        relabel(mined.select(range(3)), by_length)
    with pytest.raises(ColumnError, match="demote.. needs 'promoted' and 'promoted_ids'"):
        demote(mined)
    with pytest.raises(ColumnError, match="columns of mined data"):
        relabel(Dataset.from_dict({"query": ["a"]}), by_length)
    short = relabel(mined, by_length, promote="merge").map(lambda row: {"positive": []})
    with pytest.raises(DataError, match="has fewer values than 'promoted'"):
        demote(short)
