"""What searches vectors: a dense index, and the model of the queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.index.dense.approximate import Measured
from hf_hardneg.index.dense.dense_index import DenseIndex
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.base import Searcher
from hf_hardneg.retrievers.stores.store_index import StoreIndex

if TYPE_CHECKING:
    from hf_hardneg.models.encoder import Encoder


@dataclass(frozen=True)
class DenseSearcher(Searcher):
    """Searches a dense index, or the vectors of a document store."""

    index: DenseIndex | StoreIndex
    encoder: Encoder | None
    name: ClassVar[str] = "dense"

    @property
    def score_kind(self) -> str:
        """`"cosine"`, `"dot"` or `"l2"` (negative squared distance)."""
        return self.index.similarity

    @property
    def identity(self) -> str:
        """The index, and the model of the queries."""
        return self.index.identity + (f" {self.encoder.digest}" if self.encoder is not None else "")

    @property
    def recall(self) -> float | None:
        """Share of the exact 100 nearest that search finds, as measured on a sample; `None` where it is exact."""
        measured: Measured | None = self.index.measured
        return None if measured is None else measured.recall

    @property
    def measurement(self) -> dict[str, Any]:
        """How the recall was measured, and of which index; empty where search is exact."""
        measured = self.index.measured
        if measured is None:
            return {}
        return {**measured.told, "factory": self.index.factory}

    def prepare(self, queries: Queries) -> np.ndarray:
        """Vectors of the queries, (n, d): from their column, else encoded."""
        if queries.vectors is not None:
            vectors = self.index.queries(queries.vectors)
        elif self.encoder is not None:
            vectors = self.index.queries(self.encoder.encode(queries.texts, kind="query"))
        else:
            raise ConfigError(
                "The queries have no vectors. Pass encoder=, the model of the corpus, or columns={'query_vector': ...}."
            )
        zero = np.flatnonzero(self._without_direction(vectors))
        if len(zero):
            warn(
                f"{len(zero)} of {len(vectors)} query vectors have length zero, such as that of "
                f"{queries.texts[zero[0]]!r}: no document is near them, so none is retrieved for them by vectors. Look "
                "at those texts (empty ones?) and at the model."
            )
        return vectors

    def _without_direction(self, vectors: np.ndarray) -> np.ndarray:
        """Which vectors (n, d) all documents are equally near to, (n,) bool."""
        return (self.index.similarity != "l2") & (vectors == 0).all(axis=1)

    def search(self, queries: np.ndarray, k: np.ndarray) -> Hits:
        """See `Searcher`."""
        return self.index.search(queries, np.where(self._without_direction(queries), 0, k))

    def score(self, queries: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.index.score_rows(queries, query, rows)

    def score_texts(self, queries: np.ndarray, query: np.ndarray, texts: list[str]) -> np.ndarray:
        """See `Searcher`."""
        if self.encoder is None:
            return super().score_texts(queries, query, texts)
        return self.index.score_vectors(queries, query, self._encoded(texts))

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.index.vectors(rows)

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> np.ndarray:
        """Vectors of the positives, (n, d); NaN where a text outside the corpus cannot be encoded."""
        vectors: np.ndarray = super().prepare_documents(positives, corpus)
        texts = [text for text in positives.text if text is not None]
        if texts and self.encoder is not None:
            vectors[positives.row < 0] = self._encoded(texts)
        return vectors

    def _encoded(self, texts: list[str]) -> np.ndarray:
        encoder = cast("Encoder", self.encoder)
        return self.index.queries(encoder.encode(texts, kind="document"), what="positive vectors")


def dense_part(searcher: Searcher) -> DenseSearcher | None:
    """The part of a searcher that searches vectors."""
    return next((part for part in searcher.parts if isinstance(part, DenseSearcher)), None)


def dense_index(searcher: Searcher) -> DenseIndex | None:
    """The dense index of a searcher, whose vectors new weights replace; no document store, whose vectors stay."""
    part = dense_part(searcher)
    return part.index if part is not None and isinstance(part.index, DenseIndex) else None
