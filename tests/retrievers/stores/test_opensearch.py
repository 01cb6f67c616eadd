"""OpenSearch and Elasticsearch: words over osmem, which searches them as OpenSearch does, vectors over a double."""

import base64
import logging
import os
import pickle

import elastic_transport
import numpy as np
import pytest
from datasets import Dataset
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch as Client
from opensearchpy.helpers import bulk
from osmem_server import OsmemServer

from hf_hardneg import BM25, HardNegatives, Hybrid, Strategy, mine
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.filters import AbsoluteMargin
from hf_hardneg.retrievers.stores import OpenSearch
from hf_hardneg.retrievers.stores.store_opening import opened_store
from tests.retrievers.stores.opensearch_servers import VectorDouble, serving

pytestmark = pytest.mark.slow

SPACES = [
    ("dense_vector", "cosine", "cosine"),
    ("dense_vector", "dot_product", "dot"),
    ("dense_vector", "max_inner_product", "dot"),
    ("dense_vector", "l2_norm", "l2"),
    ("knn_vector", "cosinesimil", "cosine"),
    ("knn_vector", "innerproduct", "dot"),
    ("knn_vector", "l2", "l2"),
]
ROWS, WIDTH = 200, 8
_rng = np.random.default_rng(6)
VECTORS, ASKED = (_rng.normal(size=(rows, WIDTH)).astype(np.float32) for rows in (ROWS, 9))
IDS = [f"d{row}" for row in range(ROWS)]
WORDS = ["red", "blue", "green", "light", "water", "stone", "river", "bird", "tree", "night"]
TEXTS = [" ".join(_rng.choice(WORDS, 6)) + f" only{row}" for row in range(ROWS)]
CORPUS = Dataset.from_dict({"_id": IDS, "text": TEXTS})
PAIRS = Dataset.from_dict(
    {"query": [f"{text} words" for text in TEXTS[:12]], "positive_ids": [[name] for name in IDS[:12]]}
)


def truth(kind):
    asked, known = ASKED.astype(np.float64), VECTORS.astype(np.float64)
    if kind == "l2":
        return -((asked[:, None] - known) ** 2).sum(axis=2)
    if kind == "dot":
        return asked @ known.T
    return asked @ known.T / np.linalg.norm(asked, axis=1)[:, None] / np.linalg.norm(known, axis=1)


@pytest.mark.parametrize(("kind", "space", "similarity"), SPACES)
def test_exact_scores_are_turned_back_into_similarities(kind, space, similarity):
    with serving(VectorDouble(kind, space, IDS, TEXTS, VECTORS)) as port:
        store = OpenSearch(f"opensearch://127.0.0.1:{port}/docs", vector="place")
        told = store.describe()
        assert (told.score_kind, told.count, told.width, told.max_k) == (similarity, ROWS, WIDTH, 10_000)
        for line, (ids, scores) in zip(truth(similarity), store.search(ASKED, 30), strict=True):
            best = np.argsort(-line)[:30]
            assert ids == [IDS[row] for row in best]
            assert np.allclose(scores, line[best], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("kind", "space"), [("dense_vector", "l2_norm"), ("knn_vector", "cosinesimil")])
def test_approximate_search_is_scored_exactly_and_its_effort_raised(kind, space, tmp_path):
    with serving(VectorDouble(kind, space, IDS, TEXTS, VECTORS, lost=0.2)) as port:
        corpus = open_corpus(CORPUS, cache_dir=str(tmp_path))
        index = opened_store(OpenSearch(f"opensearch://127.0.0.1:{port}/docs", vector="place", exact=False), corpus)
        assert index.measured.recall == 1 and index.measured.effort == {"effort": 512}
        hits = index.search(index.queries(ASKED), np.full(len(ASKED), 20))
        best = np.argsort(-truth(index.similarity), axis=1)[:, :20]
        assert (hits.doc.reshape(-1, 20) == best).all()


def test_vectors_and_texts_come_in_the_order_asked():
    with serving(VectorDouble("knn_vector", "l2", IDS, TEXTS, VECTORS)) as port:
        store = OpenSearch(f"opensearch://127.0.0.1:{port}/docs", vector="place")
        table = store.fetch(["d7", "d2"], vectors=True)
        assert table["text"].to_pylist() == [TEXTS[7], TEXTS[2]]
        assert np.allclose(np.array(table["vector"].to_pylist()), VECTORS[[7, 2]])
        assert [row["id"] for batch in store.scan() for row in batch.to_pylist()] == IDS
        with pytest.raises(DocumentStoreError, match="holds no document 'nothing'"):
            store.fetch(["d7", "nothing"])


def test_a_field_that_is_none_of_vectors_is_refused():
    with serving(VectorDouble("knn_vector", "hamming", IDS, TEXTS, VECTORS)) as port:
        with pytest.raises(ConfigError, match="has the fields of vectors place, and vector='text' was given"):
            OpenSearch(f"opensearch://127.0.0.1:{port}/docs", vector="text").describe()
        with pytest.raises(
            ConfigError, match="the similarity hamming in 'place'; float with cosinesimil, .* is allowed"
        ):
            OpenSearch(f"opensearch://127.0.0.1:{port}/docs", vector="place").describe()


def test_answers_of_a_part_of_the_index_are_errors():
    double = VectorDouble("knn_vector", "l2", IDS, TEXTS, VECTORS)
    with serving(double) as port:
        store = OpenSearch(f"opensearch://127.0.0.1:{port}/docs", vector="place")
        store.describe()
        double.failed_shards = 1
        with pytest.raises(DocumentStoreError, match="1 of its shards did not answer in time"):
            store.search(ASKED, 5)


def test_passwords_come_from_the_environment_and_are_shown_nowhere(monkeypatch, caplog):
    with serving(VectorDouble("knn_vector", "l2", IDS, TEXTS, VECTORS, password="hunter2")) as port:
        store = OpenSearch(f"opensearch://127.0.0.1:{port}/docs", vector="place")
        with pytest.raises(DocumentStoreError, match="refuses who asks .401.* Set OPENSEARCH_USERNAME and"):
            store.describe()
        monkeypatch.setenv("OPENSEARCH_USERNAME", "reader")
        monkeypatch.setenv("OPENSEARCH_PASSWORD", "hunter2")
        store.disconnect()
        with caplog.at_level(logging.DEBUG):
            assert store.describe().count == ROWS
        shown = repr(store) + caplog.text + pickle.dumps(store).decode("latin-1")
        assert "hunter2" not in shown and base64.b64encode(b"reader:hunter2").decode() not in shown


@pytest.fixture(scope="module")
def osmem():
    with OsmemServer.start() as server, server.clone() as clone:
        yield clone
    server.process.stdout.close()


@pytest.fixture
def words(osmem, request):
    """The address of an index of words, and a client that may write to it."""
    client = Client(hosts=[osmem.url])
    name = f"docs{abs(hash(request.node.name))}"
    client.indices.create(index=name, body={"mappings": {"properties": {"text": {"type": "text"}}}})
    bulk(
        client, [{"_index": name, "_id": key, "text": text} for key, text in zip(IDS, TEXTS, strict=True)], refresh=True
    )
    yield f"opensearch://{osmem.url.partition('://')[2].strip('/')}/{name}", client, name
    client.close()


def test_hits_of_words_are_those_of_the_servers_own_search(words):
    address, client, name = words
    store = OpenSearch(address)
    told = store.describe()
    assert (told.score_kind, told.count, told.width, told.has_texts) == ("bm25", ROWS, None, True)
    for query, (ids, scores) in zip(TEXTS[:5], store.search(TEXTS[:5], 30), strict=True):
        hits = client.search(index=name, body={"query": {"match": {"text": query}}, "size": 30})["hits"]["hits"]
        assert ids == [hit["_id"] for hit in hits]
        assert np.allclose(scores, [hit["_score"] for hit in hits], atol=1e-6)
    assert store.search(["nowhere", ""], 5)[0][0] == []


def test_mining_by_words_of_the_server(words, tmp_path):
    address, client, name = words
    same = {"num_negatives": 4, "cache_dir": str(tmp_path)}
    mined = mine(PAIRS, CORPUS, Strategy([OpenSearch(address, depth=30)]), **same)
    for row in mined:
        body = {"query": {"match": {"text": row["query"]}}, "size": 60}
        hits = client.search(index=name, body=body)["hits"]["hits"]
        best = sorted(hits, key=lambda hit: (-np.float32(hit["_score"]), IDS.index(hit["_id"])))
        assert row["negative_ids"] == [hit["_id"] for hit in best if hit["_id"] not in row["positive_ids"]][:4]
    assert (
        mine(PAIRS, CORPUS, Strategy([OpenSearch(address, depth=30)]), num_proc=2, **same)["negative_ids"][:]
        == (mined["negative_ids"][:])
    )
    union = mine(PAIRS, CORPUS, Strategy([Hybrid([BM25(30), OpenSearch(address)])]), **same)
    assert {source for row in union["negative_sources"] for source in row} & {"bm25+opensearch", "opensearch"}


def test_chosen_documents_are_scored_as_hits_are(words, tmp_path):
    store = OpenSearch(words[0])
    ids, scores = store.search([TEXTS[3]], 40)[0]
    known, unknown = store.score([TEXTS[3], "nowhere"], [[ids[9], ids[0]], ["d1"]])
    assert known.tolist() == [scores[9], scores[0]] and unknown.tolist() == [0]
    margin = [AbsoluteMargin(0.5)]
    mined = mine(PAIRS, CORPUS, Strategy([OpenSearch(words[0], depth=60)], margin), cache_dir=str(tmp_path))
    for positives, negatives in zip(mined["positive_scores"], mined["negative_scores"], strict=True):
        assert min(np.ravel(positives)) - 0.5 >= max(negatives) - 1e-6


class Plain(elastic_transport.Transport):
    """Asks as clients before version 8 did, without the versions of types that osmem does not know."""

    def perform_request(self, method, target, *, headers=None, **options):
        kind = "application/x-ndjson" if target.endswith("_bulk") else "application/json"
        told = {**(headers or {}), "accept": "application/json", "content-type": kind}
        return super().perform_request(method, target, headers=told, **options)


@pytest.mark.parametrize("ids", [IDS, [str(row) for row in reversed(range(ROWS))]])
def test_what_datasets_attached_is_searched_by_its_name(ids, osmem, tmp_path, request):
    client = Elasticsearch(osmem.url, transport_class=Plain)
    name = f"attached{abs(hash(request.node.name))}"
    attached = CORPUS.remove_columns("_id").add_column("_id", ids)
    attached.add_elasticsearch_index("text", es_client=client, es_index_name=name)
    client.indices.refresh(index=name)
    pairs = PAIRS.remove_columns("positive_ids").add_column("positive_ids", [[name] for name in ids[: len(PAIRS)]])
    mined = mine(pairs, attached, Strategy([BM25(60)]), index="text", num_negatives=4, cache_dir=str(tmp_path))
    for query, positive, negatives in zip(pairs["query"], range(len(pairs)), mined["negative_ids"], strict=True):
        scores, rows = attached.search("text", query, k=60)
        best = sorted(zip(-np.float32(scores), rows, strict=True))
        assert negatives == [ids[row] for _, row in best if row != positive][:4]
    client.close()


def test_a_document_that_was_written_is_a_change(words, tmp_path):
    address, client, name = words
    miner = HardNegatives(CORPUS, Strategy([OpenSearch(address)]), cache_dir=str(tmp_path))
    miner(PAIRS[:4])
    client.index(index=name, id="d5", body={"text": "another text"}, refresh=True)
    with pytest.raises(DocumentStoreError, match="changed while it was mined: its mark was"):
        miner(PAIRS[:4])


def test_what_is_not_there_is_said_once(words, caplog):
    address, _, name = words
    with pytest.raises(DocumentStoreError, match=r"answered 404, no such index .*\. Give the name of an index"):
        OpenSearch(address.replace(name, "nothing")).describe()
    with pytest.raises(DocumentStoreError, match=r"did not answer .*\. Look whether it runs"):
        OpenSearch("opensearch://127.0.0.1:9/docs").describe()
    assert caplog.text == ""


def test_more_hits_than_the_index_gives_are_refused(words):
    store = OpenSearch(words[0])
    assert store.describe().max_k == 10_000
    with pytest.raises(DocumentStoreError, match="it answered 400, Result window is too large"):
        store.search(["red"], 10_001)


def test_a_fork_asks_by_itself(words):
    store = OpenSearch(words[0])
    here = store.search(["red light"], 5)[0][0]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, ",".join(store.search(["red light"], 5)[0][0]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        assert stream.read().split(",") == here
    os.waitpid(child, 0)
