"""Topics: clusters of query vectors, and other values of documents that depend on a fixed set of queries.

They are computed once for the whole corpus, in blocks of fixed size, and stored: no batch can change them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import Queries, sampled_queries
from hf_hardneg.index.dense.dense_index import load_faiss
from hf_hardneg.retrievers import Searcher
from hf_hardneg.signals.base import BoundSignal, Context, OfVectors
from hf_hardneg.store import directories
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.kinds import TOPICS, Kind
from hf_hardneg.store.stored_arrays import Schema, Stored

BLOCK = 8192
ROUNDS = 25
VALUES = Schema.of({"learned": Stored(np.float32, "compared width"), "values": Stored(np.float32, "documents")})
PER_TOPIC = 256
"""Queries that k-means learns from, for each topic; FAISS takes no more."""


def of_corpus(
    context: Context,
    kind: Kind,
    size: int,
    parameters: Mapping[str, Any],
    learn: Callable[[np.ndarray], np.ndarray],
    of: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Path:
    """A directory with a value for each document that depends on known queries, built once.

    Where no queries are known, evenly spread documents stand in.

    Args:
        context (`Context`): the corpus and the queries.
        kind (`Kind`), parameters (`Mapping`): of the directory.
        size (`int`): how many queries, see `sampled_queries`.
        learn (`Callable`): from vectors of queries (n, d) to what documents are compared with, (m, d).
        of (`Callable`): from vectors of documents (k, d) and those (m, d) to values (k,).
    """
    searcher, documents = context.vectors(), len(context.sources.corpus)
    queries = sampled_queries(context.known, context.reader, size) if any(map(len, context.known)) else None

    def build(directory: Path) -> None:
        if queries is None:
            learned = learn(searcher.vectors(np.unique(np.linspace(0, documents - 1, size).astype(np.int64))))
        else:
            learned = learn(searcher.prepare(queries))
        rows = np.arange(documents)
        blocks = (searcher.vectors(rows[start : start + BLOCK]) for start in range(0, documents, BLOCK))
        save_array(directory / "learned.npy", learned)
        values = np.concatenate([of(block, learned) for block in blocks])
        save_array(directory / "values.npy", values.astype(np.float32))

    origin = {**parameters, "searcher": searcher.identity, "queries": queries and _digest(queries)}
    return directories.obtain(context.sources.corpus.cache, kind, origin, build, context.sources.corpus.about)


def _digest(queries: Queries) -> str:
    vectors = None if queries.vectors is None else directories.bytes_digest(np.ascontiguousarray(queries.vectors))
    return directories.digest_of({"texts": queries.texts, "vectors": vectors})


@dataclass(frozen=True)
class OfDocument:
    """A signal that is a stored value of the document."""

    directory: Path

    @property
    def identity(self) -> str:
        """The values."""
        return self.directory.name

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        """See `BoundSignal`."""
        return VALUES.opened(self.directory)["values"][candidates.doc]


@dataclass(frozen=True)
class SameTopic(OfVectors):
    """1 where the topic nearest to a candidate is the one nearest to its query, else 0.

    Args:
        topics (`int`): how many clusters k-means makes of the vectors of known queries, of 256 for each.
        seed (`int`, defaults to 42): of k-means.
    """

    topics: int
    seed: int = 42

    @property
    def name(self) -> str:
        """Such as `"same_topic@100"`."""
        return f"same_topic@{self.topics}"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        searcher = context.vectors()
        unit = searcher.score_kind == "cosine"

        def learn(vectors: np.ndarray) -> np.ndarray:
            return centroids_of(vectors, min(self.topics, len(vectors)), seed=self.seed, unit=unit)

        parameters = {"topics": self.topics, "seed": self.seed}
        directory = of_corpus(context, TOPICS, PER_TOPIC * self.topics, parameters, learn, topic_of)
        return _SameTopic(directory, searcher)


@dataclass(frozen=True)
class _SameTopic(OfDocument):
    searcher: Searcher

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        centroids = VALUES.opened(self.directory)["learned"]
        topics = [topic_of(vector[None], centroids)[0] for vector in self.searcher.prepare(queries)]
        return np.array(topics, np.float32)[candidates.query] == super().of(queries, candidates)


def centroids_of(vectors: np.ndarray, topics: int, *, seed: int, unit: bool) -> np.ndarray:
    """Centroids of a k-means, (topics, d) float32.

    Args:
        vectors (`np.ndarray`): (n, d) float32, at least as many as topics.
        topics (`int`): how many.
        seed (`int`): of the first centroids.
        unit (`bool`): whether centroids are of unit length, as the vectors are.
    """
    faiss = load_faiss("topics of queries")
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": PER_TOPIC}
    kmeans = faiss.Kmeans(vectors.shape[1], topics, niter=ROUNDS, seed=seed, spherical=unit, **limits)
    kmeans.train(np.ascontiguousarray(vectors, np.float32))
    return kmeans.centroids


def topic_of(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each vector, (n,) int64; of equally near ones the first."""
    centers = centroids.astype(np.float64)
    return ((centers**2).sum(axis=1) - 2 * vectors.astype(np.float64) @ centers.T).argmin(axis=1)
