"""Retrieval by sparse vectors, such as SPLADE's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hf_hardneg.arrays.sparse_rows import SparseRows, products, sparse_rows
from hf_hardneg.corpus.columns import missing_column
from hf_hardneg.corpus.documents import Corpus, rows_digest
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.index.sparse.sparse_index import SparseIndex, build_sparse
from hf_hardneg.retrievers.attach import ENCODE_BLOCK, load
from hf_hardneg.retrievers.base import Searcher, Sources, Takes
from hf_hardneg.retrievers.encoded import EncodedRetriever, EncodedSearcher
from hf_hardneg.store.mapped_memory import release

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_hardneg.models.sparse_encoder import SparseTextEncoder


@dataclass(frozen=True)
class Sparse(EncodedRetriever):
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

    name: ClassVar[str] = "sparse"
    score_kind: ClassVar[str] = "sparse"
    takes: ClassVar[Takes] = "sparse"
    method: ClassVar[str] = "encode_sparse"
    forms: ClassVar[str] = "a SparseEncoder, a Hub id or path, or a callable that gives sparse rows"

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
class SparseSearcher(EncodedSearcher):
    """Searches an index of sparse vectors."""

    name: ClassVar[str] = "sparse"
    score_kind: ClassVar[str] = "sparse"

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

    def score_texts(self, queries: SparseRows, query: np.ndarray, texts: list[str]) -> np.ndarray:
        """See `Searcher`."""
        if self.encoder is None:
            return super().score_texts(queries, query, texts)
        return products(queries, self.encoded(texts), query, np.arange(len(texts)))

    def encoded(self, texts: list[str]) -> SparseRows:
        """See `EncodedSearcher`."""
        if self.encoder is None or not texts:
            return sparse_rows([{}] * len(texts), what="positives")
        rows: SparseRows = self.encoder.encode_sparse(texts, kind="document")
        return rows
