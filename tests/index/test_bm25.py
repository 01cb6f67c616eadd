import math
import pickle
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, HardNegWarning, StoreError, UnknownNameError
from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
from hf_hardneg.index.bm25.building import write_index
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.text.analysis import Analyzer

PLAIN = Analyzer(language=None)
DOCS = ["cat sat mat", "cat cat dog", "dog barks", "the mat is red mat"]


def index_of(texts, cache, **config):
    corpus = open_corpus(Dataset.from_dict({"text": texts}), cache_dir=str(cache))
    config = BM25Config(**{"tokenizer": PLAIN, **config})
    return BM25Index(directory=build_bm25(corpus, config), config=config)


def oracle(texts, query, k1=1.5, b=0.75, analyze=PLAIN):
    documents = [analyze(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for term in analyze(query):
            df = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            score += idf * counts[term] / (counts[term] + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [0.5744008508, 0.406125672, 0, 0.337645465]),
        ({"k1": 0.9, "b": 0.4}, [0.74042016, 0.4826413148, 0, 0.4480812207]),
    ],
)
def test_published_vector(config, expected, tmp_path):
    np.testing.assert_allclose(oracle(DOCS, "cat mat", **config), expected, rtol=1e-8)
    index = index_of(DOCS, tmp_path, **config)
    rows = np.arange(4)
    np.testing.assert_allclose(index.score_rows(["cat mat"], np.zeros(4, int), rows), expected, rtol=1e-5)
    np.testing.assert_allclose(index.score_texts(["cat mat"], np.zeros(4, int), DOCS), expected, rtol=1e-5)
    hits = index.search(["cat mat"], np.array([10]))
    assert hits.doc.tolist() == [0, 1, 3]


words = st.lists(st.sampled_from(["aa", "bb", "cc", "dd", "ee"]), max_size=8).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(words, min_size=1, max_size=30), st.lists(words, min_size=1, max_size=5), st.integers(1, 40))
def test_search_equals_the_oracle_with_ties_in_corpus_order(tmp_path_factory, texts, queries, k):
    if not any(texts):
        return
    index = index_of(texts, tmp_path_factory.mktemp("bm25"))
    hits = index.search(queries, np.full(len(queries), k))
    for number, query in enumerate(queries):
        nought = np.zeros(len(texts), int)
        scores = index.score_rows([query], nought, np.arange(len(texts)))
        np.testing.assert_allclose(scores, oracle(texts, query), rtol=1e-5, atol=1e-7)
        assert index.score_texts([query], nought, texts).tolist() == scores.tolist()
        order = [row for row in sorted(range(len(texts)), key=lambda row: (-scores[row], row)) if scores[row] > 0][:k]
        mine = hits.query == number
        assert hits.doc[mine].tolist() == order
        assert hits.score[mine].tolist() == scores[order].tolist()
        assert (
            index.score_rows([query], np.zeros(len(order), int), np.array(order, int)).tolist()
            == scores[order].tolist()
        )


def test_many_queries_over_threads_equal_one_by_one(tmp_path):
    texts = [f"w{i % 7}x w{i % 11}y w{i % 13}z" for i in range(500)]
    index = index_of(texts, tmp_path)
    queries = texts[:100]
    together = index.search(queries, np.full(100, 9))
    alone = [index.search([query], np.array([9])) for query in queries]
    assert together.doc.tolist() == np.concatenate([hits.doc for hits in alone]).tolist()
    assert together.query.tolist() == np.repeat(np.arange(100), 9).tolist()


def test_other_variants_rank_as_bm25s_does(tmp_path):
    import bm25s

    for variant in ("robertson", "atire"):
        index = index_of(DOCS, tmp_path, variant=variant)
        peer = bm25s.BM25(k1=index.config.k1, b=index.config.b, method=variant)
        peer.index([PLAIN(text) for text in DOCS], show_progress=False)
        expected = peer.get_scores(["cat", "mat"])
        rows = index.score_rows(["cat mat"], np.zeros(4, int), np.arange(4))
        np.testing.assert_allclose(rows, expected, rtol=1e-6)
        texts = index.score_texts(["cat mat"], np.zeros(4, int), DOCS)
        np.testing.assert_allclose(texts, expected, rtol=1e-5)


def test_nothing_in_common_is_no_hit(tmp_path):
    hits = index_of(DOCS, tmp_path).search(["zebra", "", "dog"], np.array([5, 5, 5]))
    assert hits.query.tolist() == [2, 2]


@pytest.mark.parametrize("row", [-1, 4])
def test_a_document_beyond_the_index_is_not_scored(tmp_path, row):
    with pytest.raises(StoreError, match=f"Row {row} was asked of a column of 4 rows"):
        index_of(DOCS, tmp_path).score_rows(["cat"], np.zeros(2, int), np.array([1, row]))


def test_pickle_is_a_path(tmp_path):
    index = index_of(DOCS, tmp_path)
    index.search(["cat"], np.array([1]))
    assert len(pickle.dumps(index)) < 1000
    assert pickle.loads(pickle.dumps(index)).search(["cat"], np.array([1])).doc.tolist() == [1]


def test_bad_configuration(tmp_path):
    with pytest.raises(UnknownNameError, match="Unknown variant 'bm25f'; known are atire, lucene, robertson"):
        BM25Config(variant="bm25f")
    with pytest.raises(ConfigError, match="at least 0 and up to 1"):
        BM25Config(b=2)
    with pytest.raises(ConfigError, match="No document has a term"):
        index_of(["", "!"], tmp_path)


def test_a_tokenizer_that_fails_the_script_is_reported(tmp_path):
    with pytest.warns(HardNegWarning, match=r"350\.0 characters per term"):
        index_of(["x" * 400, "y" * 300], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stops_after", [0, 1, 3, 7])
@pytest.mark.parametrize("documents", [5_000, 130_000])
def test_a_stopped_build_goes_on_and_the_index_is_the_same(stops_after, documents, tmp_path):
    """It counts a twentieth of the documents twice at most, and the files are equal byte for byte."""
    words = [f"word{number}" for number in range(500)]
    random = np.random.default_rng(3)
    texts = [" ".join(words[i] for i in random.zipf(1.3, 6) % 500) for _ in range(documents)]
    counted = []

    class Stopping:
        def __init__(self, after):
            self.after = after

        def __call__(self, text):
            if len(counted) == self.after:
                raise RuntimeError("stopped")
            counted.append(1)
            return text.split()

    def tokenizer(text):
        return current(text)

    corpus = open_corpus(Dataset.from_dict({"text": texts}), cache_dir=str(tmp_path / "cache"))
    size = min(max(documents // 20, 2_000), 50_000)
    current = Stopping(stops_after * size + size // 2 if stops_after * size < documents else documents - 1)
    folder, whole = tmp_path / "folder", tmp_path / "whole"
    folder.mkdir(), whole.mkdir()
    with pytest.raises(RuntimeError, match="stopped"):
        write_index(folder, corpus, BM25Config(tokenizer=tokenizer))
    current = Stopping(-1)
    names = write_index(folder, corpus, BM25Config(tokenizer=tokenizer))
    assert len(counted) - documents <= size
    write_index(whole, corpus, BM25Config(tokenizer=tokenizer))
    assert {name: (folder / name).read_bytes() for name in names} == {
        name: (whole / name).read_bytes() for name in names
    }
