"""The table that flows between the stages of mining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from hf_hardneg.arrays.grouping import position_in_group
from hf_hardneg.errors import DataError
from hf_hardneg.runtime.arguments import AtLeastZero, Checked, checked

Basis = Literal["no_positives", "raw", "survivors"]
"""What a rank is counted among: the hits outside the exclusion set, all hits, or the candidates still in the table."""


@dataclass(frozen=True, kw_only=True)
class Candidates(Checked):
    """Retrieved documents of a batch of queries, as one flat table sorted by (query, raw rank).

    Args:
        queries (`int`): number of queries in the batch.
        query (`np.ndarray`): (n,) int64, position of the query in the batch, ascending.
        doc (`np.ndarray`): (n,) int64, row of the document in the corpus.
        score (`np.ndarray`): (n,) float64, exact upcast of the stored float32. Higher is better.
        rank (`np.ndarray`): (n,) int32, position among all raw hits, 0 first, never renumbered.
        position (`np.ndarray`): (n,) int32, position among the hits outside the exclusion set.
        positive (`np.ndarray`): (queries,) float64, the query's anchor score; NaN where there is none.
        positive_rank (`np.ndarray`): (queries,) int32, best raw rank of a known positive; -1 where none was retrieved.
        score_kind (`str`): as of a `Searcher`, such as `"cosine"`; `"none"` where nothing is scored.
        source (`np.ndarray`): (n,) int8, which of `sources` brought it.
        sources (`tuple[str, ...]`): names of retrievers.
        signals (`Mapping[str, np.ndarray]`): (n,) float64 each, what else is known of candidates; NaN where it is not.
    """

    queries: AtLeastZero
    query: np.ndarray
    doc: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    position: np.ndarray
    positive: np.ndarray
    positive_rank: np.ndarray
    score_kind: str
    source: np.ndarray
    sources: tuple[str, ...]
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    @checked
    def of(
        cls,
        scores: Sequence[Sequence[Any]],
        *,
        positive: Sequence[Any] | None = None,
        docs: Sequence[Sequence[Any]] | None = None,
        ranks: Sequence[Sequence[Any]] | None = None,
        signals: Mapping[str, Sequence[Sequence[Any]]] | None = None,
        score_kind: str = "cosine",
    ) -> Candidates:
        """A table of one list for each query, to try a filter or sampler on.

        Args:
            scores (`Sequence[Sequence[float]]`): of each query's candidates, best first.
            positive (`Sequence[float]`, *optional*): the anchor score of each query; by default there is none.
            docs (`Sequence[Sequence[int]]`, *optional*): corpus rows; by default counted over all queries, from 0.
            ranks (`Sequence[Sequence[int]]`, *optional*): raw ranks, with gaps where hits were excluded; by default
                there are none.
            signals (`Mapping[str, Sequence[Sequence[float]]]`, *optional*): by name.
            score_kind (`str`, defaults to `"cosine"`): kind of the scores.

        Example:
            >>> found = Candidates.of([[0.9, 0.6], [0.8]], positive=[0.7, 0.7])
            >>> AbsoluteMargin(0.05).keep(found)
            array([False,  True, False])
        """
        counts = [len(row) for row in scores]
        lists = {"docs": docs, "ranks": ranks, **(signals or {})}
        for name, values in lists.items():
            if values is not None and [len(row) for row in values] != counts:
                raise DataError(
                    f"Candidates.of() got {name} of other lengths than scores, whose lists have {counts}; each "
                    "candidate needs one of each. Give lists of the same lengths."
                )
        if positive is not None and len(positive) != len(counts):
            raise DataError(
                f"Candidates.of() got {len(positive)} positives for {len(counts)} queries; give a score for each."
            )
        query = np.repeat(np.arange(len(counts)), counts)
        position = np.concatenate([np.zeros(0, np.int32), *(np.arange(count, dtype=np.int32) for count in counts)])
        table = cls(
            queries=len(counts),
            query=query,
            doc=np.arange(len(query)) if docs is None else _flat(docs, np.int64),
            score=_flat(scores, np.float64),
            rank=position if ranks is None else _flat(ranks, np.int32),
            position=position,
            positive=np.full(len(counts), np.nan) if positive is None else _flat([positive], np.float64),
            positive_rank=np.full(len(counts), -1, np.int32),
            score_kind=score_kind,
            source=np.zeros(len(query), np.int8),
            sources=("test",),
        )
        return table.with_signals({name: _flat(values, np.float64) for name, values in (signals or {}).items()})

    def __len__(self) -> int:
        return len(self.doc)

    @checked
    def take(self, keep: np.ndarray) -> Candidates:
        """The candidates under a boolean mask or at ascending positions; the order is kept."""
        columns = {name: getattr(self, name)[keep] for name in ("query", "doc", "score", "rank", "position", "source")}
        signals = {name: values[keep] for name, values in self.signals.items()}
        return replace(self, **columns, signals=signals)

    def rows_in(self, table: Candidates) -> np.ndarray:
        """Where in a table that has all of them the candidates stand, (n,) int64."""
        width = int(table.rank.max(initial=0)) + 1
        return np.searchsorted(table.query * width + table.rank, self.query * width + self.rank)

    @checked
    def with_signals(self, added: Mapping[str, np.ndarray]) -> Candidates:
        """The same with further signals, (n,) each, rounded to float32, as they are stored."""
        rounded = {name: values.astype(np.float32).astype(np.float64) for name, values in added.items()}
        return replace(self, signals={**self.signals, **rounded})

    def counts(self) -> np.ndarray:
        """Candidates per query, (queries,) int64."""
        return np.bincount(self.query, minlength=self.queries)

    def offsets(self) -> np.ndarray:
        """Where each query's candidates begin and end, (queries + 1,) int64."""
        return np.concatenate([[0], np.cumsum(self.counts())])

    def anchor(self) -> np.ndarray:
        """The positive score each candidate is compared with, (n,) float64."""
        return self.positive[self.query]

    def ranks(self, basis: Basis) -> np.ndarray:
        """The rank of each candidate within its query on a basis, (n,) int64, 0 first."""
        if basis == "survivors":
            return position_in_group(self.query)
        return (self.rank if basis == "raw" else self.position).astype(np.int64)


def _flat(lists: Sequence[Sequence[Any]], dtype: type) -> np.ndarray:
    try:
        return np.array([value for row in lists for value in row], dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"Candidates.of() got what is no number ({error}); give lists of numbers.") from error
