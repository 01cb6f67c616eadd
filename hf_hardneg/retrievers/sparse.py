"""Retrieval by sparse vectors, such as SPLADE's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hf_hardneg.arrays.sparse_rows import SparseRows, products, sparse_rows
from hf_hardneg.corpus.columns import missing_column
from hf_hardneg.corpus.documents import Corpus, rows_digest
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.index.hits import Hits
from hf_hardneg.index.sparse.sparse_index import SparseIndex, build_sparse
from hf_hardneg.retrievers.attach import ENCODE_BLOCK, load
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources, Takes
from hf_hardneg.runtime.arguments import AtLeastOne, Checked
from hf_hardneg.store.mapped_memory import release

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_hardneg.models.sparse_encoder import SparseTextEncoder


@dataclass(frozen=True)
class Sparse(Checked, Retriever):
    """Documents whose sparse vector has the largest inner product with the query's: learned sparse retrieval.

    The vectors come from a sentence-transformers `SparseEncoder`, a masked language model with SPLADE's pooling, an
    inference-free model, or a callable that gives sparse rows; or from a column with a {term: weight} for each row.
    Search is exact, by the kernel of BM25. Weights are at least 0.

    Args:
        depth (`int`, defaults to 100): candidates for each query.
        encoder (*optional*): the model, see `load_sparse_encoder`; by default the `encoder=` of `HardNegatives`, or the
            columns that its `columns=` call `vector` and `query_vector`. Beside `Dense()` it must be named here.

    Example:
        >>> Strategy([BM25(100), Sparse(100, encoder="org/splade")])
        Strategy(retrievers=(BM25(),Sparse(encoder='org/splade'),), filters=(), sampler=Top())
    """

    depth: AtLeastOne = 100
    _: KW_ONLY
    encoder: Any = None
    name: ClassVar[str] = "sparse"
    score_kind: ClassVar[str] = "sparse"
    can_score: ClassVar[bool] = True
    takes: ClassVar[Takes] = "sparse"

    def __post_init__(self) -> None:
        super().__post_init__()
        may_encode = callable(self.encoder) or hasattr(self.encoder, "encode_sparse")
        if not (self.encoder is None or isinstance(self.encoder, str | os.PathLike) or may_encode):
            raise ConfigError(
                f"Sparse(encoder=) got a {type(self.encoder).__name__}; allowed are a SparseEncoder, a Hub id or path, "
                "or a callable that gives sparse rows. Give one of those."
            )

    @property
    def uses_vectors(self) -> bool:
        """Whether it has no encoder of its own."""
        return self.encoder is None

    def fitted(self) -> Sparse:
        """The same, its encoder only named."""
        named = isinstance(self.encoder, str) or self.encoder is None
        return self if named else replace(self, encoder=type(self.encoder).__qualname__)

    def bind(self, sources: Sources) -> Searcher:
        """The sparse searcher over a corpus.

        Raises:
            ConfigError: nothing gives vectors, or an encoder of dense ones does.
            ColumnError: the column is missing.
        """
        named = self.encoder is not None
        encoder = load(self.encoder if named else sources.encoder, sources.corpus, "sparse")
        column = None if named else sources.vector_column
        return SparseSearcher(_indexed(sources.dataset, sources.corpus, encoder, column), encoder, by_column=not named)


def _indexed(dataset: Dataset, corpus: Corpus, encoder: SparseTextEncoder | None, column: str | None) -> SparseIndex:
    """The index of a corpus' sparse vectors, from a column or an encoder."""
    if column is not None:
        if column not in dataset.column_names:
            raise missing_column(column, dataset.column_names, "corpus", "vector")
        digest = rows_digest(dataset, [column])
        return build_sparse(corpus, ColumnOfRows(dataset, column), digest=digest, vectors_from=f"column {column}")
    if encoder is None:
        raise ConfigError(
            "Sparse() needs sparse vectors and got none. Pass encoder= (a SparseEncoder, its Hub id or path, a "
            "callable), or columns={'vector': ..., 'query_vector': ...}."
        )
    from hf_hardneg.models.model_names import model_name
    from hf_hardneg.models.sparse_vectors import CorpusSparseVectors

    with CorpusSparseVectors(corpus, encoder) as vectors:
        return build_sparse(corpus, vectors, digest=encoder.digest, vectors_from=model_name(encoder).name)


@dataclass(frozen=True)
class ColumnOfRows:
    """A column of {term: weight}, read block by block, as often as it is asked for."""

    dataset: Dataset
    column: str

    def __iter__(self) -> Iterator[SparseRows]:
        row = 0
        for table in self.dataset.with_format("arrow", columns=[self.column]).iter(ENCODE_BLOCK):
            values = table[self.column].to_pylist()
            yield sparse_rows(values, what=f"values of column {self.column!r} of the corpus", start=row)
            row += len(values)
            release(table.columns)


@dataclass(frozen=True)
class SparseSearcher(Searcher):
    """Searches an index of sparse vectors."""

    index: SparseIndex
    encoder: SparseTextEncoder | None
    by_column: bool = True
    name: ClassVar[str] = "sparse"
    score_kind: ClassVar[str] = "sparse"

    @property
    def identity(self) -> str:
        """The index, the model of the queries, and whether that encodes all of them, whatever their columns hold."""
        model = f" {self.encoder.digest}" if self.encoder is not None else ""
        return f"{self.index.identity}{model}{'' if self.by_column else ' alone'}"

    def prepare(self, queries: Queries) -> SparseRows:
        """Sparse vectors of the queries: from their column, else encoded."""
        if self.by_column and queries.vectors is not None:
            vectors = queries.vectors
            listed = vectors if isinstance(vectors, SparseRows) else list(vectors)
            rows = sparse_rows(listed, what="values of the column of query vectors")
        elif self.encoder is not None:
            rows = self.encoder.encode_sparse(queries.texts, kind="query")
        else:
            raise ConfigError(
                "The queries have no sparse vectors. Pass encoder=, the model of the corpus, or "
                "columns={'query_vector': ...}."
            )
        empty = np.flatnonzero(np.diff(rows.pointers) == 0)
        if len(empty):
            warn(
                f"{len(empty)} of {len(rows)} queries have no term, such as {queries.texts[empty[0]]!r}: nothing is "
                "retrieved for them by sparse vectors. Look at those texts (empty ones?) and at the model."
            )
        return rows

    def search(self, queries: SparseRows, k: np.ndarray) -> Hits:
        """See `Searcher`; documents that share no term with a query are no hits."""
        return self.index.search(queries, k)

    def score(self, queries: SparseRows, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.index.score_rows(queries, query, rows)

    def score_texts(self, queries: SparseRows, query: np.ndarray, texts: list[str]) -> np.ndarray:
        """See `Searcher`."""
        if self.encoder is None:
            return super().score_texts(queries, query, texts)
        return products(queries, self.encoder.encode_sparse(texts, kind="document"), query, np.arange(len(texts)))

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> SparseRows:
        """Sparse vectors of the positives; without terms, and so without scores, where nothing encodes the text."""
        inside = positives.row >= 0
        texts = [text for text in positives.text if text is not None]
        if self.encoder is not None and texts:
            outside = self.encoder.encode_sparse(texts, kind="document")
        else:
            outside = sparse_rows([{}] * len(texts), what="positives")
        both = SparseRows.joined([self.index.vectors(positives.row[inside]), outside])
        place = np.empty(len(inside), np.int64)
        place[inside], place[~inside] = np.arange(inside.sum()), inside.sum() + np.arange(len(texts))
        return both[place]
