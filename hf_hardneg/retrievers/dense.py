"""Retrieval by vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError, unknown_name, warn
from hf_hardneg.index.dense.adoption import adopt_faiss
from hf_hardneg.index.dense.approximate import build_approximate, checked_factory, chosen_factory
from hf_hardneg.index.dense.dense_index import DenseIndex, Similarity
from hf_hardneg.index.dense.gpu import Device, check_device
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.attach import index_corpus, load
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources
from hf_hardneg.runtime.arguments import AtLeastOne, ShareAboveZero, check_fields

if TYPE_CHECKING:
    from hf_hardneg.models.encoder import Encoder

EXACT = ("auto", "exact")
"""Values of `factory` that are no FAISS factory strings."""


@dataclass(frozen=True)
class Dense(Retriever):
    """Documents whose vectors are nearest to the query's.

    Args:
        depth (`int`, *optional*): candidates for each query; by default what the other parts need.
        similarity (`str`, *optional*): `"cosine"` (default), `"dot"`; a user's own index brings its own.
        factory (`str`, defaults to `"auto"`): `"exact"`, or a FAISS factory string for an approximate index that
            proposes documents; they are scored exactly. `"auto"` is exact search while the corpus has at most 200,000
            documents or its 8-bit codes fill at most half of the memory: it outran every approximate index we
            measured (`index/dense/approximate.py`).
        recall (`float`, defaults to 0.98): share of the 100 nearest documents that an approximate index must find; its
            search effort is raised until it does, on `sample`.
        sample (`Sequence`, *optional*): queries like those to come, texts or vectors; 512 are used. Without, documents
            stand in, and recall on the queries themselves may be lower.
        device (`str`, defaults to `"auto"`): exact search runs on a GPU where there is one, approximate search on the
            CPU. `"cpu"` leaves GPUs alone; `"cuda"` takes the first one for both, or is an error. Approximate search
            on it needs the extra `[gpu]`; what is deeper than 2,048 documents for a query stays on the CPU.
    """

    depth: AtLeastOne | None = None
    _: KW_ONLY
    similarity: Similarity | None = None
    factory: str = "auto"
    recall: ShareAboveZero = 0.98
    sample: Sequence[Any] = field(default=(), repr=False, compare=False)
    device: Device = "auto"
    name: ClassVar[str] = "dense"
    can_score: ClassVar[bool] = True
    has_vectors: ClassVar[bool] = True
    uses_vectors: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "sample", tuple(self.sample))
        if self.factory not in EXACT and self.similarity == "l2":
            raise ConfigError(
                f"factory={self.factory!r} needs similarity 'cosine' or 'dot', not 'l2'. Drop one of both, or pass "
                "your own L2 index as index=."
            )
        if self.factory not in EXACT:
            checked_factory(self.factory)
        check_device(self.device, None if self.factory in EXACT else self.factory)

    @property
    def score_kind(self) -> str:
        """See `Retriever`."""
        return self.similarity or "cosine"

    def bind(self, sources: Sources) -> Searcher:
        """The dense searcher over a corpus.

        Raises:
            ConfigError: there is nothing that gives vectors, or the factory does not suit them or a user's own index.
            UnknownNameError: the corpus has no index of that name.
        """
        if sources.index is not None and sources.vector_column is not None:
            raise ConfigError(
                f"index= and columns={{'vector': {sources.vector_column!r}}} were both given, and either brings the "
                "vectors of the corpus. Drop one of them."
            )
        encoder = load(sources.encoder, sources.corpus)
        if sources.index is None:
            index = index_corpus(
                sources.dataset, sources.corpus, encoder, sources.vector_column, self.similarity or "cosine"
            )
            index = replace(index, device=self.device)
            return DenseSearcher(self._approximate(index, len(sources.corpus), encoder), encoder)
        if self.factory not in EXACT:
            raise ConfigError(
                f"factory={self.factory!r} cannot rebuild your own index, {sources.index!r}. Drop factory=, or drop "
                "index= to have the corpus indexed by it."
            )
        index = adopt_faiss(sources.corpus, _user_index(sources), similarity=self.similarity)
        if self.device == "cuda" and index.codes() is None:
            raise ConfigError(
                f"device='cuda' cannot search your own index, {sources.index!r}; only a flat inner product index can "
                "be, in torch. Drop device=, or drop index= to have the corpus indexed."
            )
        return DenseSearcher(replace(index, device=self.device), encoder)

    def _approximate(self, exact: DenseIndex, documents: int, encoder: Encoder | None) -> DenseIndex:
        on_gpu = self.device == "cuda" and self.factory == "auto"
        factory = "exact" if on_gpu else chosen_factory(self.factory, documents, exact)
        if factory == "exact":
            return exact
        asked: Any = list(self.sample)
        if asked and isinstance(asked[0], str):
            if encoder is None:
                raise ConfigError("sample= holds texts and there is no encoder=. Pass one, or give vectors.")
            asked = encoder.encode(asked, kind="query")
        vectors = exact.queries(asked, what="sample vectors") if len(asked) else None
        return build_approximate(exact, factory, recall=self.recall, sample=vectors)


def _user_index(sources: Sources) -> Any:
    index = sources.index
    if isinstance(index, str) and index in sources.dataset.list_indexes():
        index = sources.dataset.get_index(index)
    elif isinstance(index, (str, Path)):
        if Path(index).is_file():
            return index
        known = sources.dataset.list_indexes()
        raise unknown_name("index (neither attached to the corpus nor a file)", str(index), known)
    return getattr(index, "faiss_index", index)


@dataclass(frozen=True)
class DenseSearcher(Searcher):
    """Searches a dense index."""

    index: DenseIndex
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
        return self.index.measured and self.index.measured.recall

    @property
    def measurement(self) -> dict[str, Any]:
        """How the recall was measured, and of which index; empty where search is exact."""
        measured = self.index.measured
        if measured is None:
            return {}
        asked = {name: getattr(measured, name) for name in ("target", "depth", "queries", "sample")}
        return {**asked, "factory": self.index.factory}

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
    """The part of a searcher that holds a dense index, whose vectors new weights replace."""
    return next((part for part in searcher.parts if isinstance(part, DenseSearcher)), None)
