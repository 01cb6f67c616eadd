"""Exact search against a scan of all pairs, where its bounds are hardest pressed."""

import math

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_hardneg.index.dense import exact
from hf_hardneg.index.dense.dense_index import write_flat
from hf_hardneg.index.dense.exact import nearest, open_codes, quantized, save_codes, score_pairs
from hf_hardneg.store import directories, kinds

DOCUMENTS = 400


def scan(queries, documents, k):
    """Every pair scored, sorted in (-score, row) order: documents and scores of each query."""
    query, rows = np.divmod(np.arange(len(queries) * len(documents)), len(documents))
    scores = score_pairs(queries, documents, query, rows).reshape(len(queries), len(documents))
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")
    best = [line[:depth] for line, depth in zip(order, k, strict=True)]
    return np.concatenate(best), np.concatenate([line[some] for line, some in zip(scores, best, strict=True)])


def check(queries, documents, k):
    hits = nearest(queries, documents, quantized(documents), k)
    docs, scores = scan(queries, documents, k)
    assert hits.doc.tolist() == docs.tolist()
    assert hits.score.tobytes() == scores.tobytes()
    assert hits.query.tolist() == np.repeat(np.arange(len(k)), np.minimum(k, len(documents))).tolist()
    return hits


def normal(rng, rows, width):
    return rng.normal(size=(rows, width))


def lengths_of_all_sizes(rng, rows, width):
    return normal(rng, rows, width) * 10.0 ** rng.integers(-30, 30, (rows, 1))


def lengths_that_overflow(rng, rows, width):
    return normal(rng, rows, width) * 10.0 ** rng.integers(15, 37, (rows, 1))


def lengths_that_underflow(rng, rows, width):
    return normal(rng, rows, width) * 10.0 ** rng.integers(-45, -15, (rows, 1))


def zeros_between(rng, rows, width):
    return normal(rng, rows, width) * (rng.random((rows, 1)) < 0.5)


def all_alike(rng, rows, width):
    return np.tile(normal(rng, 1, width), (rows, 1))


def nearer_than_codes_tell(rng, rows, width):
    return normal(rng, 1, width) + 1e-4 * normal(rng, rows, width)


def one_last_bit_apart(rng, rows, width):
    base = np.tile(normal(rng, 1, width).astype(np.float32), (rows, 1))
    base[:, 0] = np.nextafter(base[:, 0], np.where(rng.random(rows) < 0.5, np.inf, base[:, 0]), dtype=np.float32)
    return base


def one_outlier_coordinate(rng, rows, width):
    vectors = normal(rng, rows, width)
    vectors[:, rng.integers(width)] *= 1e4
    return vectors


def all_negative(rng, rows, width):
    return -np.abs(normal(rng, rows, width))


FAMILIES = (
    normal,
    lengths_of_all_sizes,
    lengths_that_overflow,
    lengths_that_underflow,
    zeros_between,
    all_alike,
    nearer_than_codes_tell,
    one_last_bit_apart,
    one_outlier_coordinate,
    all_negative,
)


@pytest.fixture(params=[True, False], ids=["integers", "floats"])
def integers(request, monkeypatch):
    monkeypatch.setattr(exact, "integers_pay", lambda: request.param)


@pytest.fixture
def small(monkeypatch):
    """Blocks and pools so small that pools overflow and are settled in the middle of a scan."""
    for name, value in (("POOL", 24), ("BLOCK", 96), ("QUERIES", 5), ("SAVED", 50)):
        monkeypatch.setattr(exact, name, value)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [1, 2, 17, 300])
def test_nearest_is_the_scan(family, width, integers, small):
    rng = np.random.default_rng(width)
    documents = family(rng, DOCUMENTS, width).astype(np.float32)
    queries = np.concatenate([family(rng, 9, width), normal(rng, 9, width), documents[:3]]).astype(np.float32)
    queries[4] = 0
    check(queries, documents, rng.choice([0, 1, 3, 10, 40, DOCUMENTS - 1, DOCUMENTS, 2 * DOCUMENTS], len(queries)))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(1, 40),
    families=st.tuples(*[st.sampled_from(FAMILIES)] * 3),
    powers=st.tuples(st.integers(-40, 20), st.integers(-40, 18)),
)
def test_mixtures(seed, width, families, powers, integers, small):
    rng = np.random.default_rng(seed)
    scale = [10.0**power for power in powers]
    documents = np.concatenate([family(rng, 60, width) for family in families[:2]])
    documents = np.clip(documents[rng.permutation(120)] * scale[0], -1e38, 1e38).astype(np.float32)
    queries = np.clip(families[2](rng, 7, width) * scale[1], -1e38, 1e38).astype(np.float32)
    check(queries, documents, rng.integers(0, 130, 7))


def test_thousands_of_equal_documents(integers):
    documents = np.tile(np.array([[1, 2, -3]], np.float32), (5000, 1))
    documents[4321] *= 2
    queries = np.array([[1, 1, 0], [-1, 0, 0], [0, 0, 0]], np.float32)
    hits = check(queries, documents, np.array([4, 4, 4]))
    assert hits.doc.tolist() == [4321, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3]


def test_products_beyond_what_float32_counts_exactly(integers):
    """A width of 4096 gives sums of codes above 2**24, which become float32 with an error."""
    rng = np.random.default_rng(0)
    documents = (1 + 1e-6 * rng.normal(size=(300, 4096))).astype(np.float32)
    check(documents[:4] + np.float32(1e-6), documents, np.full(4, 7))


def test_no_interval_leaves_out_its_score(integers, small, monkeypatch):
    """What is dropped was dropped for certain: all intervals of all pairs hold their scores."""
    intervals = []
    put = exact._put.py_func

    def recorded(q, doc, middle, error, pool):
        with np.errstate(all="ignore"):
            full = put(q, doc, middle, error, pool)
        n = pool.sizes[q] - 1
        intervals.append((int(q), int(doc), pool.low[q, n], pool.high[q, n]))
        return full

    def admit(*arguments):
        with np.errstate(all="ignore"):
            interpreted(*arguments)

    interpreted = exact._admit.py_func
    monkeypatch.setattr(exact, "_put", recorded)
    monkeypatch.setattr(exact, "_admit", admit)
    monkeypatch.setattr(exact, "threads", lambda: 1)
    monkeypatch.setattr(exact, "QUERIES", 100)
    rng = np.random.default_rng(1)
    for family in FAMILIES:
        intervals.clear()
        documents = family(rng, 40, 8).astype(np.float32)
        queries = np.concatenate([family(rng, 3, 8), normal(rng, 3, 8)]).astype(np.float32)
        nearest(queries, documents, quantized(documents), np.full(6, 40))
        assert len(intervals) == 240
        for query, doc, low, high in intervals:
            score = score_pairs(queries, documents, np.array([query]), np.array([doc]))[0]
            assert low <= score <= high and (low < high or np.isinf(low)), family.__name__


def test_codes_say_how_far_they_are_from_the_truth():
    rng = np.random.default_rng(2)
    for family in FAMILIES:
        vectors = family(rng, 50, 33).astype(np.float32)
        codes = quantized(vectors)
        true = vectors.astype(np.float64)
        missing = np.linalg.norm(true - codes.codes.astype(np.float64) * codes.scales[:, None], axis=1)
        rounding = np.linalg.norm(true, axis=1) * exact.ROUNDING
        assert (missing <= codes.residuals + rounding).all() and np.abs(codes.codes.astype(int)).max() <= exact.LEVELS
        assert (np.linalg.norm(true, axis=1) <= codes.norms).all()


def test_scores_are_inner_products_in_float64_rounded_once():
    rng = np.random.default_rng(3)
    queries, documents = normal(rng, 20, 50).astype(np.float32), normal(rng, 30, 50).astype(np.float32)
    query, rows = rng.integers(20, size=200), rng.integers(30, size=200)
    expected = [
        math.fsum(float(a) * float(b) for a, b in zip(queries[q], documents[d], strict=True))
        for q, d in zip(query, rows, strict=True)
    ]
    assert score_pairs(queries, documents, query, rows).tolist() == np.float32(expected).tolist()


def test_a_result_does_not_depend_on_its_batch(integers, small):
    rng = np.random.default_rng(4)
    documents, queries = nearer_than_codes_tell(rng, 300, 12).astype(np.float32), normal(rng, 23, 12).astype(np.float32)
    codes, k = quantized(documents), rng.integers(0, 50, 23)
    whole = nearest(queries, documents, codes, k)
    for size in (1, 4, 11):
        parts = [
            nearest(queries[start : start + size], documents, codes, k[start : start + size])
            for start in range(0, 23, size)
        ]
        assert np.concatenate([part.doc for part in parts]).tolist() == whole.doc.tolist()
        assert np.concatenate([part.score for part in parts]).tobytes() == whole.score.tobytes()
    assert not len(nearest(queries[:0], documents, codes, k[:0]).doc)


def test_codes_come_back_from_disk(tmp_path, small):
    rng = np.random.default_rng(5)
    documents, queries = normal(rng, 123, 9).astype(np.float32), normal(rng, 6, 9).astype(np.float32)
    directory = directories.obtain(tmp_path, kinds.DENSE, {}, lambda folder: save_codes(folder, documents))
    opened, made = open_codes(directory), quantized(documents)
    for name in made._fields:
        assert getattr(opened, name).dtype == getattr(made, name).dtype
        assert getattr(opened, name).tobytes() == getattr(made, name).tobytes()
    k = np.full(6, 20)
    again = nearest(queries, documents, opened, k)
    assert again.doc.tolist() == scan(queries, documents, k)[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["dot", "l2"])
@pytest.mark.parametrize("sizes", [[1], [7], [3, 1, 5], [0, 4, 0]])
def test_faiss_reads_the_vectors_that_were_written(tmp_path, sizes, similarity):
    rng = np.random.default_rng(6)
    blocks = [normal(rng, size, 11).astype(np.float32) for size in sizes]
    assert write_flat(tmp_path / "flat", iter(blocks), similarity) == sum(sizes)
    index = faiss.read_index(str(tmp_path / "flat"))
    own = (faiss.IndexFlatL2 if similarity == "l2" else faiss.IndexFlatIP)(11)
    own.add(np.concatenate(blocks))
    assert (tmp_path / "flat").read_bytes() == faiss.serialize_index(own).tobytes()
    assert index.reconstruct_n(0, index.ntotal).tobytes() == np.concatenate(blocks).tobytes()
