"""Retrieval by vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hf_hardneg.corpus.pictures import refuse_pictures
from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.index.dense.adoption import adopt_faiss
from hf_hardneg.index.dense.approximate import SAMPLE, build_approximate, checked_factory, chosen_factory
from hf_hardneg.index.dense.dense_index import DenseIndex, Similarity
from hf_hardneg.index.dense.gpu import Device, check_device
from hf_hardneg.retrievers.attach import index_corpus, index_parts_of, load
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources
from hf_hardneg.retrievers.dense_searcher import DenseSearcher
from hf_hardneg.retrievers.stores.document_store import DocumentStore
from hf_hardneg.retrievers.stores.drivers import document_store_of
from hf_hardneg.retrievers.stores.job_queries import job_queries
from hf_hardneg.retrievers.stores.store_opening import opened_store
from hf_hardneg.runtime.arguments import AtLeastOne, IndexParts, ShareAboveZero, check_fields
from hf_hardneg.text.masking import masked

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
        index_parts (`int`, defaults to 1): in how many parts the exact index is built and searched, one after the
            other, so that memory holds one of them; the hits are the same.
    """

    depth: AtLeastOne | None = None
    _: KW_ONLY
    similarity: Similarity | None = None
    factory: str = "auto"
    recall: ShareAboveZero = 0.98
    sample: Sequence[Any] = field(default=(), repr=False, compare=False)
    device: Device = "auto"
    index_parts: IndexParts = 1
    name: ClassVar[str] = "dense"
    can_score: ClassVar[bool] = True
    has_vectors: ClassVar[bool] = True
    uses_vectors: ClassVar[bool] = True
    needs_words: ClassVar[tuple[str, ...]] = ()

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
        if self.index_parts > 1 and self.factory not in EXACT:
            raise ConfigError(
                f"index_parts={self.index_parts} is for exact search, and factory={self.factory!r} is an approximate "
                "index of all vectors. Drop one of both."
            )

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
        if sources.index is not None and self.index_parts > 1:
            raise ConfigError(
                f"index_parts={self.index_parts} is for an index that is built here, and index= brings one. Drop one "
                "of both."
            )
        encoder = load(sources.encoder, sources.corpus)
        if sources.has_images and encoder is not None and not getattr(encoder, "takes_images", False):
            raise refuse_pictures("encoder=")
        collection = document_store_of(sources.index)
        if collection is not None:
            return self._stored(collection, sources, encoder)
        if sources.index is None:
            vectors: Any = (sources.dataset, sources.corpus, encoder, sources.vector_column, self.score_kind)
            if self.index_parts > 1:
                parts = index_parts_of(*vectors, of=self.index_parts)
                return DenseSearcher(replace(parts, device=self.device), encoder)
            index = replace(index_corpus(*vectors), device=self.device)
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
        vectors = exact.queries(asked, what="sample vectors") if len(asked := self._sample(encoder)) else None
        return build_approximate(exact, factory, recall=self.recall, sample=vectors)

    def _sample(self, encoder: Encoder | None) -> Any:
        """Vectors of the sample, encoded where it holds texts."""
        asked: Any = list(self.sample)
        if asked and isinstance(asked[0], str):
            if encoder is None:
                raise ConfigError("sample= holds texts and there is no encoder=. Pass one, or give vectors.")
            return encoder.encode(asked, kind="query")
        return asked

    def _stored(self, collection: DocumentStore, sources: Sources, encoder: Encoder | None) -> Searcher:
        """The searcher of a document store in the place of an index.

        Raises:
            ConfigError: it searches words, or otherwise than this asks for.
        """
        where = f"The document store {collection.address}"
        if not collection.uses_vectors:
            raise ConfigError(
                f"{where} searches words, and Dense() vectors. Use it as a part: Strategy([{collection!r}])."
            )
        if self.factory not in EXACT or self.device == "cuda":
            what = f"device={self.device!r}" if self.factory in EXACT else f"factory={self.factory!r}"
            raise ConfigError(f"{where} has its own index, which {what} cannot change. Drop {what}.")
        index = opened_store(
            collection,
            sources.corpus,
            encoder=encoder,
            recall=self.recall,
            sample=lambda: self._sample(encoder) if self.sample else job_queries(sources, encoder, SAMPLE),
        )
        if self.similarity not in (None, index.similarity):
            raise ConfigError(
                f"{where} compares vectors by {index.similarity}, not by {self.similarity}. Drop similarity=, or give "
                "the collection that metric."
            )
        return DenseSearcher(index, encoder)


def _user_index(sources: Sources) -> Any:
    index = sources.index
    if isinstance(index, str) and index in sources.dataset.list_indexes():
        index = sources.dataset.get_index(index)
    elif isinstance(index, (str, Path)):
        if Path(index).is_file():
            return index
        known = sources.dataset.list_indexes()
        raise unknown_name("index (neither attached to the corpus nor a file)", masked(str(index)), known)
    return getattr(index, "faiss_index", index)
