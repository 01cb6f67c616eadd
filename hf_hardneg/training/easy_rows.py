"""Cheap refreshes: only rows whose negatives became easy are mined again, and no document is encoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.dense.dense_index import DenseIndex, build_dense
from hf_hardneg.models.encoder import Encoder
from hf_hardneg.retrievers import Dense, Searcher
from hf_hardneg.runtime.arguments import Checked, Range, ZeroOrMore
from hf_hardneg.store.directories import digest_of
from hf_hardneg.strategies import Strategy
from hf_hardneg.training.negative_arrays import Generation

if TYPE_CHECKING:
    from hf_hardneg.models.modules import Kind

BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class EasyRows(Checked):
    """What a `Refresher` does between full refreshes: it mines those rows again whose negatives became easy.

    Queries are encoded with the weights of the moment, and documents keep the vectors of the last full refresh, as
    ADORE's do (arXiv 2104.08051). A row is easy where the mean relative margin of its negatives, `(s+ - s) / |s+|`, is
    larger by `growth` than when they were mined, and where nothing can be compared. What is mined again is searched in
    all documents; the other rows keep what they have.

    Args:
        full_every (`int`, defaults to 5): every so many refreshes all documents are encoded and all rows mined again,
            beginning with the first.
        growth (`float`, defaults to 0.1): of the mean relative margin, from which a row is easy.
    """

    full_every: Annotated[int, Range(least=2, such_as=5)] = 5
    growth: ZeroOrMore = 0.1

    def full(self, number: int) -> int:
        """Return the full refresh that a generation builds on, itself where it is one."""
        return number - (number - 1) % self.full_every

    def check(self, strategy: Strategy, corpus_fraction: float) -> None:
        """Raise for a strategy or a fraction of documents whose vectors cannot be kept.

        Raises:
            ConfigError: naming it.
        """
        dense = dense_of(strategy)
        if dense is None or dense.index_parts > 1 or dense.factory not in ("auto", "exact"):
            raise ConfigError(
                f"{self!r} keeps the vectors of one exact index of Dense(), and the strategy has "
                f"{dense or 'none'}. Search with Dense(), or leave out easy_rows=."
            )
        if corpus_fraction < 1:
            raise ConfigError(
                f"{self!r} searches the documents of the last full refresh, and corpus_fraction={corpus_fraction} "
                "draws others for each. Give one of both."
            )

    def among(self, before: Generation, searcher: Searcher, queries: Queries) -> np.ndarray:
        """Return which rows are easy, ascending.

        Args:
            before (`Generation`): the negatives of the rows so far.
            searcher (`Searcher`): of the new weights.
            queries (`Queries`): of the same rows.
        """
        prepared = searcher.prepare(queries)
        rows = np.arange(len(before.counts))
        owner, listed_owner = np.repeat(rows, before.counts), np.repeat(rows, before.listed_counts)
        then = _margins(owner, before.negatives["score"], listed_owner, before.listed, len(rows))
        scores = searcher.score(prepared, owner, before.negatives["doc"])
        scores = np.where(np.isnan(before.negatives["score"]), np.nan, scores)
        known = searcher.score_positives(prepared, queries.positives)[queries.listed]
        listed_owner = np.repeat(rows, queries.listed_counts)
        now = _margins(owner, scores, listed_owner, known, len(rows))
        return np.flatnonzero(~(now - then < self.growth))


def _margins(owner: np.ndarray, scores: np.ndarray, listed: np.ndarray, known: np.ndarray, rows: int) -> np.ndarray:
    """Return the mean relative margin of each row, (rows,); NaN without scores on both sides."""
    means = []
    for group, values in ((owner, scores), (listed, known)):
        usable = np.isfinite(values)
        counts = np.bincount(group[usable], minlength=rows)
        sums = np.bincount(group[usable], values[usable].astype(np.float64), minlength=rows)
        means.append(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (means[1] - means[0]) / np.abs(means[1])


@dataclass(frozen=True, kw_only=True)
class QueryEncoder:
    """An encoder of new weights beside documents of older ones, whose index has its digest.

    Args:
        encoder (`Encoder`): of the new weights.
        documents (`str`): the digest of the encoder that gave the vectors of documents.
    """

    encoder: Encoder
    documents: str

    @property
    def digest(self) -> str:
        """The identity of both."""
        return digest_of({"queries": self.encoder.digest, "documents": self.documents})

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Encode texts to vectors, (n, d) float32, with the new weights."""
        return self.encoder.encode(texts, kind=kind)

    def __getattr__(self, name: str) -> Any:
        if name in ("encoder", "documents"):
            raise AttributeError(name)
        return getattr(self.encoder, name)


def keep_documents(corpus: Corpus, stored: DenseIndex, encoder: QueryEncoder) -> None:
    """Build the index of a `QueryEncoder` of vectors that are stored."""

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(corpus), BLOCK):
            yield stored.vectors(np.arange(start, min(start + BLOCK, len(corpus))))

    build_dense(corpus, blocks(), vectors_digest=encoder.digest, similarity=stored.similarity)


def dense_of(strategy: Strategy) -> Dense | None:
    """Return the part of a strategy that searches vectors which an encoder gives."""
    return next((part for part in strategy.retriever.parts if isinstance(part, Dense)), None)
