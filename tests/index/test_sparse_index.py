"""The index of sparse vectors beside brute force, and every form in which vectors are given."""

import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from datasets import Dataset

from hf_hardneg.arrays.sparse_rows import SparseRows, products, sparse_rows
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, DataError, HardNegWarning, StoreError
from hf_hardneg.index.sparse import sparse_index
from hf_hardneg.index.sparse.sparse_index import build_sparse
from hf_hardneg.store import directories

LOGITS = np.array([[1, -2, 0.5, 3], [0.2, 0, -1, 4], [-0.5, 1.5, 2, -3]])


def matrix(seed, rows, terms=300, share=0.05):
    random = np.random.default_rng(seed)
    weights = random.exponential(size=(rows, terms)) * (random.random((rows, terms)) < share)
    weights[:, :3] = random.random((rows, 3))  # terms that all have
    return weights.astype(np.float32)


def index_of(weights, cache, blocks=3):
    corpus = open_corpus(Dataset.from_dict({"text": [f"text {row}" for row in range(len(weights))]}), cache_dir=cache)
    parts = [sparse_rows(scipy.sparse.csr_matrix(part), what="v") for part in np.array_split(weights, blocks)]
    return build_sparse(corpus, parts, digest=str(weights.sum()))


@pytest.mark.parametrize("documents", [1, 64, 2000])
def test_search_equals_brute_force(documents, tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_index, "AT_ONCE", 1000)
    weights, asked = matrix(0, documents), matrix(1, 40, 320)
    index, queries = index_of(weights, tmp_path, blocks=min(documents, 7)), SparseRows.of_dense(asked)
    exact = asked[:, :300].astype(np.float64) @ weights.T.astype(np.float64)
    rows = np.tile(np.arange(documents), len(asked))
    every = index.score_rows(queries, np.repeat(np.arange(len(asked)), documents), rows).reshape(exact.shape)
    np.testing.assert_allclose(every, exact, rtol=2e-6)
    for k in (1, 100):
        hits = pickle.loads(pickle.dumps(index)).search(queries, np.full(len(asked), k))
        best = np.argsort(-every, axis=1, kind="stable")[:, :k]
        assert hits.doc.tolist() == best.reshape(-1).tolist()
        assert hits.score.tolist() == np.take_along_axis(every, best, 1).reshape(-1).tolist()


def test_it_gives_back_the_vectors_and_their_products(tmp_path):
    weights = matrix(3, 50)
    held = index_of(weights, tmp_path).vectors(np.array([7, 0, 7]))
    assert (held.to_dense(300) == weights[[7, 0, 7]]).all()
    exact = (weights[[7, 0]].astype(np.float64) * weights[[0, 0]]).sum(1)
    found = products(held, held, np.array([0, 1]), np.array([1, 1]))
    np.testing.assert_allclose(found, exact, rtol=1e-7)


def test_the_published_vector():
    weights = np.log1p(np.maximum(LOGITS, 0)).max(0)
    np.testing.assert_allclose(
        weights, [0.6931471805599453, 0.9162907318741551, 1.0986122886681098, 1.6094379124341003]
    )
    query, document = (SparseRows.of_dense(np.float32([each])) for each in ([0.5, 0, 1.2, 0.7], weights))
    nought = np.zeros(1, np.int64)
    assert products(query, document, nought, nought)[0] == pytest.approx(2.7915148753855745, abs=1e-6)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
def test_every_form_is_one():
    weights = matrix(5, 20, 40)
    stored = scipy.sparse.coo_matrix(weights)
    halves = scipy.sparse.coo_matrix(
        (np.tile(stored.data / 2, 2), (np.tile(stored.row, 2), np.tile(stored.col, 2))), stored.shape
    )
    numbered = [{int(term): float(row[term]) for term in np.flatnonzero(row)} for row in weights]
    forms = {
        "coo with doubles": halves,
        "csc": scipy.sparse.csc_array(weights),
        "torch coo": torch.tensor(weights).to_sparse(),
        "torch csr": torch.tensor(weights).to_sparse_csr(),
        "numbers": numbered,
        "nothing of zero or null": [row | {39_000: 0.0, 39_001: None} for row in numbered],
        "pairs": [list(row.items()) for row in numbered],
    }
    for name, form in forms.items():
        assert (sparse_rows(form, what=name, count=20).to_dense(40) == weights).all(), name
    texts = sparse_rows([{str(term): weight for term, weight in row.items()} for row in numbered], what="texts")
    assert sorted(texts.weights) == sorted(weights[weights > 0]) and (texts.terms < 0).all()
    assert sparse_rows(['{"a": 2, "b": 0}'], what="JSON").weights.tolist() == [2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.ones((2, 3)), r"are a ndarray of shape \(2, 3\), which is dense.*Dense vectors are for Dense"),
        (torch.ones(2, 3), "a Tensor of shape"),
        ([[0.1, 0.2]], "Row 0 of the v is a list"),
        (["word"], "Row 0 of the v is a str"),
        ([{"a": 1.0}, {"a": -1.0}], r"the weight -1.0 in row 1; finite weights of at least 0"),
        ([{"a": float("nan")}], "the weight nan"),
        ([{"a": float("inf")}], "the weight inf"),
        ([{"a": "much"}], "a weight that is no number"),
        ([{1.5: 1.0}], "the term 1.5; allowed are texts alone"),
        ([{"a": 1.0, 2: 1.0}], "the term 'a'"),
        ([{"a": 1.0}] * 3, "3 of the v for 2 texts"),
        (7, "a int; allowed are"),
    ],
)
def test_what_is_no_sparse_vector_is_refused(values, text):
    with pytest.raises(DataError, match=text):
        sparse_rows(values, what="v", count=2)


def test_documents_without_terms_are_told_and_no_terms_at_all_refused(tmp_path):
    weights = matrix(1, 5)
    weights[3] = 0
    with pytest.warns(HardNegWarning, match="1 of the documents have no term, in rows 3"):
        index = index_of(weights, tmp_path)
    assert 3 not in index.search(SparseRows.of_dense(weights), np.full(5, 9)).doc
    with pytest.raises(ConfigError, match="No document has a term of a weight above 0"):
        index_of(weights * 0, tmp_path)


@pytest.mark.parametrize("name", ["terms.npy", "rows.terms.npy", "indices.csc.index.npy", "bits.npy"])
def test_an_altered_file_is_named(name, tmp_path):
    directory = index_of(matrix(2, 90), tmp_path).directory
    content = bytearray((directory / name).read_bytes())
    content[-3] ^= 0xFF
    (directory / name).write_bytes(content)
    with pytest.raises(StoreError, match=name), directories.verifying():
        index_of(matrix(2, 90), tmp_path)
