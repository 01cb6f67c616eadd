"""Retrievers: where candidates come from. A retriever is a configuration; bound to a corpus it is a searcher.

To add one, write the configuration and its searcher here and list it in `RETRIEVERS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from hf_hardneg.corpus import Corpus
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.index.approximate import ApproximateIndex, build_approximate, checked_factory, chosen_factory
from hf_hardneg.index.attach import index_corpus, load
from hf_hardneg.index.bm25 import BM25Index, build_bm25
from hf_hardneg.index.bm25_weights import BM25Config
from hf_hardneg.index.dense import DenseIndex, Similarity, adopt_faiss
from hf_hardneg.index.gpu import Device, check_device
from hf_hardneg.index.hits import Fused, Hits
from hf_hardneg.positives import PositiveList
from hf_hardneg.queries import Queries

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_hardneg.encode.encoder import Encoder


RANK_CONSTANT = 60
EXACT = ("auto", "exact")
"""Values of `factory` that are no FAISS factory strings."""


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
    """

    dataset: Dataset
    corpus: Corpus
    encoder: Any = None
    vector_column: str | None = None
    index: Any = None
    cross_encoder: Any = None
    seed: int = 42


class Searcher(Protocol):
    """A retriever bound to a corpus; pickles as paths."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of where its hits may come from; one, but for a union."""

    @property
    def score_kind(self) -> str:
        """`"bm25"`, `"cosine"`, `"dot"`, `"l2"`, or `"none"` where nothing is scored."""

    @property
    def identity(self) -> str:
        """What its hits depend on, besides the queries: equal for equal indexes and models, wherever they lie."""

    @property
    def recall(self) -> float | None:
        """Share of the exact nearest documents that the search finds; `None` where it is exact."""

    def prepare(self, queries: Queries) -> Any:
        """What `search` and `score_positives` need of the queries, computed once."""

    def search(self, prepared: Any, rows: np.ndarray, k: np.ndarray) -> Hits | Fused:
        """Best hits of the queries at `rows` (n,), at most `k` (n,) each; `query` counts within `rows`."""

    def score_positives(self, prepared: Any, positives: PositiveList) -> np.ndarray:
        """Scores of known positives by the same scorer, (n,) float32; NaN where it cannot score."""

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> Any:
        """What `score_rows` needs to compare documents with the positives, as if those were queries."""

    def score_rows(self, prepared: Any, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (prepared, corpus row) pairs, (n,) float32; NaN where it cannot score."""


class Retriever(Protocol):
    """What mining asks of a retriever."""

    name: ClassVar[str]

    @property
    def depth(self) -> int | None:
        """How many candidates it brings; `None` leaves it to the other parts."""

    @property
    def score_kind(self) -> str:
        """Kind of its scores, see `Searcher`; of a user's own index it is known once bound."""

    def bind(self, sources: Sources) -> Searcher:
        """The searcher over a corpus; builds or opens the index."""


def _check_depth(depth: int | None) -> None:
    if depth is not None and depth < 1:
        raise ConfigError(f"depth={depth} retrieves nothing; give at least 1, such as 100.")


@dataclass(frozen=True)
class BM25:
    """Documents that share words with the query.

    Args:
        depth (`int`, defaults to 100): candidates for each query.
        config (`BM25Config`, *optional*): weights and text analysis.
    """

    depth: int = 100
    _: KW_ONLY
    config: BM25Config = field(default_factory=BM25Config)
    name: ClassVar[str] = "bm25"
    score_kind: ClassVar[str] = "bm25"

    def __post_init__(self) -> None:
        _check_depth(self.depth)

    def bind(self, sources: Sources) -> Searcher:
        """The BM25 searcher over a corpus."""
        return BM25Searcher(BM25Index(directory=build_bm25(sources.corpus, self.config), config=self.config))


@dataclass(frozen=True)
class BM25Searcher:
    """Searches a BM25 index."""

    index: BM25Index
    sources: ClassVar[tuple[str, ...]] = ("bm25",)
    score_kind: ClassVar[str] = "bm25"
    recall: ClassVar[None] = None

    @property
    def identity(self) -> str:
        """The index."""
        return self.index.directory.name

    def prepare(self, queries: Queries) -> list[str]:
        """The texts themselves."""
        return queries.texts

    def search(self, prepared: list[str], rows: np.ndarray, k: np.ndarray) -> Hits:
        """See `Searcher`."""
        return self.index.search([prepared[row] for row in rows], k)

    def score_positives(self, prepared: list[str], positives: PositiveList) -> np.ndarray:
        """See `Searcher`."""
        inside = positives.row >= 0
        scores = np.empty(len(positives.query), np.float32)
        scores[inside] = self.index.score_rows(prepared, positives.query[inside], positives.row[inside])
        texts = [text for text in positives.text if text is not None]
        if texts:
            scores[~inside] = self.index.score_texts(prepared, positives.query[~inside], texts)
        return scores

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> list[str]:
        """The texts of the positives."""
        return positives.texts(corpus)

    def score_rows(self, prepared: list[str], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.index.score_rows(prepared, query, rows)


@dataclass(frozen=True)
class Dense:
    """Documents whose vectors are nearest to the query's.

    Args:
        depth (`int`, *optional*): candidates for each query; by default what the other parts need.
        similarity (`str`, *optional*): `"cosine"` (default), `"dot"`; a user's own index brings its own.
        factory (`str`, defaults to `"auto"`): `"exact"`, or a FAISS factory string for an approximate index that
            proposes documents; they are scored exactly. `"auto"` is exact search while the corpus has at most 200,000
            documents or its 8-bit codes fill at most half of the memory: it outran every approximate index we
            measured (`index/approximate.py`).
        recall (`float`, defaults to 0.98): share of the 100 nearest documents that an approximate index must find; its
            search effort is raised until it does, on `sample`.
        sample (`Sequence`, *optional*): queries like those to come, texts or vectors; 512 are used. Without, documents
            stand in, and recall on the queries themselves may be lower.
        device (`str`, defaults to `"auto"`): exact search runs on a GPU where there is one, approximate search on the
            CPU. `"cpu"` leaves GPUs alone; `"cuda"` takes the first one for both, or is an error. Approximate search
            on it needs the extra `[gpu]`; what is deeper than 2,048 documents for a query stays on the CPU.
    """

    depth: int | None = None
    _: KW_ONLY
    similarity: Similarity | None = None
    factory: str = "auto"
    recall: float = 0.98
    sample: Sequence[Any] = field(default=(), repr=False, compare=False)
    device: Device = "auto"
    name: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        _check_depth(self.depth)
        object.__setattr__(self, "sample", tuple(self.sample))
        if not 0 < self.recall <= 1:
            raise ConfigError(f"recall={self.recall} is no share of documents to find; give one in (0, 1], as 0.98.")
        if self.factory not in EXACT and self.similarity == "l2":
            raise ConfigError(
                f"factory={self.factory!r} needs similarity 'cosine' or 'dot', not 'l2'. Drop one of both, or pass "
                "your own L2 index as index_name=."
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
                "index_name= to have the corpus indexed by it."
            )
        index = adopt_faiss(sources.corpus, _user_index(sources), similarity=self.similarity)
        if self.device == "cuda" and index.codes() is None:
            raise ConfigError(
                f"device='cuda' cannot search your own index, {sources.index!r}; only a flat inner product index can "
                "be, in torch. Drop device=, or drop index_name= to have the corpus indexed."
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
        given = exact.queries(asked, what="sample vectors") if len(asked) else None
        return build_approximate(exact, factory, recall=self.recall, sample=given)


def _user_index(sources: Sources) -> Any:
    from pathlib import Path

    index = sources.index
    if not isinstance(index, (str, Path)):
        return index
    if str(index) in sources.dataset.list_indexes():
        return sources.dataset.get_index(str(index)).faiss_index
    if Path(index).exists():
        return index
    raise unknown_name("index (neither attached to the corpus nor a file)", str(index), sources.dataset.list_indexes())


@dataclass(frozen=True)
class DenseSearcher:
    """Searches a dense index."""

    index: DenseIndex
    encoder: Encoder | None
    sources: ClassVar[tuple[str, ...]] = ("dense",)

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
        return self.index.measured.recall if isinstance(self.index, ApproximateIndex) else None

    def prepare(self, queries: Queries) -> np.ndarray:
        """Vectors of the queries, (n, d): from their column, else encoded."""
        if queries.vectors is not None:
            return self.index.queries(queries.vectors)
        if self.encoder is None:
            raise ConfigError(
                "The queries have no vectors. Pass encoder=, the model of the corpus, or query_vector_column=."
            )
        return self.index.queries(self.encoder.encode(queries.texts, kind="query"))

    def search(self, prepared: np.ndarray, rows: np.ndarray, k: np.ndarray) -> Hits:
        """See `Searcher`."""
        return self.index.search(prepared[rows], k)

    def score_positives(self, prepared: np.ndarray, positives: PositiveList) -> np.ndarray:
        """See `Searcher`."""
        scores = np.full(len(positives.query), np.nan, np.float32)
        inside = positives.row >= 0
        scores[inside] = self.index.score_rows(prepared, positives.query[inside], positives.row[inside])
        texts = [text for text in positives.text if text is not None]
        if texts and self.encoder is not None:
            vectors = self.index.queries(self.encoder.encode(texts, kind="document"), what="positive vectors")
            scores[~inside] = self.index.score_vectors(prepared, positives.query[~inside], vectors)
        return scores

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> np.ndarray:
        """Vectors of the positives, (n, d); NaN where a text outside the corpus cannot be encoded."""
        vectors = np.full((len(positives.query), self.index.width), np.nan, np.float32)
        inside = positives.row >= 0
        vectors[inside] = self.index.vectors(positives.row[inside])
        texts = [text for text in positives.text if text is not None]
        if texts and self.encoder is not None:
            encoded = self.encoder.encode(texts, kind="document")
            vectors[~inside] = self.index.queries(encoded, what="positive vectors")
        return vectors

    def score_rows(self, prepared: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.index.score_rows(prepared, query, rows)


@dataclass(frozen=True)
class Random:
    """Documents drawn uniformly, without replacement; they have no score.

    Args:
        depth (`int`, *optional*): draws for each query; by default what the other parts need.
    """

    depth: int | None = None
    name: ClassVar[str] = "random"
    score_kind: ClassVar[str] = "none"

    def __post_init__(self) -> None:
        _check_depth(self.depth)

    def bind(self, sources: Sources) -> Searcher:
        """The random searcher over a corpus."""
        return RandomSearcher(sources.corpus, sources.seed)


@dataclass(frozen=True)
class RandomSearcher:
    """Draws documents by keyed uniforms of the query alone, so any batch draws the same."""

    corpus: Corpus
    seed: int
    sources: ClassVar[tuple[str, ...]] = ("random",)
    score_kind: ClassVar[str] = "none"
    recall: ClassVar[None] = None

    @property
    def identity(self) -> str:
        """The documents' ids and texts, and the seed."""
        return f"random {self.corpus.digest} {self.seed}"

    def prepare(self, queries: Queries) -> list[str]:
        """The identities of the queries."""
        return queries.identity

    def search(self, prepared: list[str], rows: np.ndarray, k: np.ndarray) -> Hits:
        """See `Searcher`; hits are in the order drawn."""
        drawn = [self._draw(prepared[row], int(limit)) for row, limit in zip(rows, k, strict=True)]
        docs = np.concatenate([np.zeros(0, np.int64), *drawn])
        query = np.repeat(np.arange(len(rows)), [len(one) for one in drawn])
        return Hits(query, docs, np.zeros(len(docs), np.float32))

    def _draw(self, identity: str, k: int) -> np.ndarray:
        total = len(self.corpus)
        if k > total // 4:
            ids = self.corpus.ids(np.arange(total)).to_pylist()
            return np.argsort(keyed_uniforms(self.seed, "random", identity, ids), kind="stable")[:k]
        chosen: dict[int, None] = {}
        draw = 0
        while len(chosen) < k:
            chosen[int(keyed_uniforms(self.seed, f"random#{draw}", identity, [""])[0] * total)] = None
            draw += 1
        return np.fromiter(chosen, np.int64)

    def score_positives(self, prepared: list[str], positives: PositiveList) -> np.ndarray:
        """NaN: nothing is scored."""
        return np.full(len(positives.query), np.nan, np.float32)

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> None:
        """Nothing."""

    def score_rows(self, prepared: Any, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """NaN: nothing is scored."""
        return np.full(len(rows), np.nan, np.float32)


@dataclass(frozen=True)
class Hybrid:
    """The union of several retrievers, in the order of their fused ranks; all scored by one of them.

    A candidate's score is that of the dense member, else of the first that scores, so margins and samplers compare
    what is comparable. Its source names every member that found it, such as `"bm25+dense"`.

    Args:
        members (`Sequence[Retriever]`, defaults to BM25 and dense, 100 each): each of another kind.
        quotas (`Sequence[int]`, *optional*): how many of each member in turn, such as (2, 2, 1); by default the order
            is that of reciprocal rank fusion, `sum 1 / (60 + rank)` (Cormack et al. 2009).
    """

    members: Sequence[Retriever] = field(default_factory=lambda: (BM25(100), Dense(100)))
    _: KW_ONLY
    quotas: Sequence[int] | None = None
    name: ClassVar[str] = "hybrid"

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(self.members))
        names = [member.name for member in self.members]
        if len(names) < 2 or len(set(names)) < len(names) or "hybrid" in names or set(names) == {"random"}:
            raise ConfigError(
                f"Hybrid() got {', '.join(names) or 'no members'}; give two or more of different kinds, such as "
                "[BM25(100), Dense(100)]."
            )
        if self.quotas is not None:
            object.__setattr__(self, "quotas", tuple(self.quotas))
            if len(self.quotas) != len(names) or min(self.quotas) < 1:
                raise ConfigError(
                    f"quotas={self.quotas} do not suit {len(names)} members; give one number of at least 1 for each."
                )

    @property
    def depth(self) -> int | None:
        """The deepest member's."""
        return max(member.depth or 0 for member in self.members) or None

    @property
    def score_kind(self) -> str:
        """That of the member that scores."""
        kinds = [member.score_kind for member in self.members]
        return kinds[_scoring(kinds)]

    def bind(self, sources: Sources) -> Searcher:
        """The searchers of all members over a corpus."""
        return HybridSearcher(tuple(member.bind(sources) for member in self.members), self.quotas)


@dataclass(frozen=True)
class HybridSearcher:
    """Searches with several searchers and fuses what they find."""

    members: tuple[Searcher, ...]
    quotas: Sequence[int] | None

    @property
    def scorer(self) -> int:
        """Which member scores."""
        return _scoring([member.score_kind for member in self.members])

    @property
    def encoder(self) -> Encoder | None:
        """The model of the dense member."""
        return getattr(self.members[self.scorer], "encoder", None)

    @property
    def index(self) -> Any:
        """That of the member that scores."""
        return self.members[self.scorer].index  # type: ignore[attr-defined]

    @property
    def sources(self) -> tuple[str, ...]:
        """A name for each set of members, by the bits of its number."""
        names = [name for member in self.members for name in member.sources]
        sets = range(1 << len(names))
        return tuple("+".join(name for bit, name in enumerate(names) if one >> bit & 1) for one in sets)

    @property
    def score_kind(self) -> str:
        """That of the member that scores."""
        return self.members[self.scorer].score_kind

    @property
    def identity(self) -> str:
        """The members and how they are fused."""
        return f"hybrid {self.quotas} " + " ".join(member.identity for member in self.members)

    @property
    def recall(self) -> float | None:
        """That of the least exact member."""
        return min((member.recall for member in self.members if member.recall is not None), default=None)

    def prepare(self, queries: Queries) -> list[Any]:
        """What each member needs."""
        return [member.prepare(queries) for member in self.members]

    def search(self, prepared: list[Any], rows: np.ndarray, k: np.ndarray) -> Fused:
        """See `Searcher`."""
        found = [member.search(one, rows, k) for member, one in zip(self.members, prepared, strict=True)]
        query, doc, source = fused(found, self.quotas, k)
        score = self.score_rows(prepared, rows[query], doc)
        return Fused(query, doc, score, source)

    def score_positives(self, prepared: list[Any], positives: PositiveList) -> np.ndarray:
        """See `Searcher`."""
        return self.members[self.scorer].score_positives(prepared[self.scorer], positives)

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> list[Any]:
        """See `Searcher`."""
        return [member.prepare_documents(positives, corpus) for member in self.members]

    def score_rows(self, prepared: list[Any], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.members[self.scorer].score_rows(prepared[self.scorer], query, rows)


def dense_part(searcher: Searcher) -> DenseSearcher | None:
    """The part of a searcher that holds vectors."""
    parts = searcher.members if isinstance(searcher, HybridSearcher) else (searcher,)
    return next((part for part in parts if isinstance(part, DenseSearcher)), None)


def _scoring(kinds: Sequence[str]) -> int:
    """Which of a union's members scores: the dense one, else the first that does."""
    return min(range(len(kinds)), key=lambda i: (kinds[i] == "none", kinds[i] == "bm25"))


def fused(
    found: Sequence[Hits | Fused], quotas: Sequence[int] | None, k: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `k` (queries,) best of several searches: query, document and, as bits, the searches that found it; (n,) each.

    Args:
        found (`Sequence[Hits]`): of the same queries, best first.
        quotas (`Sequence[int]`, *optional*): so many of each in turn, instead of reciprocal rank fusion.
        k (`np.ndarray`): (queries,) how many at most.
    """
    pairs = np.empty(sum(len(hits.doc) for hits in found), dtype=[("query", np.int64), ("doc", np.int64)])
    pairs["query"] = np.concatenate([hits.query for hits in found])
    pairs["doc"] = np.concatenate([hits.doc for hits in found])
    rank = np.concatenate([np.arange(len(hits.query)) - np.searchsorted(hits.query, hits.query) for hits in found])
    member = np.repeat(np.arange(len(found)), [len(hits.doc) for hits in found])
    unique, where = np.unique(pairs, return_inverse=True)
    source, order = np.zeros(len(unique), np.int8), np.zeros(len(unique))
    np.bitwise_or.at(source, where, (1 << member).astype(np.int8))
    if quotas is None:
        np.subtract.at(order, where, 1 / (RANK_CONSTANT + rank + 1))
    else:
        quota, before = np.array(quotas)[member], (np.cumsum(quotas) - quotas)[member]
        order[:] = np.inf
        np.minimum.at(order, where, rank // quota * sum(quotas) + before + rank % quota)
    best = np.lexsort((unique["doc"], order, unique["query"]))
    query = unique["query"][best]
    best = best[np.arange(len(best)) - np.searchsorted(query, query) < k[query]]
    return unique["query"][best], unique["doc"][best], source[best]


RETRIEVERS: dict[str, type[Retriever]] = {"bm25": BM25, "dense": Dense, "random": Random, "hybrid": Hybrid}
"""Every retriever by its name."""
