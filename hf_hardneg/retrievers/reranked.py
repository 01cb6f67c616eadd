"""A retriever's hits in the order of a cross-encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.models.cross_encoder import load_cross_encoder, may_score
from hf_hardneg.models.score_store import stored
from hf_hardneg.models.scorers import ALLOWED, PairScorer, probabilities
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources, bound, check_retrievers
from hf_hardneg.retrievers.bm25 import BM25
from hf_hardneg.runtime.arguments import AtLeastOne, check_fields


@dataclass(frozen=True)
class Reranked(Retriever):
    """The best documents of another retriever, scored and put in order by a cross-encoder.

    Margins, bounds and samplers then compare the model's scores, of candidates and of positives alike, where `Denoised`
    removes candidates by them and leaves the retriever's order. Each pair is scored once, ever, as there. It finds no
    document beyond `depth`, whatever filters remove.

    Args:
        retriever (`Retriever`, defaults to `BM25(100)`): finds the documents.
        model (*optional*): see `load_cross_encoder`; by default the `cross_encoder=` of `HardNegatives`.
        depth (`int`, defaults to 100): how many documents of each query are scored.
        as_probabilities (`bool`, defaults to `True`): whether scores are probabilities of relevance, a logit `x` being
            `1 / (1 + exp(-x))`; else they are as the model returns them.

    Example:
        >>> Strategy([Reranked(BM25(50), depth=50)], [AbsoluteMargin(0.2)])
        Strategy(retrievers=(Reranked(retriever=BM25(...), depth=50),), filters=(AbsoluteMargin(margin=0.2),), ...)
    """

    retriever: Retriever = field(default_factory=lambda: BM25(100))
    model: Any = None
    _: KW_ONLY
    depth: AtLeastOne = 100
    as_probabilities: bool = True
    name: ClassVar[str] = "reranked"
    can_score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_retrievers([self.retriever])
        if self.retriever.scored_depth:
            raise ConfigError(
                f"Reranked(retriever={type(self.retriever).__name__}(...)) scores what is scored already; allowed is a "
                "retriever without a cross-encoder. Give what that one reranks."
            )
        if not (self.model is None or may_score(self.model)):
            raise ConfigError(f"Reranked(model=) got a {type(self.model).__name__}; allowed are {ALLOWED}.")

    @property
    def parts(self) -> tuple[Retriever, ...]:
        """See `Retriever`."""
        return self.retriever.parts

    def with_parts(self, change: Callable[[Retriever], Retriever]) -> Retriever:
        """See `Retriever`."""
        return replace(self, retriever=self.retriever.with_parts(change))

    @property
    def score_kind(self) -> str:
        """`"ce_prob"`, or `"ce_logit"` for what the model returns."""
        return "ce_prob" if self.as_probabilities else "ce_logit"

    @property
    def has_vectors(self) -> bool:
        """Whether the retriever that finds has."""
        return self.retriever.has_vectors

    @property
    def uses_vectors(self) -> bool:
        """Whether the retriever that finds is built from them."""
        return self.retriever.uses_vectors

    @property
    def unscored(self) -> Retriever:
        """The retriever that finds."""
        return self.retriever.unscored

    @property
    def scored_depth(self) -> int:
        """See `depth`."""
        return self.depth

    def fitted(self) -> Reranked:
        """The same, its model only named."""
        named = self.model if isinstance(self.model, str) or self.model is None else type(self.model).__qualname__
        return replace(self, retriever=self.retriever.fitted(), model=named)

    def bind_scorer(self, sources: Sources) -> PairScorer:
        """The model, its scores stored in the corpus' cache.

        Raises:
            ConfigError: there is no model.
        """
        model = sources.cross_encoder if self.model is None else self.model
        if model is None:
            raise ConfigError(
                "Reranked() needs a cross-encoder, and none was given. Pass cross_encoder= or Reranked(model=), such "
                "as a Hub id or a path."
            )
        cache = sources.corpus.cache
        return stored(load_cross_encoder(model, cache_dir=cache), cache)

    def bind(self, sources: Sources) -> Searcher:
        """The searcher of the retriever, and the model."""
        scorer = self.bind_scorer(sources)
        inner = bound(self.retriever, sources)
        return RerankedSearcher(inner, scorer, sources.corpus, self.depth, self.as_probabilities)


@dataclass(frozen=True)
class RerankedSearcher(Searcher):
    """Searches with another searcher and scores what it finds."""

    inner: Searcher
    cross_encoder: PairScorer
    corpus: Corpus
    depth: int
    as_probabilities: bool
    name: ClassVar[str] = "reranked"

    @property
    def parts(self) -> tuple[Searcher, ...]:
        """See `Searcher`."""
        return self.inner.parts

    @property
    def score_kind(self) -> str:
        """See `Reranked`."""
        return "ce_prob" if self.as_probabilities else "ce_logit"

    @property
    def has_vectors(self) -> bool:
        """Whether what finds has; `vector_part` is that."""
        return self.inner.has_vectors

    @property
    def identity(self) -> str:
        """What finds, how much of it is scored, and by which model."""
        return f"reranked {self.depth} {self.score_kind} {self.cross_encoder.digest} {self.inner.identity}"

    @property
    def recall(self) -> float | None:
        """That of what finds."""
        return self.inner.recall

    def at(self, generation: int) -> RerankedSearcher:
        """The same with what finds in a generation."""
        return replace(self, inner=self.inner.at(generation))

    def prepare(self, queries: Queries) -> Any:
        """What the inner searcher takes, and the texts."""
        return self.inner.prepare(queries), queries.texts

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> Any:
        """See `Searcher`."""
        return self.inner.prepare_documents(positives, corpus), positives.texts(corpus)

    def search(self, queries: Any, k: np.ndarray) -> Hits:
        """See `Searcher`; all `depth` hits of a query are scored, however few are asked for."""
        hits = self.inner.search(queries[0], np.where(k > 0, self.depth, 0))
        scores = self.score(queries, hits.query, hits.doc)
        return best_first(Hits(hits.query, hits.doc, scores), k)

    def score(self, queries: Any, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.score_texts(queries, query, self.corpus.texts(rows).to_pylist())

    def score_texts(self, queries: Any, query: np.ndarray, texts: list[str]) -> np.ndarray:
        """See `Searcher`."""
        scores = self.cross_encoder.score([queries[1][place] for place in query], texts)
        return probabilities(scores, self.cross_encoder.kind).astype(np.float32) if self.as_probabilities else scores
