import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg.draws import gumbel_keys, keyed_uniforms, keyed_uniforms_of_pairs, sample_without_replacement

SIMANS = [0.8228113336505066, 0.32192060330268035, 0.6183737243908017, 0.9920656555135946, 0.30740925282320164]
RANDOM = [0.42111300572288657, 0.8244727993116919, 0.3453379978241663, 0.2204799298872927, 0.18328963149369437]


@pytest.mark.parametrize(("salt", "expected"), [("simans", SIMANS), ("random", RANDOM)])
def test_uniforms_match_the_published_vector(salt, expected):
    assert keyed_uniforms(42, salt, "q1", "abcde").tolist() == expected


def test_one_more_document_perturbs_only_itself():
    assert keyed_uniforms(1, "s", "q", "abc")[:2].tolist() == keyed_uniforms(1, "s", "q", "ab").tolist()


def test_gumbel_keys_match_the_simans_vector():
    scores = np.array([74.0, 71, 69, 66, 60])
    keys = gumbel_keys(-0.5 * (scores - 70) ** 2, np.array([0.5, 0.9, 0.1, 0.3, 0.7]))
    np.testing.assert_allclose(keys, [-7.633487079, 1.750367327, -1.334032445, -8.185626759, -48.96906957], rtol=1e-8)


def test_sample_is_ascending_and_total():
    uniforms = np.array([0.5, 0.9, 0.1, 0.3, 0.7])
    weights = -0.5 * (np.array([74.0, 71, 69, 66, 60]) - 70) ** 2
    assert sample_without_replacement(weights, uniforms, 3).tolist() == [0, 1, 2]
    assert sample_without_replacement(weights, uniforms, 99).tolist() == [0, 1, 2, 3, 4]
    assert sample_without_replacement(np.array([-np.inf, 0.0]), uniforms[:2], 2).tolist() == [1]
    assert len(sample_without_replacement(np.array([-np.inf, -np.inf]), uniforms[:2], 1)) == 1


def test_frequencies_follow_the_softmax():
    scores = np.array([0.9, 0.84, 0.78, 0.72, 0.45])
    draws = [
        sample_without_replacement(scores / 0.1, keyed_uniforms(42, "importance", f"q{i}", "abcde"), 1)[0]
        for i in range(20_000)
    ]
    expected = [0.4934826407, 0.2708290154, 0.1486341151, 0.08157213186, 0.005482096947]
    np.testing.assert_allclose(np.bincount(draws, minlength=5) / 20_000, expected, atol=0.01)


IDS = ["", "d1", "é", "日本語", "x" * 150, "\x1f", "👩‍👩‍👧", "d" * 128]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("start", [0, 3])
def test_uniforms_of_pairs_are_the_uniforms(kind, start):
    rng = np.random.default_rng(start)
    names, query = ["q1", "", "日本", "long " * 40], rng.integers(0, 4, 300)
    documents = pa.array([IDS[i] for i in rng.integers(0, len(IDS), 300 + start)], kind).slice(start)
    expected = [
        keyed_uniforms(7, "salt#1", names[one], [document])[0]
        for one, document in zip(query, documents.to_pylist(), strict=True)
    ]
    assert keyed_uniforms_of_pairs(7, "salt#1", names, query, documents).tolist() == expected
    assert not len(keyed_uniforms_of_pairs(7, "salt#1", [], query[:0], documents[:0]))
    assert keyed_uniforms_of_pairs(7, "s", ["q"], query[:0], pa.array([], kind)).tolist() == []


@pytest.mark.parametrize(("salt", "expected"), [("simans", SIMANS), ("random", RANDOM)])
def test_uniforms_of_pairs_match_the_published_vector(salt, expected):
    found = keyed_uniforms_of_pairs(42, salt, ["other", "q1"], np.ones(5, np.int64), pa.array(list("abcde")))
    assert found.tolist() == expected


@settings(deadline=None, max_examples=100)
@given(
    sizes=st.lists(st.integers(0, 7), max_size=8),
    size=st.integers(0, 9),
    seed=st.integers(0, 10_000),
    dead=st.floats(0, 1),
)
def test_groups_are_sampled_each_by_itself(sizes, size, seed, dead):
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes])
    weights = np.where(rng.random(offsets[-1]) < dead, -np.inf, rng.normal(size=offsets[-1]))
    uniforms = rng.choice([0.1, 0.5, 0.9, rng.random()], offsets[-1])
    expected = []
    for start, stop in itertools.pairwise(offsets.tolist()):
        own = weights[start:stop]
        keys = gumbel_keys(np.zeros(stop - start) if np.isneginf(own).all() else own, uniforms[start:stop])
        order = [place for place in np.argsort(-keys, kind="stable") if keys[place] > -np.inf]
        expected += [start + int(place) for place in sorted(order[:size])]
    assert sample_without_replacement(weights, uniforms, size, offsets).tolist() == expected
    if len(sizes) == 1:
        assert sample_without_replacement(weights, uniforms, size).tolist() == expected
