"""Encoding survives kills, encodes identical texts once, and reuses what is finished."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import DataError
from hf_hardneg.models import embeddings
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.store import directories
from tests.worlds import encode

TEXTS = [f"word{row % 300} word{row % 6}" for row in range(400)]


class Logged:
    """An encoder that writes down every text, and is killed after so many calls."""

    digest = "logged"

    def __init__(self, log, die_at=None):
        self.log, self.die_at, self.calls = log, die_at, 0

    def __call__(self, texts):
        with open(self.log, "a") as stream:
            stream.writelines(f"{text}\n" for text in texts)
        self.calls += 1
        if self.calls == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(texts)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD", 32)


def run(cache, log, die_at=None):
    corpus = open_corpus(Dataset.from_dict({"text": TEXTS}), cache_dir=str(cache))
    encoder = load_encoder(Logged(log, die_at), cache_dir=cache)
    with embeddings.CorpusVectors(corpus, encoder) as vectors:
        return np.concatenate(list(vectors))


def test_vectors_are_in_row_order_and_identical_texts_are_encoded_once(tmp_path):
    assert np.array_equal(run(tmp_path, tmp_path / "log"), encode(TEXTS))
    encoded = (tmp_path / "log").read_text().splitlines()
    assert sorted(encoded) == sorted(set(TEXTS)) and len(set(TEXTS)) < len(TEXTS)


def test_a_finished_encoding_is_reused(tmp_path, caplog):
    caplog.set_level("INFO")
    first = run(tmp_path, tmp_path / "log")
    assert np.array_equal(run(tmp_path, tmp_path / "again"), first)
    assert not (tmp_path / "again").exists()
    assert f"reused {len(set(TEXTS))} of {len(set(TEXTS))} vectors" in caplog.text


def test_each_kill_loses_one_shard_at_most(tmp_path):
    expected, log = encode(TEXTS), tmp_path / "log"
    context = multiprocessing.get_context("fork")
    kills = 0
    while True:
        child = context.Process(target=run, args=(tmp_path, log, 2))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        kills += child.exitcode == -signal.SIGKILL
    assert kills > 5
    assert np.array_equal(run(tmp_path, log), expected)
    assert len(log.read_text().splitlines()) <= len(set(TEXTS)) + kills * embeddings.SHARD


def test_a_shard_that_was_altered_is_encoded_again(tmp_path):
    expected = run(tmp_path, tmp_path / "log")
    shard = sorted(tmp_path.glob("vectors-*/*.npy"))[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 255
    shard.write_bytes(content)
    assert np.array_equal(run(tmp_path, tmp_path / "again"), expected)
    assert len((tmp_path / "again").read_text().splitlines()) == 32


def test_another_encoder_has_its_own_shards(tmp_path):
    run(tmp_path, tmp_path / "log")
    corpus = open_corpus(Dataset.from_dict({"text": TEXTS}), cache_dir=str(tmp_path))

    def doubled(texts):
        return 2 * encode(texts)

    vectors = np.concatenate(list(embeddings.CorpusVectors(corpus, load_encoder(doubled, cache_dir=tmp_path))))
    assert np.array_equal(vectors, 2 * encode(TEXTS))


def test_the_manifest_says_what_the_vectors_are(tmp_path):
    run(tmp_path, tmp_path / "log")
    (path,) = tmp_path.glob("vectors-*/manifest.json")
    manifest = directories.read_manifest(path.parent)
    assert (manifest.kind, manifest.files) == ("vectors", {})
    assert dict(manifest.parameters) | {"texts": None} == {
        "texts": None,
        "encoder": "logged",
        "settings": {"function": "Logged"},
        "count": len(set(TEXTS)),
        "shard": 32,
        "width": encode(TEXTS[:1]).shape[1],
        "dtype": "float32",
    }


def test_vectors_above_a_size_are_stored_as_float16(tmp_path, monkeypatch):
    size = encode(sorted(set(TEXTS))).nbytes
    monkeypatch.setattr(embeddings, "HALF_ABOVE", size)
    assert np.array_equal(run(tmp_path, tmp_path / "log"), encode(TEXTS))
    monkeypatch.setattr(embeddings, "HALF_ABOVE", size - 1)
    vectors = run(tmp_path / "half", tmp_path / "log")
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, encode(TEXTS).astype(np.float16).astype(np.float32))
    (manifest,) = (tmp_path / "half").glob("vectors-*/manifest.json")
    assert json.loads(manifest.read_text())["parameters"]["dtype"] == "float16"
    assert {np.load(path).dtype.name for path in manifest.parent.glob("*.npy")} == {"float16"}


def test_values_beyond_float16_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "HALF_ABOVE", 0)
    corpus = open_corpus(Dataset.from_dict({"text": TEXTS}), cache_dir=str(tmp_path))
    encoder = load_encoder(lambda texts: 1e6 * encode(texts), cache_dir=tmp_path)
    with pytest.raises(DataError, match="vectors stored as float16 hold NaN, infinite or missing values, in rows 0"):
        list(embeddings.CorpusVectors(corpus, encoder))


def test_the_same_texts_under_other_ids_share_their_vectors(tmp_path):
    run(tmp_path, tmp_path / "log")
    named = Dataset.from_dict({"_id": [f"d{row}" for row in range(len(TEXTS))], "text": TEXTS})
    encoder = load_encoder(Logged(tmp_path / "again"), cache_dir=tmp_path)
    vectors = np.concatenate(list(embeddings.CorpusVectors(open_corpus(named, cache_dir=str(tmp_path)), encoder)))
    assert np.array_equal(vectors, encode(TEXTS)) and not (tmp_path / "again").exists()
