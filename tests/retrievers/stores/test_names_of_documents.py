"""How a document store and a corpus call documents: ids, row numbers from 0, and what could be either."""

import contextlib
from dataclasses import replace

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from hf_hardneg import Dense, Strategy, mine
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import DocumentStoreError, HardNegWarning
from hf_hardneg.index.dense.dense_index import normalized
from hf_hardneg.retrievers.stores.drivers import document_store
from hf_hardneg.retrievers.stores.store_opening import opened_store
from tests.worlds import encode, world

pytestmark = pytest.mark.slow
COUNT = 60
PAIRS, CORPUS = world(7, documents=COUNT)
TEXTS = CORPUS["text"][:]


@pytest.fixture
def filled(tmp_path):
    def fill(name, ids, texts=TEXTS, scale=1):
        vectors = encode(texts) * scale
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        lancedb.connect(tmp_path).create_table(name, pa.table({"id": ids, "text": texts, "vector": lists}))
        return f"lancedb://{tmp_path}/{name}"

    return fill


def test_vectors_are_kept_by_the_corpus_whose_rows_they_are(filled):
    address, order = filled("docs", CORPUS["_id"][:]), np.random.default_rng(3).permutation(COUNT)
    for corpus in (CORPUS, CORPUS.select(order)):
        index = opened_store(document_store(address), open_corpus(corpus))
        rows = np.arange(COUNT)
        np.testing.assert_allclose(index.vectors(rows), normalized(encode(corpus["text"][:])), atol=1e-6)


@pytest.mark.parametrize("ids", [[f"{row + 1:03d}" for row in range(COUNT)], [f"x{row}" for row in range(COUNT)], None])
def test_numbers_from_1_are_no_row_numbers(filled, ids):
    address = filled("docs", pa.array(range(1, COUNT + 1)))
    columns = {"text": TEXTS} if ids is None else {"_id": ids, "text": TEXTS}
    with pytest.raises(DocumentStoreError, match="row numbers, 0 to 59; both must name documents alike"):
        opened_store(document_store(address), open_corpus(Dataset.from_dict(columns)))


def test_a_connection_that_is_lost_once_does_not_make_ids_row_numbers(filled, monkeypatch):
    order = np.random.default_rng(3).permutation(COUNT)
    address = filled("docs", pa.array(order))
    corpus = open_corpus(Dataset.from_dict({"_id": list(map(str, order)), "text": TEXTS}))
    store, lost = document_store(address), [True]
    fetch = type(store).fetch

    def once(self, ids, *, vectors=False):
        if lost:
            lost.clear()
            raise DocumentStoreError("the connection is lost")
        return fetch(self, ids, vectors=vectors)

    monkeypatch.setattr(type(store), "fetch", once)
    assert not opened_store(store, corpus).by_row


@pytest.mark.parametrize("same", [True, False])
def test_numbers_that_may_be_ids_or_rows_are_told_apart_by_texts(filled, same):
    order = np.random.default_rng(3).permutation(COUNT)
    address = filled("docs", pa.array(order if same else range(COUNT)))
    corpus = open_corpus(Dataset.from_dict({"_id": list(map(str, order)), "text": TEXTS}))
    warned = contextlib.nullcontext() if same else pytest.warns(HardNegWarning, match="may be row numbers or ids")
    with warned:
        assert not opened_store(document_store(address), corpus).by_row


def test_a_document_that_stands_twice_is_an_error(filled):
    ids = CORPUS["_id"][:]
    sampled = np.random.default_rng(1).choice(COUNT, 8, replace=False)
    gone = next(row for row in range(COUNT) if row not in sampled)
    ids[gone] = ids[gone - 1]
    with pytest.raises(DocumentStoreError, match=r"gave the document .* several times for a query"):
        mine(PAIRS, CORPUS, Strategy([Dense(COUNT)]), index=filled("docs", ids), encoder=encode)


def test_a_collection_that_compares_otherwise_is_another(filled):
    index = opened_store(document_store(filled("docs", CORPUS["_id"][:])), open_corpus(CORPUS))
    assert index.identity != replace(index, state=replace(index.state, score_kind="dot")).identity


def test_a_table_that_was_dropped_and_filled_anew_is_another(filled, tmp_path):
    marks = []
    for scale in (1, 2):
        marks.append(document_store(filled("docs", CORPUS["_id"][:], scale=np.float32(scale))).describe().mark)
        lancedb.connect(tmp_path).drop_table("docs")
    assert marks[0] != marks[1]


@pytest.mark.parametrize("shuffled", [True, False])
def test_numbers_without_their_zeros_are_rows_only_in_their_order(filled, shuffled):
    order = np.random.default_rng(3).permutation(COUNT) if shuffled else np.arange(COUNT)
    corpus = open_corpus(Dataset.from_dict({"_id": [f"{number:03d}" for number in order], "text": TEXTS}))
    store = document_store(filled("docs", pa.array(range(COUNT))))
    if not shuffled:
        assert opened_store(store, corpus).by_row
        return
    with pytest.raises(DocumentStoreError, match="both must name documents alike"):
        opened_store(store, corpus)


def test_documents_of_one_text_come_in_their_order_whatever_last_bits_a_store_gives(filled, monkeypatch):
    address = filled("docs", CORPUS["_id"][:])
    part = Strategy([type(document_store(address))(address, depth=30)])
    exact = mine(PAIRS, CORPUS, Strategy([Dense(30)]), encoder=encode)
    driver = type(document_store(address))
    whole = driver.search

    def rounded(self, queries, k, effort=None):
        answers = whole(self, queries, k, effort)
        return [(ids, scores + [1e-7 * (name == f"d{COUNT // 2}") for name in ids]) for ids, scores in answers]

    monkeypatch.setattr(driver, "search", rounded)
    assert mine(PAIRS, CORPUS, part, encoder=encode)["negative_ids"][:] == exact["negative_ids"][:]
