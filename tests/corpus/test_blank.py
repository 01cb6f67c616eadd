"""Documents that show nothing are never negatives, whoever retrieves them or fills up with them."""

import pytest
from datasets import Dataset

from hf_hardneg import BM25, Dense, Random, RankWindow, Strategy, mine, report
from hf_hardneg.text.keys import is_blank
from tests.worlds import encode, needed, world

BLANK = ["", " ", "\n\t", "\u3000", "\u200b", "\ufeff \u00ad"]
SEEN = ["red fox", "red hen", "red dog"]


@pytest.mark.parametrize("text", BLANK)
def test_blank(text):
    assert is_blank(text) and not is_blank(f"{text}.{text}")


def mostly_blank():
    texts = [text for seen in SEEN for text in (seen, *BLANK)]
    corpus = Dataset.from_dict({"_id": [f"d{row}" for row in range(len(texts))], "text": texts})
    return Dataset.from_dict({"query": ["red", "a red fox"], "positive": ["red fox", "red fox"]}), corpus


@pytest.mark.filterwarnings("ignore:18 of the corpus vectors have length zero")
@pytest.mark.parametrize("dedupe", ["normalized", "exact", "off"])
@pytest.mark.parametrize("strategy", ["random", Strategy([Dense()]), Strategy([BM25()]), Strategy([Dense(), Random()])])
def test_no_retriever_brings_one(strategy, dedupe):
    pairs, corpus = mostly_blank()
    mined = mine(pairs, corpus, strategy, **needed(strategy), num_negatives=9, dedupe=dedupe)
    for row in mined:
        assert row["negatives"] and set(row["negatives"]) <= {"red hen", "red dog"}
        assert row["mining"]["retrieved"] == sum(
            count for name, count in row["mining"].items() if name not in ("retrieved", "short", "search_recall")
        )


def test_they_are_counted():
    pairs, corpus = mostly_blank()
    mined = mine(pairs, corpus, "random", num_negatives=9)
    assert [row["blank"] for row in mined["mining"]] == [18, 18]
    assert report(mined).funnel["blank"] == 36


@pytest.mark.filterwarnings("ignore:18 of the corpus vectors have length zero")
@pytest.mark.parametrize("rule", ["pad_next", "pad_random"])
def test_no_padding_brings_one(rule):
    pairs, corpus = mostly_blank()
    strategy = Strategy([Dense()], [RankWindow(0, 1)])
    mined = mine(pairs, corpus, strategy, encoder=encode, num_negatives=5, on_shortage=rule)
    assert [sorted(row["negatives"]) for row in mined] == [["red dog", "red hen"]] * 2


def test_a_document_of_blank_title_and_text_is_one():
    corpus = Dataset.from_dict({"title": ["Fox", " ", "", None], "text": ["red", "", "hen", "\n"]})
    mined = mine(Dataset.from_dict({"query": ["red"], "positive": ["Fox red"]}), corpus, "random", num_negatives=4)
    assert mined[0]["negatives"] == ["hen"] and mined[0]["mining"]["blank"] == 2


def test_nothing_else_changes_without_one():
    pairs, corpus = world(3)
    for strategy in ("bm25", "random"):
        assert not any(row["blank"] for row in mine(pairs, corpus, strategy)["mining"])
