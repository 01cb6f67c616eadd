"""A retriever's hits in the order of a cross-encoder, beside brute force; and what plans and recipes say of it."""

import pickle

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import AbsoluteMargin, HardNegatives, Hybrid, RankWindow, Strategy, mine, plan, recipe_of
from hf_hardneg.errors import ConfigError
from hf_hardneg.filters import Denoised
from hf_hardneg.retrievers import BM25, Dense, Random, Reranked
from hf_hardneg.strategies import resolve
from tests.cross_encoders import cross_encoder
from tests.worlds import encode, shared_words

DEPTH = 12
NAMES = [f"{colour} {thing}" for colour in ("red", "blue", "green", "grey") for thing in ("sky", "sea", "stone")]
CORPUS = Dataset.from_dict({"_id": NAMES, "text": [f"{name} of the {name[::-1]} coast" for name in NAMES]})
PAIRS = Dataset.from_dict({"query": ["the blue sea", "a grey stone"], "positive_ids": [["blue sea"], ["grey stone"]]})


def probabilities(query, texts):
    return 1 / (1 + np.exp(-shared_words([query] * len(texts), texts)))


@pytest.mark.parametrize("as_probabilities", [True, False])
def test_scores_and_their_order_are_the_models(as_probabilities):
    retriever = Reranked(Dense(DEPTH), shared_words, depth=DEPTH, as_probabilities=as_probabilities)
    mined = mine(PAIRS, CORPUS, Strategy([retriever]), encoder=encode, num_negatives=20)
    for row in mined:
        scores = shared_words([row["query"]] * len(CORPUS), CORPUS["text"])
        scores = probabilities(row["query"], CORPUS["text"][:]) if as_probabilities else scores
        order = [CORPUS["_id"][place] for place in np.lexsort((np.arange(len(CORPUS)), -scores))]
        assert row["negative_ids"] == [name for name in order if name not in row["positive_ids"]]
        known = dict(zip(CORPUS["_id"], scores, strict=True))
        np.testing.assert_allclose(row["negative_scores"], [known[name] for name in row["negative_ids"]], rtol=1e-6)
        np.testing.assert_allclose(row["positive_scores"], [known[name] for name in row["positive_ids"]], rtol=1e-6)


def test_nothing_is_found_beyond_its_depth():
    first = mine(PAIRS, CORPUS, Strategy([Dense(5)], [RankWindow(0, 5, "raw")]), encoder=encode, num_negatives=9)
    retriever = Reranked(Dense(), shared_words, depth=5)
    mined = mine(PAIRS, CORPUS, Strategy([retriever]), encoder=encode, num_negatives=9)
    assert [set(ids) for ids in mined["negative_ids"]] == [set(ids) for ids in first["negative_ids"]]


def test_margins_compare_its_scores():
    strategy = Strategy([Reranked(BM25(DEPTH), shared_words, depth=DEPTH)], [AbsoluteMargin(0.2)])
    for row in mine(PAIRS, CORPUS, strategy, num_negatives=20):
        positive = probabilities(row["query"], [CORPUS["text"][NAMES.index(row["positive_ids"][0])]])
        assert row["negatives"] and max(row["negative_scores"]) + 0.2 <= positive[0] + 1e-6


def test_the_model_may_be_that_of_the_miner():
    """Then no `Denoised` is added, which would score the same once more."""
    strategy = Strategy([Reranked(BM25(DEPTH), depth=DEPTH)])
    assert resolve(strategy, cross_encoder=shared_words).filters == ()
    assert isinstance(resolve(Strategy([BM25()]), cross_encoder=shared_words).filters[-1], Denoised)
    given = mine(PAIRS, CORPUS, strategy, cross_encoder=shared_words)
    here = mine(PAIRS, CORPUS, Strategy([Reranked(BM25(DEPTH), shared_words, depth=DEPTH)]))
    assert given["negative_ids"] == here["negative_ids"]
    with pytest.raises(ConfigError, match="Reranked.. needs a cross-encoder"):
        mine(PAIRS, CORPUS, strategy)


def test_what_cannot_be_reranked_is_refused():
    once = Reranked(BM25(5), shared_words)
    with pytest.raises(ConfigError, match="scores what is scored already"):
        Reranked(once, shared_words)
    with pytest.raises(ConfigError, match=r"Reranked\(Hybrid"):
        Hybrid([once, Dense()])
    with pytest.raises(ConfigError, match="got a int; allowed are a trained"):
        Reranked(BM25(), 3)
    union = Reranked(Hybrid([BM25(DEPTH), Random()]), shared_words, depth=DEPTH)
    assert len(mine(PAIRS, CORPUS, Strategy([union]))) == len(PAIRS)


@pytest.mark.slow
def test_a_live_model_does_not_travel_and_is_named_in_the_recipe(tmp_path):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(cross_encoder(tmp_path / "model")), device="cpu")
    strategy = Strategy([Reranked(BM25(DEPTH), model, depth=DEPTH)])
    assert len(pickle.dumps(HardNegatives(CORPUS, strategy))) < 20_000
    recipe = recipe_of(mine(PAIRS, CORPUS, strategy))
    assert recipe.cross_encoder.kind == "live"
    assert recipe.strategy["retrievers"][0]["class"] == "Reranked" and str(tmp_path) not in recipe.to_json()
    again = mine(PAIRS, CORPUS, recipe.rebuilt(), cross_encoder=model)
    assert again["negative_ids"] == mine(PAIRS, CORPUS, strategy)["negative_ids"]


def test_a_plan_knows_its_pairs_and_scores_few(monkeypatch):
    """The model is timed alone: samples of the corpus are searched without it."""
    asked = []

    def counted(queries, documents):
        asked.append(len(queries))
        return shared_words(queries, documents)

    counted.kind, counted.digest = "ce_logit", "counted"
    steps = {step.name for step in plan(PAIRS, CORPUS, Strategy([Reranked(BM25(DEPTH), counted)])).steps}
    assert "score pairs" in steps and "search" in steps and sum(asked) < 2000
