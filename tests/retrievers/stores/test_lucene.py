"""Lucene indexes through pyserini, where HF_HARDNEG_PYSERINI_PYTHON names a Python that has it, and Java."""

import json
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import BM25, BM25Config, HardNegatives, Hybrid, Strategy, mine
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, DocumentStoreError, MissingExtraError
from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
from hf_hardneg.retrievers.stores import Lucene
from hf_hardneg.retrievers.stores.lucene import PYTHON
from hf_hardneg.retrievers.stores.lucene_process import LuceneProcess
from hf_hardneg.retrievers.stores.store_opening import opened_store
from hf_hardneg.text.analysis import Analyzer

needs_pyserini = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no Python with pyserini")

ROWS = 120
_rng = np.random.default_rng(2)
WORDS = [
    "red",
    "blue",
    "green",
    "lights",
    "waters",
    "stones",
    "rivers",
    "birds",
    "trees",
    "nights",
    "running",
    "flowing",
]
TEXTS = [" ".join(_rng.choice(WORDS, 8)) + f" only{row}" for row in range(ROWS)]
IDS = [f"d{row}" for row in range(ROWS)]
CORPUS = Dataset.from_dict({"_id": IDS, "text": TEXTS})
PAIRS = Dataset.from_dict(
    {"query": [f"the {text}" for text in TEXTS[:10]], "positive_ids": [[name] for name in IDS[:10]]}
)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lucene")
    (folder / "texts").mkdir()
    rows = [json.dumps({"id": key, "contents": text}) for key, text in zip(IDS, TEXTS, strict=True)]
    (folder / "texts/texts.jsonl").write_text("\n".join(rows) + "\n")
    command = [os.environ[PYTHON], "-m", "pyserini.index.lucene", "--collection", "JsonCollection", "--threads", "1"]
    places = ["--input", str(folder / "texts"), "--index", str(folder / "index"), "--storeRaw"]
    subprocess.run([*command, *places], check=True, capture_output=True)
    return folder / "index"


@needs_pyserini
@pytest.mark.slow
def test_hits_are_those_of_bm25_over_the_same_tokens(index, tmp_path):
    store, corpus = Lucene(f"lucene://{index}"), open_corpus(CORPUS, cache_dir=str(tmp_path))
    assert (store.describe().count, store.describe().score_kind, store.describe().has_texts) == (ROWS, "bm25", True)
    config = BM25Config(tokenizer=Analyzer(lucene=True), k1=0.9, b=0.4)
    ours = BM25Index(directory=build_bm25(corpus, config), config=config)
    k = np.full(len(PAIRS), 20)
    expected, hits = ours.search(PAIRS["query"][:], k), opened_store(store, corpus).search(PAIRS["query"][:], k)
    assert hits.doc.tolist() == expected.doc.tolist()
    assert np.allclose(hits.score, expected.score, atol=1e-5)
    ids, scores = store.search(PAIRS["query"][:1], 20)[0]
    known, unknown = store.score([PAIRS["query"][0], "nowhere"], [[ids[9], ids[0]], ["d1"]])
    assert np.allclose(known, [scores[9], scores[0]], atol=1e-6) and unknown.tolist() == [0]
    assert [ids for ids, _ in store.search(["", "the", "nowhere", " ".join(f"w{n}" for n in range(3000))], 3)] == [
        []
    ] * 4


@needs_pyserini
@pytest.mark.slow
def test_mining_forks_and_unions(index, tmp_path):
    same = {"num_negatives": 4, "cache_dir": str(tmp_path)}
    config = BM25Config(tokenizer=Analyzer(lucene=True), k1=0.9, b=0.4)
    ours = mine(PAIRS, CORPUS, Strategy([BM25(30, config=config)]), **same)
    strategy = Strategy([Lucene(f"lucene://{index}", depth=30)])
    assert mine(PAIRS, CORPUS, strategy, **same)["negative_ids"][:] == ours["negative_ids"][:]
    assert mine(PAIRS, CORPUS, strategy, num_proc=2, **same)["negative_ids"][:] == ours["negative_ids"][:]
    union = Strategy([Hybrid([BM25(30), Lucene(f"lucene://{index}")])])
    assert {source for row in mine(PAIRS, CORPUS, union, **same)["negative_sources"] for source in row} >= {
        "bm25+lucene"
    }
    assert len(pickle.dumps(HardNegatives(CORPUS, strategy, cache_dir=str(tmp_path)))) < 1 << 15


@needs_pyserini
@pytest.mark.slow
def test_texts_and_the_end_of_the_process(index):
    store = Lucene(f"lucene://{index}")
    assert store.fetch(["d7", "d3"])["text"].to_pylist() == [TEXTS[7], TEXTS[3]]
    assert [row["id"] for batch in store.scan() for row in batch.to_pylist()] == IDS
    with pytest.raises(DocumentStoreError, match=r"holds no document 'nothing'; .*\. Ask for ids that scan"):
        store.fetch(["d7", "nothing"])
    before = store.search(["red lights"], 5)
    os.kill(store.client.pid, signal.SIGKILL)
    with pytest.raises(DocumentStoreError, match="the process in which Lucene searches ended"):
        store.search(["red lights"], 5)
    assert store.search(["red lights"], 5)[0][0] == before[0][0]


def test_what_holds_no_index_is_said_before_java_starts(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DocumentStoreError, match="holds no Lucene index; .* Give the path of a folder"):
            Lucene(f"lucene://{folder}").describe()


def test_a_missing_pyserini_names_the_extra_and_the_other_python(tmp_path, monkeypatch):
    (tmp_path / "segments_1").write_bytes(b"commit")
    monkeypatch.delenv(PYTHON, raising=False)
    monkeypatch.setattr("hf_hardneg.retrievers.stores.lucene.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"hf-hardneg\[lucene\].*or set {PYTHON}"):
        Lucene(f"lucene://{tmp_path}").describe()


def test_the_newest_commit_is_the_mark(tmp_path):
    for number in ("9", "a", "10"):
        (tmp_path / f"segments_{number}").write_text(number)
    assert Lucene(f"lucene://{tmp_path}").commit().name == "segments_10"


ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
QUIET = "import sys\nsys.stdin.read()"


def test_what_the_process_does_is_told(capfd):
    assert LuceneProcess([sys.executable, "-c", ECHO]).ask("describe", 1, ["two"]) == ["describe", [1, ["two"]]]
    ended = LuceneProcess([sys.executable, "-c", "raise SystemExit('no Java here')"])
    with pytest.raises(DocumentStoreError, match="searches ended; it said last: no Java here"):
        ended.ask("describe")
    quiet = LuceneProcess([sys.executable, "-c", QUIET])
    quiet.seconds = 0.1
    with pytest.raises(DocumentStoreError, match="did not answer within 0 s"):
        quiet.ask("describe")
    assert capfd.readouterr() == ("", "")


def test_parameters_are_read_from_the_address_as_numbers():
    store = Lucene("lucene:///folder?k1=1.2&b=0.75")
    assert (store.k1, store.b) == (1.2, 0.75)
    with pytest.raises(ConfigError, match="k1"):
        Lucene("lucene:///folder?k1=much")
