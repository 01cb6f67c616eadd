"""Encoding survives kills, encodes identical texts once, and reuses what is finished."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg.corpus import open_corpus
from hf_hardneg.encode import embeddings
from hf_hardneg.encode.encoder import load_encoder
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
