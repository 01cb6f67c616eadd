"""Every signal against a slow, obvious computation, and what the filters that read it remove."""

import re
import tracemalloc
from collections import defaultdict

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import (
    BM25,
    ContainsAnswer,
    Dense,
    Disagreement,
    HardNegatives,
    Hybrid,
    NearDuplicate,
    NearQuery,
    SameParent,
    Strategy,
    TooSimilar,
    mine,
)
from hf_hardneg.errors import ColumnError, ConfigError
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers import fused
from hf_hardneg.signals import words
from tests.audits.oracle import word_grams
from tests.worlds import encode, needed, world


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def by_query(pairs):
    """Rows of known positives of each query, over all rows; -1 for texts outside the corpus."""
    known = defaultdict(set)
    for row in pairs:
        known[row["query_id"]] |= {("id", one) for one in row["positive_ids"]}
        known[row["query_id"]] |= {("text", one) for one in row["positive"]}
    return known


def removed_by_share(values, position, quantile, pool):
    """Which candidates lie in the upper part of the pool, counted one by one."""
    inside = [value for value, place in zip(values, position, strict=False) if place < pool]
    return [sum(one < value for one in inside) / len(inside) >= quantile for value in values]


@pytest.mark.parametrize("seed", range(3))
def test_too_similar_counts_what_lies_above_the_quantile_of_similarity_to_the_nearest_positive(seed):
    pairs, corpus = world(seed)
    options = {"encoder": encode, "num_negatives": 60}
    plain = mine(pairs, corpus, Strategy([Dense()]), **options)
    mined = mine(pairs, corpus, Strategy([Dense()], [TooSimilar(0.6, pool=20)]), **options)
    texts = dict(zip(corpus["_id"], corpus["text"], strict=True))
    known = by_query(pairs)
    for before, after in zip(plain, mined, strict=True):
        positives = [texts[one] if kind == "id" else one for kind, one in known[before["query_id"]]]
        similar = (unit(encode(before["negatives"])) @ unit(encode(positives)).T).max(1)
        gone = removed_by_share(np.round(similar, 5), range(60), 0.6, 20)
        expected = [one for one, out in zip(before["negative_ids"], gone, strict=True) if not out]
        assert after["negative_ids"] == expected
        assert after["mining"]["too_similar"] == sum(gone)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_disagreement_compares_with_bm25_for_vectors_and_with_vectors_for_bm25(seed):
    pairs, corpus = world(seed)
    options = {"encoder": encode, "num_negatives": 60}
    scores = {}
    for row in mine(pairs, corpus, Strategy([BM25(60)]), num_negatives=60):
        for one, score in zip(row["negative_ids"], row["negative_scores"], strict=True):
            scores[row["query_id"], one] = score
    for row, plain in zip(
        mine(pairs, corpus, Strategy([Dense()], [Disagreement(0.7, pool=20)]), **options),
        mine(pairs, corpus, Strategy([Dense()]), **options),
        strict=True,
    ):
        values = [scores.get((row["query_id"], one), 0.0) for one in plain["negative_ids"]]
        gone = removed_by_share(values, range(60), 0.7, 20)
        assert row["negative_ids"] == [one for one, out in zip(plain["negative_ids"], gone, strict=True) if not out]
    lexical = Strategy([BM25()], [Disagreement(0.7, pool=20)])
    for row, plain in zip(
        mine(pairs, corpus, lexical, **options),
        mine(pairs, corpus, Strategy([BM25()]), num_negatives=60),
        strict=True,
    ):
        if len(plain["negatives"]) >= 20:
            near = unit(encode(plain["negatives"])) @ unit(encode([row["query"]]))[0]
            gone = removed_by_share(np.round(near, 5), range(60), 0.7, 20)
            assert row["mining"]["disagreement"] == sum(gone)


def test_a_handful_of_candidates_tells_nothing():
    corpus = Dataset.from_dict({"_id": list("abcdef"), "text": [f"word1 word{i}" for i in range(6)]})
    pairs = Dataset.from_dict({"query": ["word1"], "positive_ids": [["a"]]})
    row = mine(pairs, corpus, "dense", encoder=encode, num_negatives=9)[0]
    assert len(row["negatives"]) == 5 and row["mining"]["too_similar"] == row["mining"]["disagreement"] == 0


def test_a_positive_that_cannot_be_encoded_removes_nothing():
    rng = np.random.default_rng(0)
    corpus = Dataset.from_dict({"text": [f"t{i}" for i in range(40)], "v": rng.normal(size=(40, 8)).tolist()})
    pairs = Dataset.from_dict({"query": ["q"], "positive": ["outside"], "v": rng.normal(size=(1, 8)).tolist()})
    miner = HardNegatives(corpus, "dense", columns={"vector": "v", "query_vector": "v"}, num_negatives=40)
    row = pairs.map(miner, batched=True)[0]
    assert row["mining"]["too_similar"] == 0 and len(row["negatives"]) == 40


def test_positives_of_a_query_of_the_same_words():
    corpus = Dataset.from_dict({"_id": list("abcd"), "text": ["reset iphone a", "reset iphone b", "iphone c", "reset"]})
    pairs = Dataset.from_dict(
        {"query": ["The iPhone: reset!", "reset iphone", "reset"], "positive_ids": [["a"], ["b"], ["d"]]}
    )
    mined = mine(pairs, corpus, Strategy([Dense()], [NearQuery()]), encoder=encode)
    assert [sorted(row["negative_ids"]) for row in mined] == [["c", "d"], ["c", "d"], ["a", "b", "c"]]
    assert [row["mining"]["near_query"] for row in mined] == [1, 1, 0]


def test_candidates_with_an_answer():
    texts = ["ask paris, france", "ask Parisian life", "ask berlin", "ask 東京都に住む", "ask x"]
    corpus = Dataset.from_dict({"_id": list("abcde"), "text": texts})
    pairs = Dataset.from_dict(
        {"query": ["ask", "ask", "ask"], "positive_ids": [["e"]] * 3, "answers": [["Paris", "Rome"], [], ["東京"]]}
    )
    mined = mine(pairs, corpus, Strategy([BM25()]), columns={"answer": "answers"})
    assert [sorted(row["negative_ids"]) for row in mined] == [["b", "c", "d"], ["a", "b", "c", "d"], ["a", "b", "c"]]
    assert mined[0]["mining"]["contains_answer"] == 1
    with pytest.raises(ColumnError, match="has no column 'answer'.*columns=.'answer'"):
        mine(pairs, corpus, "bm25", columns={"answer": "answer"})
    with pytest.raises(ConfigError, match="no column of them is named; pass columns=.'answer'"):
        mine(pairs, corpus, Strategy([BM25()], [ContainsAnswer()]))


def test_parts_of_a_positives_document():
    corpus = Dataset.from_dict(
        {"_id": list("abcd"), "text": [f"ask {i}" for i in range(4)], "page": ["p", "q", "p", "r"]}
    )
    pairs = Dataset.from_dict({"query": ["ask"], "positive_ids": [["a"]]})
    row = mine(pairs, corpus, "bm25", columns={"parent": "page"})[0]
    assert row["negative_ids"] == ["b", "d"] and row["mining"]["same_parent"] == 1
    with pytest.raises(ColumnError, match="corpus has no column 'pages'.*columns=.'parent'"):
        mine(pairs, corpus, Strategy([BM25()], [SameParent("pages")]))


def test_parents_may_be_several_or_none():
    """What is part of nothing shares that with no other document."""
    texts = [f"ask {i}" for i in range(5)]
    pairs = Dataset.from_dict({"query": ["ask", "ask him"], "positive_ids": [["a"], ["d"]]})
    for pages in (
        [["p", "q"], ["r", "q"], ["p"], [], ["s", ""]],
        [["p", "q"], ["q"], ["x", "p"], None, [None]],
        ["p", "p", "p", "", None],
        [7, 7, 7, None, None],
        ["p", "p", "p", " ", "\t"],
    ):
        corpus = Dataset.from_dict({"_id": list("abcde"), "text": texts, "page": pages})
        mined = mine(pairs, corpus, Strategy([BM25()]), columns={"parent": "page"})
        assert [sorted(row["negative_ids"]) for row in mined] == [["d", "e"], ["a", "b", "c", "e"]]


def test_near_copies_of_a_positive():
    text = "the quick brown fox jumps over the lazy dog near the river"
    corpus = Dataset.from_dict({"_id": list("abc"), "text": [text, f"{text} bank", "quick fox of the river"]})
    pairs = Dataset.from_dict({"query": ["fox river"], "positive_ids": [["a"]]})
    row = mine(pairs, corpus, Strategy([BM25()], [NearDuplicate(0.9)]))[0]
    assert row["negative_ids"] == ["c"] and row["mining"]["near_duplicate"] == 1
    one, other = (word_grams(one) for one in corpus["text"][:2])
    assert len(one & other) / len(one | other) == 10 / 11
    assert word_grams("two words") == {"two words"} and words("A-b,\nC") == " a b c "


def test_texts_without_a_word_are_not_alike():
    corpus = Dataset.from_dict(
        {"_id": list("abc"), "text": ["+", "-", "\U0001f600"], "v": [[1.0, 0], [0.9, 0], [0.8, 1]]}
    )
    pairs = Dataset.from_dict({"query": ["plus"], "positive_ids": [["a"]], "q": [[1.0, 0.0]]})
    columns = {"vector": "v", "query_vector": "q"}
    row = mine(pairs, corpus, Strategy([Dense()], [NearDuplicate()]), columns=columns)[0]
    assert row["negative_ids"] == ["b", "c"] and word_grams("+") == frozenset()


def test_reciprocal_rank_fusion_by_hand():
    """Two lists of one query: 7 is in both, 5 and 9 lead one each."""
    first = Hits(np.array([0, 0, 0]), np.array([5, 7, 8]), np.zeros(3))
    second = Hits(np.array([0, 0, 1]), np.array([9, 7, 3]), np.zeros(3))
    query, doc, source = fused([first, second], None, np.array([3, 3]))
    assert list(zip(query, doc, source, strict=True)) == [(0, 7, 3), (0, 5, 1), (0, 9, 2), (1, 3, 2)]
    query, doc, source = fused([first, second], (2, 1), np.array([9, 9]))
    assert doc[query == 0].tolist() == [5, 7, 9, 8]


@pytest.mark.parametrize("quotas", [None, (1, 2)])
def test_a_union_is_scored_by_vectors_and_names_who_found_what(quotas):
    pairs, corpus = world(1)
    options = {"encoder": encode, "num_negatives": 12}
    mined = mine(pairs, corpus, Strategy([Hybrid([BM25(15), Dense(15)], quotas=quotas)]), **options)
    texts = dict(zip(corpus["_id"], corpus["text"], strict=True))
    found = {
        name: {
            row["query_id"]: set(row["negative_ids"])
            for row in mine(pairs, corpus, Strategy([retriever]), **needed(Strategy([retriever])), num_negatives=60)
        }
        for name, retriever in (("bm25", BM25(60)), ("dense", Dense(60)))
    }
    for row in mined:
        near = unit(encode([texts[one] for one in row["negative_ids"]])) @ unit(encode([row["query"]]))[0]
        np.testing.assert_allclose(row["negative_scores"], near, atol=1e-5)
        for one, source in zip(row["negative_ids"], row["negative_sources"], strict=True):
            assert re.fullmatch(r"bm25|dense|bm25\+dense", source)
            assert all(one in found[name][row["query_id"]] for name in source.split("+"))


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: TooSimilar(0), r"TooSimilar\(quantile=0\) .* a number above 0 and up to 1"),
        (lambda: Disagreement(pool=5), r"Disagreement\(pool=5\) .* a whole number of at least 10"),
        (lambda: NearDuplicate(2), r"NearDuplicate\(threshold=2\) .* a number above 0 and up to 1"),
        (lambda: Hybrid([BM25()]), "got bm25; give two or more of different kinds"),
        (
            lambda: Hybrid([BM25(), Dense()], quotas=(1,)),
            "do not suit 2 members; give one number of at least 1 for each",
        ),
    ],
)
def test_what_cannot_work(build, text):
    with pytest.raises(ConfigError, match=text):
        build()


def test_disagreement_needs_a_second_view():
    pairs, corpus = world(0)
    with pytest.raises(ConfigError, match="needs vectors and got none"):
        HardNegatives(corpus, Strategy([BM25()], [Disagreement()]))
    with pytest.raises(ConfigError, match="needs a retriever that scores, and random does not"):
        mine(pairs, corpus, "random+disagreement")


def test_the_parents_of_a_positive_are_those_of_its_copies_too():
    """A text that stands on two pages is one document: whichever row is looked up, neither page comes out."""
    texts = ["red cat", "red dog", "red cat", "red bird", "red fish"]
    corpus = Dataset.from_dict({"_id": [*"abcde"], "text": texts, "page": ["one", "one", "two", "two", "three"]})
    pairs = Dataset.from_dict({"query": ["red"], "positive": [["red cat"]], "positive_ids": [["c"]]})
    assert mine(pairs, corpus, Strategy([BM25()]), columns={"parent": "page"})[0]["negative_ids"] == ["e"]


@pytest.mark.parametrize("retriever", [BM25(20), Dense(20)])
def test_similarities_are_the_same_in_blocks_of_any_size(retriever, monkeypatch, tmp_path):
    pairs, corpus = world(4)
    strategy = Strategy([retriever], [TooSimilar(0.5, 10)])
    whole = mine(pairs, corpus, strategy, **needed(strategy), cache_dir=str(tmp_path / "whole"))
    monkeypatch.setattr("hf_hardneg.signals.positive_similarity.PAIRS", 50)
    assert mine(pairs, corpus, strategy, **needed(strategy), cache_dir=str(tmp_path / "blocks"))[:] == whole[:]


@pytest.mark.slow
def test_many_positives_of_one_query_are_held_in_parts():
    """Pairs of all rows at once would take gigabytes here."""
    vectors = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    ids = [str(row) for row in range(2000)]
    corpus = Dataset.from_dict({"_id": ids, "text": [f"text {one}" for one in ids], "v": list(vectors)})
    positives = ids[:400]
    pairs = Dataset.from_dict({"query": ["q"] * 400, "positive_ids": positives, "qv": [vectors[0]] * 400})
    options = {"columns": {"vector": "v", "query_vector": "qv"}, "known_positives": [pairs]}
    miner = HardNegatives(corpus, Strategy([Dense(60)], [NearQuery(), TooSimilar()]), **options)
    tracemalloc.start()
    pairs.with_format("arrow").map(miner, batched=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 400 * 60 * 8
