"""What a retriever is, and what it becomes once it is bound to a corpus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hf_hardneg.corpus.documents import Corpus, image_columns
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import PairColumns, Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.hits import Fused, Hits
from hf_hardneg.runtime.arguments import check_parts

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_hardneg.models.scorers import PairScorer

Takes = Literal["dense", "sparse", "tokens"]
TAKEN: dict[Takes, str] = {"dense": "dense vectors", "sparse": "sparse vectors", "tokens": "token vectors"}
"""Which vectors a retriever takes, in words."""
NAMING: dict[Takes, str] = {
    "dense": "Dense()",
    "sparse": "Sparse(encoder=...)",
    "tokens": "LateInteraction(encoder=...)",
}
"""The parts that take them, and name a model of their own where they can."""


BOTH = ("query", "document")
"""The sides whose words may be read."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a retriever may search with.

    Args:
        dataset (`Dataset`): the corpus as the user gave it.
        corpus (`Corpus`): the same, opened.
        encoder (`Any`): the model, as the user gave it.
        vector_column (`str`, *optional*): corpus vectors.
        index (`str` or `faiss.Index`, *optional*): name of an attached index, a FAISS file, or an index.
        cross_encoder (`Any`): the model of a denoiser, as the user gave it.
        seed (`int`): of keyed draws.
        pairs (`Sequence[Dataset]`): whose queries will be asked, as far as is known.
        columns (`Mapping[str, Any]`, *optional*): names of columns by their roles.
    """

    dataset: Dataset
    corpus: Corpus
    encoder: Any = None
    vector_column: str | None = None
    index: Any = None
    cross_encoder: Any = None
    seed: int = 42
    pairs: Sequence[Dataset] = ()
    columns: Any = None

    @property
    def has_images(self) -> bool:
        """Whether documents, queries or positives are images."""
        names = PairColumns.of(self.columns)
        pairs = (image_columns(rows, [names.query, names.positive], listed=True) for rows in self.pairs)
        return self.corpus.images is not None or any(pairs)

    @classmethod
    def of(cls, dataset: Dataset, corpus: Corpus, options: Mapping[str, Any]) -> Sources:
        """What options of `HardNegatives` give, by name."""
        named = {name: options[name] for name in ("encoder", "index", "cross_encoder", "seed") if name in options}
        columns = options.get("columns") or {}
        named |= {"pairs": options.get("known_positives") or (), "columns": columns}
        return cls(dataset=dataset, corpus=corpus, vector_column=columns.get("vector"), **named)


class Searcher(ABC):
    """A retriever bound to a corpus; pickles as paths.

    It scores chosen pairs where it defines `score`, and has vectors where it defines `vectors`; `can_score` and
    `has_vectors` say so. What follows may be attributes, fields or properties.

    Args:
        name (`str`): what its negatives are said to come from.
        identity (`str`): what its hits depend on, besides the queries: equal for equal indexes and models, wherever
            they lie.
        score_kind (`str`): `"cosine"`, `"dot"`, `"l2"`, `"bm25"`, `"sparse"`, `"maxsim"`, or `"none"` where nothing is
            scored; higher is better.
        recall (`float`, *optional*): share of the exact nearest documents that it finds; by default it is exact.
    """

    name: ClassVar[str]
    if TYPE_CHECKING:

        @property
        def identity(self) -> str:
            """What its hits depend on, besides the queries."""

        @property
        def score_kind(self) -> str:
            """Kind of its scores."""

        @property
        def recall(self) -> float | None:
            """Share of the exact nearest documents that the search finds."""

    else:
        recall = None

    @property
    def measurement(self) -> Mapping[str, Any]:
        """How the recall was measured, as plain values; empty where nothing is told."""
        return {}

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of where its hits may come from; one, but for a union."""
        return (self.name,)

    @property
    def parts(self) -> tuple[Searcher, ...]:
        """The searchers it asks; itself, but for a union."""
        return (self,)

    @property
    def can_score(self) -> bool:
        """Whether it scores chosen pairs."""
        return type(self).score is not Searcher.score

    @property
    def has_vectors(self) -> bool:
        """Whether it has vectors of documents; `prepare` then returns vectors of queries, (n, d)."""
        return type(self).vectors is not Searcher.vectors

    def at(self, generation: int) -> Searcher:
        """The searcher of a generation of refreshed negatives; another one only where it draws at random."""
        return self

    def prepare(self, queries: Queries) -> Any:
        """What `search` and `score` take for n queries, computed once: a list or an array of n; by default their texts.

        A union returns a tuple, of what each of its parts takes.
        """
        return queries.texts

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> Any:
        """The known positives in the place of queries: their vectors where there are any, else their texts.

        A vector is NaN where the text is outside the corpus.
        """
        if not self.has_vectors:
            return positives.texts(corpus)
        inside = positives.row >= 0
        known = self.vectors(positives.row[inside])
        vectors = np.full((len(inside), known.shape[1]), np.nan, np.float32)
        vectors[inside] = known
        return vectors

    @abstractmethod
    def search(self, queries: Any, k: np.ndarray) -> Hits | Fused:
        """The best hits of n prepared queries, at most `k` (n,) each: best first, ties in corpus order."""

    def score(self, queries: Any, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (prepared query, corpus row) pairs, (n,) float32; NaN where it cannot score."""
        return np.full(len(rows), np.nan, np.float32)

    def score_texts(self, queries: Any, query: np.ndarray, texts: list[str]) -> np.ndarray:
        """Scores of chosen (prepared query, text outside the corpus) pairs, (n,) float32; NaN where it cannot score."""
        return np.full(len(texts), np.nan, np.float32)

    def score_positives(self, queries: Any, positives: PositiveList) -> np.ndarray:
        """Scores of known positives, (n,) float32; NaN where it cannot score."""
        inside = positives.row >= 0
        scores = np.empty(len(inside), np.float32)
        scores[inside] = self.score(queries, positives.query[inside], positives.row[inside])
        texts = [text for text in positives.text if text is not None]
        if texts:
            scores[~inside] = self.score_texts(queries, positives.query[~inside], texts)
        return scores

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of corpus rows, (n, d) float32, as the search compares them with vectors of queries."""
        raise ConfigError(f"{self.name} has no vectors of documents. Use a retriever that has, such as Dense().")


class Retriever(ABC):
    """What mining asks of a retriever: a frozen dataclass, which says beforehand what its searcher can do.

    What needs scores of chosen pairs or vectors is refused before work without. What follows may be attributes, fields
    or properties.

    Args:
        name (`str`): in strategies, and of its searcher.
        score_kind (`str`): kind of its scores, see `Searcher`; of a user's own index it is known once bound.
        depth (`int`, *optional*): how many candidates it brings; by default what the other parts need.
        can_score (`bool`, defaults to `False`): whether its searcher scores chosen pairs.
        has_vectors (`bool`, defaults to `False`): whether its searcher has vectors of documents.
        uses_vectors (`bool`, defaults to `False`): whether it is built from what `encoder=`, `vector_column=` or
            `index=` give.
        takes (`str`, defaults to `"dense"`): which vectors those are, and which model `encoder=` is: `"dense"`,
            `"sparse"`, or `"tokens"` of late interaction.
        scored_depth (`int`, defaults to 0): how many documents of a query it scores with a cross-encoder.
        searches_elsewhere (`bool`, defaults to `False`): whether what it searches is there already and holds this very
            corpus, so that it cannot be tried on a part of it.
        needs_words (`tuple[str, ...]`, defaults to both): of which sides, `"query"` and `"document"`, it reads the
            words, so that those cannot be images.
    """

    name: ClassVar[str]
    if TYPE_CHECKING:

        @property
        def score_kind(self) -> str:
            """Kind of its scores."""

        @property
        def depth(self) -> int | None:
            """How many candidates it brings."""

        @property
        def can_score(self) -> bool:
            """Whether its searcher scores chosen pairs."""

        @property
        def has_vectors(self) -> bool:
            """Whether its searcher has vectors."""

        @property
        def uses_vectors(self) -> bool:
            """Whether it is built from vectors that are given."""

        @property
        def takes(self) -> Takes:
            """Which vectors those are."""

        @property
        def scored_depth(self) -> int:
            """How many documents of a query it scores with a cross-encoder."""

        @property
        def searches_elsewhere(self) -> bool:
            """Whether what it searches is there already."""

        @property
        def needs_words(self) -> tuple[str, ...]:
            """Of which sides it reads the words."""

    else:
        depth, can_score, has_vectors, uses_vectors, scored_depth = None, False, False, False, 0
        searches_elsewhere, takes, needs_words = False, "dense", BOTH

    @property
    def parts(self) -> tuple[Retriever, ...]:
        """The retrievers it asks; itself, but for a union."""
        return (self,)

    def with_parts(self, change: Callable[[Retriever], Retriever]) -> Retriever:
        """The same, each of its `parts` changed; a retriever that is its only part is changed itself."""
        return change(self)

    @property
    def unscored(self) -> Retriever:
        """The same without a cross-encoder."""
        return self

    def fitted(self) -> Retriever:
        """The same once it is bound: what was loaded is only named, so that it travels."""
        return self

    def bind_scorer(self, sources: Sources) -> PairScorer:
        """The cross-encoder of a retriever with a `scored_depth`, by which plans tell what it costs."""
        raise NotImplementedError

    @abstractmethod
    def bind(self, sources: Sources) -> Searcher:
        """The searcher over a corpus; builds or opens the index."""


def bound(retriever: Retriever, sources: Sources) -> Searcher:
    """The searcher of a retriever, which can do what the retriever says.

    Raises:
        ConfigError: it cannot.
    """
    searcher = retriever.bind(sources)
    if not isinstance(searcher, Searcher):
        raise ConfigError(
            f"{type(retriever).__name__}.bind() returned a {type(searcher).__name__}; a subclass of "
            "hf_hardneg.retrievers.Searcher is allowed. Derive it from that."
        )
    if missing := [name for name in ("name", "identity", "score_kind") if not hasattr(searcher, name)]:
        raise ConfigError(
            f"{type(searcher).__name__} has no {' and no '.join(missing)}; a Searcher needs all of name, identity and "
            "score_kind. Add what is missing."
        )
    for capability, method in (("can_score", "score"), ("has_vectors", "vectors")):
        if getattr(retriever, capability) and not getattr(searcher, capability):
            raise ConfigError(
                f"{type(retriever).__name__} says {capability} = True, and its {type(searcher).__name__} does not "
                f"define {method}(). Define it, or drop {capability}."
            )
    return searcher


def check_retrievers(parts: Sequence[object]) -> None:
    """Raise for what is no retriever.

    Raises:
        ConfigError: naming it.
    """
    check_parts(parts, "retriever", "bind", "BM25(100)")
    for part in parts:
        if not isinstance(part, Retriever):
            raise ConfigError(
                f"{type(part).__name__} is not derived from hf_hardneg.retrievers.Retriever, which tells mining what "
                "a retriever can do; only what is derived is allowed. Derive it."
            )
        if not hasattr(part, "name") or not hasattr(part, "score_kind"):
            raise ConfigError(f"{type(part).__name__} needs a name and a score_kind, and lacks one. Add it.")


def vector_part(searcher: Searcher) -> Searcher | None:
    """The part of a searcher that has vectors of documents."""
    return next((part for part in searcher.parts if part.has_vectors), None)


def rows_of(prepared: Any, rows: np.ndarray) -> Any:
    """What a searcher prepared, of some queries alone.

    Args:
        prepared (`list`, `tuple`, or what takes an array of rows in brackets): as `Searcher.prepare` returns it.
        rows (`np.ndarray`): (m,) positions of queries.
    """
    if isinstance(prepared, tuple):
        return tuple(rows_of(part, rows) for part in prepared)
    return [prepared[row] for row in rows] if isinstance(prepared, list) else prepared[rows]
