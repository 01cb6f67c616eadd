import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, BertConfig, BertModel

from hf_hardneg import mine
from hf_hardneg.cli import main
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.scorers import CrossFitted, folds_of
from hf_hardneg.training.denoiser import Training, train_denoiser
from tests.cross_encoders import MINILM

pytestmark = pytest.mark.slow

THINGS = ["wing", "slab", "jet", "plate", "cone", "shock", "wake", "flap"]
ADVERBS = ["slowly", "hotly", "twice", "never"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """An encoder of two layers with random weights."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=30522, initializer_range=0.1, **size)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MINILM).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data():
    """A query asks for a thing; one document of that thing is known to be relevant, always one that ends in 1."""
    texts = [f"the {thing} {adverb} {number}" for thing in THINGS for adverb in ADVERBS for number in (1, 2)]
    corpus = Dataset.from_dict({"_id": [str(n) for n in range(len(texts))], "text": texts})
    rows = [(f"which {thing} {n}", str(THINGS.index(thing) * 8 + 2 * n)) for thing in THINGS for n in range(4)]
    pairs = Dataset.from_dict({"query": [q for q, _ in rows], "positive_ids": [[i] for _, i in rows]})
    return pairs, corpus


FAST = Training(hard=2, random=2, epochs=3, batch_size=8, learning_rate=2e-3, max_length=24)
SHORT = Training(hard=1, random=0, epochs=1, max_length=16)


def train(data, encoder, folder, **options):
    given = {"architecture": "cross-encoder", "training": FAST, "first_pass": "bm25", "safeguards": False}
    return train_denoiser(*data, encoder=encoder, output_dir=folder, device="cpu", **given | options)


def test_it_learns_what_it_is_shown_and_is_an_ordinary_checkpoint(tmp_path, data, encoder, caplog):
    pairs, corpus = data
    with caplog.at_level(logging.INFO, "hf_hardneg"):
        folder = train(data, encoder, tmp_path / "model")
    said = [record.getMessage() for record in caplog.records if "mean loss" in record.getMessage()]
    losses = [float(text.split()[4]) for text in said]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
    scorer = load_cross_encoder(folder, cache_dir=tmp_path)
    assert scorer.max_length == 24 and scorer.kind == "ce_logit"
    queries = pairs["query"][:]
    positives = [corpus[int(ids[0])]["text"] for ids in pairs["positive_ids"]]
    others = [corpus[int(ids[0]) + 1]["text"] for ids in pairs["positive_ids"]]
    assert (scorer.score(queries, positives) > scorer.score(queries, others)).mean() > 0.9
    mined = mine(pairs, corpus, "bm25+denoised", cross_encoder=folder, safeguards=False)
    assert "negative_denoised_scores" in mined.column_names


def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path, data, encoder):
    made = {}
    for name, denoiser in (("a", SHORT), ("b", SHORT), ("c", replace(SHORT, seed=1))):
        scorer = load_cross_encoder(train(data, encoder, tmp_path / name, training=denoiser), cache_dir=tmp_path)
        made[name] = scorer.score(["wing"], ["a jet"])
    assert made["a"] == made["b"] != made["c"]


def test_with_folds_a_query_is_scored_by_a_model_that_has_not_seen_it(tmp_path, data, encoder):
    folder = train(data, encoder, tmp_path / "model", folds=2, training=SHORT)
    scorer = load_cross_encoder(folder, cache_dir=tmp_path)
    assert type(scorer) is CrossFitted and scorer.kind == "ce_logit"
    queries = data[0]["query"][:]
    folds = folds_of(queries, 2)
    assert set(folds) == {0, 1}
    members = [load_cross_encoder(folder / f"fold-{n}", cache_dir=tmp_path) for n in (0, 1)]
    scores = np.stack([member.score(queries, ["the wing"] * len(queries)) for member in members])
    assert np.array_equal(scorer.score(queries, ["the wing"] * len(queries)), scores[folds, np.arange(len(queries))])
    assert scorer.digest not in {member.digest for member in members}
    trained_on = {n: [query for query, fold in zip(queries, folds, strict=True) if fold != n] for n in (0, 1)}
    alone = Dataset.from_list([row for row in data[0] if row["query"] in trained_on[0]])
    same = train((alone, data[1]), encoder, tmp_path / "alone", training=SHORT)
    assert np.array_equal(
        load_cross_encoder(same, cache_dir=tmp_path).score(queries, ["the wing"] * len(queries)), scores[0]
    )


def test_positives_are_never_negatives_and_epochs_differ(data, encoder, tmp_path, monkeypatch):
    from hf_hardneg.training import denoiser

    seen = []
    monkeypatch.setattr(denoiser, "_fit", lambda model, tokenizer, epochs, *_: seen.extend(epochs))
    train(data, encoder, tmp_path / "model")
    known = {(row["query"], data[1][int(row["positive_ids"][0])]["text"]) for row in data[0]}
    assert len(seen) == FAST.epochs
    for made in seen:
        labelled = list(zip(made.queries, made.documents, strict=True))
        assert {pair for pair, label in zip(labelled, made.labels, strict=True) if label} == known
        assert not {pair for pair, label in zip(labelled, made.labels, strict=True) if not label} & known
        assert made.labels.count(1.0) * 5 == len(made.labels)
    hard = [set(zip(made.queries, made.documents, strict=True)) - known for made in seen]
    assert hard[0] != hard[1]


def test_what_cannot_work(tmp_path, data, encoder):
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists; a denoiser is saved to a new folder"):
        train(data, encoder, tmp_path / "there")
    with pytest.raises(ConfigError, match=r"folds=0\) of type int: allowed is a whole number of at least 1"):
        train(data, encoder, tmp_path / "new", folds=0)
    with pytest.raises(ConfigError, match=r"Training\(epochs=0\) .* at least 1 and up to 10,000"):
        Training(epochs=0)
    with pytest.raises(ConfigError, match=r"random=-1\) .* a whole number of at least 0"):
        Training(random=-1)
    pairs = Dataset.from_dict({"query": ["wing"], "positive_ids": [["0"]]})
    corpus = Dataset.from_dict({"_id": ["0"], "text": ["wing"]})
    with pytest.raises(DataError, match="No query has a first-pass negative"):
        train((pairs, corpus), encoder, tmp_path / "new")


def test_from_the_command_line(tmp_path, data, encoder, capsys):
    for name, rows in zip(("pairs", "corpus"), data, strict=True):
        rows.to_parquet(str(tmp_path / f"{name}.parquet"))
    given = ["--pairs", str(tmp_path / "pairs.parquet"), "--corpus", str(tmp_path / "corpus.parquet")]
    folder = str(tmp_path / "model")
    how = ["--first-pass", "bm25+rank_zone", "--epochs", "1"]
    status = main(["train-denoiser", *given, "--encoder", str(encoder), "--out", folder, *how])
    assert status == 2 and "No query has a first-pass negative" in capsys.readouterr().err
    how[1] = "random"
    assert main(["train-denoiser", *given, "--encoder", str(encoder), "--out", folder, *how]) == 0
    assert f"--cross-encoder {folder}" in capsys.readouterr().out
    assert (tmp_path / "model" / "late_interaction.json").exists()
    mined = ["--strategy", "random+denoised", "--cross-encoder", folder, "--out", str(tmp_path / "mined")]
    assert main(["mine", *given, *mined]) == 0
    assert main(["train-denoiser", *given, "--out", folder]) == 2
    assert "train-denoiser got no --encoder" in capsys.readouterr().err
