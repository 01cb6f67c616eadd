"""Addresses of document stores: a secret in one, wherever it stands, is refused and never quoted."""

import traceback

import pytest
from datasets import Dataset

from hf_hardneg import mine
from hf_hardneg.errors import ConfigError, HardNegError, UnknownNameError
from hf_hardneg.retrievers.stores.drivers import document_store, is_document_store
from tests.worlds import encode

PAIRS = Dataset.from_dict({"query": ["a b"], "positive": ["a c"]})


@pytest.mark.parametrize(
    "address, words",
    [
        ("qdrant:/user:hunter2@host:6333/docs", "two slashes behind its colon"),
        ("qdrant:user:hunter2@host/docs", "two slashes behind its colon"),
        ("postgresql:/user:hunter2@host/db?table=docs&vector=v", "two slashes behind its colon"),
        ("qdrant//user:hunter2@host/docs", "two slashes behind its colon"),
        ("qdrant//us%3Aer:hunter2%2F@host/a%20b", "two slashes behind its colon"),
        ("qdrant%3A//user:hunter2@host/docs", "two slashes behind its colon"),
        ("qdrnt//us%3Aer:hunter2%2F@host/docs", "so it is not quoted"),
        ("user%3Ahunter2%40host", "so it is not quoted"),
        ("user:hunter2@host", "so it is not quoted"),
        ("redis+tls:/host/docs?password=hunter2", "two slashes behind its colon"),
        ("qdrant://host:6333/docs#token=hunter2", "a part behind #"),
        ("postgresql://host/db?vector=v#hunter2", "a part behind #"),
        ("qdrant:///user:hunter2@host/docs", "what may be a password in its path"),
        ("redis://host/docs;password=hunter2", "what may be a password in its path"),
        ("qdrant://host/docs?api%5Fkey=hunter2", "the option 'api_key'"),
        ("mysql:/user:hunter2@host/db?table=docs", "so it is not quoted"),
        ("qdrnt:/user:hunter2@host/docs.csv", "so it is not quoted"),
        (" mongodb://user:hunter2@host/docs", "so it is not quoted"),
    ],
)
def test_what_may_be_a_secret_is_not_quoted(address, words):
    with pytest.raises(HardNegError, match=words) as refused:
        mine(PAIRS, address)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_an_index_that_nothing_reads_is_quoted_without_its_secrets():
    with pytest.raises(UnknownNameError, match="Unknown index") as refused:
        mine(PAIRS, strategy="dense", index="s3://user:hunter2@bucket/docs", encoder=encode)
    assert "hunter2" not in str(refused.value)


def test_signs_of_addresses_may_stand_in_names(tmp_path, monkeypatch):
    store = document_store("lancedb:///a%23b/c%3Ad/docs")
    assert (store.place.folder, store.place.collection) == ("/a#b/c:d", "docs")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "redis:pairs.csv").touch()
    assert not is_document_store("redis:pairs.csv")
    with pytest.raises(ConfigError, match="has two slashes"):
        is_document_store("redis:others.csv")
