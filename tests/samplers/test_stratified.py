"""Negatives spread over a teacher's scores, and lists with a share of random documents."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import (
    BM25,
    Candidates,
    HardNegatives,
    Mixture,
    Random,
    Strategy,
    Stratified,
    Top,
    Uniform,
    mine,
    report,
)
from hf_hardneg.corpus.ids import named_columns
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import ConfigError, HardNegWarning
from hf_hardneg.filters import Denoised
from hf_hardneg.filters.base import of_positive
from hf_hardneg.samplers import RankZone
from hf_hardneg.strategies import resolve
from tests.worlds import encode, shared_words, world

SCORES = [9, 8.6, 8.5, 6, 5.9, 3.1, 0.4, 0.2]


def uniforms(salt, candidates):
    rows = zip(candidates.query.tolist(), candidates.doc.tolist(), strict=True)
    return np.array([keyed_uniforms(42, salt, f"q{query}", [str(doc)])[0] for query, doc in rows])


def spread(values, low, high, size):
    """Positions by the definition, in exact numbers: strata from the highest, the nearest to each centre."""
    values, low, high = [Fraction(value) for value in values], Fraction(low), Fraction(high)
    taken = []
    for stratum in reversed(range(size)):
        centre = low + (high - low) * (2 * stratum + 1) / (2 * size)
        free = [place for place in range(len(values)) if place not in taken]
        taken += [min(free, key=lambda place: (abs(values[place] - centre), place))] if free else []
    return sorted(taken)


def test_the_published_vector():
    candidates = Candidates.of([SCORES])
    assert Stratified().choose(candidates, 4, uniforms).tolist() == [2, 4, 5, 6]
    assert spread(SCORES, 0.2, 9, 4) == [2, 4, 5, 6]


@pytest.mark.parametrize("basis", ["score", "rank"])
def test_many_queries_at_once_are_each_by_the_definition(basis):
    random = np.random.default_rng(0)
    lists = [np.sort(random.integers(0, 64, random.integers(0, 12)) / 8)[::-1].tolist() for _ in range(60)]
    candidates = Candidates.of(lists)
    for size in (1, 2, 3, 4, 8, 16):
        found = candidates.take(Stratified(basis).choose(candidates, size, uniforms))
        for query, scores in enumerate(lists):
            bounds = (min(scores, default=0), max(scores, default=0))
            values = scores
            if basis == "rank":
                values, bounds = range(0, -len(scores), -1), (Fraction(1, 2) - len(scores), Fraction(1, 2))
            assert found.rank[found.query == query].tolist() == spread(values, *bounds, size)


def test_the_denoiser_is_the_teacher_and_what_it_did_not_score_comes_last():
    scores = [0.1, 0.9, np.nan, 0.6, 0.2]
    signals = {"denoised": [scores], of_positive("denoised"): [[1.0] * 5], "pool": [[0.0] * 5]}
    candidates = Candidates.of([[5, 4, 3, 2, 1]], signals=signals)
    assert Stratified().choose(candidates, 2, uniforms).tolist() == [3, 4]
    assert Stratified("rank").choose(candidates, 1, uniforms).tolist() == [4]
    assert Stratified().choose(candidates, 4, uniforms).tolist() == [0, 1, 3, 4]
    assert len(Stratified().choose(candidates, 9, uniforms)) == 5
    unscored = Candidates.of([[1.0, 1.0]], signals={name: [[np.nan] * 2] for name in signals})
    assert Stratified().choose(unscored, 1, uniforms).tolist() == [0]


def test_jitter_draws_within_each_stratum_and_leaves_none_out():
    lists = [[*np.linspace(1, 0, 40)]] * 500
    candidates = Candidates.of(lists)
    chosen = candidates.take(Stratified(jitter=True).choose(candidates, 4, uniforms))
    assert (chosen.counts() == 4).all()
    assert (chosen.rank.reshape(-1, 4) // 10 == np.arange(4)).all()
    drawn = np.bincount(chosen.rank, minlength=40)
    assert drawn.min() > 20 and drawn.max() < 90  # each 50 on average
    few = Candidates.of([[1.0, 0.99, 0.98, 0.0]])
    assert len(Stratified(jitter=True).choose(few, 3, uniforms)) == 3
    assert Stratified(jitter=True).choose(few, 4, uniforms).tolist() == [0, 1, 2, 3]
    same = Candidates.of([[1.0] * 8] * 200)
    again = same.take(Stratified(jitter=True).choose(same, 2, uniforms))
    assert (again.counts() == 2).all() and len(set(again.rank.tolist())) == 8


def test_denoised_and_stratified_spreads_over_the_cross_encoders_scores():
    assert resolve("denoised+stratified", safeguards=False).sampler == Stratified()
    pairs, corpus = world(3, documents=120)
    strategy = Strategy(resolve("bm25").retrievers, [Denoised(shared_words, scored_depth=40)], Stratified())
    assert not strategy.stops_early
    mined = mine(pairs, corpus, strategy, num_negatives=3)
    everything = mine(pairs, corpus, strategy, num_negatives=40)
    for row, every in zip(mined, everything, strict=True):
        scores = every["negative_denoised_scores"]
        places = spread(scores, min(scores, default=0), max(scores, default=0), 3)
        assert row["negative_ids"] == [every["negative_ids"][place] for place in places]


def test_what_cannot_be_spread_or_mixed():
    with pytest.raises(ConfigError, match="Stratified spreads candidates over their scores, but random"):
        Strategy([Random()], [], Stratified())
    with pytest.raises(ConfigError, match="Unknown basis 'width'; known are rank, score"):
        Stratified("width")
    with pytest.raises(ConfigError, match="mixes what is mixed"):
        Mixture(of=Mixture())
    with pytest.raises(ConfigError, match="it has no choose"):
        Mixture(of=object())
    with pytest.raises(ConfigError, match="Mixture.share=1.0"):
        Mixture(1.0)


def test_a_share_of_each_list_is_random():
    pairs, corpus = world(4, documents=200)
    plain = mine(pairs, corpus, "bm25", num_negatives=6)
    mined = mine(pairs, corpus, "bm25+mixture", num_negatives=8)
    drawn = set()
    for row, without in zip(mined, plain, strict=True):
        assert row["negative_sources"][-2:] == ["random"] * 2
        assert row["negative_ids"][:-2] == without["negative_ids"]
        assert row["negative_scores"][-2:] == [None, None] and row["negative_ranks"][-2:] == [-1, -1]
        assert row["mining"]["kept"] == len(set(row["negative_ids"])) == len(row["negative_ids"])
        assert row["mining"]["retrieved"] == without["mining"]["retrieved"] + 2
        drawn |= set(row["negative_ids"][-2:])
    assert len(drawn) > 12
    assert "random" in str(report(mined))
    assert [Mixture(0.25).drawn(size) for size in (1, 2, 4, 5, 6)] == [0, 1, 1, 1, 2]


@pytest.mark.parametrize(("share", "size", "text"), [(0.25, 1, "0 random .*none are"), (0.9, 4, "4 random .*all are")])
def test_a_share_that_rounds_to_none_or_all_is_told_of(share, size, text):
    strategy = Strategy(resolve("bm25").retrievers, [], Mixture(share))
    with pytest.warns(HardNegWarning, match=f"Mixture.share={share}.* rounds to {text}"):
        HardNegatives(world(4)[1], strategy, num_negatives=size)


@pytest.mark.parametrize("options", [{}, {"on_shortage": "pad_random"}])
def test_each_generation_has_other_random_documents(options):
    pairs, corpus = world(4, documents=200)
    strategy = Strategy(resolve("bm25").retrievers, [], Top() if options else Mixture(0.5))
    miner = HardNegatives(corpus, strategy, num_negatives=150 if options else 8, known_positives=[pairs], **options)
    queries = miner.retrieval.reader.read(named_columns(pairs.with_format("arrow")[:]))
    retrieved = miner.rescoring.add(miner.retrieval.search(queries), queries)
    drawn = []
    for number in (None, 1, 2, 1):
        chosen = replace(miner.selection, generation=number).choose(retrieved, queries)
        drawn.append(chosen.doc[np.char.endswith(chosen.source.astype(str), "random")].tolist())
    assert drawn[0] != drawn[1] != drawn[2] and drawn[1] == drawn[3]


def test_random_documents_are_none_that_filters_removed():
    corpus = Dataset.from_dict({"_id": list("abcdef"), "text": [f"word1 word{number}" for number in range(2, 8)]})
    pairs = Dataset.from_dict({"query": ["word1 word2"], "positive_ids": [["a"]]})

    def last_only(queries, documents):
        return np.array([-9.0 if "word7" in text else 9.0 for text in documents])

    last_only.kind, last_only.digest = "ce_logit", "last only"
    strategy = Strategy(resolve("bm25").retrievers, [Denoised(last_only)], Mixture(0.5))
    assert mine(pairs, corpus, strategy, num_negatives=4)[0]["negative_ids"] == ["f"]


def test_no_text_fills_up_beside_a_random_copy():
    texts = [f"word1 word{number}" for number in range(2, 10)]
    corpus = Dataset.from_dict({"text": [*texts, *map(str.upper, texts), *map(str.title, texts)]})
    pairs = Dataset.from_dict({"query": [f"word1 word{n} word{n + 1}" for n in range(2, 8)], "positive": texts[:6]})
    strategy = Strategy([BM25(20)], [], Mixture(0.5, RankZone(0, 2)))
    for row in mine(pairs, corpus, strategy, num_negatives=6, on_shortage="pad_next"):
        assert len({text.lower() for text in row["negatives"]}) == len(row["negatives"]) == 6


def test_a_mixture_is_what_it_mixes_otherwise():
    assert resolve("bm25+mixture").sampler == Mixture(of=Top())
    assert resolve("denoised+stratified+mixture").sampler == Mixture(of=Stratified())
    assert resolve("denoised+mixture+stratified").sampler == Mixture(of=Stratified())
    early = Strategy(resolve("denoised").retrievers, [Denoised(shared_words)], Mixture())
    assert early.stops_early and early.is_ours
    unknown = Strategy(resolve("denoised").retrievers, [Denoised(shared_words)], Mixture(of=Uniform()))
    assert not unknown.stops_early
    assert resolve("simans+mixture").needs_positive and not resolve("dense+mixture").sampler.needs_positive
    pairs, corpus = world(0)
    miner = HardNegatives(corpus, "distance_weighted+mixture", encoder=encode, known_positives=[pairs])
    assert isinstance(miner.selection.sampler.of.dim, int)
