import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import BM25, Dense, HardNegatives, RankWindow, RelativeMargin, Strategy, mine, plan, to_format
from hf_hardneg.errors import ColumnError, ConfigError, DataError
from hf_hardneg.filters import of_positive
from hf_hardneg.filters.denoised import Denoised
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.samplers import Uniform
from hf_hardneg.strategies import resolve
from tests.cross_encoders import cross_encoder
from tests.filters.test_filters import table
from tests.worlds import encode, needed, shared_words, world

pytestmark = pytest.mark.slow

PROBABILITIES = np.array([0.95, 0.05, 0.50, 0.099, 0.10, 0.02, 0.901, 0.90])


def scored(scores, positive=np.nan):
    candidates = table(-np.arange(len(scores), dtype=float), 1.0)
    return candidates.with_signals(
        {"denoised": np.array(scores, float), of_positive("denoised"): np.full(len(scores), positive)}
    )


@pytest.mark.parametrize("kind", ["ce_prob", "ce_logit"])
def test_published_vector(kind):
    scores = PROBABILITIES
    if kind == "ce_logit":
        inside = np.where(scores == 0.9, 0.9 - 1e-6, np.where(scores == 0.1, 0.1 + 1e-6, scores))
        scores = np.log(inside / (1 - inside))
    candidates = scored(scores)
    assert candidates.rank[Denoised(kind=kind).keep(candidates)].tolist() == [1, 3, 5]
    for which, expected in (("best", [0]), ("all", [0, 6])):
        promoting = Denoised(pseudo_positives=which, kind=kind)
        assert candidates.rank[promoting.promoted(candidates)].tolist() == expected


def test_margin_to_the_positive_and_what_has_no_score():
    scores = [0.05, 0.02, np.nan, -np.inf]
    assert Denoised(kind="ce_prob").keep(scored(scores[:3])).tolist() == [True, True, False]
    assert Denoised(kind="ce_logit").keep(scored([-3.0, *scores[2:]])).tolist() == [True, False, False]
    near = Denoised(prob_margin=0.04, kind="ce_prob")
    assert near.keep(scored(scores[:2], positive=0.07)).tolist() == [False, True]
    assert near.keep(scored(scores[:2])).tolist() == [True, True]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("before", [[], [RankWindow(2)], [RelativeMargin(0.1)]])
def test_a_share_of_the_best_candidates_goes_whatever_other_filters_remove(share, before):
    pairs, corpus = world(3, queries=3)
    options = {"encoder": encode, "num_negatives": 20}
    ranked = mine(pairs, corpus, Strategy([Dense(20)]), **options)
    left = mine(pairs, corpus, Strategy([Dense(20)], before), **options)
    stage = Denoised(shared_words, share=share, scored_depth=20)
    mined = mine(pairs, corpus, Strategy([Dense(20)], [*before, stage]), **options)
    for row, pool, others in zip(mined, ranked, left, strict=True):
        scores = shared_words([row["query"]] * len(pool["negatives"]), pool["negatives"])
        below = [sum(other < score for other in scores) / len(scores) for score in scores]
        expected = {one for one, part in zip(pool["negative_ids"], below, strict=True) if part < 1 - share - 1e-9}
        assert row["negative_ids"] == [one for one in others["negative_ids"] if one in expected]
    assert "pseudo_positives" not in mined.column_names and sum(row["denoised"] for row in mined["mining"]) > 0


def test_a_share_is_the_models_own_unless_a_rule_is_given():
    class Model:
        kind, digest, share = "ce_logit", "own share", 0.4

        def score(self, queries, documents):
            return shared_words(queries, documents)

    scorer = Denoised(Model()).bind(SimpleNamespace(corpus=SimpleNamespace(cache=Path("none"))))
    for given, share in (({}, 0.4), ({"share": 0.2}, 0.2), ({"threshold": 0.1}, None)):
        assert Denoised(**given).fitted(scorer).share == share


def test_best_is_one_for_each_query():
    candidates = scored([0.95, 0.99, 0.99])
    assert Denoised(pseudo_positives="best").promoted(candidates).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threshold": -2.2}, r"threshold=-2.2\) .* a number above 0 and up to 1 or None"),
        ({"promote_above": 1.5}, r"promote_above=1.5\) .* a number above 0 and up to 1\. Give .* such as 0.9"),
        ({"threshold": 0.95}, "would promote what it keeps"),
        ({"scored_depth": 0}, r"scored_depth=0\) .* a whole number of at least 1"),
        ({"share": 0.3, "threshold": 0.1}, "threshold=0.1, share=0.3. has two rules; give one"),
        ({"share": 1.0}, r"share=1.0\) .* a number above 0 and below 1 or None"),
        ({"share": 0.3, "scored_depth": 9}, "a scored_depth of at least 10"),
        ({"model": float("nan")}, r"Denoised\(model=\) got a float; allowed are a trained cross-encoder's folder"),
        ({"model": ["a/model"]}, r"Denoised\(model=\) got a list; allowed are"),
        ({"pseudo_positives": "some"}, "Unknown pseudo_positives 'some'; known are all, best, off"),
    ],
)
def test_bad_parameters(options, text):
    with pytest.raises(ConfigError, match=text):
        Denoised(**options)


@pytest.mark.parametrize("strategy", ["denoised", "bm25+denoised", "margin+denoised", "hybrid+denoised", "rocketqa"])
def test_every_kept_negative_is_below_the_threshold_by_the_model_itself(strategy):
    pairs, corpus = world(3, queries=3)
    mined = mine(pairs, corpus, strategy, **needed(strategy), cross_encoder=shared_words, safeguards=False)
    assert sum(map(len, mined["negatives"])) > 0
    for row in mined:
        scores = shared_words([row["query"]] * len(row["negatives"]), row["negatives"])
        assert np.allclose(row["negative_denoised_scores"], scores, atol=1e-6)
        assert (1 / (1 + np.exp(-scores)) < 0.1).all()
        positives = shared_words([row["query"]] * len(row["positive"]), row["positive"])
        assert np.allclose(row["positive_denoised_scores"], positives, atol=1e-6)
    options = {"cross_encoder": shared_words, "safeguards": False, "known_positives": [pairs]}
    miner = HardNegatives(corpus, strategy, **needed(strategy), **options)
    alone = pairs.map(miner, batched=True, batch_size=5)
    assert alone["negative_ids"][:] == mined["negative_ids"][:]


def test_a_cross_encoder_that_is_passed_is_always_used():
    pairs, corpus = world(3, queries=3)
    mined = mine(pairs, corpus, "bm25", cross_encoder=shared_words)
    assert sum(row["denoised"] for row in mined["mining"]) > 0
    miner = HardNegatives(corpus, "bm25", cross_encoder=shared_words)
    assert miner.strategy.filters[-1] == Denoised(kind="ce_logit")


def test_a_cross_encoder_on_a_gpu_and_several_processes_are_refused_before_work(tmp_path):
    pairs, corpus = world(3, queries=3)
    model = replace(load_cross_encoder(cross_encoder(tmp_path), cache_dir=tmp_path), device="cuda:0")
    with pytest.raises(ConfigError, match="num_proc=2 with a cross-encoder on cuda:0"):
        mine(pairs, corpus, "denoised", cross_encoder=model, num_proc=2, confirm_cost=True)


def test_without_a_model_it_says_so():
    pairs, corpus = world(3, queries=3)
    with pytest.raises(ConfigError, match="denoised needs a cross-encoder, .* Pass cross_encoder=.*train-denoiser"):
        mine(pairs, corpus, "denoised")


def test_logits_taken_for_probabilities_are_an_error():
    pairs, corpus = world(3, queries=3)

    def logits(queries, documents):
        return shared_words(queries, documents)

    with pytest.raises(DataError, match=r"outside \[0, 1\], .*activation=\"sigmoid\""):
        mine(pairs, corpus, "denoised", cross_encoder=logits)
    strategy = Strategy([BM25(20)], [Denoised(logits, activation="sigmoid")])
    assert len(mine(pairs, corpus, strategy)) == len(pairs)


def test_pseudo_positives_come_out_in_columns_of_their_own():
    pairs, corpus = world(3, queries=3)
    stage = Denoised(shared_words, pseudo_positives="all", promote_above=0.6)
    mined = mine(pairs, corpus, Strategy([BM25(20)], [stage]))
    assert sum(map(len, mined["pseudo_positives"])) > 0
    for row in mined:
        scores = shared_words([row["query"]] * len(row["pseudo_positives"]), row["pseudo_positives"])
        assert (1 / (1 + np.exp(-scores)) > 0.6).all()
        assert not {*row["pseudo_positive_ids"]} & {*row["negative_ids"], *row["positive_ids"]}
    best = mine(pairs, corpus, Strategy([BM25(20)], [replace(stage, pseudo_positives="best")]))
    assert max(map(len, best["pseudo_positives"])) == 1


def test_only_survivors_are_scored_and_no_more_than_needed():
    asked = []

    def counting(queries, documents):
        asked.extend(zip(queries, documents, strict=True))
        return np.zeros(len(queries))

    counting.digest = "counting"
    pairs, corpus = world(3, queries=3)
    positives = sum(map(len, pairs["positive"]))
    mine(pairs, corpus, Strategy([BM25(20)], [Denoised(counting, scored_depth=20)]), num_negatives=2)
    assert 0 < len(asked) <= positives + 2 * len(pairs)
    before = len(asked)
    mine(
        pairs,
        corpus,
        Strategy([BM25(20)], [Denoised(counting, scored_depth=20)], Uniform()),
        num_negatives=2,
    )
    assert len(asked) > before and len(set(asked)) == len(asked)


def test_logits_reach_distillation_as_they_are():
    teacher = {"plate": 5.2, "wing x": 1.1, "slab x": -3.0}

    def logits(queries, documents):
        return [teacher[document] for document in documents]

    logits.kind, logits.digest = "ce_logit", "a teacher"
    pairs = Dataset.from_dict({"query": ["x wing slab"], "positive": ["plate"]})
    corpus = Dataset.from_dict({"_id": ["1", "2", "3"], "text": ["plate", "wing x", "slab x"]})
    strategy = Strategy([BM25(20)], [Denoised(logits, threshold=0.8)])
    mined = mine(pairs, corpus, strategy, num_negatives=2)
    (short,) = to_format(mined, "list", num_negatives=1)
    assert len(short["negatives"]) == len(short["negative_denoised_scores"]) == 1
    with pytest.raises(ColumnError, match="needs 'positive_judged_scores', 'negative_judged_scores', which"):
        to_format(mined, "n-tuple", scores="judged")
    (row,) = to_format(mined, "n-tuple", scores="denoised")
    given = dict(zip([row["positive"], row["negative_1"], row["negative_2"]], row["scores"], strict=True))
    c = np.array([given["plate"], given["wing x"], given["slab x"]])
    s = np.array([12.0, 9.5, 4.0])
    np.testing.assert_allclose(c, [5.2, 1.1, -3.0], atol=1e-6)
    np.testing.assert_allclose(np.mean(((s[0] - s[1:]) - (c[0] - c[1:])) ** 2), 1.3, atol=1e-6)
    for t, expected in ((1, 0.03636174026155959), (2, 0.03902357007975655)):
        p, q = (np.exp(x / t) / np.exp(x / t).sum() for x in (c, s))
        np.testing.assert_allclose((p * np.log(p / q)).sum(), expected, atol=1e-7)


def test_names():
    for name in ("denoised", "ce_denoise", "rocketqa"):
        assert resolve(name, safeguards=False) == Strategy([BM25(100)], [Denoised()])
    assert [stage.name for stage in resolve("margin+denoised", safeguards=False).filters] == [
        "rank_window",
        "absolute_margin",
        "denoised",
    ]


def test_a_plan_knows_what_scoring_costs_and_scores_nothing_else():
    asked = []

    def slow(queries, documents):
        asked.extend(documents)
        time.sleep(0.002 * len(documents))
        return np.zeros(len(queries))

    slow.digest = "slow"
    pairs, corpus = world(3)
    costs = plan(pairs, corpus, "bm25", cross_encoder=slow)
    (step,) = [step for step in costs.steps if step.name == "score pairs"]
    assert 0.8 < step.seconds / (len(pairs) * 51 * 0.002) < 3
    assert step.disk == len(pairs) * 51 * (16 + 4), "a key and a score are kept of every pair"
    assert "Denoised" in costs.recipe and len(asked) < len(pairs) * 51 / 2


@pytest.mark.parametrize("rule", ["pad_next", "pad_random"])
def test_pseudo_positives_are_no_padding(rule):
    pairs, corpus = world(0)
    stage = Denoised(shared_words, scored_depth=20, pseudo_positives="all", promote_above=0.3)
    mined = mine(pairs, corpus, Strategy([BM25(20)], [stage]), num_negatives=15, on_shortage=rule)
    assert sum(map(len, mined["pseudo_positives"])) > 0
    for row in mined:
        assert not {*row["pseudo_positive_ids"]} & {*row["negative_ids"]}


def test_the_tail_fills_up_unscored_and_marked():
    """What RocketQA's code does: random ones of the candidates beyond those that the cross-encoder saw."""
    pairs, corpus = world(0)
    strategy = Strategy([BM25(20)], [RankWindow(2, 20), Denoised(shared_words, scored_depth=6)])
    plain = mine(pairs, corpus, strategy, num_negatives=5)
    padded = mine(pairs, corpus, strategy, num_negatives=5, on_shortage="pad_tail")
    every = mine(pairs, corpus, Strategy([BM25(20)], [RankWindow(2, 20)]), num_negatives=20)
    assert any(row["mining"]["short"] for row in plain)
    for row, short, all_left in zip(padded, plain, every, strict=True):
        kept = len(short["negative_ids"])
        tail = all_left["negative_ids"][6:]
        assert row["negative_ids"][:kept] == short["negative_ids"] and row["mining"] == short["mining"]
        assert len(row["negative_ids"]) == min(5, kept + len(tail)) and {*row["negative_ids"][kept:]} <= {*tail}
        assert row["negative_sources"][kept:] == ["pad_tail"] * (len(row["negative_ids"]) - kept)
        assert row["negative_denoised_scores"][kept:] == [None] * (len(row["negative_ids"]) - kept)
    other = mine(pairs, corpus, strategy, num_negatives=5, on_shortage="pad_tail", seed=7)
    assert other["negative_ids"][:] != padded["negative_ids"][:]
    miner = HardNegatives(corpus, strategy, num_negatives=5, on_shortage="pad_tail", known_positives=[pairs])
    assert pairs.map(miner, batched=True, batch_size=3)["negative_ids"][:] == padded["negative_ids"][:]
    with pytest.raises(ConfigError, match="'pad_tail' draws .* no filter scores fewer than the 20 of"):
        mine(pairs, corpus, Strategy([BM25(20)]), on_shortage="pad_tail")


def test_nothing_of_an_earlier_mining_is_left_beside_new_negatives():
    pairs, corpus = world(0)
    stage = Denoised(shared_words, scored_depth=10, pseudo_positives="best")
    first = mine(pairs, corpus, Strategy([BM25(20)], [stage]))
    first = first.add_column("positive_note_scores", [[1.0]] * len(first))
    again = mine(first, corpus, Strategy([BM25(20)]))
    plain = mine(pairs, corpus, Strategy([BM25(20)]))
    expected = {*plain.column_names, "positive_note_scores"}
    assert {*again.column_names} == expected and again["negatives"][:] == plain["negatives"][:]
    mapped = first.map(HardNegatives(corpus, Strategy([BM25(20)])), batched=True)
    assert {*mapped.column_names} == expected
    own = pairs.add_column("pseudo_positives", [[""]] * len(pairs))
    assert "pseudo_positives" in mine(own, corpus, Strategy([BM25(20)])).column_names
