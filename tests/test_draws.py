import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg.arrays.hashing import numbers_of, string_hashes
from hf_hardneg.draws import (
    gumbel_keys,
    keyed_uniforms,
    keyed_uniforms_of_pairs,
    sample_without_replacement,
    uniforms_of_keys,
)

MASK, GOLDEN = (1 << 64) - 1, 0x9E3779B97F4A7C15


def mixed(value):
    """SplitMix64's last step in whole numbers without a width, as its authors print it."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def hashed(text, seed=0):
    """The hash of a string: its bytes in words of 8, little-endian, then how many there are."""
    data, key = text.encode(), mixed(seed)
    words = [int.from_bytes(data[start : start + 8], "little") for start in range(0, len(data), 8)]
    whole = words if len(data) % 8 == 0 else words[:-1]
    for word in whole:
        key = mixed(key ^ word)
    last = words[-1] if len(data) % 8 else 0
    return mixed(mixed(key ^ last) + len(data) & MASK) if data else 0


def uniform(seed, salt, query, document):
    """A draw by the definition, for one pair of strings."""
    state = mixed(hashed(f"{seed}\x1f{salt}") ^ mixed(hashed(query) + GOLDEN & MASK))
    return ((mixed(state + (hashed(document) + 1) * GOLDEN & MASK) >> 12) + 0.5) / 2**52


def test_numbers_are_those_that_splitmix64_is_published_with():
    """The first ones of the stream that begins at 1234567, as its other implementations print them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert numbers_of(np.uint64(1234567), np.arange(4, dtype=np.uint64)).tolist() == published


IDS = ["", "d1", "é", "日本語", "x" * 150, "\x1f", "👩‍👩‍👧", "d" * 128, "8 bytes.", "16 bytes, so two."]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(max_size=30)), st.integers(0, 2**64 - 1))
def test_hashes_of_any_strings(strings, seed):
    array = pa.array(["cut off", *strings, None])[1:]
    assert string_hashes(array, seed).tolist() == [*(hashed(string, seed) for string in strings), 0]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("start", [0, 3])
def test_uniforms_are_those_of_the_definition(kind, start):
    rng = np.random.default_rng(start)
    names, query = ["q1", "", "日本", "long " * 40], rng.integers(0, 4, 300)
    documents = pa.array([IDS[i] for i in rng.integers(0, len(IDS), 300 + start)], kind).slice(start)
    pairs = list(zip(query.tolist(), documents.to_pylist(), strict=True))
    expected = [uniform(-7, "salt#1", names[owner], document) for owner, document in pairs]
    assert keyed_uniforms_of_pairs(-7, "salt#1", names, query, documents).tolist() == expected
    assert [keyed_uniforms(-7, "salt#1", names[owner], [document])[0] for owner, document in pairs] == expected
    assert not len(keyed_uniforms_of_pairs(7, "salt#1", [], query[:0], documents[:0]))
    assert keyed_uniforms_of_pairs(7, "s", ["q"], query[:0], pa.array([], kind)).tolist() == []


def test_one_more_document_perturbs_only_itself():
    assert keyed_uniforms(1, "s", "q", "abc")[:2].tolist() == keyed_uniforms(1, "s", "q", "ab").tolist()


def grid(seed=42, salt="uniform", queries=300, documents=1000, first=0):
    """Draws of every pair of queries and documents that are called by their numbers, (queries, documents)."""
    query = np.repeat(np.arange(queries), documents)
    ids = pa.array([f"doc-{number}" for number in range(first, first + documents)] * queries)
    names = [f"q{number}" for number in range(queries)]
    return keyed_uniforms_of_pairs(seed, salt, names, query, ids).reshape(queries, documents)


def chi_square(counts):
    """How far counts are from equal ones, in standard deviations of their chi-square."""
    expected, freedom = counts.sum() / counts.size, counts.size - 1
    return (((counts - expected) ** 2).sum() / expected - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("seed", [0, 1, 42, -1, 2**40])
def test_draws_are_uniform_also_in_their_low_bits(seed):
    draws = grid(seed)
    assert draws.min() > 0 and draws.max() < 1 and len(np.unique(draws)) == draws.size
    for scale in (1, 2**20, 2**40):
        counts = np.bincount((draws.ravel() * scale % 1 * 256).astype(int), minlength=256)
        assert abs(chi_square(counts)) < 5
    for axis in (0, 1):
        sums = draws.mean(axis=axis)
        spread = np.sqrt(1 / 12 / draws.shape[axis])
        assert np.abs(sums - 0.5).max() < 5.5 * spread and sums.std() == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize(
    "other",
    [
        lambda: grid(seed=43),
        lambda: grid(salt="uniform#1"),
        lambda: np.roll(grid(), 1, axis=0),
        lambda: np.roll(grid(), 1, axis=1),
        lambda: grid(first=1000),
        lambda: grid().T.ravel().reshape(300, 1000),
    ],
    ids=["seed", "salt", "query", "document", "other documents", "sides exchanged"],
)
def test_draws_tell_nothing_of_draws_under_another_key(other):
    first, second = grid().ravel(), other().ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(len(first))
    cells = (first * 16).astype(int) * 16 + (second * 16).astype(int)
    assert abs(chi_square(np.bincount(cells, minlength=256))) < 5


def test_draws_by_numbers_are_independent_too():
    """Rows and places are keys as they are, neighbours among each other."""
    rows, places = (axis.ravel().astype(np.uint64) for axis in np.mgrid[0:500, 0:600])
    draws = uniforms_of_keys(42, "numbers", rows, places).reshape(500, 600)
    assert abs(chi_square(np.bincount((draws.ravel() * 256).astype(int), minlength=256))) < 5
    for axis in (0, 1):
        assert abs(np.corrcoef(draws.ravel(), np.roll(draws, 1, axis=axis).ravel())[0, 1]) < 5 / np.sqrt(draws.size)


def test_every_order_of_documents_is_as_likely():
    orders = np.argsort(grid(queries=24_000, documents=4), axis=1) @ [64, 16, 4, 1]
    _, counts = np.unique(orders, return_counts=True)
    assert len(counts) == 24 and abs(chi_square(counts)) < 5


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


@pytest.mark.slow
def test_frequencies_follow_the_softmax():
    scores = np.array([0.9, 0.84, 0.78, 0.72, 0.45])
    draws = [
        sample_without_replacement(scores / 0.1, keyed_uniforms(42, "importance", f"q{i}", "abcde"), 1)[0]
        for i in range(20_000)
    ]
    expected = [0.4934826407, 0.2708290154, 0.1486341151, 0.08157213186, 0.005482096947]
    np.testing.assert_allclose(np.bincount(draws, minlength=5) / 20_000, expected, atol=0.01)


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
