"""A retriever that the library has never seen, and that says it misses some."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from hf_hardneg import (
    BM25,
    Dense,
    HardNegatives,
    Hybrid,
    RelativeMargin,
    Reranked,
    Strategy,
    mine,
    plan,
    recipe_of,
    report,
)
from hf_hardneg.hub import mined_dataset_card
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers import Retriever, Searcher
from tests.worlds import world


@dataclass(frozen=True)
class ByLength(Retriever):
    """Documents about as long as the query."""

    depth: int = 20
    name: ClassVar[str] = "by_length"
    score_kind: ClassVar[str] = "length"
    can_score: ClassVar[bool] = True

    def bind(self, sources):
        texts = sources.corpus.texts(np.arange(len(sources.corpus))).to_pylist()
        return ByLengthSearcher(tuple(map(len, texts)))


@dataclass(frozen=True)
class ByLengthSearcher(Searcher):
    lengths: tuple[int, ...]
    name: ClassVar[str] = "by_length"
    score_kind: ClassVar[str] = "length"
    recall: ClassVar[float] = 0.97

    @property
    def identity(self):
        return f"by length {self.lengths}"

    def prepare(self, queries):
        return np.array([len(text) for text in queries.texts])

    def search(self, queries, k):
        scores = -np.abs(queries[:, None] - np.array(self.lengths)[None])
        docs = np.argsort(-scores, axis=1, kind="stable")[:, : int(k.max(initial=0))]
        kept = np.arange(docs.shape[1]) < k[:, None]
        query = np.broadcast_to(np.arange(len(queries))[:, None], docs.shape)[kept]
        return Hits(query, docs[kept], scores[query, docs[kept]].astype(np.float32))

    def score(self, queries, query, rows):
        return -np.abs(queries[query] - np.array(self.lengths)[rows]).astype(np.float32)

    def score_texts(self, queries, query, texts):
        return -np.abs(queries[query] - np.array(list(map(len, texts)))).astype(np.float32)

    def prepare_documents(self, positives, corpus):
        return np.array([len(text) for text in positives.texts(corpus)])


@pytest.fixture
def rows():
    return world(5)


def test_a_recall_below_one_travels_to_the_report_the_recipe_and_the_card(rows):
    pairs, corpus = rows
    strategy = Strategy([ByLength()], [RelativeMargin(0.0)])
    mined = mine(pairs, corpus, strategy)
    assert report(mined).search_recall == pytest.approx(0.97)
    assert recipe_of(mined).indexes[0]["recall"] == 0.97 and "factory" not in recipe_of(mined).indexes[0]
    card = mined_dataset_card(mined, repo_id="ada/set")
    assert re.search("approximate, which by its own account found `?0.97`? of the nearest", str(card))
    miner = HardNegatives(corpus, strategy, known_positives=[pairs])
    assert pairs.map(miner, batched=True)["negative_ids"][:] == mined["negative_ids"][:]
    for row in mined:
        assert all(score <= min(row["positive_scores"]) for score in row["negative_scores"])


def test_it_is_planned_and_joined_with_others(rows):
    pairs, corpus = rows
    assert plan(pairs, corpus, Strategy([ByLength()])).seconds >= 0
    mined = mine(pairs, corpus, Strategy([Hybrid([BM25(20), ByLength()])]))
    assert report(mined).search_recall == pytest.approx(0.97)


@pytest.mark.parametrize("retriever", [BM25(7), Hybrid([BM25(7), Dense(9)]), Reranked(Hybrid([BM25(7), Dense(9)]))])
def test_the_parts_of_any_retriever_are_changed_in_their_places(retriever):
    changed = retriever.with_parts(lambda part: replace(part, depth=3))
    assert [part.depth for part in changed.parts] == [3] * len(retriever.parts)
    assert type(changed) is type(retriever) and retriever.with_parts(lambda part: part) == retriever
