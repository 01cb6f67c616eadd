"""Retrieval by late interaction, such as ColBERT's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hf_hardneg.arrays.token_rows import TokenRows, token_rows
from hf_hardneg.corpus.columns import missing_column
from hf_hardneg.corpus.documents import Corpus, rows_digest
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.index.dense.approximate import SAMPLE, Measured
from hf_hardneg.index.dense.exact import quantized
from hf_hardneg.index.late.approximate_tokens import build_approximate_tokens
from hf_hardneg.index.late.maxsim import Documents, maxsims
from hf_hardneg.index.late.token_index import TokenIndex, build_tokens
from hf_hardneg.retrievers.attach import ENCODE_BLOCK, load
from hf_hardneg.retrievers.base import Searcher, Sources, Takes
from hf_hardneg.retrievers.encoded import EncodedRetriever, EncodedSearcher
from hf_hardneg.retrievers.stores.job_queries import job_queries
from hf_hardneg.runtime.arguments import AtLeastOne, ShareAboveZero
from hf_hardneg.store.mapped_memory import release

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_hardneg.models.token_encoder import TokenEncoder

EXACT_UP_TO = 4_000_000
"""Token vectors that `search="auto"` compares exactly."""


@dataclass(frozen=True)
class LateInteraction(EncodedRetriever):
    """Documents of the largest MaxSim: the sum, over the query's tokens, of the nearest document token's product.

    The vectors come from a sentence-transformers `MultiVectorEncoder` (PyLate's and ColBERT's checkpoints among them),
    or a callable that gives a matrix (tokens, d) for each text; or from columns of such matrices. Documents' vectors
    are stored as float16.

    Args:
        depth (`int`, defaults to 100): candidates for each query.
        encoder (*optional*): the model, see `load_token_encoder`; by default the `encoder=` of `HardNegatives`, or the
            columns that its `columns=` call `vector` and `query_vector`. Beside `Dense()` it must be named here.
        search (`str`, defaults to `"auto"`): `"exact"`, or `"encodings"`: one vector of a text, made of its tokens'
            (MUVERA), proposes documents, which exact MaxSim orders. `"auto"` is exact while the corpus has at most
            4,000,000 token vectors.
        recall (`float`, defaults to 0.98): share of the 100 best documents that encodings must propose; as many are
            proposed as that takes, on `sample`.
        sample (`Sequence`, *optional*): queries like those to come, texts or matrices; 512 are used. By default those
            that will be asked, where they are known, else documents.
        pool_factor (`int`, defaults to 1): how many similar tokens of a document become one vector, in the mean, by
            sentence-transformers' hierarchical pooling: as many times less disk, and some of the quality.

    Example:
        >>> Strategy([BM25(100), LateInteraction(100, encoder="org/colbert")])
        Strategy(retrievers=(BM25(),LateInteraction(encoder='org/colbert'),), filters=(), sampler=Top())
    """

    _: KW_ONLY
    search: Literal["auto", "exact", "encodings"] = "auto"
    recall: ShareAboveZero = 0.98
    sample: Sequence[Any] = field(default=(), repr=False, compare=False)
    pool_factor: AtLeastOne = 1
    name: ClassVar[str] = "late_interaction"
    score_kind: ClassVar[str] = "maxsim"
    takes: ClassVar[Takes] = "tokens"
    method: ClassVar[str] = "encode_each_token"
    forms: ClassVar[str] = (
        "a MultiVectorEncoder, a Hub id or path, or a callable that gives a matrix (tokens, d) for each text"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sample", tuple(self.sample))

    def bind(self, sources: Sources) -> Searcher:
        """The searcher over a corpus.

        Raises:
            ConfigError: nothing gives vectors, or an encoder of others does.
            ColumnError: the column is missing.
        """
        named = self.encoder is not None
        encoder = load(self.encoder if named else sources.encoder, sources.corpus, "tokens")
        if encoder is not None and self.pool_factor > 1:
            from hf_hardneg.models.token_encoder import PooledTokens

            encoder = PooledTokens(encoder=encoder, factor=self.pool_factor)
        column = None if named else sources.vector_column
        if column is not None and self.pool_factor > 1:
            raise ConfigError(
                f"LateInteraction(pool_factor={self.pool_factor}) is for an encoder, and column {column!r} brings the "
                "vectors. Pool them before, or drop pool_factor=."
            )
        index = _indexed(sources.dataset, sources.corpus, encoder, column)
        if self.search == "encodings" or (self.search == "auto" and len(index.documents.rows.vectors) > EXACT_UP_TO):
            asked = self._asked(sources, encoder, by_column=not named)
            as_queries = len(asked) > 0
            rows = token_rows(asked if as_queries else index.documents.rows, what="sample", width=index.width)
            index = build_approximate_tokens(
                index, sources.corpus, recall=self.recall, sample=rows, as_queries=as_queries
            )
        return LateInteractionSearcher(index, encoder, by_column=not named)

    def _asked(self, sources: Sources, encoder: TokenEncoder | None, *, by_column: bool) -> Any:
        """Token vectors of the sample, else of queries that will be asked, as far as these are known."""
        asked: Any = list(self.sample)
        if not asked:
            columns = {name: column for name, column in (sources.columns or {}).items() if name != "query_vector"}
            known = sources if by_column else replace(sources, columns=columns)
            return job_queries(known, encoder, SAMPLE)
        if isinstance(asked[0], str):
            if encoder is None:
                raise ConfigError("sample= holds texts and there is no encoder=. Pass one, or give matrices.")
            return encoder.encode_each_token(asked, kind="query")
        return asked


def _indexed(dataset: Dataset, corpus: Corpus, encoder: TokenEncoder | None, column: str | None) -> TokenIndex:
    """The index of a corpus' token vectors, from a column or an encoder."""
    if column is not None:
        if column not in dataset.column_names:
            raise missing_column(column, dataset.column_names, "corpus", "vector")
        digest = rows_digest(dataset, [column])
        return build_tokens(corpus, ColumnOfMatrices(dataset, column), digest=digest, vectors_from=f"column {column}")
    if encoder is None:
        raise ConfigError(
            "LateInteraction() needs token vectors and got none. Pass encoder= (a MultiVectorEncoder, its Hub id or "
            "path, a callable), or columns={'vector': ..., 'query_vector': ...}."
        )
    from hf_hardneg.models.model_names import model_name
    from hf_hardneg.models.token_vectors import CorpusTokenVectors

    with CorpusTokenVectors(corpus, encoder) as vectors:
        return build_tokens(corpus, vectors, digest=encoder.digest, vectors_from=model_name(encoder).name)


@dataclass(frozen=True)
class ColumnOfMatrices:
    """A column of matrices (tokens, d), read block by block, as often as it is asked for."""

    dataset: Dataset
    column: str

    def __iter__(self) -> Iterator[TokenRows]:
        row = 0
        for table in self.dataset.with_format("arrow", columns=[self.column]).iter(ENCODE_BLOCK):
            values = table[self.column].to_pylist()
            yield token_rows(values, what=f"values of column {self.column!r} of the corpus", start=row)
            row += len(values)
            release(table.columns)


@dataclass(frozen=True)
class LateInteractionSearcher(EncodedSearcher):
    """Searches an index of token vectors."""

    name: ClassVar[str] = "late_interaction"
    score_kind: ClassVar[str] = "maxsim"

    @property
    def recall(self) -> float | None:
        """Share of the exact 100 best that search finds, as measured on a sample; `None` where it is exact."""
        measured: Measured | None = self.index.measured
        return None if measured is None else measured.recall

    @property
    def measurement(self) -> dict[str, Any]:
        """How the recall was measured; empty where search is exact."""
        return {} if self.index.measured is None else {**self.index.measured.told, "factory": "encodings"}

    def prepare(self, queries: Queries) -> TokenRows:
        """Token vectors of the queries: from their column, else encoded."""
        width = self.index.width
        if self.by_column and queries.vectors is not None:
            values = queries.vectors if isinstance(queries.vectors, TokenRows) else list(queries.vectors)
            rows = token_rows(values, what="values of the column of query vectors", width=width)
        elif self.encoder is not None:
            encoded = self.encoder.encode_each_token(queries.texts, kind="query")
            rows = token_rows(encoded, what="encoded queries", width=width)
        else:
            raise ConfigError(
                "The queries have no token vectors. Pass encoder=, the model of the corpus, or "
                "columns={'query_vector': ...}."
            )
        empty = np.flatnonzero(rows.sizes == 0)
        if len(empty):
            warn(
                f"{len(empty)} of {len(rows)} queries have no token, such as {queries.texts[empty[0]]!r}: nothing is "
                "retrieved for them by late interaction. Look at those texts (empty ones?) and at the model."
            )
        return rows

    def score_texts(self, queries: TokenRows, query: np.ndarray, texts: list[str]) -> np.ndarray:
        """See `Searcher`."""
        if self.encoder is None:
            return super().score_texts(queries, query, texts)
        halves = self.encoded(texts)
        codes = quantized(halves.vectors.astype(np.float32))
        return maxsims(queries, Documents(halves, codes), query, np.arange(len(texts)))

    def encoded(self, texts: list[str]) -> TokenRows:
        """See `EncodedSearcher`; float16, as documents are stored."""
        if self.encoder is None or not texts:
            return TokenRows(np.zeros(len(texts) + 1, np.int64), np.zeros((0, self.index.width), np.float16))
        rows = self.encoder.encode_each_token(texts, kind="document")
        rows = token_rows(rows, what="positives", width=self.index.width)
        return TokenRows(rows.pointers, rows.vectors.astype(np.float16))
