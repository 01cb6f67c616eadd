from collections import Counter
from dataclasses import replace

import faiss
import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from hf_hardneg import BM25, AbsoluteMargin, Dense, HardNegatives, Random, RankZone, Strategy, Top, Uniform, mine
from hf_hardneg.arrays.hashing import string_hashes
from hf_hardneg.arrays.statistics import intrinsic_dimension
from hf_hardneg.draws import (
    effective_sample_sizes,
    gumbel_keys,
    keyed_uniforms,
    keyed_uniforms_of_pairs,
    probabilities,
    sample_without_replacement,
    uniforms_of_keys,
)
from hf_hardneg.errors import ConfigError, HardNegWarning
from hf_hardneg.index.dense.dense_index import normalized
from hf_hardneg.samplers import SAMPLERS, DistanceWeighted, Importance, Mixture, SimANS, TopicNegatives, UnReMix
from hf_hardneg.samplers.base import _warn_once
from tests.filters.test_filters import table
from tests.worlds import encode, world

NAMES = "abcdefghijklmnopqrstuvwxyz"
SCALED = {"rank_zone": RankZone(0, 50), "distance_weighted": DistanceWeighted(dim=8)}
"""Samplers whose defaults do not suit twenty candidates without an index."""


def uniforms(salt, candidates):
    pairs = zip(candidates.query, candidates.doc, strict=True)
    return np.array([keyed_uniforms(42, salt, f"q{query}", NAMES[doc])[0] for query, doc in pairs])


def test_rank_zone_pools_of_the_published_vector():
    candidates = table(np.linspace(1, 0.1, 10), 0.5, excluded=(4,))
    raw = candidates.take(RankZone(3, 7, "raw").choose(candidates, 99, uniforms))
    assert raw.rank.tolist() == [3, 5, 6]
    counted = candidates.take(RankZone(3, 7, "no_positives").choose(candidates, 99, uniforms))
    assert counted.rank.tolist() == [3, 5, 6, 7]


def test_rank_zone_can_start_at_the_positive():
    candidates = table(np.linspace(1, 0.1, 10), 0.5, excluded=(4,))
    zone = RankZone(1, 3, "raw", "positive_rank")
    assert candidates.take(zone.choose(candidates, 99, uniforms)).rank.tolist() == [5, 6]
    assert zone.depth(4) == 203 and RankZone(1, 3).depth(4) == 3
    unseen = replace(candidates, positive_rank=np.array([-1], np.int32))
    assert len(zone.choose(unseen, 99, uniforms)) == 0


def test_uniform_draws_from_the_best_of_the_pool_only():
    candidates = table(np.linspace(1, 0.1, 10), 0.5)
    assert set(Uniform(4).choose(candidates, 3, uniforms)) <= {0, 1, 2, 3}
    assert len(Uniform(4).choose(candidates, 9, uniforms)) == 4


def test_random_takes_the_least_draws_where_many_are_wanted():
    corpus = Dataset.from_dict({"_id": list("abcde"), "text": ["t a", "t b", "t c", "t d", "t e"]})
    pairs = Dataset.from_dict({"query_id": ["q1"], "query": ["who"], "positive_ids": [["d"]]})
    mined = pairs.map(HardNegatives(corpus, "random", num_negatives=2), batched=True)
    draws = dict(zip("abcde", keyed_uniforms(42, "random", "q1", "abcde"), strict=True))
    assert mined[0]["negative_ids"] == sorted("abce", key=draws.get)[:2]
    assert mined[0]["negative_scores"] == [None, None]


def test_random_stream_of_a_large_corpus_is_the_keyed_one():
    corpus = Dataset.from_dict({"text": [f"text {i}" for i in range(400)]})
    pairs = Dataset.from_dict({"query": ["who"], "positive_ids": [["7"]]})
    miner = HardNegatives(corpus, Strategy([Random()]), num_negatives=5, columns={"id": "row_number"})
    mined = pairs.map(miner, batched=True)
    who, places = string_hashes(pa.array(["who"])), np.arange(40, dtype=np.uint64)
    stream = (uniforms_of_keys(42, "random#stream", who, places) * 400).astype(int).tolist()
    expected = [str(doc) for doc in dict.fromkeys(stream) if doc != 7][:5]
    assert mined[0]["negative_ids"] == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_contract(name):
    """Every sampler gives ascending positions, at most as many as asked, and does not look at the candidates' order."""
    sampler = SCALED.get(name) or SAMPLERS[name]()
    candidates = table(np.linspace(1, 0.1, 20), 0.5)
    candidates = candidates.with_signals({signal.name: np.ones(20) for signal in sampler.signals})
    chosen = sampler.choose(candidates, 5, uniforms)
    assert sampler.name == name and len(chosen) == 5 - sampler.drawn(5) and (np.diff(chosen) > 0).all()
    assert len(sampler.choose(candidates, 100, uniforms)) == 20
    assert len(sampler.choose(candidates.take(np.zeros(20, bool)), 5, uniforms)) == 0
    if name == "stratified":  # cuts the range of all candidates
        return
    unchosen = np.setdiff1d(np.arange(20), chosen)[-1]
    without = candidates.take(np.arange(20) != unchosen)
    again = without.take(sampler.choose(without, 5, uniforms))
    assert again.doc.tolist() == candidates.take(chosen).doc.tolist()
    assert sampler.depth(5) >= 5


def test_importance_draws_by_another_temperature_in_each_generation():
    cooling = Importance(0.1, 0.025, 4)
    assert [cooling.at(number).temperature for number in (0, 2, 4, 9)] == close([0.1, 0.05, 0.025, 0.025])
    assert Importance(0.1).at(3) == Importance(0.1) and Mixture(of=cooling).at(4).of == Importance(0.025)
    pairs, corpus = world(2)
    known = {"encoder": encode, "known_positives": [pairs], "num_negatives": 2}
    cooled, fixed = (
        HardNegatives(corpus, Strategy([Dense(20)], [], sampler), **known) for sampler in (cooling, Importance(0.025))
    )
    queries = cooled.retrieval.reader.read(
        {name: pa.chunked_array([pairs.data[name].combine_chunks()]) for name in pairs.column_names}
    )
    candidates = cooled.retrieval.search(queries)
    chosen = [replace(miner.selection, generation=4).choose(candidates, queries).doc for miner in (cooled, fixed)]
    assert chosen[0].tolist() == chosen[1].tolist()
    assert chosen[0].tolist() != replace(cooled.selection, generation=1).choose(candidates, queries).doc.tolist()
    with pytest.raises(ConfigError, match="a temperature that changes needs both"):
        Importance(0.1, 0.02)


def test_what_cannot_work():
    with pytest.raises(ConfigError, match="RankZone\\(start=5, end=5\\) is empty"):
        RankZone(5, 5)
    with pytest.raises(ConfigError, match="Unknown anchor 'middle'; known are absolute, positive_rank"):
        RankZone(anchor="middle")
    with pytest.raises(
        ConfigError, match="Uniform.pool=0. of type int: allowed is a whole number of at least 1 or None"
    ):
        Uniform(0)
    assert Top() == Top()


def shares(sampler, candidates):
    return probabilities(sampler.log_weights(candidates), candidates.offsets())


def close(values):
    return pytest.approx(values, rel=1e-8, abs=1e-300)


DOTS, COSINES = [74.0, 71.0, 69.0, 66.0, 60.0], [0.90, 0.84, 0.78, 0.72, 0.45]


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (SimANS(), [0.0002763893185, 0.4997236107, 0.4997236107, 0.0002763893185, 1.58910654e-22]),
        (SimANS(b=1), [0.009689926168, 0.8722593562, 0.118047467, 3.250608097e-06, 4.632649906e-27]),
        (SimANS(b=1, sign="code"), [3.250608097e-06, 0.118047467, 0.8722593562, 0.009689926168, 2.247600497e-18]),
        (SimANS(3, kernel="laplace"), [6.169728799e-05, 0.4999383027, 0.4999383027, 6.169728799e-05, 9.396484464e-13]),
    ],
)
def test_simans_matches_the_published_vectors(sampler, expected):
    assert shares(sampler, table(DOTS, 70.0)) == close(expected)


def test_simans_is_flat_on_cosines():
    candidates = table(COSINES, 0.80)
    assert shares(SimANS(), candidates) == close([0.2017705457, 0.2026197641, 0.2027413725, 0.2021340598, 0.1907342579])
    sharp = [0.06561271798, 0.3520487107, 0.4475416244, 0.1347969469, 1.110100212e-11]
    assert shares(SimANS(200), candidates) == close(sharp)
    sizes = [effective_sample_sizes(SimANS(a).log_weights(candidates), candidates.offsets())[0] for a in (0.5, 200)]
    assert sizes == close([4.997303422428449, 2.8842794274562347])


def test_simans_scaled_by_the_spread_of_the_query():
    candidates = table(COSINES, 0.80)
    spread = np.std(COSINES)
    expected = np.exp(-0.5 * ((np.array(COSINES) - 0.80) / spread - 0.3) ** 2)
    assert shares(SimANS(b=0.3, score_scale="auto"), candidates) == close(expected / expected.sum())
    assert shares(SimANS(b=0.3, score_scale=1 / spread), candidates) == close(expected / expected.sum())
    assert shares(SimANS(score_scale="auto"), table([0.5] * 3, 0.8)) == close([1 / 3] * 3)


def test_random_documents_are_drawn_evenly():
    corpus = Dataset.from_dict({"text": [f"text {i}" for i in range(50)]})
    pairs = Dataset.from_dict({"query": [f"query {i}" for i in range(2_000)], "positive_ids": [["0"]] * 2_000})
    for number in (5, 30):
        miner = HardNegatives(corpus, "random", num_negatives=number, columns={"id": "row_number"})
        mined = pairs.map(miner, batched=True)
        counts = Counter(document for ids in mined["negative_ids"] for document in ids)
        assert len(counts) == 49 and all(len(set(ids)) == number for ids in mined["negative_ids"])
        expected = 2_000 * number / 49
        assert max(abs(count - expected) for count in counts.values()) < 5 * np.sqrt(expected)


def test_simans_draws_the_published_samples():
    candidates = replace(table(DOTS, 70.0), doc=np.arange(5))
    keys = [-6.365389637, -0.6252663765, 0.2325903921, -3.167425812, -50.1651545]
    draws = np.array(
        [0.8228113336505066, 0.32192060330268035, 0.6183737243908017, 0.9920656555135946, 0.3074092528232016]
    )
    offsets = candidates.offsets()
    assert gumbel_keys(SimANS().log_weights(candidates), draws) == close(keys)
    assert SimANS().choose(candidates, 2, lambda *_: draws).tolist() == [1, 2]
    given = np.array([0.5, 0.9, 0.1, 0.3, 0.7])
    keys = [-7.633487079, 1.750367327, -1.334032445, -8.185626759, -48.96906957]
    assert gumbel_keys(SimANS().log_weights(candidates), given) == close(keys)
    assert sample_without_replacement(SimANS().log_weights(candidates), given, 3, offsets).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (0.1, [0.4934826407, 0.2708290154, 0.1486341151, 0.08157213186, 0.005482096947]),
        (0.05, [0.7045432413, 0.2122043463, 0.06391472085, 0.01925074398, 8.694754338e-05]),
        (1.0, [0.2324725392, 0.2189343924, 0.206184646, 0.1941773869, 0.1482310355]),
    ],
)
def test_importance_matches_the_published_vector(temperature, expected):
    assert shares(Importance(temperature), table(COSINES, np.nan)) == close(expected)


DISTANCES = np.array([0.3, 0.5, 0.6, 1.0, 1.3, 1.41])


@pytest.mark.parametrize(
    ("dim", "weights", "expected"),
    [
        (
            4,
            [1.418563622, 1.418563622, 1.068806587, 0.1438410362, -0.2502051106, -np.inf],
            [0.3151743714, 0.3151743714, 0.2221535948, 0.0880939149, 0.05940374748, 0],
        ),
        (
            8,
            [4.320229386, 4.320229386, 3.300730441, 0.7192051811, -0.2015684953, -np.inf],
            [0.416850623, 0.416850623, 0.15038956, 0.01137825109, 0.004530942874, 0],
        ),
        (
            384,
            [277.0768113, 277.0768113, 213.1015727, 54.8034348, 4.370273343, -np.inf],
            [0.5, 0.5, 8.220096787e-29, 1.468483729e-97, 1.836645809e-119, 0],
        ),
    ],
)
def test_distance_weights_match_the_published_vector(dim, weights, expected):
    candidates = table(1 - DISTANCES**2 / 2, np.nan)
    sampler = DistanceWeighted(dim=dim)
    assert sampler.log_weights(candidates) == close(weights)
    assert shares(sampler, candidates) == close(expected)


def test_distances_beyond_the_loss_are_drawn_only_where_there_is_nothing_else():
    far = table(1 - np.array([1.41, 1.5, 2.0]) ** 2 / 2, np.nan)
    assert shares(DistanceWeighted(dim=8), far) == close([1 / 3] * 3)
    assert np.isfinite(DistanceWeighted(nonzero_loss_cutoff=None, dim=8).log_weights(far)).all()


def of_unremix():
    """The published vector: query (1, 0), three documents, and what is known of them."""
    similarity = table([0.96, 0.6, 0.8], np.nan)
    signals = [0.2888394055, 0.5675413538, 0.5675413538], [0.4951132042, 0.4576491223, 0.3203067944]
    names = [signal.name for signal in UnReMix().signals]
    return replace(similarity, signals={name: np.array(values) for name, values in zip(names, signals, strict=True)})


def test_unremix_matches_the_published_vector():
    candidates, offsets = of_unremix(), np.array([0, 3])
    sums = [0.6666666667, 0.5952274824, 0.5185185185]
    assert UnReMix().sums(candidates) == close(sums)
    assert UnReMix().choose(candidates, 2, uniforms).tolist() == [0, 1]
    assert UnReMix(0, 0, 1).choose(candidates, 1, uniforms).tolist() == [0]
    assert UnReMix(0, 1, 0.5).choose(candidates, 1, uniforms).tolist() == [1]
    drawn = UnReMix(draw_temperature=0.1)
    expected = np.exp(np.array(sums) / 0.1)
    assert probabilities(drawn.log_weights(candidates), offsets) == close(expected / expected.sum())
    sampled = sample_without_replacement(np.array(sums) / 0.1, uniforms("unremix", candidates), 2)
    assert drawn.choose(candidates, 2, uniforms).tolist() == sampled.tolist()


def test_what_unremix_cannot_tell_counts_as_nothing():
    candidates = of_unremix()
    first, second = (signal.name for signal in UnReMix().signals)
    unknown = candidates.with_signals({first: np.array([np.nan, 0.2, 0.4]), second: np.full(3, 0.7)})
    assert UnReMix(0, 1, 1).sums(unknown) == close([0, 0, 1])


def test_topic_negatives_are_uniform_draws_from_the_topic():
    candidates, sampler = table(np.linspace(1, 0.1, 20), 0.5), TopicNegatives(4)
    name = sampler.signals[0].name
    same = np.isin(np.arange(20), [1, 5, 6, 18])
    candidates = candidates.with_signals({name: same.astype(float)})
    assert sampler.choose(candidates, 9, uniforms).tolist() == [1, 5, 6, 18]
    drawn = uniforms("topic_negatives", candidates.take(same))
    expected = np.sort(np.array([1, 5, 6, 18])[np.argsort(-drawn)[:2]])
    assert sampler.choose(candidates, 2, uniforms).tolist() == expected.tolist()


SCORES = table(COSINES, 0.80)


def of_topics():
    """Four candidates, the second of another topic."""
    name = TopicNegatives(2).signals[0].name
    return table([0.9, 0.8, 0.7, 0.6], np.nan).with_signals({name: np.array([1.0, 0, 1, 1])})


@pytest.mark.parametrize(
    ("sampler", "candidates", "expected"),
    [
        (Importance(0.1), SCORES, None),
        (SimANS(200), SCORES, None),
        (SimANS(score_scale="auto"), SCORES, None),
        (DistanceWeighted(dim=8), SCORES, None),
        (UnReMix(draw_temperature=0.1), of_unremix(), None),
        (Uniform(4), SCORES, [1 / 4] * 4 + [0]),
        (RankZone(1, 4), SCORES, [0, *[1 / 3] * 3, 0]),
        (TopicNegatives(2), of_topics(), [1 / 3, 0, 1 / 3, 1 / 3]),
    ],
)
def test_frequencies_of_one_draw_are_the_probabilities(sampler, candidates, expected):
    expected = shares(sampler, candidates) if expected is None else expected
    queries, size = 20_000, len(candidates)
    repeated = ("doc", "score", "rank", "position", "source")
    many = replace(
        candidates,
        queries=queries,
        query=np.repeat(np.arange(queries), size),
        positive=np.tile(candidates.positive, queries),
        positive_rank=np.tile(candidates.positive_rank, queries),
        signals={name: np.tile(values, queries) for name, values in candidates.signals.items()},
        **{name: np.tile(getattr(candidates, name), queries) for name in repeated},
    )

    def uniforms(salt, drawn):
        identities = [f"q{query}" for query in range(queries)]
        documents = pa.array(np.array(list(NAMES))[drawn.doc])
        return keyed_uniforms_of_pairs(42, salt, identities, drawn.query, documents)

    chosen = many.take(sampler.choose(many, 1, uniforms))
    assert len(chosen) == queries
    drawn = (chosen.doc[:, None] == candidates.doc).mean(axis=0)
    assert np.abs(drawn - expected).max() < 0.01


def test_draws_like_another_sampler_are_warned_of_once():
    few, peaked = table(COSINES, 0.80), table(1 - DISTANCES**2 / 2, np.nan)
    _warn_once.cache_clear()
    with pytest.warns(HardNegWarning) as caught:
        for _ in range(2):
            SimANS().choose(few, 2, uniforms)
            Importance(0.001).choose(peaked, 2, uniforms)
        SimANS(200).choose(few, 2, uniforms)
        SimANS(0.4).choose(few, 5, uniforms)
    flat, narrow = (str(warning.message) for warning in caught)
    assert "SimANS(a=0.5" in flat and "almost uniformly" in flat
    assert "Importance(temperature=0.001" in narrow and "the same few" in narrow


def test_the_dimension_comes_from_the_index():
    _, corpus = world(0)
    miner = HardNegatives(corpus, Strategy([Dense(20)], [], DistanceWeighted()), encoder=encode)
    assert miner.selection.sampler == DistanceWeighted(dim=16)
    miner = HardNegatives(corpus, Strategy([Dense(20)], [], DistanceWeighted(dim="intrinsic")), encoder=encode)
    vectors = normalized(encode(corpus["text"]))
    assert miner.selection.sampler == DistanceWeighted(dim=round(intrinsic_dimension(vectors)))
    assert 4 <= miner.selection.sampler.dim < 16
    with pytest.raises(ConfigError, match="call fitted"):
        DistanceWeighted().log_weights(SCORES)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: SimANS(a=0),
            "SimANS\\(a=0\\) of type int: allowed is a number above 0. Give one of those, such as 0.5",
        ),
        (lambda: SimANS(a=float("nan")), "SimANS\\(a=nan\\)"),
        (
            lambda: SimANS(score_scale="z"),
            "SimANS\\(score_scale='z'\\) of type str: allowed is a number above 0 or 'auto'",
        ),
        (lambda: SimANS(kernel="gauss"), "Did you mean 'gaussian'"),
        (lambda: SimANS(sign="minus"), "known are code, paper"),
        (lambda: Importance(-0.1), "Importance\\(temperature=-0.1\\) .* allowed is a number above 0"),
        (lambda: UnReMix(temperature=0), "UnReMix\\(temperature=0\\)"),
        (lambda: UnReMix(draw_temperature=-1), "UnReMix\\(draw_temperature=-1\\)"),
        (lambda: TopicNegatives(0), "TopicNegatives\\(topics=0\\) .* a whole number of at least 1"),
        (lambda: Strategy([Random()], [], UnReMix()), "random retrieval scores nothing"),
        (lambda: DistanceWeighted(cutoff=1.4), "Give 0 < cutoff < nonzero_loss_cutoff <= 2"),
        (lambda: DistanceWeighted(nonzero_loss_cutoff=2.5), "a number above 0 and up to 2 or None"),
        (lambda: DistanceWeighted(dim=3), "whole number of at least 4 or 'embedding' or 'intrinsic'"),
        (lambda: DistanceWeighted(dim="full"), "DistanceWeighted.dim='full'"),
        (lambda: Strategy([BM25()], [], DistanceWeighted()), "are 'bm25', not 'cosine'"),
        (lambda: Strategy([Dense(similarity="dot")], [], DistanceWeighted()), "are 'dot', not 'cosine'"),
        (lambda: Strategy([Random()], [], Importance()), "random retrieval scores nothing"),
    ],
)
def test_parameters_that_cannot_work(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_a_users_own_index_of_dot_products_has_no_distances():
    _, corpus = world(0)
    own = faiss.IndexFlatIP(16)
    own.add(3 * encode(corpus["text"]))
    with pytest.raises(ConfigError, match="are 'dot', not 'cosine'"):
        HardNegatives(corpus, Strategy([Dense(20)], [], DistanceWeighted()), encoder=encode, index=own)


def test_simans_around_a_positive_that_is_drawn():
    """As the paper's code chooses it: each positive of a query as often as the others, whatever the batch."""
    corpus = Dataset.from_dict(
        {"_id": [*"abcdef"], "text": ["cat", "cat cat", "cat dog", "cat dog dog", "cat bird bird bird", "cat dog bird"]}
    )
    queries = 600
    pairs = Dataset.from_dict(
        {
            "query_id": [str(one) for one in range(queries)],
            "query": ["cat zebra"] * queries,
            "positive_ids": [[*"bce"]] * queries,
        }
    )
    strategy = Strategy([BM25(20)], [AbsoluteMargin(0.0)])
    kept = {}
    for rule in ("min", "max", "random"):
        miner = HardNegatives(corpus, strategy, num_negatives=6, positive_agg=rule)
        kept[rule] = [tuple(ids) for ids in pairs.map(miner, batched=True)["negative_ids"]]
        again = pairs.select(range(100, 200)).map(miner, batched=True, batch_size=7)["negative_ids"]
        assert [tuple(ids) for ids in again] == kept[rule][100:200]
    counts = Counter(kept["random"])
    assert len(counts) == 3 and {*kept["min"], *kept["max"]} < {*counts}
    assert all(abs(count - queries / 3) < 60 for count in counts.values())
    mined = mine(pairs, corpus, Strategy([BM25(20)], [], SimANS()), num_negatives=2, positive_agg="random")
    assert {len(one) for one in mined["negatives"]} == {2} and len(set(map(tuple, mined["negative_ids"]))) == 3
