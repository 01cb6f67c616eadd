"""The union of several retrievers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hf_hardneg.arrays.grouping import position_in_group
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.hits import Fused, Hits
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources
from hf_hardneg.retrievers.bm25 import BM25
from hf_hardneg.retrievers.dense import Dense, DenseSearcher
from hf_hardneg.runtime.arguments import AtLeastOne, check_fields, check_parts

if TYPE_CHECKING:
    from hf_hardneg.models.encoder import Encoder

RANK_CONSTANT = 60


@dataclass(frozen=True)
class Hybrid:
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

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "members", tuple(self.members))
        check_parts(self.members, "retriever", "bind", "BM25(100)")
        names = [member.name for member in self.members]
        if len(names) < 2 or len(set(names)) < len(names) or "hybrid" in names or set(names) == {"random"}:
            raise ConfigError(
                f"Hybrid() got {', '.join(names) or 'no members'}; give two or more of different kinds, such as "
                "[BM25(100), Dense(100)]."
            )
        if self.quotas is not None:
            object.__setattr__(self, "quotas", tuple(self.quotas))
            if len(self.quotas) != len(names):
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
    quotas: Sequence[AtLeastOne] | None

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
    found: Sequence[Hits | Fused], quotas: Sequence[AtLeastOne] | None, k: np.ndarray
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
    rank = np.concatenate([position_in_group(hits.query) for hits in found])
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
    best = best[position_in_group(query) < k[query]]
    return unique["query"][best], unique["doc"][best], source[best]
