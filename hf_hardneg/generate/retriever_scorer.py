"""Scores of new texts by the retriever that mined a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field

import numpy as np

from hf_hardneg.corpus.positives import PositiveList
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.errors import ConfigError
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.retrievers import Searcher
from hf_hardneg.runtime.arguments import check_fields, checked


@dataclass(frozen=True)
class RetrieverScorer:
    """Scores as in `negative_scores`, for documents outside the corpus: `Validation(scorer=RetrieverScorer(miner))`.

    Args:
        miner (`HardNegatives`): as for mining, with the same retriever; a dense one needs its encoder.
    """

    miner: InitVar[HardNegatives]
    searcher: Searcher = field(init=False)

    def __post_init__(self, miner: HardNegatives) -> None:
        check_fields(self, miner=miner)
        object.__setattr__(self, "searcher", miner.retrieval.searcher)

    @checked
    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Score n queries and documents pair by pair, (n,) float32; NaN where the retriever cannot score."""
        if len(queries) != len(documents):
            raise ConfigError(
                f"RetrieverScorer got {len(queries)} queries and {len(documents)} documents; it scores pairs. Give two "
                "lists of one length."
            )
        none, nothing = np.zeros(0, np.int64), PositiveList.outside(np.zeros(0, np.int64), [], "exact")
        batch = Queries(
            texts=list(queries),
            identity=list(queries),
            positives=nothing,
            listed=none,
            listed_counts=none,
            excluded_query=none,
            excluded_key=nothing.key,
        )
        pairs = PositiveList.outside(np.arange(len(documents)), list(documents), "exact")
        return self.searcher.score_positives(self.searcher.prepare(batch), pairs)
