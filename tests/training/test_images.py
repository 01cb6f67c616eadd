"""Refreshed negatives of images follow the weights, for captions and for images as queries."""

import pytest
import torch
from datasets import Dataset, Image
from sentence_transformers import SentenceTransformer

from hf_hardneg.errors import ConfigError
from hf_hardneg.training import Refresher
from tests.clip import clip
from tests.drawn import saved, world

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("by_image", [False, True])
def test_negatives_follow_the_weights(tmp_path, by_image):
    drawn = world(60, 20, copies=10)
    pairs = drawn.pairs
    if by_image:
        images = dict(zip(drawn.corpus["_id"], drawn.corpus["image"], strict=True))
        queries = [saved(images[ids[0]].rotate(180)) for ids in pairs["positive_ids"]]
        pairs = Dataset.from_dict({"query": queries, "positive_ids": pairs["positive_ids"]})
        pairs = pairs.cast_column("query", Image())
    model = SentenceTransformer(str(clip(tmp_path / "model")), device="cpu")
    options = {"encoder": model, "directory": str(tmp_path / "run"), "num_negatives": 2}
    with pytest.raises(ConfigError, match="bm25 reads the words of each"):
        Refresher(pairs, drawn.corpus, "dense", **options)
    refresher = Refresher(pairs, drawn.corpus, "dense", warm_start="random", **options)
    seen = []
    for number in (1, 2):
        refresher.refresh(number, step=number)
        refresher.switch(number)
        seen.append(pairs.with_transform(refresher.negatives)[:]["negative_ids"])
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_(torch.randn_like(weights) * 0.1)
    assert seen[0] != seen[1]
    known = {}
    for query, ids in zip(drawn.pairs["query"], pairs["positive_ids"], strict=True):
        known.setdefault(query if not by_image else ids[0], set()).update(ids)
    names = drawn.pairs["query"][:] if not by_image else [ids[0] for ids in pairs["positive_ids"]]
    for negatives in seen:
        assert all(
            name.removeprefix("copy-of-") not in known[query]
            for query, row in zip(names, negatives, strict=True)
            for name in row
        )
