"""Models of images and texts: a tiny CLIP, as transformers saves it, as sentence-transformers does, and live."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import CLIPModel, CLIPProcessor

from hf_hardneg import HardNegatives, Strategy, mine, recipe_of, to_format, with_images
from hf_hardneg.corpus.pictures import Picture, picture_of
from hf_hardneg.errors import ConfigError, ModelError
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.retrievers import Dense
from tests.clip import clip
from tests.cross_encoders import MINILM
from tests.drawn import KINDS, draw, pixels, world

CAPTIONS = ["a red circle", "a", "a green square", "a blue cross a blue cross"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return clip(tmp_path_factory.mktemp("clip") / "model")


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [picture_of(draw(*kind, rng)) for kind in KINDS]


def opened(model, tmp_path):
    return load_encoder(model if isinstance(model, SentenceTransformer) else str(model), cache_dir=tmp_path)


def test_vectors_are_those_of_the_model_itself(folder, pictures, tmp_path):
    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    encoder = opened(folder, tmp_path)
    with torch.inference_mode():
        images = processor(images=[picture.opened() for picture in pictures], return_tensors="pt")
        seen = model.get_image_features(**images).pooler_output.numpy()
        texts = processor(text=CAPTIONS, return_tensors="pt", padding=True)
        read = model.get_text_features(**texts).pooler_output.numpy()
    mixed = encoder.encode([*pictures[:5], *CAPTIONS, *pictures[5:]], kind="document")
    expected = np.concatenate([seen[:5], read, seen[5:]])
    np.testing.assert_allclose(mixed, expected, atol=2e-5)


def test_no_vector_depends_on_its_neighbours(folder, pictures, tmp_path):
    encoder, mixed = opened(folder, tmp_path), [*pictures, *CAPTIONS]
    together = encoder.encode(mixed, kind="document")
    singly = np.concatenate([encoder.encode([each], kind="document") for each in mixed])
    turned = encoder.encode(mixed[::-1], kind="document")[::-1]
    assert np.array_equal(together, singly)
    assert np.array_equal(together, turned)
    assert encoder.encode([], kind="query").shape == (0, 32)


def test_live_and_saved_models_are_read_alike(folder, pictures, tmp_path):
    live = SentenceTransformer(str(folder), device="cpu")
    live.save(str(tmp_path / "saved"))
    vectors = [
        opened(model, tmp_path).encode(pictures[:3], kind="document") for model in (folder, tmp_path / "saved", live)
    ]
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])


def test_the_processor_is_part_of_the_identity(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    before = opened(other, tmp_path).digest
    (path,) = (path for path in Path(other).glob("*processor*.json") if "image_mean" in path.read_text())
    settings = json.loads(path.read_text())
    settings.get("image_processor", settings)["image_mean"] = [0.1, 0.2, 0.3]
    path.write_text(json.dumps(settings))
    assert opened(other, tmp_path).digest != before == opened(folder, tmp_path).digest


def test_a_live_processor_is_part_of_the_identity(folder, pictures, tmp_path):
    live = SentenceTransformer(str(folder), device="cpu")
    before = opened(live, tmp_path)
    live[0].processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    after = opened(live, tmp_path)
    assert before.digest != after.digest
    expected = live.encode([pictures[0].opened()])
    np.testing.assert_allclose(after.encode(pictures[:1], kind="document"), expected, atol=2e-5)


def test_models_that_cannot_see_are_refused(folder, pictures, tmp_path):
    with pytest.raises(ConfigError, match="reads texts, and got images"):
        opened(MINILM, tmp_path).encode(pictures[:1], kind="document")
    other = shutil.copytree(folder, tmp_path / "writes")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "architectures": ["LlavaForConditionalGeneration"]}))
    with pytest.raises(ModelError, match="a model that writes texts about images"):
        opened(other, tmp_path)


def test_a_function_of_two_widths_is_refused(pictures, tmp_path):
    def uneven(contents):
        return np.ones((len(contents), 3 if isinstance(contents[0], str) else 4), np.float32)

    with pytest.raises(Exception, match="vectors of 3 and of 4 values"):
        load_encoder(uneven, cache_dir=tmp_path).encode(["a", pictures[0]], kind="document")


def test_functions_get_images_of_one_mode_and_never_both_kinds(pictures, tmp_path):
    seen = []

    def noting(contents):
        seen.append({type(each) if isinstance(each, str) else each.mode for each in contents})
        return pixels(contents)

    load_encoder(noting, cache_dir=tmp_path).encode(["a", *pictures, "b"], kind="document")
    assert seen == [{str}, {"RGB"}]
    assert not any(Picture in each for each in seen)


@pytest.mark.slow
def test_a_trained_model_mines_what_is_hard_and_false_negatives_are_counted(tmp_path):
    """Truth is drawn: a picture answers a caption exactly where shape and colour are the caption's."""
    model = str(clip(tmp_path / "trained", steps=60))
    drawn = world(200, 30, copies=50, seed=3)
    rows = mine(drawn.pairs, drawn.corpus, Strategy([Dense()]), encoder=model, num_negatives=5)
    known = {}
    for row in drawn.pairs:
        known.setdefault(row["query"], set()).update(row["positive_ids"])
    rng = np.random.default_rng(0)
    hard, easy = [], []
    miner = HardNegatives(drawn.corpus, "dense", encoder=model)
    vectors = miner.retrieval.searcher.vectors(np.arange(len(drawn.corpus)))
    asked = miner.retrieval.searcher.encoder.encode(rows["query"][:], kind="query")
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    for query, row in zip(asked, rows, strict=True):
        assert all(name.removeprefix("copy-of-") not in known[row["query"]] for name in row["negative_ids"])
        hard += row["negative_scores"]
        easy += (vectors[rng.choice(len(vectors), 5)] @ query).tolist()
    assert np.mean(hard) > np.mean(easy) + 0.1
    false = [drawn.truth[name] == tuple(row["query"].split()[:0:-1]) for row in rows for name in row["negative_ids"]]
    assert 0.05 < np.mean(false) < 0.95


@pytest.mark.slow
def test_mined_images_train_a_sentence_transformer(folder, tmp_path):
    """One step on mined triplets changes the weights, and with them the identity of the model."""
    drawn = world(40, 16, copies=4)
    rows = mine(drawn.pairs, drawn.corpus, "dense", encoder=pixels, num_negatives=2, safeguards=False)
    triplets = with_images(to_format(rows, "triplet"), drawn.corpus)
    model = SentenceTransformer(str(folder), device="cpu")
    before = opened(model, tmp_path).digest
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "run"),
        max_steps=1,
        per_device_train_batch_size=8,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
    )
    loss = MultipleNegativesRankingLoss(model)
    SentenceTransformerTrainer(model, arguments, train_dataset=triplets, loss=loss).train()
    assert opened(model, tmp_path).digest != before
    again = mine(drawn.pairs, drawn.corpus, "dense", encoder=model, num_negatives=2, safeguards=False)
    assert recipe_of(again).encoder.digest == opened(model, tmp_path).digest
