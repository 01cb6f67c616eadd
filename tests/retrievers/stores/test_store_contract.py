"""What every document store keeps: rows as our own exact mining finds them, and errors that say what to do."""

import functools
import os
import pickle
import traceback
from dataclasses import replace

import numpy as np
import pytest

from hf_hardneg import BM25, AbsoluteMargin, Dense, HardNegatives, RelativeMargin, Strategy, mine, plan, recipe_of
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, DataError, DocumentStoreError, HardNegWarning
from hf_hardneg.filters import Denoised, NearDuplicate
from hf_hardneg.recipes.recipe import Recipe
from hf_hardneg.retrievers import Sources
from hf_hardneg.retrievers.stores.drivers import document_store
from hf_hardneg.samplers import DistanceWeighted, Mixture, TopicNegatives, UnReMix
from hf_hardneg.strategies import resolve
from tests.retrievers.stores.contract import METRICS, PLACES, SLOW_PLACES
from tests.retrievers.stores.servers import ALONE
from tests.worlds import encode, shared_words, world

pytestmark = pytest.mark.slow

NAME = "docs"
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def rows():
    pairs, corpus = world(7, documents=80)
    return corpus, pairs


TWO = ("lancedb", "qdrant server")
"""Files and a server, on which what is the same for all stores is tried."""
EVERY = pytest.mark.parametrize(
    "place", [*PLACES, pytest.param("milvus", marks=[pytest.mark.slow, ALONE])], indirect=True
)
"""Every store, for what its driver does itself."""


@pytest.fixture(params=TWO)
def place(request, tmp_path):
    folder = tmp_path / "place"
    folder.mkdir()
    opened = (PLACES | SLOW_PLACES)[request.param](folder)
    yield opened
    opened.close()


@pytest.fixture
def address(place, rows):
    return filled(place, rows[0])


def filled(place, corpus, metric="cosine"):
    texts = corpus["text"][:]
    return place.fill(NAME, corpus["_id"][:], texts, encode(texts), metric)


def bound(address, corpus):
    opened = open_corpus(corpus)
    return document_store(address).bind(Sources(dataset=corpus, corpus=opened, encoder=encode))


def same(first, second, tolerance=TOLERANCE):
    assert first["negative_ids"][:] == second["negative_ids"][:]
    for column in ("negative_scores", "positive_scores"):
        for ours, theirs in zip(first[column], second[column], strict=True):
            np.testing.assert_allclose(np.array(ours, float), np.array(theirs, float), atol=tolerance)


@functools.cache
def exact(metric):
    """What our own exact mining finds, and the largest score by which its scores may be rounded."""
    pairs, corpus = world(7, documents=80)
    mined = mine(pairs, corpus, Strategy([Dense(30, similarity=metric)]), encoder=encode, num_negatives=6).to_dict()
    return mined, max(1, *(abs(score) for scores in mined["negative_scores"] for score in scores))


@EVERY
@pytest.mark.parametrize("metric", METRICS)
def test_rows_are_as_exact_mining_finds_them(place, rows, metric):
    corpus, pairs = rows
    if metric not in place.metrics:
        pytest.skip(f"it does not compare by {metric}")
    address = filled(place, corpus, metric)
    part = Strategy([type(document_store(address))(address, depth=30)])
    expected, scale = exact(metric)
    same(expected, mine(pairs, corpus, part, encoder=encode, num_negatives=6), TOLERANCE * scale)
    if metric == "cosine":
        same(expected, mine(pairs, address, Strategy([Dense(30)]), encoder=encode, num_negatives=6))


def test_the_store_is_an_index_of_documents_from_elsewhere(place, address, rows):
    corpus, pairs = rows
    mined = mine(pairs, corpus, Strategy([Dense(30)]), index=address, encoder=encode, num_negatives=6)
    same(exact("cosine")[0], mined)


PARTS = {
    "margins": ([], [AbsoluteMargin(0.05), RelativeMargin(0.02)]),
    "denoiser": ([], [Denoised(shared_words, scored_depth=10)]),
    "distances": ([], [], DistanceWeighted(dim="intrinsic")),
    "topics": ([], [], TopicNegatives(1)),
    "second views": ([], [], UnReMix()),
    "a union with BM25": ([BM25(20)], []),
}


def by_turns(*cases):
    """Cases that are the same for all stores, each on one of two."""
    return [(TWO[number % 2], case) for number, case in enumerate(cases)]


@pytest.mark.parametrize("place, parts", by_turns(*PARTS), indirect=["place"])
def test_filters_samplers_and_unions_work(place, address, rows, parts):
    corpus, pairs = rows
    retrievers, *others = PARTS[parts]
    asked = type(document_store(address))(address, depth=20)
    exact = mine(pairs, corpus, Strategy([Dense(20), *retrievers], *others), encoder=encode)
    same(exact, mine(pairs, corpus, Strategy([asked, *retrievers], *others), encoder=encode))


def test_documents_that_queries_find_are_enough(place, address, rows, monkeypatch):
    corpus, pairs = rows
    few = pairs.select([2])
    monkeypatch.setattr(type(document_store(address)), "scan", lambda *_, **__: pytest.fail("it was read"))
    for strategy in (Strategy([Dense(8)], [RelativeMargin(0.02), NearDuplicate(0.5)]), Strategy([Dense(8)])):
        mined = mine(few, f"{address}&reads=found", strategy, encoder=encode)
        same(mine(few, corpus, strategy, encoder=encode), mined)
    assert 8 < recipe_of(mined).corpus.rows < len(corpus)


@pytest.mark.parametrize(
    ("strategy", "options", "match"),
    [
        ("hybrid", {}, r"BM25\(\) searches the texts of all documents"),
        ("random", {}, r"Random\(\) "),
        ("dense+disagreement", {}, r"Disagreement\(\) weighs words by all documents"),
        (Strategy([Dense(8)], [], DistanceWeighted(dim="intrinsic")), {}, "looks at all documents"),
        (Strategy([Dense(8)], [], Mixture(0.1, DistanceWeighted(dim="intrinsic"))), {}, "looks at all documents"),
        ("dense+mixture", {"safeguards": False}, r"Mixture\(\) adds random ones, drawn from all documents"),
        ("dense", {"on_shortage": "pad_random", "safeguards": False}, "draws from all documents"),
    ],
)
def test_what_needs_all_documents_is_refused_before_any_is_searched(
    address, rows, monkeypatch, strategy, options, match
):
    monkeypatch.setattr(type(document_store(address)), "search", lambda *_, **__: pytest.fail("it was searched"))
    with pytest.raises(ConfigError, match=match):
        mine(rows[1], f"{address}&reads=found", strategy, encoder=encode, **options)


def test_a_miner_that_knows_no_job_reads_all(address):
    with pytest.raises(ConfigError, match=r"knows no job\. Call mine"):
        HardNegatives(f"{address}&reads=found", encoder=encode)


NAMED = ("positive_aware", "dense", "hybrid", "bm25", "bm25+disagreement", "simans")


@pytest.mark.parametrize("place, strategy", by_turns(*NAMED), indirect=["place"])
def test_named_strategies_search_the_store_that_is_the_corpus(place, address, rows, strategy):
    corpus, pairs = rows
    corpus = corpus.select(np.argsort(corpus["_id"][:])) if place.sorts_by_id else corpus
    options = {"encoder": encode} if strategy != "bm25" else {}
    exact = mine(pairs, corpus, strategy, **options)
    mined = mine(pairs, address, strategy, **options)
    same(exact, mined)
    assert recipe_of(mined).uses_own_index == (strategy != "bm25")


def test_without_a_strategy_the_store_searches(place, address, rows):
    corpus, pairs = rows
    same(mine(pairs, corpus, "dense", encoder=encode), mine(pairs, address, encoder=encode))
    mapped = pairs.map(HardNegatives(address, encoder=encode, known_positives=[pairs]), batched=True)
    same(mine(pairs, corpus, "dense", encoder=encode), mapped)


def test_queries_without_vectors_are_refused_before_anything_is_read(place, address, rows, monkeypatch):
    driver = type(document_store(address))
    monkeypatch.setattr(driver, "scan", lambda *_, **__: pytest.fail("it was read"))
    for call in (lambda: mine(rows[1], address), lambda: HardNegatives(address, "positive_aware")):
        with pytest.raises(ConfigError, match=r"needs vectors and got none\. Pass encoder="):
            call()


def test_queries_may_bring_their_vectors(place, address, rows):
    corpus, pairs = rows
    asked = pairs.add_column("vector", encode(pairs["query"][:]).tolist())
    columns = {"query_vector": "vector"}
    vectored = corpus.add_column("dense", encode(corpus["text"][:]).tolist())
    exact = mine(asked, vectored, "dense", columns={**columns, "vector": "dense"})
    same(exact, mine(asked, address, columns=columns))
    same(exact, mine(asked, corpus, "dense", index=address, columns=columns))
    part = Strategy([document_store(address)], resolve("dense").filters)
    same(exact, mine(asked, corpus, part, columns=columns))
    for options in ({"strategy": part}, {"strategy": "dense", "index": address}):
        with pytest.raises(ConfigError, match="needs vectors and got none"):
            mine(pairs, corpus, **options)


def test_a_model_that_is_not_the_stores_is_told(place, address, rows):
    def other(texts):
        return np.roll(encode(texts), 5, axis=1) ** 2

    other.digest = "other"
    with pytest.warns(HardNegWarning, match="gives other vectors for documents of"):
        mine(rows[1], rows[0], Strategy([document_store(address)]), encoder=other)


def wide(texts):
    return np.ones((len(texts), 3), np.float32)


wide.digest = "wide"


def unnamed(texts):
    return np.full((len(texts), 16), np.nan, np.float32)


unnamed.digest = "unnamed"


@pytest.mark.parametrize("model, match", [(wide, "are 3 wide, the index is 16 wide"), (unnamed, "hold NaN")])
def test_vectors_that_cannot_be_searched_never_reach_the_store(place, address, rows, model, match):
    corpus, pairs = rows
    with pytest.raises(DataError, match=match):
        mine(pairs, corpus, Strategy([document_store(address)]), encoder=model)


def test_other_documents_are_an_error(place, address, rows):
    corpus, pairs = rows
    with pytest.raises(DocumentStoreError, match=r"holds 80 documents, the corpus has 79"):
        mine(pairs.select([0]), corpus.select(range(79)), Strategy([document_store(address)]), encoder=encode)
    renamed = corpus.map(lambda row: {"_id": f"x{row['_id']}"})
    asked = Strategy([document_store(address)])
    with pytest.raises(DocumentStoreError, match="both must name documents alike"):
        HardNegatives(renamed, asked, encoder=encode)({"query": ["word1"], "positive": ["word1"]})


def test_more_than_the_store_gives_is_an_error(place, address, rows, monkeypatch):
    corpus, pairs = rows
    driver = type(document_store(address))
    whole = driver.describe
    monkeypatch.setattr(driver, "describe", lambda self: limited(whole(self)))
    with pytest.raises(ConfigError, match=r"gives at most 10 documents for one query, and \d+ are needed"):
        mine(pairs, corpus, Strategy([driver(address, depth=20)]), encoder=encode)


def limited(described):
    return replace(described, max_k=10)


def test_short_answers_are_an_error(place, address, rows, monkeypatch):
    driver = type(document_store(address))
    whole = driver.search
    monkeypatch.setattr(driver, "search", lambda self, queries, k, effort=None: whole(self, queries, 7, effort))
    with pytest.raises(DocumentStoreError, match=r"gave 7 of the \d+ nearest documents"):
        mine(rows[1], rows[0], Strategy([driver(address, depth=20)]), encoder=encode)


@EVERY
def test_a_collection_that_changed_is_an_error(place, address, rows):
    if not place.can_change:
        pytest.skip("nobody else opens it meanwhile")
    corpus, pairs = rows
    miner = HardNegatives(corpus, Strategy([document_store(address)]), encoder=encode)
    batch = pairs[:4]
    before = miner(batch)
    place.add(NAME, "new", "word1 word2", encode(["word1 word2"])[0])
    with pytest.raises(DocumentStoreError, match=r"changed while it was mined: its count was 80 and is 81"):
        miner(batch)
    grown = mine(pairs, address, "dense", encoder=encode)
    assert recipe_of(grown).corpus.rows == 81 and before["negative_ids"]


@EVERY
def test_workers_forks_and_copies_find_the_same(place, address, rows):
    pairs = rows[1]
    miner = HardNegatives(address, encoder=encode, known_positives=[pairs])
    alone = pairs.map(miner, batched=True)
    pickled = pickle.dumps(miner)
    assert len(pickled) < 32_000
    assert pickle.loads(pickled)(pairs[:5])["negative_ids"] == alone[:5]["negative_ids"]
    if place.in_one_process or place.forks_may_die:
        document_store(address).disconnect()
        return
    shared = pairs.map(miner, batched=True, batch_size=5, num_proc=2, new_fingerprint="two")
    assert shared.to_dict() == alone.to_dict()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        found = miner(pairs[:4])["negative_ids"]
        os.write(write, pickle.dumps(found))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert pickle.loads(stream.read()) == miner(pairs[:4])["negative_ids"]
    os.waitpid(child, 0)


def test_plans_ask_the_store_itself(place, address, rows):
    costs = plan(rows[1], address, encoder=encode)
    assert "queries on the index itself" in str(costs)
    union = Strategy([document_store(address), BM25(20)])
    assert "queries on the index itself" in str(plan(rows[1], rows[0], union, encoder=encode))


def test_recipes_name_the_store_and_no_place(place, address, rows):
    corpus, pairs = rows
    mined = mine(pairs, corpus, Strategy([document_store(address), BM25(20)]), encoder=encode)
    recipe = recipe_of(mined)
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    for hidden in (str(place.folder), "127.0.0.1", "://"):
        assert hidden not in text
    kind = type(document_store(address)).__name__
    assert f"{kind}(...)" in recipe.code() and f"from hf_hardneg.retrievers.stores import {kind}" in recipe.code()
    with pytest.raises(ConfigError, match=f"searched a document store, {kind}"):
        recipe.rebuilt()


@EVERY
def test_a_server_that_is_gone_and_comes_back(place, address, rows):
    if not place.can_stop:
        pytest.skip("there is no server")
    corpus, pairs = rows
    miner = HardNegatives(corpus, Strategy([document_store(address)]), encoder=encode)
    before = miner(pairs[:4])
    place.stop()
    document_store(address).disconnect()
    with pytest.raises(DocumentStoreError, match=r"did not answer .*\. Look whether it runs"):
        miner(pairs[:4])
    place.start()
    assert miner(pairs[:4]) == before


def test_addresses_of_the_documents_are_told_from_everything_else(rows):
    with pytest.raises(ConfigError, match="Unknown scheme of a document store 'qdrnt'.*Did you mean 'qdrant'"):
        mine(rows[1], "qdrnt://host:6333/docs")


@EVERY
def test_addresses_that_name_no_collection_or_hold_a_secret_are_refused(place, address, rows):
    with pytest.raises((ConfigError, DocumentStoreError), match="gone.* Give "):
        mine(rows[1], address.replace(NAME, "gone"), encoder=encode)
    store = document_store(address)
    wrong = [f"{address}&{option}=hunter2" for option in ("password", "api_key", "access_token")]
    wrong += [
        address.replace("://", f"://{name}") for name in ("user:hunter2@", *([] if store.has_users else ["hunter2@"]))
    ]
    for text in wrong:
        with pytest.raises(ConfigError, match="holds .* secrets come from the environment alone") as refused:
            document_store(text)
        assert "hunter2" not in "".join(traceback.format_exception(refused.value))
    option = next(name for name in ("vector", "tenant", "text") if hasattr(store, name))
    match = rf"Unknown option of an address .*'{option}s'; known are .* Did you mean '{option}'"
    with pytest.raises(ConfigError, match=match):
        document_store(f"{address}&{option}s=x")
