"""Document stores on real servers: hits, faults, processes, secrets."""

import pickle
from dataclasses import replace
from threading import Timer

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import HardNegatives, Strategy, mine, recipe_of
from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores.drivers import document_store
from tests.retrievers.stores.servers import ALONE, SERVERS, SLOW, exact, free_port, shared, slowed

pytestmark = pytest.mark.slow
COUNT, WIDTH, QUERIES = 400, 12, 30


def content(seed):
    """Ids, texts, vectors of several lengths, and queries."""
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(COUNT, WIDTH)) * rng.uniform(0.5, 2, (COUNT, 1))).astype(np.float32)
    queries = rng.normal(size=(QUERIES, WIDTH)).astype(np.float32)
    names = [f"d{row:03}" for row in rng.permutation(COUNT)]
    return names, [f"word{row % 7} of {name} é" for row, name in enumerate(names)], vectors, queries


NAMES, TEXTS, VECTORS, ASKED = content(0)


@pytest.fixture(
    scope="module", params=[*SERVERS, *(pytest.param(name, marks=[pytest.mark.slow, ALONE]) for name in SLOW)]
)
def server(request):
    return shared((SERVERS | SLOW)[request.param])


@pytest.fixture
def needs_server(server):
    if not server.is_server:
        pytest.skip("this is a file")


@pytest.fixture(autouse=True)
def password(server, monkeypatch):
    if server.secret:
        monkeypatch.setenv(server.secret, server.password)


@pytest.fixture(scope="module")
def address(server):
    return server.fill("documents", NAMES, TEXTS, VECTORS)


def job(**columns):
    corpus = {"_id": NAMES, "text": TEXTS, "vector": list(VECTORS)}
    pairs = {
        "query": [f"word{row % 7} number {row}" for row in range(QUERIES)],
        "positive_ids": [[NAMES[3 * row]] for row in range(QUERIES)],
        "query_vector": list(ASKED),
    }
    return Dataset.from_dict(pairs), Dataset.from_dict(corpus)


OPTIONS = {"num_negatives": 12, "columns": {"vector": "vector", "query_vector": "query_vector"}}


def same(left, right):
    """Whether two data sets have the same negatives, with scores that differ by rounding alone."""
    assert left["negative_ids"] == right["negative_ids"]
    for scores, others in zip(left["negative_scores"], right["negative_scores"], strict=True):
        np.testing.assert_allclose(scores, others, atol=2e-6)


def refused(call, *kinds):
    """The message of an error of ours; a store that is never given up hangs here."""
    with pytest.raises(kinds or (ConfigError, DocumentStoreError)) as caught:
        call()
    return str(caught.value)


def test_hits_and_scores_are_those_of_the_definitions(server):
    names, texts, vectors, queries = content(1)
    store = document_store(server.fill("by_distance", names, texts, vectors, "l2"))
    told = store.describe()
    assert (told.score_kind, told.count, told.width, told.has_texts) == ("l2", COUNT, WIDTH, True)
    truth = exact(queries, vectors, "l2")
    hits = store.search(queries[: told.max_batch], 40, told.efforts[-1] if told.efforts else None)
    for (found, scores), row in zip(hits, truth, strict=False):
        order = np.argsort(-row, kind="stable")[:40]
        assert set(found) == {names[place] for place in order}
        np.testing.assert_allclose(scores, [row[names.index(name)] for name in found], rtol=2e-6, atol=2e-6)


def test_all_that_are_asked_for_are_found_up_to_all_documents(server, address):
    store = document_store(address)
    for k in (1, 41, COUNT):
        assert {len(found) for found, _ in store.search(ASKED[:3], k)} == {k}


@pytest.mark.parametrize("vectors", [False, True])
def test_documents_are_scanned_once_and_fetched_in_order(address, vectors):
    store = document_store(address)
    batches = list(store.scan(vectors=vectors))
    scanned = {name: row for batch in batches for name, *row in zip(*batch.to_pydict().values(), strict=True)}
    assert sum(map(len, batches)) == COUNT and set(scanned) == set(NAMES)
    asked = NAMES[50:20:-3]
    fetched = store.fetch(asked, vectors=vectors)
    assert fetched["id"].to_pylist() == asked
    assert fetched["text"].to_pylist() == [scanned[name][0] for name in asked] == TEXTS[50:20:-3]
    if vectors:
        np.testing.assert_allclose(fetched["vector"].to_pylist(), VECTORS[50:20:-3], rtol=1e-6)
    assert store.fetch([], vectors=vectors).num_rows == 0
    assert [len(batch) for batch in store.scan()] == [len(batch) for batch in batches]


def test_what_is_missing_or_wrong_is_named_within_seconds(server, address):
    assert "does_not_exist" in refused(document_store(server.address("does_not_exist")).describe, ConfigError)
    assert "encoder" in refused(lambda: document_store(address).search(ASKED[:2, :5], 3), ConfigError)
    assert "'unknown'" in refused(lambda: document_store(address).fetch([NAMES[0], "unknown"]))


def test_a_server_that_does_not_run_is_named(server, needs_server):
    store = document_store(server.address("documents", free_port()))
    assert "Look whether it runs" in refused(store.describe, DocumentStoreError)


def test_a_wrong_password_is_named_and_never_shown(server, monkeypatch):
    if server.secret is None:
        pytest.skip("this server asks for none")
    for value in ("quite-wrong", None):
        monkeypatch.delenv(server.secret)
        if value:
            monkeypatch.setenv(server.secret, value)
        store = document_store(server.address("documents"))
        store.disconnect()
        message = refused(store.describe, ConfigError)
        assert server.secret in message and "quite-wrong" not in message
        monkeypatch.setenv(server.secret, server.password)


def test_a_slow_network_is_an_error_within_seconds(server, needs_server, address):
    wait = [0.0]
    with slowed(server.port, lambda: wait[0]) as port:
        store = replace(document_store(server.address("documents", port)), timeout=2)
        store.search(ASKED[:2], 3)
        wait[0] = 4.0
        assert "Look whether it runs" in refused(lambda: store.search(ASKED[:2], 3), DocumentStoreError)
        store.disconnect()
        assert "Look whether it runs" in refused(store.describe, DocumentStoreError)


def test_a_job_in_which_the_server_is_killed_goes_on_with_the_same_rows(server, needs_server, address, tmp_path):
    pairs, corpus = job()
    pairs = pairs.select(np.arange(400) % len(pairs))
    miner = HardNegatives(corpus, Strategy([document_store(address)]), **OPTIONS)
    first = pairs.map(miner, batched=True, batch_size=100, load_from_cache_file=False)
    killer = Timer(0.3, server.kill)
    killer.start()
    with pytest.raises(DocumentStoreError, match="Look whether it runs"):
        for _ in range(100):
            pairs.map(miner, batched=True, batch_size=100, load_from_cache_file=False)
    killer.join()
    server.start()
    store = document_store(address)
    store.patiently(store.describe)
    same(pairs.map(miner, batched=True, batch_size=100, load_from_cache_file=False), first)


def test_no_secret_is_kept(server, address, tmp_path, caplog):
    pairs, corpus = job()
    store = document_store(address)
    miner = HardNegatives(corpus, Strategy([store]), **OPTIONS)
    mined = mine(pairs, corpus, Strategy([store]), **OPTIONS)
    kept = [pickle.dumps(miner), repr(miner).encode(), repr(recipe_of(mined)).encode(), caplog.text.encode()]
    files = list(tmp_path.rglob("*"))
    kept += [str(path).encode() for path in files] + [path.read_bytes() for path in files if path.is_file()]
    assert len(kept) > 10
    if server.secret:
        assert not [part for part in kept if server.password.encode() in part]
