"""An index in parts gives the hits and scores of one index, to the bit, and is built in the memory of one part."""

import tracemalloc

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg import BM25, BM25Config, Dense, Strategy, mine, recipe_of
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.bm25 import partitioning
from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
from hf_hardneg.index.bm25.partitioned_index import build_bm25_parts
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.index.running_best import RunningBest
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.retrievers.attach import index_corpus, index_parts_of
from hf_hardneg.text.analysis import Analyzer
from tests.worlds import WORDS, encode, world


def texts_of(seed, count=400):
    """Documents of few common and many rare words, with ties, copies, empty ones, and a run of blank documents."""
    rng = np.random.default_rng(seed)
    rare = [f"rare{number}" for number in rng.integers(0, 300, count * 2)]
    texts = [" ".join(rng.choice([*WORDS, *rare[2 * row : 2 * row + 2]], rng.integers(0, 9))) for row in range(count)]
    texts[5], texts[count // 2], texts[-1] = texts[0], texts[0], texts[0]
    texts[count // 4 : count // 2 - 1] = [""] * (count // 2 - 1 - count // 4)
    return texts


def bits(hits):
    return [hits.query.tolist(), hits.doc.tolist(), hits.score.view(np.uint32).tolist()]


@pytest.mark.parametrize(
    ("of", "count", "variant", "at_once"),
    [(2, 400, "lucene", None), (8, 400, "robertson", 40), (8, 400, "lucene", 40), (99, 20, "atire", None)],
)
def test_bm25_in_parts_is_one_index(of, count, variant, at_once, tmp_path, monkeypatch):
    if at_once:
        monkeypatch.setattr(partitioning, "AT_ONCE", at_once)
    config = BM25Config(variant=variant, tokenizer=Analyzer(stem=False))
    corpus = open_corpus(Dataset.from_dict({"text": texts_of(of, count)}), cache_dir=tmp_path)
    one = BM25Index(directory=build_bm25(corpus, config), config=config)
    several = build_bm25_parts(corpus, config, of)
    assert several.identity == one.identity
    queries = [*texts_of(of + 1, 60), "word1 word1 word2 rare5", "nothing known", "", " ".join(WORDS)]
    k = np.random.default_rng(of).integers(0, 500, len(queries))
    assert bits(several.search(queries, k)) == bits(one.search(queries, k))
    rng = np.random.default_rng(3)
    query, rows = rng.integers(0, len(queries), 500), rng.integers(0, len(corpus), 500)
    ours, theirs = (index.score_rows(queries, query, rows) for index in (several, one))
    assert ours.view(np.uint32).tolist() == theirs.view(np.uint32).tolist()
    outside = texts_of(of + 2, 50)
    asked = rng.integers(0, len(queries), 50)
    ours, theirs = (index.score_texts(queries, asked, outside) for index in (several, one))
    assert ours.view(np.uint32).tolist() == theirs.view(np.uint32).tolist() and (ours > 0).any()


def drawn_vectors(seed, count, width=20):
    """Whole numbers, so that many scores tie, with copies and zeros."""
    vectors = np.random.default_rng(seed).integers(-2, 3, (count, width)).astype(np.float32)
    vectors[7], vectors[count // 2], vectors[-1] = vectors[3], vectors[3], vectors[3]
    return vectors


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("of", [2, 8])
def test_dense_in_parts_is_one_index(of, similarity, tmp_path):
    rows = drawn_vectors(0, 300)
    dataset = Dataset.from_dict({"text": [f"text {row}" for row in range(300)], "vector": list(rows)})
    corpus = open_corpus(dataset, cache_dir=tmp_path)
    one = index_corpus(dataset, corpus, None, "vector", similarity)
    several = index_parts_of(dataset, corpus, None, "vector", similarity, of=of)
    assert several.identity == one.identity and several.documents == 300 and several.width == 20
    queries = one.queries(np.concatenate([drawn_vectors(1, 40), rows[:5], np.zeros((1, 20), np.float32)]))
    k = np.random.default_rng(2).integers(0, 350, len(queries))
    assert bits(several.search(queries, k)) == bits(one.search(queries, k))
    query, docs = np.arange(46).repeat(3), np.random.default_rng(3).integers(0, 300, 138)
    assert several.score_rows(queries, query, docs).tolist() == one.score_rows(queries, query, docs).tolist()
    assert several.vectors(docs).tolist() == one.vectors(docs).tolist()
    with pytest.raises(ConfigError, match="without index_parts="):
        several.faiss_index()


def test_vectors_that_one_index_rounds_are_rounded_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_hardneg.models.embeddings.HALF_ABOVE", 1000)
    dataset = Dataset.from_dict({"text": [f"word{row} word{row % 7}" for row in range(60)]})
    corpus = open_corpus(dataset, cache_dir=tmp_path)
    encoder = load_encoder(encode, cache_dir=tmp_path)
    one = index_corpus(dataset, corpus, encoder, None, "dot")
    several = index_parts_of(dataset, corpus, encoder, None, "dot", of=8)
    rows = np.arange(60)
    assert several.vectors(rows).tolist() == one.vectors(rows).tolist() != encode(dataset["text"]).tolist()


@pytest.mark.parametrize("name", ["bm25", "dense", "hybrid", "denoised"])
def test_mining_with_parts_is_mining(name, tmp_path):
    from tests.worlds import SMALL, needed

    def parted(stage):
        from dataclasses import replace

        members = getattr(stage, "members", ())
        if members:
            return replace(stage, members=tuple(map(parted, members)))
        return replace(stage, index_parts=8) if hasattr(stage, "index_parts") else stage

    pairs, corpus = world(1)
    plain = SMALL[name]
    strategy = Strategy(tuple(map(parted, plain.retrievers)), plain.filters, plain.sampler)
    one = mine(pairs, corpus, plain, cache_dir=tmp_path / "one", **needed(plain))
    several = mine(pairs, corpus, strategy, cache_dir=tmp_path / "several", **needed(plain))
    assert several[:] == one[:] and recipe_of(several).indexes == recipe_of(one).indexes
    assert mine(pairs, corpus, strategy, cache_dir=tmp_path / "several", num_proc=2, **needed(plain))[:] == one[:]


@given(st.integers(0, 10**6), st.integers(1, 6))
@settings(max_examples=40)
def test_running_best_is_the_best_of_all(seed, of):
    rng = np.random.default_rng(seed)
    k = rng.integers(0, 6, 5)
    parts, first = [], 0
    best = RunningBest(k)
    for _ in range(of):
        size = int(rng.integers(1, 9))
        least = best.least()
        query = np.repeat(np.arange(5), size)
        part = Hits(query, np.tile(np.arange(size), 5), rng.integers(0, 4, 5 * size).astype(np.float32))
        parts.append(part._replace(doc=part.doc + first))
        kept = part.score >= least[query]
        best.add(best_first(Hits(*(values[kept] for values in part)), k), first)
        first += size
    assert bits(best.hits()) == bits(best_first(Hits(*map(np.concatenate, zip(*parts, strict=True))), k))


def test_arguments_that_do_not_go_with_parts():
    with pytest.raises(ConfigError, match="is for exact search"):
        Dense(index_parts=2, factory="HNSW32")
    for wrong in (0, 1001, 1.5, True):
        with pytest.raises(ConfigError, match="index_parts"):
            BM25(index_parts=wrong)


def peak_of_building(folder, count, of):
    """The most memory that building holds, but for mapped files."""
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in rng.zipf(1.3, 20 * count) % (10 * count)]
    texts = [" ".join(words[20 * row : 20 * row + 20]) for row in range(count)]
    corpus = open_corpus(Dataset.from_dict({"text": texts}), cache_dir=folder)
    tracemalloc.start()
    try:
        build_bm25_parts(corpus, BM25Config(tokenizer=str.split), of)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_building_takes_the_memory_of_a_part_however_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(partitioning, "AT_ONCE", 1000)
    monkeypatch.setattr("hf_hardneg.index.bm25.counting.BATCH", 500)
    peak_of_building(tmp_path / "compiled", 100, 2)
    few, many = (peak_of_building(tmp_path / str(of), 1000 * of, of) for of in (2, 12))
    assert many < 1.3 * few
