"""Mined images on a Hub on loopback: pushed once each, in the corpus, and put back in their places."""

import io

import numpy as np
import pytest
from datasets import Dataset, Image, load_dataset
from PIL import Image as Pillow

from hf_hardneg import Recipe, mine, recipe_of, with_images
from hf_hardneg.hub import push_mined_dataset, reproduce
from tests.drawn import pixels, saved, world
from tests.hub.conftest import ADA

pytestmark = pytest.mark.slow


def test_images_are_pushed_once_and_loaded_back(hub, name, monkeypatch):
    drawn = world(40, 12, copies=10)
    images = dict(zip(drawn.corpus["_id"], drawn.corpus["image"], strict=True))
    queries = [saved(images[ids[0]].rotate(180)) for ids in drawn.pairs["positive_ids"]]
    pairs = Dataset.from_dict({"query": queries, "positive_ids": drawn.pairs["positive_ids"]})
    pairs = pairs.cast_column("query", Image())
    mined = mine(pairs, drawn.corpus, "dense", encoder=pixels, num_negatives=3, safeguards=False)
    push_mined_dataset(mined, name, configs=["list", "triplet"], corpus=drawn.corpus, token=ADA, license="mit")
    rows = load_dataset(name, "list", split="train", token=ADA)
    corpus = load_dataset(name, "corpus", split="train", token=ADA)
    assert rows["negative_ids"][:] == mined["negative_ids"][:]
    assert Recipe.from_card(hub.readme(name), "list") == recipe_of(mined)
    assert reproduce(name, token=ADA, encoder=pixels).identical
    assert rows.features["query"] == corpus.features["image"] == Image()
    shown = with_images(rows, [corpus, rows])
    for row, plain in zip(shown, mined, strict=True):
        for image, document in zip(row["negatives"], plain["negative_ids"], strict=True):
            assert np.array_equal(np.asarray(image), np.asarray(images[document].convert("RGB")))
    triplets = with_images(load_dataset(name, "triplet", split="train", token=ADA), [corpus, rows])
    assert isinstance(triplets[0]["negative"], Pillow.Image)
    again = mine(rows, corpus, "dense", encoder=pixels, num_negatives=3, safeguards=False)
    assert again["negative_ids"][:] == mined["negative_ids"][:]
    stored = corpus.cast_column("image", Image(decode=False))["image"][0]["bytes"]
    assert Pillow.open(io.BytesIO(stored)).size == (32, 32)
