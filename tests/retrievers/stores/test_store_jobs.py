"""Document stores in what stands around mining: the command line, refreshes, shards of an index."""

import pytest
from datasets import load_from_disk

from hf_hardneg import Strategy, mine
from hf_hardneg.cli import main
from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers.stores import LanceDB
from hf_hardneg.training import Refresher
from tests.retrievers.stores.contract import LancePlace
from tests.worlds import encode, world

pytestmark = pytest.mark.slow


@pytest.fixture
def filled(tmp_path):
    pairs, corpus = world(4)
    folder = tmp_path / "place"
    folder.mkdir()
    texts = corpus["text"][:]
    return pairs, corpus, LancePlace(folder).fill("docs", corpus["_id"][:], texts, encode(texts))


@pytest.mark.parametrize("strategy", [None, "dense", "hybrid", "bm25"])
def test_the_command_line_mines_in_a_store(filled, tmp_path, capsys, strategy):
    pairs, corpus, address = filled
    asked = pairs.add_column("vector", encode(pairs["query"][:]).tolist())
    asked.to_parquet(tmp_path / "pairs.parquet")
    named = [] if strategy is None else [f"--strategy={strategy}"]
    sources = [f"--pairs={tmp_path}/pairs.parquet", f"--corpus={address}", "--columns", "query_vector=vector"]
    assert main(["mine", *sources, *named, f"--out={tmp_path}/out"]) == 0
    assert "docs, a document store: 60 documents" in capsys.readouterr().out
    vectored = corpus.add_column("dense", encode(corpus["text"][:]).tolist())
    columns = {"query_vector": "vector", **({} if strategy == "bm25" else {"vector": "dense"})}
    exact = mine(asked, vectored, strategy or "dense", columns=columns)
    assert load_from_disk(str(tmp_path / "out"))["negative_ids"][:] == exact["negative_ids"][:]
    assert main(["plan", *sources, "--strategy=dense"]) == 0
    assert "queries on the index itself" in capsys.readouterr().out


def test_queries_without_vectors_are_refused_on_the_command_line(filled, tmp_path, capsys):
    pairs, _, address = filled
    pairs.to_parquet(tmp_path / "pairs.parquet")
    asked = ["mine", f"--pairs={tmp_path}/pairs.parquet", f"--corpus={address}", f"--out={tmp_path}/out"]
    assert main([*asked, "--strategy=dense"]) == 2
    assert "needs vectors and got none" in capsys.readouterr().err


def test_a_refresh_encodes_the_texts_of_a_store_and_searches_no_vectors_that_stay(filled, tmp_path):
    pairs, corpus, address = filled
    with pytest.raises(ConfigError, match="searches a document store, whose vectors stay as they are"):
        Refresher(pairs, corpus, Strategy([LanceDB(address)]), encoder=encode, directory=tmp_path / "generations")
