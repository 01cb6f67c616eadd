"""A server that refuses, dies in a batch, comes back, or is slow; and what travels of its secrets."""

import logging
import time
import warnings

import pytest
from datasets import Dataset

from hf_hardneg import HardNegatives, Strategy, mine, recipe_of
from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.formats.loading import load_corpus
from hf_hardneg.hub.card import mined_dataset_card
from hf_hardneg.retrievers.stores import Qdrant
from hf_hardneg.retrievers.stores.collection import PAUSES
from hf_hardneg.retrievers.stores.drivers import document_store, is_document_store
from tests.retrievers.stores.contract import QdrantPlace
from tests.retrievers.stores.qdrant_server import QdrantDouble
from tests.worlds import encode, world

pytestmark = pytest.mark.slow

SECRET = "hunter2-hunter2-hunter2"


@pytest.fixture
def place(tmp_path):
    opened = QdrantPlace(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def rows():
    pairs, corpus = world(3)
    return corpus, pairs


def filled(place, corpus, **options):
    texts = corpus["text"][:]
    address = place.fill("docs", corpus["_id"][:], texts, encode(texts))
    return address + "".join(f"&{name}={value}" for name, value in options.items())


def test_a_server_that_dies_in_a_batch_ends_the_job_which_goes_on_later(place, rows, monkeypatch):
    corpus, pairs = rows
    asked = Strategy([Qdrant(filled(place, corpus))])
    options = {"encoder": encode, "batch_size": 6}
    whole = mine(pairs, corpus, asked, seed=1, **options).to_dict()
    answered, searched = Qdrant.search, []

    def dying(self, *told):
        searched.append(told)
        if len(searched) == 3:
            place.stop()
        return answered(self, *told)

    monkeypatch.setattr(Qdrant, "search", dying)
    asked = Strategy([Qdrant(filled_again(place))], asked.filters)
    with pytest.raises(DocumentStoreError, match=r"did not answer .*Look whether it runs"):
        mine(pairs, corpus, asked, **options)
    assert 3 <= len(searched) <= 3 + len(PAUSES)
    place.start()
    assert mine(pairs, corpus, asked, seed=1, **options).to_dict() == whole


def filled_again(place):
    return f"{place.server.address}/docs?id=key&timeout=7"


def test_a_slow_server_is_given_up_in_time(place, rows):
    corpus, pairs = rows
    miner = HardNegatives(corpus, Strategy([Qdrant(filled(place, corpus, timeout=1))]), encoder=encode)
    asked = []
    place.server.before_answer = lambda: asked.append(time.sleep(1.6))
    with pytest.raises(DocumentStoreError, match=r"did not answer .*\?timeout= in the address gives it more seconds"):
        miner(pairs[:4])
    assert 1 <= len(asked) <= 1 + len(PAUSES)
    place.server.before_answer = lambda: None
    assert miner(pairs[:4])["negative_ids"]


def test_a_key_comes_from_the_environment_and_is_nowhere_else(tmp_path, rows, monkeypatch, caplog):
    corpus, pairs = rows
    place = QdrantPlace(tmp_path, QdrantDouble(key=SECRET))
    address = filled(place, corpus)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DocumentStoreError, match=r"refuses this client \(401\).* Set QDRANT_API_KEY"):
        mine(pairs, address, encoder=encode)
    document_store(address).disconnect()
    monkeypatch.setenv("QDRANT_API_KEY", SECRET)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
        mined = mine(pairs, address, encoder=encode, cache_dir=tmp_path / "cache")
        miner = HardNegatives(address, encoder=encode, cache_dir=tmp_path / "cache")
    card = str(mined_dataset_card(mined, repo_id="user/name"))
    told = [repr(miner), repr(document_store(address)), recipe_of(mined).to_json(), card, caplog.text]
    assert not any(SECRET in text for text in told)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files and not any(SECRET.encode() in file.read_bytes() or SECRET in file.name for file in files)
    document_store(address).disconnect()
    place.close()


def test_tables_without_vectors_are_read_as_before(tmp_path):
    assert not is_document_store("postgresql://user@host/db?table=docs")
    assert is_document_store("postgresql://user@host/db?table=docs&vector=embedding")
    with pytest.raises(ConfigError, match="Unknown scheme of a document store 'qdrnt'"):
        load_corpus("qdrnt://host/docs")
    assert len(load_corpus(Dataset.from_dict({"_id": ["a"], "text": ["b"]})).rows) == 1
