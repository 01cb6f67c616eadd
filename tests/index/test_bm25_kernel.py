"""The kernel and the files it reads, against slow oracles and bm25s' own indexer."""

import itertools
import json
from collections import Counter
from typing import get_args
from unittest.mock import patch

import bm25s
import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.index.bm25 import bm25_index, building, chosen_pairs, counting, kernel
from hf_hardneg.index.bm25.building import write_index
from hf_hardneg.index.bm25.vocabulary import open_vocabulary, save_vocabulary
from hf_hardneg.index.bm25.weights import BM25Config, Variant
from hf_hardneg.store import directories, kinds
from hf_hardneg.text.analysis import Analyzer

pytestmark = pytest.mark.slow

PLAIN = Analyzer(language=None)
LETTERS = "abcdefgh"
WINDOWS = (64, 128, kernel.WINDOW)


def postings_of(matrix, share=2):
    """The index of a (documents, terms) matrix of weights, NaN where a document lacks a term."""
    having = ~np.isnan(matrix)
    rows = [np.flatnonzero(column).astype(np.int32) for column in having.T]
    starts = np.cumsum([0, *map(len, rows)])
    weights = np.concatenate([matrix[r, t] for t, r in enumerate(rows)]).astype(np.float32)
    common = np.flatnonzero(np.diff(starts) * share >= len(matrix)).astype(np.int32)
    bits = np.zeros((len(common), -(-len(matrix) // 64)), np.uint64)
    before = np.zeros(bits.shape, np.int32)
    for slot, term in enumerate(common):
        for row in rows[term]:
            bits[slot, row // 64] |= np.uint64(1) << np.uint64(row % 64)
        before[slot] = [(rows[term] < 64 * word).sum() for word in range(bits.shape[1])]
    largest = np.zeros((len(rows), len(kernel.RANKS)), np.float32)
    for term in range(len(rows)):
        descending = np.sort(weights[starts[term] : starts[term + 1]])[::-1]
        for column, rank in enumerate(kernel.RANKS):
            largest[term, column] = descending[rank - 1] if rank <= len(descending) else 0
    arrays = np.concatenate([np.zeros(0, np.int32), *rows]), starts, largest, common, bits, before
    return kernel.Postings(len(matrix), weights, *arrays)


def oracle(matrix, queries, limits):
    """Hits of each query of (term, factor): float32 sums in the order of the terms, ties by row."""
    hits = []
    for number, (terms, k) in enumerate(zip(queries, limits, strict=True)):
        scores = {}
        for term, factor in terms:
            for row in np.flatnonzero(~np.isnan(matrix[:, term])):
                scores[int(row)] = scores.get(int(row), np.float32(0)) + np.float32(factor) * matrix[row, term]
        best = sorted(scores, key=lambda row: (-scores[row], row))[:k]
        hits += [(number, row, scores[row]) for row in best]
    return hits


@st.composite
def worlds(draw):
    """Weights from a few values, so that they tie, or far apart or close together, so that sums round; zeros too."""
    documents, terms = draw(st.sampled_from([1, 3, 64, 65, 200, 700])), draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (documents, terms)
    matrix = {
        "tied": random.choice([0.0, 0.1, 0.3, 1.7], size=shape),
        "apart": random.exponential(size=shape) * random.choice([1e-3, 1, 30], size=terms),
        "close": 1 + random.integers(0, 1000, size=shape) * 2.0**-22,
    }[draw(st.sampled_from(["tied", "apart", "close"]))]
    density = random.choice([0.02, 0.3, 0.95], size=terms)
    matrix = np.where(random.random(matrix.shape) < density, matrix, np.nan).astype(np.float32)
    queries = draw(st.lists(st.lists(st.integers(0, terms - 1), max_size=9), max_size=5))
    limits = draw(st.lists(st.sampled_from([0, 1, 2, 16, 33, 900]), min_size=len(queries), max_size=len(queries)))
    size = sum(map(len, queries))
    factors = {
        "none": np.ones(size),
        "tied": random.choice([0.0, 0.25, 1.0], size=size),
        "apart": random.exponential(size=size) * random.choice([1e-3, 1, 30], size=size),
    }[draw(st.sampled_from(["none", "tied", "apart"]))]
    terms = kernel.Terms(
        np.array([term for query in queries for term in query], np.int64),
        factors.astype(np.float32),
        np.cumsum([0, *map(len, queries)]),
    )
    return matrix, terms, limits, draw(st.sampled_from(WINDOWS)), draw(st.sampled_from([0, 2, 1000]))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(worlds())
def test_search_equals_summing_everything(world):
    matrix, terms, limits, window, share = world
    postings = postings_of(matrix, share)
    terms = kernel.ordered(terms, postings)
    pairs = list(zip(terms.flat, terms.factors, strict=True))
    queries = [pairs[first:end] for first, end in itertools.pairwise(terms.pointers)]
    found = kernel.search(terms, np.array(limits, np.int64), postings, window)
    expected = oracle(matrix, queries, limits)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == [(q, d, float(s)) for q, d, s in expected]
    query, rows = found[0], found[1]
    assert chosen_pairs.score_rows(terms, query, rows, postings).tolist() == found[2].tolist()
    every, scores = np.divmod(np.arange(len(queries) * len(matrix)), len(matrix)), np.zeros((len(queries), len(matrix)))
    for number, row, score in oracle(matrix, queries, [len(matrix)] * len(queries)):
        scores[number, row] = score
    shuffled = np.random.default_rng(window).choice(len(every[0]), 2 * len(every[0]) // 3 + 7 * bool(queries))
    query, rows = every[0][shuffled], every[1][shuffled]
    assert chosen_pairs.score_rows(terms, query, rows, postings).tolist() == scores[query, rows].tolist()


def test_terms_are_ordered_by_bitmap_then_what_they_add_then_number():
    matrix = np.full((8, 5), np.nan, np.float32)
    for term, (having, weight) in enumerate([(8, 3), (1, 1), (1, 2), (8, 4), (1, 2)]):
        matrix[:having, term] = weight
    flat = np.array([0, 1, 2, 3, 4, 4, 3, 0, 2])
    factors = np.array([1, 1, 1, 1, 1, 1, 1, 2, 0.25], np.float32)
    ordered = kernel.ordered(kernel.Terms(flat, factors, np.array([0, 5, 5, 9])), postings_of(matrix))
    assert ordered.flat.tolist() == [2, 4, 1, 3, 0, 4, 2, 0, 3]
    assert ordered.factors.tolist() == [1, 1, 1, 1, 1, 1, 0.25, 2, 1]


@settings(max_examples=40, deadline=None)
@given(st.permutations(["aa", "bb", "cc", "dd", "ee", "ff", "aa"]))
def test_the_order_of_words_changes_no_score(tmp_path_factory, words):
    texts = [" ".join(letter * 2 for place, letter in enumerate(LETTERS) if row >> place & 1) for row in range(256)]
    corpus = open_corpus(Dataset.from_dict({"text": texts}), cache_dir=str(tmp_path_factory.getbasetemp() / "words"))
    config = BM25Config(tokenizer=PLAIN)
    index = bm25_index.BM25Index(directory=bm25_index.build_bm25(corpus, config), config=config)
    both = [index.search([" ".join(query)], np.array([50])) for query in (words, sorted(words))]
    assert both[0].doc.tolist() == both[1].doc.tolist()
    assert both[0].score.tolist() == both[1].score.tolist()


texts_of_letters = st.lists(
    st.lists(st.sampled_from([letter * 2 for letter in LETTERS]), max_size=9).map(" ".join), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(texts_of_letters, st.sampled_from(get_args(Variant)), st.sampled_from([(1.5, 0.75), (0.9, 0.4), (0.0, 1.0)]))
def test_the_index_is_that_of_bm25s_bit_for_bit(tmp_path_factory, texts, variant, parameters):
    k1, b = parameters
    config = BM25Config(k1=k1, b=b, variant=variant, tokenizer=PLAIN)
    if not any(texts):
        return
    directory = tmp_path_factory.mktemp("index")
    corpus = open_corpus(Dataset.from_dict({"text": texts}), cache_dir=str(directory.with_name("cache")))
    with patch.object(counting, "FEWEST", 2):
        write_index(directory, corpus, config)
    vocabulary = {}
    tokens = [[vocabulary.setdefault(term, len(vocabulary)) for term in PLAIN(text)] for text in texts]
    theirs = bm25s.BM25(k1=k1, b=b, method=variant)
    theirs.index(bm25s.tokenization.Tokenized(ids=tokens, vocab=vocabulary), False, False)
    for name in ("data", "indices", "indptr"):
        ours = np.load(directory / f"{name}.csc.index.npy")
        assert ours.dtype == theirs.scores[name].dtype and ours.tolist() == theirs.scores[name].tolist()
    ends, characters = np.load(directory / "terms.ends.npy"), np.load(directory / "terms.bytes.npy").tobytes()
    assert [characters[start:end].decode() for start, end in itertools.pairwise(ends)] == list(vocabulary)


@settings(max_examples=40, deadline=None)
@given(texts_of_letters, st.integers(1, 1000))
def test_bounds_and_bitmaps_describe_the_postings(tmp_path_factory, texts, share):
    if not any(texts):
        return
    directory = tmp_path_factory.mktemp("index")
    corpus = open_corpus(Dataset.from_dict({"text": texts}), cache_dir=str(directory.with_name("cache")))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(building, "SHARE", share)
        patched.setattr(building, "CHUNK", 5)
        write_index(directory, corpus, BM25Config(tokenizer=PLAIN))
    having = Counter(term for text in texts for term in set(PLAIN(text)))
    matrix = np.full((len(texts), len(having)), np.nan, np.float32)
    built = [np.load(directory / name) for name in building.ARRAYS]
    for term in range(len(having)):
        part = slice(built[2][term], built[2][term + 1])
        matrix[built[1][part], term] = built[0][part]
    for ours, expected in zip(built, postings_of(matrix, share)[1:], strict=True):
        assert ours.tolist() == expected.tolist()
    assert sorted(np.diff(built[2])) == sorted(having.values())
    assert not list(directory.glob("*.partial"))


@given(st.lists(st.text(max_size=5), unique=True), st.lists(st.text(max_size=5)))
def test_vocabulary_finds_what_is_there(tmp_path_factory, terms, others):
    cache = tmp_path_factory.mktemp("vocabulary")
    directory = directories.obtain(cache, kinds.BM25, {}, lambda folder: save_vocabulary(folder, terms))
    vocabulary = open_vocabulary(directory, terms=len(terms))
    asked = [*others, *terms]
    expected = [terms.index(term) if term in terms else -1 for term in asked]
    assert vocabulary.numbers(asked).tolist() == expected


def test_documents_that_share_only_a_term_without_weight_come_last(tmp_path):
    texts = ["aa bb", "aa", "aa bb", "aa cc"]
    config = BM25Config(variant="atire", tokenizer=PLAIN)
    corpus = open_corpus(Dataset.from_dict({"text": texts}), cache_dir=str(tmp_path))
    index = bm25_index.BM25Index(directory=bm25_index.build_bm25(corpus, config), config=config)
    postings, terms = bm25_index._opened(index.directory).postings, index.terms(["aa cc aa"])
    _, doc, score = kernel.search(terms, np.array([3]), postings, 64)
    assert doc.tolist() == [3, 0, 1]
    assert score[0] > 0 and score[1:].tolist() == [0, 0]


def test_a_layout_that_changed_is_another_index(tmp_path):
    corpus = open_corpus(Dataset.from_dict({"text": ["aa bb", "cc"]}), cache_dir=str(tmp_path))
    manifest = json.loads((bm25_index.build_bm25(corpus, BM25Config()) / "manifest.json").read_text())
    assert manifest["parameters"]["layout"] == bm25_index.LAYOUT
