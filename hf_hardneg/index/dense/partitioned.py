"""Exact dense search over an index in parts, one after the other: the hits of one index, to the bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hf_hardneg.errors import ConfigError
from hf_hardneg.index.dense.dense_index import DenseIndex, score_vectors
from hf_hardneg.index.dense.exact import Codes
from hf_hardneg.index.hits import Hits
from hf_hardneg.index.running_best import RunningBest


@dataclass(frozen=True, kw_only=True)
class PartitionedDense(DenseIndex):
    """Exact indexes of consecutive documents, searched as one.

    Args:
        directory, similarity, device: see `DenseIndex`; the directory is that of the first part.
        index_parts (`tuple[DenseIndex, ...]`): in row order.
        bounds (`tuple[int, ...]`): the first row of each part, and how many documents there are.
        called (`str`): what one index over all documents is called, whose hits are the same.
    """

    index_parts: tuple[DenseIndex, ...]
    bounds: tuple[int, ...]
    called: str

    @property
    def identity(self) -> str:
        """Names what hits depend on, besides the queries."""
        return self.called

    @property
    def width(self) -> int:
        """Dimension of the vectors."""
        return self.index_parts[0].width

    @property
    def documents(self) -> int:
        """How many vectors it holds."""
        return self.bounds[-1]

    def faiss_index(self) -> Any:
        """Raise, since no FAISS index holds all vectors.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"The index lies in {len(self.index_parts)} parts, and one FAISS index of all vectors was asked for. Use "
            "Dense() without index_parts=."
        )

    def flat_vectors(self) -> np.ndarray | None:
        """Return `None`: the vectors lie in several files."""
        return None

    def codes(self) -> Codes | None:
        """Return `None`: the codes lie in several files."""
        return None

    def search_above(self, vectors: np.ndarray, k: np.ndarray, least: np.ndarray) -> Hits:
        """The nearest documents of each query; see `DenseIndex.search_above`."""
        best = RunningBest(k)
        for part, first in zip(self.index_parts, self.bounds, strict=False):
            floor = np.maximum(best.least(), least)
            best.add(replace(part, device=self.device).search_above(vectors, k, floor), first)
        return best.hits()

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of chosen corpus rows, (n, d) float32, as they are stored."""
        vectors = np.empty((len(rows), self.width), np.float32)
        of_part = np.searchsorted(self.bounds, rows, side="right") - 1
        for part in np.unique(of_part):
            here = of_part == part
            vectors[here] = self.index_parts[part].vectors(np.asarray(rows)[here] - self.bounds[part])
        return vectors

    def score_rows(self, vectors: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32."""
        return score_vectors(self.similarity, vectors, self.vectors(rows), query, np.arange(len(rows)))
