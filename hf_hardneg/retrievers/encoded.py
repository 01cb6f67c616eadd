"""What retrievers share whose vectors no other retriever reads: of weighted terms, or of tokens."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.base import Retriever, Searcher
from hf_hardneg.runtime.arguments import AtLeastOne, Checked


@dataclass(frozen=True)
class EncodedRetriever(Checked, Retriever):
    """A retriever that may name a model beside the models of other parts.

    Args:
        depth (`int`, defaults to 100): candidates for each query.
        encoder (*optional*): the model; by default the `encoder=` of `HardNegatives`, or columns.
    """

    depth: AtLeastOne = 100
    _: KW_ONLY
    encoder: Any = None
    can_score: ClassVar[bool] = True
    method: ClassVar[str]
    forms: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        may_encode = callable(self.encoder) or hasattr(self.encoder, self.method)
        if not (self.encoder is None or isinstance(self.encoder, str | os.PathLike) or may_encode):
            raise ConfigError(
                f"{type(self).__name__}(encoder=) got a {type(self.encoder).__name__}; allowed are {self.forms}. Give "
                "one of those."
            )

    @property
    def uses_vectors(self) -> bool:
        """Whether it has no encoder of its own."""
        return self.encoder is None

    def fitted(self) -> Retriever:
        """The same, its encoder only named."""
        named = isinstance(self.encoder, str) or self.encoder is None
        return self if named else replace(self, encoder=type(self.encoder).__qualname__)


@dataclass(frozen=True)
class EncodedSearcher(Searcher):
    """Searches an index of such vectors.

    Args:
        index, encoder: of the documents, and of the queries and texts outside the corpus.
        by_column (`bool`, defaults to `True`): whether a column of the queries is read where there is one.
    """

    index: Any
    encoder: Any
    by_column: bool = True

    @property
    def identity(self) -> str:
        """The index, the model of the queries, and whether that encodes all of them, whatever their columns hold."""
        model = f" {self.encoder.digest}" if self.encoder is not None else ""
        return f"{self.index.identity}{model}{'' if self.by_column else ' alone'}"

    def search(self, queries: Any, k: np.ndarray) -> Hits:
        """See `Searcher`; what has no term or token finds nothing, and is not found."""
        hits: Hits = self.index.search(queries, k)
        return hits

    def score(self, queries: Any, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        scores: np.ndarray = self.index.score_rows(queries, query, rows)
        return scores

    def encoded(self, texts: list[str]) -> Any:
        """Vectors of texts as documents; of each none where there is no model."""
        raise NotImplementedError

    def prepare_documents(self, positives: PositiveList, corpus: Corpus) -> Any:
        """Vectors of the positives; none, and so no scores, where nothing encodes the text."""
        inside = positives.row >= 0
        held = self.index.vectors(positives.row[inside])
        outside = self.encoded([text for text in positives.text if text is not None])
        place = np.empty(len(inside), np.int64)
        place[inside], place[~inside] = np.arange(len(held)), len(held) + np.arange(len(outside))
        return type(held).joined([held, outside])[place]
