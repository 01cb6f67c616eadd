"""A retriever by vectors of a function's own."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hf_hardneg.retrievers import Hits, Retriever, Searcher


@dataclass(frozen=True)
class Nearby(Retriever):
    embed: Callable[[list[str]], np.ndarray] = field(repr=False)
    depth: int = 20
    name = "nearby"
    score_kind = "cosine"
    can_score = True
    has_vectors = True

    def bind(self, sources):
        texts = sources.corpus.texts(np.arange(len(sources.corpus))).to_pylist()
        return NearbySearcher(f"nearby {sources.corpus.digest}", self.embed(texts), self.embed)


@dataclass(frozen=True)
class NearbySearcher(Searcher):
    identity: str
    documents: np.ndarray
    embed: Callable[[list[str]], np.ndarray]
    name = "nearby"
    score_kind = "cosine"

    def prepare(self, queries):
        return self.embed(queries.texts)

    def search(self, queries, k):
        query, rows = np.indices((len(queries), len(self.documents))).reshape(2, -1)
        scores = self.score(queries, query, rows).reshape(len(queries), -1)
        best = np.argsort(-scores, axis=1, kind="stable")
        query, rank = np.nonzero(np.arange(best.shape[1]) < k[:, None])
        return Hits(query, best[query, rank], scores[query, best[query, rank]])

    def score(self, queries, query, rows):
        return (queries[query] * self.documents[rows]).sum(axis=1)

    def vectors(self, rows):
        return self.documents[rows]
