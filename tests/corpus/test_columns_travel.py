"""What `mine` was told of columns is in the recipe of its rows, and nobody has to say it again."""

import pytest
from datasets import Dataset, DatasetDict

from hf_hardneg import audit, from_format, mine, report, to_format
from hf_hardneg.corpus.columns import columns_of
from hf_hardneg.training import known_positives

CORPUS = Dataset.from_dict(
    {
        "key": ["a", "b", "c", "d"],
        "body": ["the sky is blue", "the sea is salty", "sky lanterns are paper", "sea salt is white"],
    }
)
PAIRS = Dataset.from_dict(
    {"asked": ["why is the sky blue", "why is the sea salty"], "number": ["1", "2"], "right": ["a", "b"]}
)
TOLD = {
    "query": "asked",
    "query_id": "number",
    "positive": "answer",
    "positive_ids": "right",
    "text": "body",
    "id": "key",
}


@pytest.fixture(scope="module")
def mined():
    return mine(PAIRS, CORPUS, columns=TOLD, num_negatives=1, safeguards=False)


def test_rows_know_the_names_of_their_columns(mined):
    assert columns_of(mined) == {role: name for role, name in TOLD.items() if role not in ("text", "id")}
    assert columns_of(mined, corpus=CORPUS) == TOLD
    assert columns_of(mined, {"query": "answer"})["query"] == "answer"
    assert columns_of(DatasetDict({"train": mined, "test": mined}))["query"] == "asked"


def test_what_the_data_lacks_does_not_count(mined):
    assert columns_of(mined.rename_column("asked", "query")) == {
        role: name for role, name in TOLD.items() if role not in ("query", "text", "id")
    }
    assert "text" not in columns_of(mined, corpus=CORPUS.rename_column("body", "text"))


def test_parts_that_were_mined_by_other_names_have_none(mined):
    others = mine(PAIRS.rename_column("asked", "query"), CORPUS, columns={**TOLD, "query": "query"}, num_negatives=1)
    both = DatasetDict({"train": mined, "test": others})
    assert columns_of(both) == {} and columns_of(both, {"query": "asked"}) == {"query": "asked"}


def test_what_nobody_can_read_is_no_recipe(mined):
    broken = mined.select(range(2))
    for text in ('{"options": {"columns": {"qurey": "x"}}}', '{"options": 5}', "{[}", '{"options": {"columns": [1]}}'):
        broken.info.description = f"hf_hardneg recipe: {text}"
        assert columns_of(broken) == {}


def test_layouts_need_not_be_told(mined):
    triplets = to_format(mined, "triplet")
    assert triplets.column_names == ["asked", "answer", "negative"]
    assert to_format(mined, "tevatron", corpus=CORPUS)[0]["positive_passages"] == [
        {"docid": "a", "text": "the sky is blue"}
    ]
    assert to_format(mined, "flagembedding")[0]["query"] == "why is the sky blue"
    split = to_format(DatasetDict({"train": mined}), "triplet")
    assert split["train"].column_names == triplets.column_names


def test_rows_are_read_back_under_the_names_of_mined_data(mined):
    read = from_format(mined)
    assert {"query_id", "query", "positive", "positive_ids", "negatives"} <= set(read.column_names)
    assert read["positive"][:] == mined["answer"][:]


def test_audits_reports_and_positives_need_not_be_told(mined):
    assert audit(mined, CORPUS).rows == 2 and not audit(mined, CORPUS).unchecked.keys() & {"unknown_id", "other_text"}
    assert report(mined).rows == 2
    assert known_positives(mined, mined)
