"""MaxSim beside brute force in float64, whatever multiplies, the batch and the lengths; and the index on disk."""

import numpy as np
import pytest

from hf_hardneg.arrays.token_rows import TokenRows, token_rows
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, DataError, HardNegWarning, StoreError
from hf_hardneg.index.dense import exact
from hf_hardneg.index.dense.exact import quantized
from hf_hardneg.index.late import maxsim
from hf_hardneg.index.late.approximate_tokens import build_approximate_tokens
from hf_hardneg.index.late.fixed_encodings import FixedEncodings, fixed_encodings
from hf_hardneg.index.late.maxsim import Documents, maxsims, nearest_by_maxsim
from hf_hardneg.index.late.token_index import build_tokens
from hf_hardneg.store import directories
from tests.worlds import world


def draw(seed, texts, most, width, scale=1.0):
    """Token vectors near one of five directions, of texts with up to so many tokens, the first with none."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, texts)
    sizes[0] = 0
    centres = rng.normal(size=(5, width))
    vectors = centres[rng.integers(5, size=sizes.sum())] + rng.normal(size=(sizes.sum(), width)) / 2
    vectors *= scale / np.linalg.norm(vectors, axis=1, keepdims=True)
    return TokenRows(np.concatenate([[0], np.cumsum(sizes)]), vectors.astype(np.float32))


def stored(rows):
    halves = rows.vectors.astype(np.float16)
    return Documents(TokenRows(rows.pointers, halves), quantized(halves.astype(np.float32)))


def brute(queries, documents):
    """Every MaxSim in float64; NaN where a text has no token."""
    scores = np.full((len(queries), len(documents.rows)), np.nan)
    for i in range(1, len(queries)):
        asked = queries[np.array([i])].vectors.astype(np.float64)
        for j in range(1, len(documents.rows)):
            scores[i, j] = (asked @ documents.rows[np.array([j])].vectors.astype(np.float64).T).max(1).sum()
    return scores


@pytest.fixture(params=[True, False], ids=["integers", "floats"])
def arithmetic(request, monkeypatch):
    monkeypatch.setattr(maxsim, "integers_pay", lambda: request.param and exact.integers_pay())


@pytest.mark.parametrize(("width", "scale"), [(1, 1.0), (24, 1.0), (40, 300.0)])
@pytest.mark.parametrize("chunk", [maxsim.CHUNK, 17])
def test_the_best_are_those_of_brute_force(width, scale, chunk, arithmetic, monkeypatch):
    monkeypatch.setattr(maxsim, "CHUNK", chunk)
    monkeypatch.setattr(maxsim, "TOKENS", 50)
    monkeypatch.setattr(maxsim, "QUERY_TOKENS", 20)
    queries, documents = draw(1, 12, 9, width), stored(draw(2, 90, 30, width, scale))
    exact_scores, k = brute(queries, documents), np.arange(12) * 9
    hits = nearest_by_maxsim(queries, documents, k)
    assert np.bincount(hits.query, minlength=12).tolist() == [0, *np.minimum(k[1:], 89)]
    for query in range(1, 12):
        here = hits.query == query
        best = np.sort(exact_scores[query, 1:])[::-1][: k[query]]
        np.testing.assert_allclose(hits.score[here], best, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(hits.score[here], exact_scores[query, hits.doc[here]], rtol=1e-6, atol=1e-6)


def test_scores_are_the_same_to_the_last_bit_in_any_company(arithmetic):
    queries, documents = draw(1, 12, 9, 24), stored(draw(2, 90, 30, 24))
    hits = nearest_by_maxsim(queries, documents, np.full(12, 40))
    assert maxsims(queries, documents, hits.query, hits.doc).tolist() == hits.score.tolist()
    some = np.array([7, 3])
    alone = nearest_by_maxsim(queries[some], documents, np.array([5, 40]))
    for place, query in enumerate(some):
        count = (alone.query == place).sum()
        assert alone.doc[alone.query == place].tolist() == hits.doc[hits.query == query][:count].tolist()
        assert alone.score[alone.query == place].tolist() == hits.score[hits.query == query][:count].tolist()
    one = maxsims(queries, documents, hits.query[9:10], hits.doc[9:10])
    assert one.tolist() == hits.score[9:10].tolist()
    assert np.isnan(maxsims(queries, documents, np.array([0, 1]), np.array([1, 0]))).all()


def test_equal_documents_come_in_corpus_order():
    rows = draw(3, 6, 9, 8)[np.array([1, 2, 1, 3, 1])]
    hits = nearest_by_maxsim(rows[np.array([0])], stored(rows), np.array([2]))
    assert hits.doc.tolist() == [0, 2] and hits.score[0] == hits.score[1]


def index_of(rows, folder, name="digest"):
    corpus = open_corpus(world(1, len(rows))[1], cache_dir=folder)
    return build_tokens(corpus, [rows], digest=name)


def test_the_index_gives_back_float16_and_tells_of_documents_without_tokens(tmp_path):
    rows = draw(4, 60, 6, 8)
    with pytest.warns(HardNegWarning, match="1 of the documents have no token vector, in rows 0"):
        index = index_of(rows, tmp_path)
    assert index.width == 8
    held = index.vectors(np.array([7, 0, 7]))
    assert held.sizes.tolist() == rows.sizes[[7, 0, 7]].tolist()
    assert (held.vectors == rows[np.array([7, 0, 7])].vectors.astype(np.float16)).all()
    with pytest.raises(ConfigError, match="No document has a token vector"):
        index_of(token_rows([[]] * 60, what="v"), tmp_path, "nothing")


@pytest.mark.parametrize("name", ["ends.npy", "vectors.npy", "codes.npy"])
def test_an_altered_file_is_named(name, tmp_path):
    rows = draw(4, 60, 6, 8)[np.arange(1, 60)]
    directory = index_of(rows, tmp_path).directory
    content = bytearray((directory / name).read_bytes())
    content[-3] ^= 0xFF
    (directory / name).write_bytes(content)
    with pytest.raises(StoreError, match=name), directories.verifying():
        index_of(rows, tmp_path).search(rows, np.full(len(rows), 3))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.ones((2, 3)), "Row 0 of the v is one vector of a text"),
        ([np.ones((2, 3)), np.ones((2, 4))], "Row 0 of the v is 3 wide, row 1 4"),
        ([np.ones((2, 3)), np.full((1, 3), np.nan)], "NaN, infinite or too large values, first in row 1"),
        ([np.full((1, 3), 1e6), np.ones((1, 3))], "first in row 0"),
        ([np.ones((2, 3)), ["a"]], "Row 1 of the v is no matrix of numbers"),
        ([np.ones((2, 3))] * 3, "3 of the v for 2 texts"),
        ("word", "The v are a str"),
        (7, "The v are a int"),
    ],
)
def test_what_is_no_token_vector_is_refused(values, text):
    with pytest.raises(DataError, match=text):
        token_rows(values, what="v", count=2)


def test_a_width_that_the_index_does_not_have_is_refused():
    with pytest.raises(DataError, match="are 3 wide, others 4"):
        token_rows([np.ones((2, 3))], what="v", width=4)


def test_the_published_encodings():
    """`shared/strategies.md`, section 31."""
    planes = np.array([[[1.0, -1, 0], [0, 1, -1]]])
    query = TokenRows(np.array([0, 2]), np.array([[1.0, 0, 0], [0, 0.6, 0.8]]))
    document = TokenRows(np.array([0, 3]), np.array([[0.8, 0.6, 0], [0, 0, 1], [-0.6, 0.8, 0]]))
    asked = fixed_encodings(query, planes, None, are_queries=True)[0]
    held = fixed_encodings(document, planes, None, are_queries=False)[0]
    np.testing.assert_allclose(asked, [0, 0.6, 0.8, 1, 0, 0, 0, 0, 0, 0, 0, 0], atol=1e-8)
    np.testing.assert_allclose(held, [0, 0, 1, 0.8, 0.6, 0, -0.6, 0.8, 0, 0.8, 0.6, 0], atol=1e-8)
    assert asked @ held == pytest.approx(1.6, abs=1e-8)
    assert (query.vectors @ document.vectors.T).max(1).sum() == pytest.approx(1.6, abs=1e-8)


def test_encodings_of_queries_do_not_depend_on_the_batch():
    queries, encodings = draw(6, 9, 7, 24), FixedEncodings(repetitions=3)
    together = encodings.of(queries, are_queries=True)
    assert together.shape == (9, 3 * 16 * 16) and not together[0].any()
    for row in range(9):
        assert (encodings.of(queries[np.array([row])], are_queries=True)[0] == together[row]).all()


def test_the_pool_grows_until_the_recall_that_is_told_is_true(tmp_path):
    documents = draw(8, 1500, 12, 16)[np.arange(1, 1500)]
    queries = draw(9, 60, 6, 16)[np.arange(1, 60)]
    index = index_of(documents, tmp_path)
    corpus = open_corpus(world(1, len(documents))[1], cache_dir=tmp_path)
    k = np.full(len(queries), 100)
    exactly = index.search(queries, k)
    pools = []
    for recall in (0.5, 0.98):
        fast = build_approximate_tokens(index, corpus, recall=recall, sample=queries, as_queries=True)
        hits = fast.search(queries, k)
        same = set(zip(exactly.query, exactly.doc, strict=True)) & set(zip(hits.query, hits.doc, strict=True))
        assert fast.measured.recall >= recall and fast.measured.sample == "given"
        assert len(same) / len(exactly.doc) == pytest.approx(fast.measured.recall, abs=0.01)
        assert maxsims(queries, index.documents, hits.query, hits.doc).tolist() == hits.score.tolist()
        pools.append(fast.measured.effort["proposed"])
        alone = fast.search(queries[np.array([5])], np.array([7]))
        assert alone.doc.tolist() == hits.doc[hits.query == 5][:7].tolist()
    assert pools[0] <= pools[1]
    by_documents = build_approximate_tokens(index, corpus, recall=0.9, sample=documents, as_queries=False)
    assert by_documents.measured.sample == "documents" and by_documents.identity != fast.identity


@pytest.mark.parametrize("queries", [1, 40, 512])
def test_scores_that_are_held_at_once_do_not_grow_with_the_queries(queries):
    chunks = maxsim._chunks(200_000, queries)
    assert [row for rows in chunks for row in (rows.start, rows.stop)][1:-1:2] == [rows.start for rows in chunks[1:]]
    assert max(map(len, chunks)) * queries <= 2 * maxsim.CHUNK * maxsim.FEW
