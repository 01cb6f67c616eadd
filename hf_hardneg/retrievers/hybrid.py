"""The union of several retrievers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from hf_hardneg.arrays.grouping import position_in_group
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.hits import Fused, Hits
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources, bound, check_retrievers, vector_part
from hf_hardneg.retrievers.bm25 import BM25
from hf_hardneg.retrievers.dense import Dense
from hf_hardneg.runtime.arguments import AtLeastOne, check_fields

RANK_CONSTANT = 60


@dataclass(frozen=True)
class Hybrid(Retriever):
    """The union of several retrievers, in the order of their fused ranks; all scored by one of them.

    A candidate's score is that of the dense member, else of the first that scores, so margins and samplers compare
    what is comparable. Its source names every member that found it, such as `"bm25+dense"`. Every member is searched as
    deep as the strategy needs, whatever its own depth; `quotas` say how much each contributes.

    Args:
        members (`Sequence[Retriever]`, defaults to BM25 and dense, 100 each): each of another kind.
        quotas (`Sequence[int]`, *optional*): how many of each member in turn, such as (2, 2, 1); by default the order
            is that of reciprocal rank fusion, `sum 1 / (60 + rank)` (Cormack et al. 2009).
    """

    members: Sequence[Retriever] = field(default_factory=lambda: (BM25(100), Dense(100)))
    _: KW_ONLY
    quotas: Sequence[AtLeastOne] | None = None
    name: ClassVar[str] = "hybrid"
    can_score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "members", tuple(self.members))
        check_retrievers(self.members)
        names = [member.name for member in self.members]
        if len(names) < 2 or len(set(names)) < len(names) or "hybrid" in names:
            raise ConfigError(
                f"Hybrid() got {', '.join(names) or 'no members'}; give two or more of different kinds, such as "
                "[BM25(100), Dense(100)]."
            )
        if not any(member.can_score for member in self.members):
            raise ConfigError(
                f"Hybrid() got {', '.join(names)}, none of which scores the others' documents; one must. Add one that "
                "can_score, such as BM25(100)."
            )
        if reranked := [member.name for member in self.members if member.scored_depth]:
            raise ConfigError(
                f"Hybrid() got {', '.join(reranked)}, which scores its own documents only; members are searched as "
                "deep as the strategy needs. Rerank the union instead: Reranked(Hybrid([...]))."
            )
        if self.quotas is not None:
            object.__setattr__(self, "quotas", tuple(self.quotas))
            if len(self.quotas) != len(names):
                raise ConfigError(
                    f"quotas={self.quotas} do not suit {len(names)} members; give one number of at least 1 for each."
                )

    @property
    def parts(self) -> tuple[Retriever, ...]:
        """See `Retriever`."""
        return tuple(self.members)

    def with_parts(self, change: Callable[[Retriever], Retriever]) -> Retriever:
        """See `Retriever`."""
        return replace(self, members=tuple(map(change, self.members)))

    @property
    def depth(self) -> int | None:
        """The deepest member's."""
        return max(member.depth or 0 for member in self.members) or None

    @property
    def score_kind(self) -> str:
        """That of the member that scores."""
        return self.members[_scoring(self.members)].score_kind

    @property
    def has_vectors(self) -> bool:
        """Whether a member has."""
        return any(member.has_vectors for member in self.members)

    @property
    def uses_vectors(self) -> bool:
        """Whether a member is built from them."""
        return any(member.uses_vectors for member in self.members)

    @property
    def needs_words(self) -> tuple[str, ...]:
        """The sides whose words a member reads."""
        return tuple(dict.fromkeys(side for member in self.members for side in member.needs_words))

    def bind(self, sources: Sources) -> Searcher:
        """The searchers of all members over a corpus."""
        return HybridSearcher(tuple(bound(member, sources) for member in self.members), self.quotas)


@dataclass(frozen=True)
class HybridSearcher(Searcher):
    """Searches with several searchers and fuses what they find."""

    members: tuple[Searcher, ...]
    quotas: Sequence[AtLeastOne] | None
    name: ClassVar[str] = "hybrid"
    can_score: ClassVar[bool] = True

    @property
    def parts(self) -> tuple[Searcher, ...]:
        """See `Searcher`."""
        return self.members

    @property
    def scorer(self) -> int:
        """Which part scores."""
        return _scoring(self.parts)

    @property
    def has_vectors(self) -> bool:
        """Whether a part has; `vector_part` is that."""
        return any(part.has_vectors for part in self.parts)

    @property
    def sources(self) -> tuple[str, ...]:
        """A name for each set of parts, by the bits of its number."""
        names = [name for part in self.parts for name in part.sources]
        subsets = range(1 << len(names))
        return tuple("+".join(name for bit, name in enumerate(names) if bits >> bit & 1) for bits in subsets)

    @property
    def score_kind(self) -> str:
        """That of the part that scores."""
        return self.parts[self.scorer].score_kind

    @property
    def identity(self) -> str:
        """The parts and how they are fused."""
        return f"hybrid {self.quotas} " + " ".join(part.identity for part in self.parts)

    @property
    def recall(self) -> float | None:
        """That of the least exact part."""
        return min((part.recall for part in self.parts if part.recall is not None), default=None)

    def at(self, generation: int) -> HybridSearcher:
        """The same with the parts of a generation."""
        return replace(self, members=tuple(part.at(generation) for part in self.parts))

    def prepare(self, queries: Queries) -> tuple[Any, ...]:
        """What each part takes."""
        return tuple(part.prepare(queries) for part in self.parts)

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> tuple[Any, ...]:
        """See `Searcher`."""
        return tuple(part.prepare_documents(positives, corpus) for part in self.parts)

    def search(self, queries: tuple[Any, ...], k: np.ndarray) -> Fused:
        """See `Searcher`."""
        hits = [part.search(prepared, k) for part, prepared in zip(self.parts, queries, strict=True)]
        query, doc, source = fused(hits, self.quotas, k)
        return Fused(query, doc, self.score(queries, query, doc), source)

    def score(self, queries: tuple[Any, ...], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.parts[self.scorer].score(queries[self.scorer], query, rows)

    def score_texts(self, queries: tuple[Any, ...], query: np.ndarray, texts: list[str]) -> np.ndarray:
        """See `Searcher`."""
        return self.parts[self.scorer].score_texts(queries[self.scorer], query, texts)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of the part that has some."""
        part = vector_part(self)
        return super().vectors(rows) if part is None else part.vectors(rows)


def _scoring(members: Sequence[Retriever | Searcher]) -> int:
    """Which of a union's members scores: the first with vectors, else the first that can."""
    return min(range(len(members)), key=lambda i: (not members[i].can_score, not members[i].has_vectors))


def fused(
    searches: Sequence[Hits | Fused], quotas: Sequence[AtLeastOne] | None, k: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `k` (queries,) best of several searches: query, document and, as bits, which searches have it; (n,) each.

    Args:
        searches (`Sequence[Hits]`): of the same queries, best first.
        quotas (`Sequence[int]`, *optional*): so many of each in turn, instead of reciprocal rank fusion.
        k (`np.ndarray`): (queries,) how many at most.
    """
    pairs = np.empty(sum(len(hits.doc) for hits in searches), dtype=[("query", np.int64), ("doc", np.int64)])
    pairs["query"] = np.concatenate([hits.query for hits in searches])
    pairs["doc"] = np.concatenate([hits.doc for hits in searches])
    rank = np.concatenate([position_in_group(hits.query) for hits in searches])
    member = np.repeat(np.arange(len(searches)), [len(hits.doc) for hits in searches])
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
    best = best[position_in_group(query) < k[query]]
    return unique["query"][best], unique["doc"][best], source[best]
