"""What a retriever is, and what it becomes once it is bound to a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.index.hits import Fused, Hits

if TYPE_CHECKING:
    from datasets import Dataset


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
