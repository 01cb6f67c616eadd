"""Documents drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.base import Searcher, Sources
from hf_hardneg.runtime.arguments import AtLeastOne, check_fields


@dataclass(frozen=True)
class Random:
    """Documents drawn uniformly, without replacement; they have no score.

    Args:
        depth (`int`, *optional*): draws for each query; by default what the other parts need.
    """

    depth: AtLeastOne | None = None
    name: ClassVar[str] = "random"
    score_kind: ClassVar[str] = "none"

    def __post_init__(self) -> None:
        check_fields(self)

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
