"""Indexes whose terms are counted, or texts encoded, in shards: the files of one build, to the byte."""

from hashlib import blake2b

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg.cli import main
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.engines.index_parts import IndexJob
from hf_hardneg.engines.parts import Shard
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.store.manifests import MANIFEST
from tests.worlds import WORDS, encode

pytestmark = pytest.mark.slow

OF = 4


@pytest.fixture(scope="module")
def corpus():
    """As many documents as make several files of counts and of vectors, some of them twice."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice([*WORDS, f"rare{row}"], 5)) for row in range(4500)]
    texts[4000:4100] = texts[:100]
    return Dataset.from_dict({"_id": [f"d{row}" for row in range(len(texts))], "text": texts})


def files_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != MANIFEST}


def job(dataset, cache, function):
    opened = open_corpus(dataset, cache_dir=cache)
    encoder = None if function is None else load_encoder(function, cache_dir=opened.cache)
    return IndexJob(dataset=dataset, corpus=opened, encoder=encoder)


def whole(dataset, cache, function):
    """The index of one build, by the code that mining calls."""
    from hf_hardneg.index.bm25.bm25_index import build_bm25
    from hf_hardneg.index.bm25.weights import BM25Config
    from hf_hardneg.retrievers.attach import index_corpus

    opened = job(dataset, cache, function)
    if function is None:
        return build_bm25(opened.corpus, BM25Config())
    return index_corpus(dataset, opened.corpus, opened.encoder, None, "cosine").directory


def hashed(texts):
    """Vectors of texts, in less time than there is of their words."""
    digests = b"".join(blake2b(text.encode(), digest_size=64).digest() for text in texts)
    return np.frombuffer(digests, np.uint32).reshape(len(texts), 16).astype(np.float32) / (1 << 31) - 1


hashed.digest = "hashes"


def counting_calls(calls):
    def encoder(texts):
        calls.append(len(texts))
        return hashed(texts)

    encoder.digest = hashed.digest
    return encoder


@pytest.mark.parametrize(("kind", "shared"), [("bm25", True), ("bm25", False), ("dense", False)])
def test_shards_make_the_index_of_one_build(kind, shared, corpus, tmp_path):
    calls = []
    function = None if kind == "bm25" else counting_calls(calls)
    folders = []
    for number in range(OF, 0, -1):
        place = "all" if shared else str(number)
        folders.append(tmp_path / f"parts {place}")
        cache = tmp_path / f"cache {place}"
        job(corpus, cache, function).part(folders[-1], Shard(number, OF), ["again"], overwrite=False)
    if function is not None:
        assert sum(calls) == len(set(corpus["text"]))
        calls.clear()
    directory = job(corpus, tmp_path / "joined", function).joined(sorted(set(folders)))
    assert not calls
    other = whole(corpus, tmp_path / "whole", function)
    assert directory.name == other.name and files_of(directory) == files_of(other)


def test_parts_of_another_corpus_or_encoder_and_missing_ones(corpus, tmp_path):
    fewer = corpus.select(range(4400))
    for number in (1, 2):
        job(corpus, tmp_path / "cache", hashed).part(tmp_path / "dense", Shard(number, 2), [], overwrite=False)
        job(corpus, tmp_path / "cache", None).part(
            tmp_path / "bm25", Shard(number, 3), ["x", "{shard}"], overwrite=False
        )
    with pytest.raises(DataError, match=r"shard 3/3 is missing. Run it again: x 3/3"):
        job(corpus, tmp_path / "cache", None).joined([tmp_path / "bm25"])
    with pytest.raises(DataError, match="are of another corpus than what was named"):
        job(fewer, tmp_path / "cache", hashed).joined([tmp_path / "dense"])
    with pytest.raises(DataError, match="are of another encoder than what was named"):
        job(corpus, tmp_path / "cache", counting_calls_with_another_digest()).joined([tmp_path / "dense"])
    with pytest.raises(DataError, match="are of another corpus and encoder and index than"):
        job(corpus, tmp_path / "cache", None).joined([tmp_path / "dense"])


def counting_calls_with_another_digest():
    encoder = counting_calls([])
    encoder.digest = "other weights"
    return encoder


def test_on_the_command_line(corpus, tmp_path, capsys):
    corpus.to_parquet(tmp_path / "corpus.parquet")
    command = ["index", f"--corpus={tmp_path}/corpus.parquet", "-q"]
    for number in (1, 2, 3):
        cache = f"--cache-dir={tmp_path}/cache{number}"
        assert main([*command, cache, f"--shard={number}/3", f"--out={tmp_path}/parts"]) == 0
    capsys.readouterr()
    assert main([*command, f"--cache-dir={tmp_path}/cache", f"--parts={tmp_path}/parts"]) == 0
    assert "bm25 index of 4,500 documents, built in" in capsys.readouterr().out
    assert main(["merge", f"{tmp_path}/parts", f"--out={tmp_path}/out"]) == 2
    assert "is a part of an index" in capsys.readouterr().err
    for wrong, words in {
        ("--shard=1/3",): "Give both",
        ("--shard=1/3", "--out=x", "--parts=y"): "Give one",
        ("--shard=1/3", "--out=x", "--kind=dense", "--columns=vector=v"): "need no encoding",
        ("--shard=0/3", f"--out={tmp_path}/x"): "counted from 1",
    }.items():
        assert main([*command, *wrong]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*nothing tells whether:hf_hardneg.errors.HardNegWarning")
def test_an_encoder_that_nothing_identifies_is_refused(corpus, tmp_path):
    with open(tmp_path / "open", "w") as stream:

        def encoder(texts, held=stream):
            return encode(texts)

        with pytest.raises(ConfigError, match="cannot be identified"):
            job(corpus, tmp_path, encoder).part(tmp_path / "parts", Shard(1, 2), [], overwrite=False)
