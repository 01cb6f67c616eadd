"""Files of usearch and hnswlib: what comes out is brute force over the vectors that they give back."""

import multiprocessing
import os
import pickle

import numpy as np
import pytest
from datasets import Dataset
from usearch.index import Index

from hf_hardneg import Dense, HardNegatives, Strategy, mine
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, DataError, DocumentStoreError, HardNegWarning, MissingExtraError
from hf_hardneg.filters import AbsoluteMargin
from hf_hardneg.retrievers.stores import Hnswlib, Usearch
from hf_hardneg.retrievers.stores.drivers import document_store
from hf_hardneg.retrievers.stores.store_opening import opened_store

pytestmark = pytest.mark.slow

ROWS, WIDTH, QUERIES, DEPTH = 400, 24, 30, 40
_rng = np.random.default_rng(3)
VECTORS = (_rng.normal(size=(ROWS, WIDTH)) * _rng.uniform(0.5, 2, (ROWS, 1))).astype(np.float32)
ASKED = (VECTORS[: 2 * QUERIES : 2] + 0.5 * _rng.normal(size=(QUERIES, WIDTH))).astype(np.float32)
LABELS = 10**12 + 7 * _rng.permutation(ROWS)
KINDS = {"cosine": "cos", "dot": "ip", "l2": "l2sq"}
SPACES = {"cosine": "cosine", "dot": "ip", "l2": "l2"}


def saved_usearch(path, labels=LABELS, kind="cosine", dtype="f32", vectors=VECTORS):
    index = Index(ndim=WIDTH, metric=KINDS[kind], dtype=dtype)
    index.add(labels, vectors)
    index.save(str(path))
    return f"usearch://{path}"


def saved_hnswlib(path, labels=LABELS, kind="cosine", vectors=VECTORS):
    index = pytest.importorskip("hnswlib").Index(SPACES[kind], WIDTH)
    index.init_index(len(vectors), M=16, ef_construction=200)
    index.add_items(vectors, labels)
    index.save_index(str(path))
    return f"hnswlib://{path}?space={SPACES[kind]}"


SAVED = {"usearch": saved_usearch, "hnswlib": saved_hnswlib}


def documents(ids=LABELS, **columns):
    return Dataset.from_dict(
        {"_id": [str(name) for name in ids], "text": [f"text {n}" for n in range(ROWS)], **columns}
    )


def pairs(ids=LABELS):
    positives = [str(name) for name in ids[: 2 * QUERIES : 2]]
    return Dataset.from_dict(
        {"query": [f"q {n}" for n in range(QUERIES)], "positive_ids": [[p] for p in positives]}
    ).add_column("vector", ASKED.tolist())


def brute_force(kind, vectors=VECTORS):
    asked, known = ASKED.astype(np.float64), vectors.astype(np.float64)
    if kind == "l2":
        return -((asked[:, None] - known) ** 2).sum(axis=2)
    if kind == "cosine":
        asked = asked / np.linalg.norm(asked, axis=1, keepdims=True)
        known = known / np.linalg.norm(known, axis=1, keepdims=True)
    return asked @ known.T


def searched(address, corpus, folder):
    index = opened_store(document_store(address), open_corpus(corpus, cache_dir=str(folder / "cache")))
    hits = index.search(index.queries(ASKED), np.full(QUERIES, DEPTH))
    return index, hits.doc.reshape(QUERIES, DEPTH), hits.score.reshape(QUERIES, DEPTH)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", SAVED)
def test_hits_are_those_of_brute_force(store, kind, tmp_path):
    index, docs, scores = searched(SAVED[store](tmp_path / "index", kind=kind), documents(), tmp_path)
    truth = brute_force(kind)
    assert index.similarity == kind
    assert (docs == np.argsort(-truth, axis=1, kind="stable")[:, :DEPTH]).all()
    assert np.allclose(scores, np.take_along_axis(truth, docs, 1), rtol=1e-6, atol=1e-6)
    rows = np.arange(QUERIES)
    assert np.allclose(index.score_rows(index.queries(ASKED), rows, rows), truth[rows, rows], rtol=1e-6, atol=1e-6)
    assert len(pickle.dumps(index)) < 8192


def test_following_the_graph_of_usearch_is_measured(tmp_path):
    index, docs, _ = searched(saved_usearch(tmp_path / "index") + "?exact=false", documents(), tmp_path)
    best = np.argsort(-brute_force("cosine"), axis=1)[:, :DEPTH]
    recall = np.mean([len(set(a) & set(b)) / DEPTH for a, b in zip(docs, best, strict=True)])
    assert index.measured.recall >= 0.98 and abs(recall - index.measured.recall) <= 0.01


@pytest.mark.parametrize("dtype", ["f16", "bf16", "i8"])
def test_shortened_vectors_are_scored_as_usearch_gives_them_back(dtype, tmp_path):
    address = saved_usearch(tmp_path / "index", dtype=dtype)
    index, docs, scores = searched(address, documents(), tmp_path)
    kept = index.vectors(np.arange(ROWS))
    truth = brute_force("cosine", kept)
    assert index.measured.recall >= 0.98 and not np.array_equal(kept, index.queries(VECTORS))
    assert np.allclose(scores, np.take_along_axis(truth, docs, 1), atol=1e-6)
    best = np.argsort(-truth, axis=1)[:, :DEPTH]
    assert np.mean([len(set(a) & set(b)) / DEPTH for a, b in zip(docs, best, strict=True)]) >= 0.99


@pytest.mark.parametrize("store", SAVED)
def test_labels_may_be_row_numbers(store, tmp_path):
    ids = [f"doc {n}" for n in range(ROWS)]
    _, docs, _ = searched(SAVED[store](tmp_path / "index", labels=np.arange(ROWS)), documents(ids), tmp_path)
    assert (docs == np.argsort(-brute_force("cosine"), axis=1, kind="stable")[:, :DEPTH]).all()


def test_labels_that_are_ids_and_rows_in_another_order_are_ids_with_a_warning(tmp_path):
    order = np.random.default_rng(1).permutation(ROWS)
    address = saved_usearch(tmp_path / "index", labels=order)
    with pytest.warns(HardNegWarning, match="the same numbers in another order"):
        _, docs, _ = searched(address, documents(order), tmp_path)
    assert (docs == np.argsort(-brute_force("cosine"), axis=1, kind="stable")[:, :DEPTH]).all()


@pytest.mark.parametrize("store", SAVED)
def test_mining_gives_the_rows_of_a_dense_index(store, tmp_path):
    address = SAVED[store](tmp_path / "index")
    same = {"num_negatives": 5, "cache_dir": str(tmp_path / "cache")}
    strategy = Strategy([Dense(60)], [AbsoluteMargin(0.01)])
    columns = {"query_vector": "vector"}
    reference = mine(
        pairs(), documents(vector=VECTORS.tolist()), strategy, columns={**columns, "vector": "vector"}, **same
    )
    assert sum(map(len, reference["negative_ids"])) > 2 * QUERIES
    corpus = documents()
    for mined in (
        mine(pairs(), corpus, strategy, index=address, columns=columns, **same),
        mine(pairs(), corpus, strategy, index=address, columns=columns, num_proc=2, **same),
    ):
        assert mined["negative_ids"][:] == reference["negative_ids"][:]
        for column in ("negative_scores", "positive_scores"):
            flat = [np.concatenate(rows[column][:]) for rows in (mined, reference)]
            assert np.allclose(*flat, rtol=0, atol=1e-6)


@pytest.mark.parametrize("store", SAVED)
def test_a_fork_after_use_gives_the_same_rows(store, tmp_path):
    address = SAVED[store](tmp_path / "index")
    options = {"index": address, "num_negatives": 5, "columns": {"query_vector": "vector"}}
    miner = HardNegatives(documents(), Strategy([Dense(60)]), cache_dir=str(tmp_path / "cache"), **options)
    batch = pairs()[:]
    here = miner(batch)
    assert len(pickle.dumps(miner)) < 1 << 15
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=lambda: sender.send(miner(batch)["negative_ids"]))
    worker.start()
    assert receiver.poll(60) and receiver.recv() == here["negative_ids"]
    worker.join(60)
    assert worker.exitcode == 0


@pytest.mark.parametrize("store", SAVED)
def test_a_file_that_is_replaced_while_it_is_mined_is_an_error(store, tmp_path):
    path = tmp_path / "index"
    index, before, _ = searched(SAVED[store](path), documents(), tmp_path)
    SAVED[store](tmp_path / "other", vectors=VECTORS[::-1].copy())
    os.replace(tmp_path / "other", path)
    with pytest.raises(DocumentStoreError, match="changed while it was mined: its mark was .* Let what writes"):
        index.search(index.queries(ASKED), np.full(QUERIES, DEPTH))
    address = index.collection.address
    _, after, _ = searched(address, documents(), tmp_path)
    assert not np.array_equal(before, after)
    SAVED[store](tmp_path / "third")
    os.replace(tmp_path / "third", path)
    with pytest.raises(DocumentStoreError, match="was written while it was searched; .* Mine again"):
        index.collection.search(ASKED, DEPTH)


@pytest.mark.parametrize("store", SAVED)
def test_what_is_no_file_of_the_library_is_said(store, tmp_path):
    pytest.importorskip(store)
    options = "?space=ip" if store == "hnswlib" else ""
    with pytest.raises(DocumentStoreError, match="which is no file; an index that .* saved is allowed. Give the path"):
        searched(f"{store}://{tmp_path}/nothing{options}", documents(), tmp_path)
    for number, content in enumerate([b"", b"text " * 100]):
        (tmp_path / f"{number}").write_bytes(content)
        with pytest.raises(DocumentStoreError, match=f"which {store} cannot read: .* is allowed. Save the index again"):
            searched(f"{store}://{tmp_path}/{number}{options}", documents(), tmp_path)


@pytest.mark.parametrize("store", SAVED)
def test_queries_of_another_width_and_unknown_labels_are_refused(store, tmp_path):
    index, _, _ = searched(SAVED[store](tmp_path / "index"), documents(), tmp_path)
    with pytest.raises(DataError, match="10 wide, the index is 24 wide"):
        index.queries(ASKED[:, :10])
    for name in ("7", "doc", "-1", str(1 << 70)):
        with pytest.raises(DocumentStoreError, match=f"holds no label '{name}'"):
            index.collection.fetch([str(LABELS[0]), name])
    known = index.collection.fetch([str(LABELS[5]), str(LABELS[2])], vectors=True)
    assert known["id"].to_pylist() == [str(LABELS[5]), str(LABELS[2])] and "text" not in known.column_names
    assert sum(batch.num_rows for batch in index.collection.scan()) == ROWS


@pytest.mark.parametrize("store", SAVED)
def test_a_corpus_of_other_documents_is_refused(store, tmp_path):
    address = SAVED[store](tmp_path / "index")
    with pytest.raises(DocumentStoreError, match="holds 400 documents, the corpus has 399"):
        searched(address, documents().select(range(399)), tmp_path)
    with pytest.raises(
        DocumentStoreError,
        match="does not give documents of the corpus by their ids, such as 'other .*', nor by row numbers",
    ):
        searched(address, documents([f"other {n}" for n in range(ROWS)]), tmp_path)


@pytest.mark.parametrize("store", SAVED)
def test_a_missing_client_names_its_extra(store, tmp_path, monkeypatch):
    def absent(module):
        raise ModuleNotFoundError(name=module.partition(".")[0])

    address = SAVED[store](tmp_path / "index")
    monkeypatch.setattr("hf_hardneg.runtime.optional.importlib.import_module", absent)
    with pytest.raises(MissingExtraError, match=rf"pip install 'hf-hardneg\[{store}\]'"):
        document_store(address).describe()


def test_hnswlib_needs_the_space_which_no_file_tells(tmp_path):
    address = saved_hnswlib(tmp_path / "index", kind="dot").partition("?")[0]
    with pytest.raises(ConfigError, match="space=''; allowed are cosine, ip, l2. Give the space"):
        Hnswlib(address)
    with pytest.raises(
        ConfigError, match="says space=cosine, whose vectors have unit length, and label .* Give space=ip"
    ):
        Hnswlib(address, space="cosine").describe()


def test_an_index_with_deleted_vectors_is_refused(tmp_path):
    index = pytest.importorskip("hnswlib").Index("cosine", WIDTH)
    index.init_index(ROWS)
    index.add_items(VECTORS, LABELS)
    index.mark_deleted(int(LABELS[3]))
    index.save_index(str(tmp_path / "index"))
    with pytest.raises(ConfigError, match="marked as deleted; .* Build it anew"):
        Hnswlib(f"hnswlib://{tmp_path}/index", space="cosine").describe()


def test_a_file_of_hnswlib_that_is_cut_off_is_not_opened(tmp_path):
    saved_hnswlib(tmp_path / "index")
    content = (tmp_path / "index").read_bytes()
    (tmp_path / "index").write_bytes(content[: len(content) // 2])
    with pytest.raises(DocumentStoreError, match="shorter than it says"):
        Hnswlib(f"hnswlib://{tmp_path}/index", space="cosine").describe()


def test_metrics_of_usearch_that_are_no_scores_are_refused(tmp_path):
    index = Index(ndim=WIDTH, metric="pearson", dtype="f32")
    index.add(LABELS, VECTORS)
    index.save(str(tmp_path / "index"))
    with pytest.raises(ConfigError, match="an index of metric Pearson; allowed are Cos, IP, L2sq .* Build it anew"):
        Usearch(f"usearch://{tmp_path}/index").describe()
    index = Index(ndim=WIDTH, metric="cos", dtype="f32", multi=True)
    index.add(np.zeros(3, np.uint64), VECTORS[:3])
    index.save(str(tmp_path / "several"))
    with pytest.raises(ConfigError, match="several vectors under one label"):
        Usearch(f"usearch://{tmp_path}/several").describe()
