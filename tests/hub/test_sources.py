"""Pairs and corpora by their Hub id, with a config and a split, and repositories of three tables."""

import pytest
from datasets import Dataset

from hf_hardneg import mine
from hf_hardneg.errors import DataError
from tests.hub.conftest import ADA

TEXTS = {
    "007": "the sky is blue",
    "008": "the sea is salty",
    "009": "sky lanterns are paper",
    "010": "sea salt is white",
}
CORPUS = Dataset.from_dict({"_id": list(TEXTS), "title": [""] * 4, "text": list(TEXTS.values())})
QUERIES = Dataset.from_dict({"_id": ["1", "2"], "text": ["why is the sky blue", "why is the sea salty"]})
QRELS = Dataset.from_dict({"query-id": ["1", "2", "2"], "corpus-id": ["007", "008", "010"], "score": [1, 1, 0]})
PAIRS = Dataset.from_dict({"anchor": QUERIES["text"][:], "positive": ["the sky is blue", "the sea is salty"]})
EXPECTED = [["sky lanterns are paper"], ["sea salt is white"]]


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", ADA)


def test_a_config_and_a_split(hub, name):
    PAIRS.push_to_hub(name, "pairs", split="dev", token=ADA)
    CORPUS.push_to_hub(name, "documents", split="texts", token=ADA)
    assert mine(f"{name}:pairs:dev", f"{name}:documents", safeguards=False)["negatives"][:] == EXPECTED
    with pytest.raises(DataError, match="cannot be read"):
        mine(f"{name}:pairs:train", f"{name}:documents")


@pytest.mark.slow
@pytest.mark.parametrize("judged", ["default", "qrels", "apart"])
def test_documents_queries_and_judgements(hub, name, judged):
    CORPUS.push_to_hub(name, "corpus", split="corpus", token=ADA)
    QUERIES.push_to_hub(name, "queries", split="queries", token=ADA)
    place = (f"{name}-qrels", "default") if judged == "apart" else (name, judged)
    for split in ("test", "dev"):
        QRELS.push_to_hub(*place, split=split, token=ADA)
    assert mine(f"{name}::test", safeguards=False)["negatives"][:] == EXPECTED
    assert sorted(mine(name, safeguards=False)) == ["dev", "test"]
    assert mine(PAIRS, name, safeguards=False)["negatives"][:] == EXPECTED
