"""Keys against the functions that they stand for."""

import string

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg.audits import facts
from hf_hardneg.signals import words
from hf_hardneg.text import hashes
from hf_hardneg.text.keys import normalized
from tests.audits.oracle import word_grams

CHARACTERS = " \t\n\x0b\x1c\u00a0\u2003aAbB1_-.ßﬁÄéé中、" + string.ascii_uppercase[:4]
texts = st.lists(st.one_of(st.text(CHARACTERS, max_size=20), st.text(max_size=12)), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(texts)
def test_keys_are_equal_where_texts_are(given):
    array = pa.array(["sliced off", *given, None])[1:]
    for kind, of in ((hashes.normalized_keys, normalized), (hashes.exact_keys, str), (hashes.id_keys, str)):
        made, names = kind(array), [of(text) for text in given]
        same = np.array([[one == other for other in names] for one in names])
        assert np.array_equal(made[:-1, None] == made[None, :-1], same)
        assert [key == hashes.NONE for key in made.tolist()] == [not name for name in names] + [True]


def test_kinds_of_keys_never_meet():
    array = pa.array(["one", "two three"])
    kinds = (hashes.normalized_keys, hashes.exact_keys, hashes.id_keys)
    made = [key for kind in kinds for key in kind(array).tolist()]
    assert len(set(made)) == 6
    first, second = np.array(made[:2], np.uint64), np.array([hashes.NONE, made[0]], np.uint64)
    pairs = hashes.pair_keys(first, second)
    assert pairs[0] == hashes.NONE and pairs[1] not in (hashes.NONE, hashes.pair_keys(second, first)[1])


def test_keys_spread_evenly():
    made = hashes.id_keys(pa.array(map(str, range(100_000))))
    assert len(set(made.tolist())) == 100_000
    for shift in (0, 30, 56):
        counts = np.bincount(((made >> np.uint64(shift)) & np.uint64(255)).astype(np.int64), minlength=256)
        assert ((counts - 100_000 / 256) ** 2 / (100_000 / 256)).sum() < 400


@settings(max_examples=60, deadline=None)
@given(texts, texts)
def test_overlap_is_that_of_the_signal(own, others):
    def grams(given):
        return hashes.word_grams(pa.array(given), words)

    counted = np.diff(grams(own)[0])
    assert counted.tolist() == [len(word_grams(text)) for text in own]
    starts, other_starts = np.array([0, 0, len(own)]), np.array([0, 0, len(others)])
    found = hashes.largest_jaccard(grams(own), starts, grams(others), other_starts)
    pairs = [[(word_grams(text), word_grams(other)) for other in others] for text in own]
    assert found.tolist() == [max(len(one & other) / max(len(one | other), 1) for one, other in row) for row in pairs]


@pytest.mark.parametrize("waiting", [1, 10, 1_000])
def test_tallies_count(waiting, monkeypatch):
    monkeypatch.setattr(facts, "WAITING", waiting)
    rng = np.random.default_rng(0)
    given, tally = rng.integers(0, 50, 500).astype(np.uint64), facts.Tally()
    for part in np.array_split(given, 60):
        tally.add(part)
    tally.settle()
    expected = np.unique(given[given != 0], return_counts=True)
    assert np.array_equal(tally.keys, expected[0]) and np.array_equal(tally.counts, expected[1])
    assert np.array_equal(hashes.contained(given, tally.keys), given != 0)
    assert not hashes.contained(given, tally.keys[:0]).any()
