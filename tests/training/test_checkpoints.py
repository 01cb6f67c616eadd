"""Two checkpoints under one path never share vectors or candidates."""

import shutil

import pytest
from datasets import Dataset

from hf_hardneg import mine
from tests.models.test_encoder import tiny

pytestmark = pytest.mark.slow

TEXTS = [f"document {word}" for word in ["red", "green", "blue", "yellow", "black", "white", "grey", "brown"]]


@pytest.fixture
def data():
    return (
        Dataset.from_dict({"query": ["find red", "find black"], "positive": TEXTS[:1] + TEXTS[4:5]}),
        Dataset.from_dict({"text": TEXTS}),
    )


def test_weights_changed_in_place(tmp_path, data):
    pairs, corpus = data
    _, folder = tiny(tmp_path / "a", seed=1)
    _, other = tiny(tmp_path / "b", seed=2)
    before = mine(pairs, corpus, "dense", encoder=str(folder))
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    after = mine(pairs, corpus, "dense", encoder=str(folder))
    assert after._fingerprint != before._fingerprint
    assert after["negative_scores"][:] != before["negative_scores"][:]
    own = mine(pairs, corpus, "dense", encoder=str(other), cache_dir=str(tmp_path / "fresh"))
    assert after["negative_scores"][:] == own["negative_scores"][:]
    assert after["negative_ids"][:] == own["negative_ids"][:]


def test_a_live_model_trained_between_two_calls(tmp_path, data):
    import torch

    pairs, corpus = data
    model, _ = tiny(tmp_path, seed=1)
    before = mine(pairs, corpus, "dense", encoder=model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    after = mine(pairs, corpus, "dense", encoder=model)
    assert after["negative_scores"][:] != before["negative_scores"][:]
