"""What UnReMix (arXiv 2206.01197) knows of a candidate besides its score: uncertainty and representativeness."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from hf_hardneg.arrays.statistics import squared_distances
from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.retrievers import Searcher
from hf_hardneg.signals.base import BoundSignal, Context, OfVectors
from hf_hardneg.signals.topics import OfDocument, of_corpus
from hf_hardneg.store.kinds import UNCERTAINTY

REFERENCES = 256


@dataclass(frozen=True)
class Uncertainty(OfVectors):
    """How unclear it is which query a document belongs to, see `uncertainty`.

    The queries are the 256 known ones with the smallest text keys, never the batch, whose size must not matter; where
    none is known, documents stand in.

    Args:
        temperature (`float`, defaults to 0.5): of the softmax over queries.
    """

    temperature: float = 0.5

    @property
    def name(self) -> str:
        """Such as `"uncertainty@0.5"`."""
        return f"uncertainty@{self.temperature}"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""

        def of(documents: np.ndarray, queries: np.ndarray) -> np.ndarray:
            return uncertainty(documents, queries, temperature=self.temperature)

        directory = of_corpus(context, UNCERTAINTY, REFERENCES, {"temperature": self.temperature}, lambda q: q, of)
        return OfDocument(directory)


@dataclass(frozen=True)
class Representativeness(OfVectors):
    """Mean distance of a candidate to the other candidates of its query, see `representativeness`."""

    name: ClassVar[str] = "representativeness"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        return _Representativeness(context.vectors())


@dataclass(frozen=True)
class _Representativeness:
    searcher: Searcher

    @property
    def identity(self) -> str:
        return f"representativeness {self.searcher.identity}"

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        parts = (candidates.doc[start:end] for start, end in pairwise(candidates.offsets()))
        means = [representativeness(self.searcher.vectors(docs)) for docs in parts]
        return np.concatenate([np.zeros(0), *means])


def uncertainty(documents: np.ndarray, references: np.ndarray, *, temperature: float) -> np.ndarray:
    """Length of the gradient of the last layer, were each document labelled with its likeliest query, (n,) float64.

    `||P - onehot(argmax P)|| * ||d||` with `P = softmax(d . q / temperature)` over reference queries.

    Args:
        documents (`np.ndarray`): (n, d).
        references (`np.ndarray`): (r, d), at least 2 queries, the same ones for every batch.
        temperature (`float`): above 0.
    """
    exact = documents.astype(np.float64)
    logits = exact @ references.astype(np.float64).T / temperature
    residual = np.exp(logits - logits.max(axis=1, keepdims=True))
    residual /= residual.sum(axis=1, keepdims=True)
    residual[np.arange(len(residual)), residual.argmax(axis=1)] -= 1
    return np.linalg.norm(residual, axis=1) * np.linalg.norm(exact, axis=1)


def representativeness(documents: np.ndarray) -> np.ndarray:
    """Mean distance of each document to the others, (n,) float64; 0 where it is alone.

    Args:
        documents (`np.ndarray`): (n, d), the candidates of one query.
    """
    return np.sqrt(squared_distances(documents)).sum(axis=1) / max(len(documents) - 1, 1)
