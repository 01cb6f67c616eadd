import json
import pickle
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoTokenizer

from hf_hardneg import mine
from hf_hardneg.errors import ConfigError, ModelError, UnknownNameError
from hf_hardneg.models import pair_features
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.models.model_names import unwrapped
from hf_hardneg.models.pair_features import FeatureScorer, PairFeatures, fit
from hf_hardneg.models.scorers import CrossFitted, folds_of
from hf_hardneg.training.denoiser import Training, train_denoiser
from tests.training.test_denoiser import data, encoder  # noqa: F401

pytestmark = pytest.mark.slow

TEXTS = ["", "the wing", "a jet wakes the slab the slab", "shock " * 40, "cone plate immunohistochemistry 東京"]
QUERIES = ["which wing", "slab slab", "", "東京 cone", "shock"]
PAIRS = [(query, text) for query in QUERIES for text in TEXTS]


@pytest.fixture(scope="module")
def model(encoder, tmp_path_factory):  # noqa: F811
    loaded = load_encoder(encoder, cache_dir=tmp_path_factory.mktemp("cache"), device="cpu")
    return PairFeatures.of_corpus(loaded, [TEXTS[:2], TEXTS[2:]])


@pytest.fixture(scope="module")
def trained(encoder, data, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("trained") / "denoiser"
    return train(data, encoder, folder)


def train(data, encoder, folder, **options):  # noqa: F811
    given = {"training": Training(hard=2, random=2, epochs=3), "first_pass": "bm25", "safeguards": False}
    return train_denoiser(*data, encoder=encoder, output_dir=folder, device="cpu", **given | options)


def test_features_equal_slow_loops(model, encoder):  # noqa: F811
    tokenizer, network = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()

    def tokens(text):
        ids = tokenizer(text)["input_ids"]
        with torch.inference_mode():
            hidden = network(torch.tensor([ids])).last_hidden_state[0].double().numpy()
        return ids[1:-1], hidden[1:-1], hidden.mean(0)

    def cosine(one, other):
        return sum(a * b for a, b in zip(one, other, strict=True)) / np.sqrt(sum(one**2) * sum(other**2))

    made = {text: tokens(text) for text in {*TEXTS, *QUERIES}}
    frequency = Counter(one for text in TEXTS for one in set(made[text][0]))
    mean_length = sum(len(made[text][0]) for text in TEXTS) / len(TEXTS)
    for (query, text), found in zip(PAIRS, model.features(*zip(*PAIRS, strict=True)), strict=True):
        (asked, asked_vectors, asked_mean), (given, given_vectors, given_mean) = made[query], made[text]
        total = soft = exact = 0.0
        for one, vector in zip(asked, asked_vectors, strict=True):
            weight = np.log(1 + (len(TEXTS) - frequency[one] + 0.5) / (frequency[one] + 0.5))
            total += weight
            if given:
                soft += weight * max(cosine(vector, other) for other in given_vectors)
                count = given.count(one)
                exact += weight * count * 2.5 / (count + 1.5 * (0.25 + 0.75 * len(given) / mean_length))
        expected = [cosine(asked_mean, given_mean), soft / (total or 1), exact / (total or 1)]
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_fit_is_the_minimum_and_as_sure_as_one_among_so_many_candidates():
    rng = np.random.default_rng(0)
    labels = (np.arange(400) % 8 == 0).astype(float)
    features = rng.normal(size=(400, 3)) * [0.1, 3, 1] + labels[:, None] * [0.05, 2, 0] + [5, 0, -1]
    coefficients, intercept = fit(features, labels, candidates=50)
    weights = np.where(labels == 1, 1, 49 * 50 / 350)

    def loss(coefficients, intercept):
        logits = features @ coefficients + intercept
        fine = (weights * (np.logaddexp(0, logits) - labels * logits)).sum()
        return fine + 0.5 * ((coefficients * features.std(0)) ** 2).sum()

    least = loss(coefficients, intercept)
    for place in range(3):
        for step in (-1e-2, 1e-2):
            moved = coefficients.copy()
            moved[place] += step / features[:, place].std()
            assert loss(moved, intercept - step * features[:, place].mean() / features[:, place].std()) > least
    chance = 1 / (1 + np.exp(-features @ coefficients - intercept))
    assert np.average(chance, weights=weights) == pytest.approx(1 / 50, abs=1e-9)
    assert 0.15 < coefficients[1] < 0.3 and abs(coefficients[2]) < 0.3


@pytest.mark.parametrize("apart", [20, 1000])
def test_the_fit_ends_where_a_feature_tells_positives_exactly(apart):
    rng = np.random.default_rng(1)
    labels = (np.arange(30) % 5 == 0).astype(float)
    features = rng.normal(size=(30, 3)) + labels[:, None] * [apart, 0, 0]
    coefficients, intercept = fit(features, labels, candidates=50)
    weights = np.where(labels == 1, 1, 49 * 6 / 24)
    chance = 1 / (1 + np.exp(-features @ coefficients - intercept))
    slope = features.T @ (weights * (chance - labels)) + coefficients * features.var(0)
    assert abs(weights @ (chance - labels)) < 1e-6 and np.abs(slope / features.std(0)).max() < 1e-6
    assert chance[labels == 1].min() > 0.5 > chance[labels == 0].max()


def test_a_score_does_not_depend_on_what_is_scored_with_it_or_remembered(trained, tmp_path, monkeypatch):
    scorer = load_cross_encoder(trained, cache_dir=tmp_path, device="cpu")
    queries, texts = map(list, zip(*PAIRS, strict=True))
    whole = scorer.score(queries, texts)
    assert whole.dtype == np.float32 and whole.std() > 0.05
    assert np.array_equal(scorer.score(queries[::-1], texts[::-1])[::-1], whole)
    monkeypatch.setattr(pair_features, "PAIRS_AT_ONCE", 2)
    monkeypatch.setattr(pair_features, "REMEMBERED_BYTES", 5000)
    monkeypatch.setattr(pair_features, "_recent", type(pair_features._recent)())
    assert np.array_equal(scorer.score(queries, texts), whole)
    assert 0 < sum(one.vectors.nbytes for one in pair_features._recent.values()) <= 5000
    assert np.array_equal(np.concatenate([scorer.score([q], [d]) for q, d in PAIRS]), whole)
    assert scorer.score([], []).shape == (0,)


def test_it_learns_what_it_is_shown_and_mining_takes_it_by_its_share(trained, data, encoder, tmp_path):  # noqa: F811
    pairs, corpus = data
    scorer = load_cross_encoder(trained, cache_dir=tmp_path)
    assert type(scorer) is FeatureScorer and len(pickle.dumps(scorer)) < 2048
    queries = pairs["query"][:]
    positives = [corpus[int(ids[0])]["text"] for ids in pairs["positive_ids"]]
    others = [corpus[(int(ids[0]) + 8) % len(corpus)]["text"] for ids in pairs["positive_ids"]]
    assert (scorer.score(queries, positives) > scorer.score(queries, others)).mean() > 0.9
    mined = mine(pairs, corpus, "dense+denoised", encoder=str(encoder), cross_encoder=trained, safeguards=False)
    top = mine(pairs, corpus, "dense", encoder=str(encoder), safeguards=False, num_negatives=50)
    for row, pool in zip(mined, top, strict=True):
        scores = scorer.score([row["query"]] * len(pool["negatives"]), pool["negatives"])
        best = {pool["negative_ids"][i] for i in np.flatnonzero(scores > np.quantile(scores, 0.75))}
        assert len(row["negative_ids"]) == 4 and not best & {*row["negative_ids"]}
        assert row["negative_denoised_scores"] == pytest.approx(
            scorer.score([row["query"]] * 4, row["negatives"]).tolist()
        )


def test_a_folder_may_move_and_may_not_change(trained, tmp_path):
    scorer = load_cross_encoder(trained, cache_dir=tmp_path)
    moved = shutil.copytree(trained, tmp_path / "elsewhere")
    again = load_cross_encoder(moved, cache_dir=tmp_path)
    assert again.digest == scorer.digest
    said = json.loads((moved / "late_interaction.json").read_text())
    (moved / "late_interaction.json").write_text(json.dumps(said | {"intercept": said["intercept"] + 1}))
    changed = load_cross_encoder(moved, cache_dir=tmp_path)
    assert changed.digest != scorer.digest
    with pytest.raises(ModelError, match="changed since it was chosen"):
        again.score(["wing"], ["a wing"])
    assert changed.score(["wing"], ["a wing"]) == pytest.approx(scorer.score(["wing"], ["a wing"]) + 1, abs=1e-6)
    (moved / "idf.npy").unlink()
    with pytest.raises(ModelError, match=r"has no idf.npy\. Give a complete model folder"):
        load_cross_encoder(moved, cache_dir=tmp_path)


def test_with_folds_they_share_one_encoder(data, encoder, tmp_path):  # noqa: F811
    folder = train(data, encoder, tmp_path / "model", folds=2)
    scorer = load_cross_encoder(folder, cache_dir=tmp_path)
    assert type(scorer) is CrossFitted and unwrapped(scorer).share == 0.3
    assert len(list(folder.rglob("*.safetensors"))) == 1
    assert sorted(one.name for one in folder.iterdir()) == ["encoder", "fold-0", "fold-1", "folds.json"]
    folds = folds_of(data[0]["query"][:], 2)
    kept = [row for row, fold in zip(data[0], folds, strict=True) if fold != 0]
    alone = train((Dataset.from_list(kept), data[1]), encoder, tmp_path / "alone")
    asked = [row["query"] for row, fold in zip(data[0], folds, strict=True) if fold == 0]
    expected = load_cross_encoder(alone, cache_dir=tmp_path).score(asked, ["the wing"] * len(asked))
    assert np.array_equal(scorer.score(asked, ["the wing"] * len(asked)), expected)


def test_what_cannot_work(trained, data, encoder, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match=r"learning_rate=0.1\) is for a cross-encoder; late interaction reads epochs"):
        train(data, encoder, tmp_path / "new", training=Training(learning_rate=0.1))
    with pytest.raises(UnknownNameError, match="Unknown architecture 'colbert'; known are cross-encoder, late-inter"):
        train(data, encoder, tmp_path / "new", architecture="colbert")
    for given in ({"activation": "identity"}, {"max_length": 64}):
        with pytest.raises(ConfigError, match="is a denoiser by late interaction, .* Leave both out"):
            load_cross_encoder(trained, cache_dir=tmp_path, **given)
    assert not (tmp_path / "new").exists()
