"""Documents drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.hashing import string_hashes
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.draws import uniforms_of_keys
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources
from hf_hardneg.runtime.arguments import AtLeastOne, Checked


@dataclass(frozen=True)
class Random(Checked, Retriever):
    """Documents drawn uniformly, without replacement; they have no score.

    Args:
        depth (`int`, *optional*): draws for each query; by default what the other parts need.
    """

    depth: AtLeastOne | None = None
    name: ClassVar[str] = "random"
    score_kind: ClassVar[str] = "none"
    needs_words: ClassVar[tuple[str, ...]] = ()

    def bind(self, sources: Sources) -> Searcher:
        """The random searcher over a corpus."""
        return RandomSearcher(sources.corpus, sources.seed)


@dataclass(frozen=True)
class RandomSearcher(Searcher):
    """Draws documents by keyed uniforms of the query alone, so any batch draws the same.

    Args:
        corpus (`Corpus`), seed (`int`): what is drawn from, and by what.
        generation (`int`, *optional*): of refreshed negatives; each draws others.
    """

    corpus: Corpus
    seed: int
    generation: int | None = None
    name: ClassVar[str] = "random"
    score_kind: ClassVar[str] = "none"

    @property
    def identity(self) -> str:
        """The documents' ids and texts, and what draws are keyed by."""
        return f"{self._salt('random')} {self.corpus.digest} {self.seed}"

    def at(self, generation: int) -> RandomSearcher:
        """The same with the draws of a generation."""
        return replace(self, generation=generation)

    def prepare(self, queries: Queries) -> list[str]:
        """The identities of the queries."""
        return queries.identity

    def search(self, queries: list[str], k: np.ndarray) -> Hits:
        """See `Searcher`; hits are in the order drawn."""
        hashes = string_hashes(pa.array(queries, pa.large_string()))
        total, ids = len(self.corpus), np.zeros(0, np.uint64)
        if k.max(initial=0) > total // 4:
            ids = string_hashes(self.corpus.ids(np.arange(total)))
        docs, sizes = [np.zeros(0, np.int64)], []
        for i, size in enumerate(k):
            query = hashes[i : i + 1]
            docs.append(self._best(query, ids)[:size] if size > total // 4 else self._first(query, int(size)))
            sizes.append(len(docs[-1]))
        flat = np.concatenate(docs)
        return Hits(np.repeat(np.arange(len(queries)), sizes), flat, np.zeros(len(flat), np.float32))

    def _best(self, query: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """All rows, in the order of the draws of their ids."""
        return np.argsort(uniforms_of_keys(self.seed, self._salt("random"), query, ids), kind="stable")

    def _first(self, query: np.ndarray, size: int) -> np.ndarray:
        """The first `size` different rows of the query's own stream of rows."""
        number = 2 * size + 8
        while True:
            places = np.arange(number, dtype=np.uint64)
            stream = uniforms_of_keys(self.seed, self._salt("random#stream"), query, places) * len(self.corpus)
            rows, first = np.unique(stream.astype(np.int64), return_index=True)
            if len(rows) >= size:
                return rows[np.argsort(first)[:size]]
            number *= 2

    def _salt(self, draw: str) -> str:
        return draw if self.generation is None else f"{draw}@{self.generation}"
