"""What retrieval hands on, as tables of arrays and as Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import position_in_group
from hf_hardneg.arrays.lists import flat, ragged
from hf_hardneg.candidates import Candidates

COUNTS = ("retrieved", "known_positive", "duplicate", "not_a_number", "blank")
OF_CANDIDATES, OF_POSITIVES = "signal of candidates: ", "signal of positives: "


@dataclass(frozen=True, kw_only=True)
class Found:
    """What retrieval hands on, and rescoring adds to.

    Args:
        candidates (`Candidates`): outside the exclusion set, at most `depth` for each query; `positive` not yet set.
        counts (`np.ndarray`): (queries, 5) int64, see `COUNTS`; hits looked at, and why some were left out.
        positive_score (`np.ndarray`): (m,) float32 of every known positive, by query; NaN where it has none.
        positive_counts (`np.ndarray`): (queries,) how many known positives each has.
        listed (`np.ndarray`), listed_counts (`np.ndarray`): scores (k,) of the positives the rows list, (queries,).
        listed_signals (`Mapping[str, np.ndarray]`): (k,) what rescoring says of those.
    """

    candidates: Candidates
    counts: np.ndarray
    positive_score: np.ndarray
    positive_counts: np.ndarray
    listed: np.ndarray
    listed_counts: np.ndarray
    listed_signals: Mapping[str, np.ndarray] = field(default_factory=dict)

    def to_columns(self) -> dict[str, pa.Array]:
        """What retrieval knows as columns, one value for each query."""
        candidates = self.candidates
        per_query = candidates.counts()
        counts = [pa.array(self.counts[:, place], pa.int32()) for place in range(len(COUNTS))]
        columns = {
            "candidates": ragged(pa.array(candidates.doc), per_query),
            "candidate_scores": ragged(pa.array(candidates.score.astype(np.float32)), per_query),
            "candidate_ranks": ragged(pa.array(candidates.rank.astype(np.int32)), per_query),
            "known_positive_scores": ragged(pa.array(self.positive_score), self.positive_counts),
            "known_positive_rank": pa.array(candidates.positive_rank),
            "listed_positives": ragged(pa.array(self.listed), self.listed_counts),
            "retrieval_counts": pa.StructArray.from_arrays(counts, names=list(COUNTS)),
        }
        if len(candidates.sources) > 1:
            columns["candidate_sources"] = ragged(pa.array(candidates.source), per_query)
        return columns

    def signal_columns(self) -> dict[str, pa.Array]:
        """What rescoring added, a column of lists for each signal."""
        parts = (
            (OF_CANDIDATES, self.candidates.signals, self.candidates.counts()),
            (OF_POSITIVES, self.listed_signals, self.listed_counts),
        )
        return {
            f"{prefix}{name}": ragged(pa.array(values.astype(np.float32)), counts)
            for prefix, signals, counts in parts
            for name, values in signals.items()
        }

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any], *, score_kind: str, sources: tuple[str, ...]) -> Found:
        """The inverse of `to_columns`, and of `signal_columns` where those are there.

        Args:
            columns (`Mapping[str, pa.ChunkedArray]`): by name.
            score_kind (`str`), sources (`tuple[str, ...]`): of the retriever that made them.
        """
        docs, per_query = flat(columns["candidates"], np.int64)
        query = np.repeat(np.arange(len(per_query)), per_query)
        positive_score, positive_counts = flat(columns["known_positive_scores"], np.float32)
        listed, listed_counts = flat(columns["listed_positives"], np.float32)
        counts = columns["retrieval_counts"].combine_chunks().flatten()
        several = len(sources) > 1
        candidates = Candidates(
            queries=len(per_query),
            query=query,
            doc=docs,
            score=flat(columns["candidate_scores"], np.float64)[0],
            rank=flat(columns["candidate_ranks"], np.int32)[0],
            position=position_in_group(query).astype(np.int32),
            positive=np.full(len(per_query), np.nan),
            positive_rank=columns["known_positive_rank"].to_numpy().astype(np.int32),
            score_kind=score_kind,
            source=flat(columns["candidate_sources"], np.int8)[0] if several else np.zeros(len(docs), np.int8),
            sources=sources,
        )

        def signals(prefix: str) -> dict[str, np.ndarray]:
            names = [name for name in columns if name.startswith(prefix)]
            return {name.removeprefix(prefix): flat(columns[name], np.float64)[0] for name in names}

        return cls(
            candidates=candidates.with_signals(signals(OF_CANDIDATES)),
            counts=np.stack([part.to_numpy(zero_copy_only=False) for part in counts], axis=1).astype(np.int64),
            positive_score=positive_score,
            positive_counts=positive_counts,
            listed=listed,
            listed_counts=listed_counts,
            listed_signals=signals(OF_POSITIVES),
        )
