"""The compiled hash against `hashlib`."""

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg.arrays.blake2 import LANES, digests

EDGES = [0, 1, 7, 8, 9, 63, 64, 120, 127, 128, 129, 135, 136, 255, 256, 257, 384, 1000]


def reference(prefixes, owner, strings):
    pairs = zip(owner, strings, strict=True)
    return [int.from_bytes(blake2b(prefixes[i] + one, digest_size=8).digest(), "big") for i, one in pairs]


def hashed(prefixes, owner, strings):
    offsets = np.cumsum([0, *map(len, strings)]).astype(np.int64)
    data = np.frombuffer(b"".join(strings), np.uint8)
    return digests(prefixes, np.asarray(owner, np.int64), offsets, data).tolist()


@settings(deadline=None, max_examples=100)
@given(st.data(), st.lists(st.binary(max_size=140), min_size=1, max_size=4), st.lists(st.binary(max_size=300)))
def test_any_bytes(data, prefixes, strings):
    owner = [data.draw(st.integers(0, len(prefixes) - 1)) for _ in strings]
    assert hashed(prefixes, owner, strings) == reference(prefixes, owner, strings)


@pytest.mark.parametrize("head", [0, 1, 64, 127, 128, 129, 256])
def test_lengths_around_the_blocks(head):
    rng = np.random.default_rng(head)
    prefixes, strings = [rng.bytes(head)], [rng.bytes(size) for size in EDGES]
    strings += [rng.bytes(abs(size - head)) for size in EDGES]
    assert hashed(prefixes, [0] * len(strings), strings) == reference(prefixes, [0] * len(strings), strings)


@pytest.mark.parametrize("count", [0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES + 5])
def test_short_strings_between_long_ones(count):
    rng = np.random.default_rng(count)
    prefixes, owner = [b"", b"one", rng.bytes(128), rng.bytes(200)], rng.integers(0, 4, count)
    strings = [rng.bytes(int(size)) for size in rng.choice([0, 5, 100, 128, 129, 500], count)]
    assert hashed(prefixes, owner, strings) == reference(prefixes, owner, strings)


def test_strings_may_begin_anywhere_in_the_data():
    found = digests([b"p"], np.zeros(2, np.int64), np.array([2, 4, 5]), np.frombuffer(b"xxabcyy", np.uint8))
    assert found.tolist() == reference([b"p"], [0, 0], [b"ab", b"c"])
