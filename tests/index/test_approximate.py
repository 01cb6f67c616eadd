import json
import pickle
from dataclasses import replace

import faiss
import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_hardneg import HardNegatives, Strategy, mine, report
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, MissingExtraError, StoreError, UnknownNameError
from hf_hardneg.index.dense import approximate
from hf_hardneg.index.dense.adoption import adopt_faiss
from hf_hardneg.index.dense.approximate import build_approximate, chosen_factory
from hf_hardneg.index.dense.dense_index import FILE, build_dense
from hf_hardneg.index.dense.gpu import check_faiss_class, nearest_on, placed
from hf_hardneg.retrievers import Dense, Sources
from hf_hardneg.store import directories
from tests.worlds import encode, world

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*times as long as exact search:UserWarning"),  # on a busy machine
]

DOCUMENTS, WIDTH, DEPTH = 5000, 32, 100
FACTORIES = ["IVF64,Flat", "HNSW16", "PQ16x4fs", "IVF64,PQ16x4fs", "PCA28,SQ8", "SQ8"]


def draw(count, seed):
    """Vectors in clusters of unequal size, so that indexes have something to find."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(40, WIDTH))
    chosen = np.minimum(rng.geometric(0.1, count) - 1, 39)
    return (centres[chosen] + rng.normal(size=(count, WIDTH))).astype(np.float32)


BASE, ASKED = draw(DOCUMENTS, 1), np.random.default_rng(2).normal(size=(800, WIDTH)).astype(np.float32)


def exact_index(similarity="cosine", base=BASE):
    corpus = open_corpus(Dataset.from_dict({"text": [f"text {row}" for row in range(len(base))]}))
    return build_dense(corpus, [base], vectors_digest=f"drawn {base.shape}", similarity=similarity)


def built(factory, recall=0.98, similarity="cosine"):
    exact = exact_index(similarity)
    return build_approximate(exact, factory, recall=recall, sample=exact.queries(ASKED[:600]))


def scores_of(index, queries):
    """All scores by another route: float64 matrices."""
    unit = [one.astype(np.float64) for one in (queries, BASE)]
    if index.similarity == "cosine":
        unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in unit]
    return unit[0] @ unit[1].T


def independent_recall(index, queries, depth=DEPTH):
    scores = scores_of(index, queries)
    nearest = np.argsort(-scores, axis=1)[:, :depth]
    hits = index.search(index.queries(queries), np.full(len(queries), depth))
    found = [len(set(hits.doc[hits.query == row]) & set(nearest[row])) for row in range(len(queries))]
    return float(np.mean(found)) / depth


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("factory", FACTORIES)
def test_the_recall_it_reports_is_the_one_others_measure(factory, similarity):
    index = built(factory, 0.97, similarity)
    assert index.measured.recall >= 0.97 and index.measured.queries == 512 and index.measured.sample == "given"
    assert independent_recall(index, ASKED[600:]) == pytest.approx(index.measured.recall, abs=0.01)


@pytest.mark.parametrize("factory", FACTORIES)
def test_scores_are_exact_in_order_and_the_same_for_any_batch(factory):
    index, k = built(factory), np.random.default_rng(3).integers(0, 130, 60)
    vectors = index.queries(ASKED[:60])
    hits = index.search(vectors, k)
    assert np.bincount(hits.query, minlength=60).tolist() == k.tolist()
    np.testing.assert_allclose(hits.score, scores_of(index, ASKED[:60])[hits.query, hits.doc], rtol=1e-5, atol=1e-6)
    assert index.score_rows(vectors, hits.query, hits.doc).tobytes() == hits.score.tobytes()
    order = np.lexsort((hits.doc, -hits.score, hits.query))
    assert order.tolist() == list(range(len(order)))
    for size in (1, 7, 25):
        parts = [index.search(vectors[at : at + size], k[at : at + size]) for at in range(0, 60, size)]
        assert np.concatenate([part.doc for part in parts]).tolist() == hits.doc.tolist()
        assert np.concatenate([part.score for part in parts]).tobytes() == hits.score.tobytes()


@pytest.mark.parametrize("factory, setting", [("IVF64,Flat", "nprobe"), ("HNSW16", "efSearch"), ("PQ16x4fs", "refine")])
def test_a_higher_target_raises_the_effort(factory, setting):
    low, high = built(factory, 0.5), built(factory, 0.99)
    assert low.proposer == high.proposer and low.tuning != high.tuning
    assert low.measured.effort[setting] < high.measured.effort[setting]
    assert 0.5 <= low.measured.recall < 0.99 <= high.measured.recall
    assert independent_recall(low, ASKED[600:]) < independent_recall(high, ASKED[600:])


def test_a_target_out_of_reach_says_what_was_reached():
    with pytest.raises(ConfigError, match=r"'PQ1x4fs' finds 0\.\d+ of the 100 nearest .* less than recall=0.98. Give"):
        built("PQ1x4fs")


def test_documents_stand_in_for_queries():
    measured = build_approximate(exact_index(), "PQ16x4fs", recall=0.95).measured
    assert (measured.sample, measured.queries, measured.depth) == ("documents", 512, 100) and measured.recall >= 0.95


def test_fewer_documents_than_are_wanted():
    index = build_approximate(exact_index(base=BASE[:60]), "PQ16x4fs", recall=0.9)
    hits = index.search(index.queries(ASKED[:3]), np.array([100, 5, 0]))
    assert np.bincount(hits.query, minlength=3).tolist() == [60, 5, 0] and index.measured.depth == 60


def test_it_is_built_once_and_opened_from_its_paths():
    first = built("PQ16x4fs")
    with directories.without_building():
        assert built("PQ16x4fs") == first == pickle.loads(pickle.dumps(first)) and len(pickle.dumps(first)) < 2048
        with pytest.raises(directories.NotPublished):
            built("PQ16x4fs", 0.9)
    assert json.loads((first.tuning / "recall.json").read_text())["recall"] == first.measured.recall


@pytest.mark.parametrize("place, name", [("proposer", FILE), ("tuning", "recall.json")])
def test_a_damaged_file_is_named(place, name):
    index = built("PQ16x4fs")
    path = getattr(index, place) / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=f"{name} is truncated or altered"):
        index.search(index.queries(ASKED[:1]), np.array([5]))


def test_a_build_that_dies_leaves_nothing(monkeypatch):
    def dies(index, path):
        (exact.directory.parent / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    exact = exact_index()
    monkeypatch.setattr(approximate, "write_index", dies)
    with pytest.raises(KeyboardInterrupt):
        build_approximate(exact, "SQ8", recall=0.9)
    assert not list(exact.directory.parent.glob("approximate-*"))
    monkeypatch.undo()
    assert build_approximate(exact, "SQ8", recall=0.9).measured.recall >= 0.9


def test_factories_that_cannot_work():
    for factory in ("nonsense", "IVF16,"):
        with pytest.raises(ConfigError, match=f"factory='{factory}' is no index .*could not parse.* Give 'auto'"):
            Dense(factory=factory)
    with pytest.raises(ConfigError, match="'PQ7x4fs' is no index that FAISS can build over vectors 32 wide: The dimen"):
        built("PQ7x4fs")
    with pytest.raises(ConfigError, match="'IVF9999,Flat' is no index that FAISS can build from 5,000 documents"):
        built("IVF9999,Flat")
    with pytest.raises(ConfigError, match=r"recall=1.5\) .* a number above 0 and up to 1"):
        Dense(recall=1.5)
    with pytest.raises(ConfigError, match="factory='HNSW32' needs similarity 'cosine' or 'dot', not 'l2'"):
        Dense(factory="HNSW32", similarity="l2")
    with pytest.raises(ConfigError, match="holds no vectors themselves"):
        build_approximate(compressed(), "SQ8", recall=0.9)


def compressed():
    index = faiss.index_factory(WIDTH, "SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(BASE)
    index.add(BASE)
    corpus = open_corpus(Dataset.from_dict({"text": [f"text {row}" for row in range(DOCUMENTS)]}))
    return adopt_faiss(corpus, index, similarity="dot")


def test_a_users_own_index_and_a_factory_exclude_each_other():
    corpus = Dataset.from_dict({"text": ["a", "b"]})
    with pytest.raises(ConfigError, match="factory='HNSW16' cannot rebuild your own index, 'mine'. Drop factory="):
        HardNegatives(corpus, Strategy([Dense(factory="HNSW16")]), index="mine", encoder=encode)


def test_what_auto_stands_for():
    index = exact_index()
    assert [chosen_factory("auto", count, index) for count in (200_000, 831_790)] == ["exact", "exact"]
    assert chosen_factory("HNSW32", 5, index) == "HNSW32" and chosen_factory("exact", 10**12, index) == "exact"
    for width, factory in ((32, "PQ8x4fs"), (50, "PQ25x4fs"), (7, "PQ7x4fs")):
        assert chosen_factory("auto", 10**12, exact_index(base=np.ones((3, width), np.float32))) == factory
    assert chosen_factory("auto", 10**12, exact_index("l2")) == "exact"


def test_a_retriever_says_its_recall():
    corpus = Dataset.from_dict({"text": [f"t{row}" for row in range(DOCUMENTS)], "vector": BASE.tolist()})
    sources = Sources(dataset=corpus, corpus=open_corpus(corpus), vector_column="vector")
    searcher = Dense(factory="PQ16x4fs", recall=0.9, sample=ASKED.tolist()).bind(sources)
    assert searcher.recall == searcher.index.measured.recall >= 0.9 and searcher.index.measured.sample == "given"
    assert Dense().bind(sources).recall is None
    with pytest.raises(ConfigError, match="sample= holds texts and there is no encoder"):
        Dense(factory="PQ16x4fs", sample=["a text"]).bind(sources)


@pytest.mark.parametrize("factory", ["PQ8x4fs", "HNSW16"])
def test_the_same_rows_for_any_batch_and_number_of_processes(factory):
    pairs, corpus = world(11, documents=600, queries=40)
    miner = HardNegatives(corpus, Strategy([Dense(20, factory=factory, sample=pairs["query"][:])]), encoder=encode)
    expected = pairs.map(miner, batched=True)
    assert miner.retrieval.searcher.recall >= 0.98 and len(pickle.dumps(miner)) < 16384
    for options in ({"batch_size": 7}, {"num_proc": 2}, {"batch_size": 1}):
        again = pairs.map(miner, batched=True, load_from_cache_file=False, **options)
        for name in ("negative_ids", "negative_scores", "negative_ranks"):
            assert again[name][:] == expected[name][:]


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_torch_on_a_device_finds_what_the_exact_search_finds(similarity, monkeypatch):
    index, k = exact_index(similarity), np.random.default_rng(4).integers(0, 2500, 700)
    monkeypatch.setattr("hf_hardneg.index.dense.gpu.BLOCK", 999)
    stored, vectors = index.flat_vectors(), index.queries(ASKED[:700])
    found, expected = nearest_on("cpu", vectors, stored, placed(stored, "cpu"), k), index.search(vectors, k)
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()
    monkeypatch.setattr("hf_hardneg.index.dense.dense_index.gpu", lambda _: "cpu")
    assert index.search(vectors, k).doc.tobytes() == expected.doc.tobytes()


def test_a_device_that_is_not_there_is_refused_before_anything_is_built():
    with pytest.raises(UnknownNameError, match="'tpu'; known are auto, cpu, cuda"):
        Dense(device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="'cuda' was given and torch finds no GPU.* Use device='auto'"):
            Dense(device="cuda")
    if not hasattr(faiss, "StandardGpuResources"):
        with pytest.raises(MissingExtraError, match=r"'IVF64,Flat' needs FAISS with its part for GPUs.*\[gpu\]"):
            Dense(device="cuda", factory="IVF64,Flat")


@pytest.mark.parametrize("factory", ["Flat", "IVF64,Flat", "PCA28,IVF64,Flat", "IVF64,PQ16", "IVF64,SQ8"])
def test_what_faiss_searches_on_a_gpu(factory):
    check_faiss_class(faiss.index_factory(WIDTH, factory, faiss.METRIC_INNER_PRODUCT), factory)


@pytest.mark.parametrize("factory", ["HNSW16", "PQ16x4fs", "IVF64,PQ16x4fs", "PCA28,SQ8"])
def test_what_faiss_does_not_search_on_a_gpu(factory):
    with pytest.raises(ConfigError, match=f"'{factory}' is an Index.*does not search on a GPU; it searches IndexFlat"):
        check_faiss_class(faiss.index_factory(WIDTH, factory, faiss.METRIC_INNER_PRODUCT), factory)


@pytest.mark.skipif(
    not (torch.cuda.is_available() and hasattr(faiss, "StandardGpuResources")), reason="needs a GPU and faiss-gpu"
)
@pytest.mark.parametrize("factory", ["IVF64,Flat", "IVF64,PQ16", "PCA28,IVF64,SQ8"])
def test_faiss_on_a_gpu_finds_as_much(factory):
    exact, k = exact_index(), np.full(len(ASKED), DEPTH)
    k[::7] = 2500
    asked = exact.queries(ASKED)
    index = replace(build_approximate(exact, factory, recall=0.95, sample=asked), device="cuda")
    found, expected = index.search(asked, k), exact.search(asked, k)
    least = expected.score[np.cumsum(k) - 1]
    assert (found.score >= least[found.query]).sum() / k.sum() > 0.93


def test_the_recall_travels_with_the_rows_into_the_report():
    rng = np.random.default_rng(5)
    base = rng.normal(size=(600, 16)).astype(np.float32)
    corpus = Dataset.from_dict({"text": [f"t{i}" for i in range(600)], "v": base.tolist()})
    pairs = Dataset.from_dict({"query": ["a", "b"], "positive_ids": [["1"], ["2"]], "v": base[:2].tolist()})
    columns = {"vector": "v", "query_vector": "v", "id": "row_number"}
    mined = mine(pairs, corpus, Strategy([Dense(20, factory="HNSW16", recall=0.9)]), columns=columns)
    miner = HardNegatives(corpus, Strategy([Dense(20, factory="HNSW16", recall=0.9)]), columns=columns)
    assert report(mined).search_recall == pytest.approx(miner.retrieval.searcher.recall)
    assert report(mine(pairs, corpus, Strategy([Dense(20)]), columns=columns)).search_recall is None
