import itertools
import time
from types import SimpleNamespace

import pytest

from hf_hardneg import mine
from tests.worlds import world

NUMBERS = itertools.count()
ADA, BOB = "hf_secretOfAda", "hf_secretOfBob"


@pytest.fixture
def hub(running, monkeypatch):
    """The Hub, mended, and a client that does not wait before it tries again."""
    hurried = SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None})
    for module in ("utils._http", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time", hurried)
    running.mend()
    running.before = None
    yield running
    running.mend()


@pytest.fixture
def name():
    """A repository that no other test knows."""
    return f"ada/set-{next(NUMBERS)}"


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Pairs, corpus and what was mined of them."""
    pairs, corpus = world(1)
    return pairs, corpus, mine(pairs, corpus, "bm25", num_negatives=3, cache_dir=str(tmp_path_factory.mktemp("mined")))


@pytest.fixture
def mined(data):
    return data[2]
