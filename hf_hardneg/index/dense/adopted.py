"""A user's own FAISS index, opened: its core proposes documents, and one rule scores them.

Every score, of hits, positives and second views alike, is the inner product or negative squared distance of a query and
the vector that the core gives back of a document; FAISS' own estimates decide only what is proposed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.arrays.vectors import checked_vectors
from hf_hardneg.index.dense import dense_index
from hf_hardneg.index.dense.approximate import DEPTH, REFINE, SAMPLE, Measured, measured_of
from hf_hardneg.index.dense.dense_index import DenseIndex, Similarity, load_faiss
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.store import directories
from hf_hardneg.store.stored_arrays import Schema, Stored

LABELS, FACTS = "labels.npy", "adopted.json"
SCHEMA = Schema.of({"labels": Stored(np.int64, "documents", least=0)})
BLOCK = 1 << 14
TARGET, MOST = 0.99, 32
PRODUCTS = 1e11
"""Multiplications that a measurement of recall may take."""


@dataclass(frozen=True)
class Core:
    """An index of FAISS that gives its vectors back, by rows of the corpus.

    Args:
        index (`Any`): of FAISS, without transforms and tables of ids.
        labels (`np.ndarray`): (n,) int64, what it calls the vector of each row.
        order (`np.ndarray`): (n,) int64, rows by ascending label.
    """

    index: Any
    labels: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, index: Any, labels: np.ndarray) -> Core:
        """The core of an index and its labels."""
        return cls(index, labels, np.argsort(labels, kind="stable"))

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of chosen rows as the index gives them back, (n, d) float32."""
        return self.index.reconstruct_batch(np.ascontiguousarray(self.labels[rows]))

    def blocks(self) -> Iterator[np.ndarray]:
        """All vectors in the order of rows, checked."""
        for start in range(0, len(self.labels), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(self.labels)))
            yield checked_vectors(self.vectors(rows), what="vectors of your index", start=start)

    def scores(self, similarity: Similarity, vectors: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, row) pairs, (n,) float32."""
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            needed, place = np.unique(rows[part], return_inverse=True)
            scores[part] = dense_index.score_vectors(similarity, vectors, self.vectors(needed), query[part], place)
        return scores

    def search(self, similarity: Similarity, vectors: np.ndarray, k: np.ndarray, effort: int) -> Hits:
        """The best `k` (n,) of `effort` times as many that the index proposes to each query."""
        query, labels = dense_index.proposed(self.index, vectors, k * effort)
        rows = self.order[np.searchsorted(self.labels, labels, sorter=self.order)]
        return best_first(Hits(query, rows, self.scores(similarity, vectors, query, rows)), k)

    @property
    def settings(self) -> str:
        """Its type in FAISS and how far it searches, as the user set it."""
        faiss = load_faiss("a FAISS index")
        name, graph = type(self.index).__name__, getattr(self.index, "hnsw", None)
        if isinstance(self.index, faiss.IndexIVF):
            return f"{name}, nprobe={self.index.nprobe} of {self.index.nlist}"
        return name if graph is None else f"{name}, efSearch={graph.efSearch}"


def measure(core: Core, similarity: Similarity) -> Measured:
    """How many of the documents nearest to documents a core finds; it is asked for more, up to 32 times, while it pays.

    Its own settings, such as `nprobe`, stay as they are.
    """
    size = len(core.labels)
    count = int(np.clip(PRODUCTS // (size * core.index.d), 8, SAMPLE))
    asked = core.vectors(np.unique(np.linspace(0, size - 1, count).astype(np.int64)))
    begun = time.perf_counter()
    depth = min(DEPTH, size)
    least = _least_of_nearest(core, similarity, asked, depth)
    exact_seconds = time.perf_counter() - begun

    def at(effort: int) -> Measured:
        search = functools.partial(core.search, similarity, asked, np.full(len(asked), depth), effort)
        told = {"target": TARGET, "sample": "documents", "effort": {REFINE: effort}, "exact_seconds": exact_seconds}
        return measured_of(search, least, depth, **told)

    best = at(1)
    while best.recall < TARGET and best.effort[REFINE] < MOST:
        deeper = at(2 * best.effort[REFINE])
        if deeper.recall <= best.recall:
            break
        best = deeper
    return best


def _least_of_nearest(core: Core, similarity: Similarity, asked: np.ndarray, depth: int) -> np.ndarray:
    """The score of the `depth`-th nearest document of each query (n,), a rounding lower."""
    best, queries = np.zeros((len(asked), 0)), asked.astype(np.float64)
    for block in core.blocks():
        documents = block.astype(np.float64)
        scores = queries @ documents.T
        if similarity == "l2":
            scores = 2 * scores - (documents**2).sum(axis=1) - (queries**2).sum(axis=1)[:, None]
        best = np.concatenate([best, scores], axis=1)
        best = -np.partition(-best, depth - 1, axis=1)[:, :depth] if best.shape[1] > depth else best
    least = best.min(axis=1)
    return least - 1e-6 * np.maximum(np.abs(least), 1)


@dataclass(frozen=True, kw_only=True)
class AdoptedIndex(DenseIndex):
    """A user's own index; pickles as its path."""

    @property
    def measured(self) -> Measured | None:
        """Its measured recall on its own vectors; `None` where it is flat, and search exact."""
        measurement = _opened(self.directory).facts["measured"]
        return measurement and Measured(**measurement)

    @property
    def factory(self) -> str:
        """Its type in FAISS, and how far it searches."""
        return str(_opened(self.directory).facts["settings"])

    @property
    def transforms(self) -> tuple[Any, ...]:
        """The FAISS transforms that vectors go through before they are compared."""
        return _opened(self.directory).transforms

    @property
    def query_width(self) -> int:
        """See `DenseIndex`."""
        return int(self.transforms[0].d_in) if self.transforms else self.width

    def queries(self, vectors: Any, *, what: str = "query vectors") -> np.ndarray:
        """See `DenseIndex`; also transformed as the vectors of the index were."""
        matrix = checked_vectors(vectors, what=what, width=self.query_width)
        for transform in self.transforms:
            matrix = _transformed(transform, matrix)
        return dense_index.normalized(matrix) if self.similarity == "cosine" else matrix

    def search(self, vectors: np.ndarray, k: np.ndarray) -> Hits:
        """See `DenseIndex`; what a core that is not flat proposes is scored by its vectors."""
        core, measured = _opened(self.directory).core, self.measured
        if core is None or measured is None:
            return super().search(vectors, k)
        return core.search(self.similarity, vectors, k, measured.effort[REFINE])

    def flat_vectors(self) -> np.ndarray | None:
        """See `DenseIndex`; `None` where the core is not flat."""
        return super().flat_vectors() if _opened(self.directory).core is None else None

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """See `DenseIndex`."""
        core = _opened(self.directory).core
        return super().vectors(rows) if core is None else core.vectors(rows)

    def score_rows(self, vectors: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `DenseIndex`."""
        core = _opened(self.directory).core
        if core is None:
            return super().score_rows(vectors, query, rows)
        return core.scores(self.similarity, vectors, query, rows)


def _transformed(transform: Any, vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, d) after a transform of FAISS, (n, m) float32, each independent of the others to the last bit."""
    faiss = load_faiss("a FAISS index")
    if isinstance(transform, faiss.LinearTransform):
        matrix = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in).astype(np.float64)
        moved = np.einsum("ij,kj->ik", vectors.astype(np.float64), matrix)
        return (moved + (faiss.vector_to_array(transform.b) if transform.have_bias else 0)).astype(np.float32)
    each = [np.zeros((0, transform.d_out), np.float32), *(transform.apply(vector[None]) for vector in vectors)]
    return np.concatenate(each)


def transform_file(directory: Path, number: int) -> Path:
    """Where the transform of that number lies."""
    return directory / f"transform-{number}.faiss"


@dataclass(frozen=True)
class _Opened:
    facts: dict[str, Any]
    transforms: tuple[Any, ...]
    core: Core | None


@functools.lru_cache(maxsize=8)
def _opened(directory: Path) -> _Opened:
    faiss = load_faiss("a FAISS index")
    listed = directories.check(directory, foreign=True).files
    facts = directories.read_object(directory, FACTS)
    paths = (transform_file(directory, number) for number in range(facts["transforms"]))
    transforms = tuple(faiss.read_VectorTransform(str(path)) for path in paths if path.name in listed)
    if LABELS not in listed:
        return _Opened(facts, transforms, None)
    labels = SCHEMA.opened(directory)["labels"]
    return _Opened(facts, transforms, Core.of(dense_index.mapped_file(directory / dense_index.FILE), labels))
