"""Rescoring: what filters and samplers must know of candidates besides their score, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.batches import Batch
from hf_hardneg.corpus.queries import Queries, Reader
from hf_hardneg.filters import ScoringFilter, of_positive, share_of
from hf_hardneg.models.scorers import PairScorer
from hf_hardneg.pipeline.filtering import Filtering
from hf_hardneg.pipeline.found import Found
from hf_hardneg.signals import BoundSignal, shares_of_pool
from hf_hardneg.store.mapped_memory import release


@dataclass(frozen=True, kw_only=True)
class Rescoring:
    """The step between retrieval and selection, itself a map callable over the columns that `Retrieval` added.

    Args:
        reader (`Reader`): reads the batch.
        signals (`Mapping[str, BoundSignal]`): computed for all candidates, by name.
        codes (`Mapping[str, str]`): what identifies the configurations that became those, by name.
        filtering (`Filtering`): which candidates are left for a scoring filter.
        scorers (`Mapping[str, PairScorer]`): of the scoring filters, by name.
        enough (`int`, *optional*): a query is done once the last scoring filter leaves so many; by default never.
        score_kind (`str`), sources (`tuple[str, ...]`): of the retriever that made the columns.
    """

    reader: Reader
    signals: Mapping[str, BoundSignal]
    codes: Mapping[str, str]
    filtering: Filtering
    scorers: Mapping[str, PairScorer]
    enough: int | None
    score_kind: str
    sources: tuple[str, ...]

    @property
    def needed(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self.signals or self.scorers)

    @property
    def identity(self) -> dict[str, Any]:
        """What the values depend on, besides the candidates, as plain values."""
        signals = {name: [signal.identity, self.codes[name]] for name, signal in self.signals.items()}
        if not self.scorers:
            return {"signals": signals}
        scorers = {name: scorer.digest for name, scorer in self.scorers.items()}
        return {"signals": signals, "scorers": scorers, "enough": self.enough, "filtering": self.filtering.identity}

    def __call__(self, batch: Any) -> Any:
        """The values of a batch that has candidates, as a table with a row for each of its rows."""
        rows = Batch.of(batch, self.reader.columns.query)
        retrieved = Found.from_columns(rows.columns, score_kind=self.score_kind, sources=self.sources)
        added = pa.table(self.add(retrieved, self.reader.read(rows.columns)).signal_columns())
        release(rows.columns.values())
        return added

    def add(self, retrieved: Found, queries: Queries) -> Found:
        """What was retrieved, with the signals of candidates and positives."""
        if not self.needed:
            return retrieved
        candidates = retrieved.candidates
        values = {name: signal.of(queries, candidates) for name, signal in self.signals.items()}
        retrieved = replace(retrieved, candidates=candidates.with_signals(values))
        return self._scored(retrieved, queries) if self.scorers else retrieved

    def _scored(self, retrieved: Found, queries: Queries) -> Found:
        """What was retrieved, with the scores of each scoring filter for what the filters before it leave."""
        candidates = self.filtering.anchored(retrieved, queries)
        listed = {name: self._positives(name, queries) for name in self.scorers}
        lowest = {name: _lowest(scores, retrieved.listed_counts) for name, scores in listed.items()}
        last = list(self.scorers)[-1]
        values: dict[str, np.ndarray] = {}

        def score(stage: ScoringFilter, before: Candidates) -> Candidates:
            name = stage.name
            before = before.with_signals({of_positive(name): lowest[name][before.query]})
            if not stage.compares:
                enough = self.enough if name == last else None
                return before.with_signals({name: self._scores(stage, before, queries, enough)})
            scores, rows = self._scores(stage, candidates, queries, None), before.rows_in(candidates)
            shares = shares_of_pool(scores, candidates, stage.scored_depth)
            return before.with_signals({name: scores[rows], share_of(name): shares[rows]})

        for stage, before, _ in self.filtering.passing(candidates, queries, score):
            if isinstance(stage, ScoringFilter):
                rows = before.rows_in(candidates)
                names = (stage.name, of_positive(stage.name), share_of(stage.name))
                for name in (name for name in names if name in before.signals):
                    values[name] = np.full(len(candidates), np.nan)
                    values[name][rows] = before.signals[name]
        return replace(retrieved, candidates=retrieved.candidates.with_signals(values), listed_signals=listed)

    def _positives(self, name: str, queries: Queries) -> np.ndarray:
        texts = queries.positives.texts(self.reader.corpus)
        owner = queries.positives.query[queries.listed]
        return self.scorers[name].score([queries.texts[i] for i in owner], [texts[i] for i in queries.listed])

    def _scores(self, stage: ScoringFilter, alive: Candidates, queries: Queries, enough: int | None) -> np.ndarray:
        """Scores of the candidates, best first, NaN beyond the filter's depth and where a query has enough."""
        scores, order = np.full(len(alive), np.nan), alive.ranks("survivors")
        start, width = 0, enough or stage.scored_depth
        satisfied = np.zeros(alive.queries, bool)
        while start < stage.scored_depth and not satisfied.all():
            stop = min(start + width, stage.scored_depth)
            asked = np.flatnonzero((order >= start) & (order < stop) & ~satisfied[alive.query])
            texts = self.reader.corpus.texts(alive.doc[asked]).to_pylist()
            scores[asked] = self.scorers[stage.name].score([queries.texts[i] for i in alive.query[asked]], texts)
            if enough is not None:
                passed = stage.keep(alive.with_signals({stage.name: scores}))
                satisfied = np.bincount(alive.query[passed], minlength=alive.queries) >= enough
            start, width = stop, 2 * width
        return scores


def _lowest(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    lowest = np.full(len(counts), np.nan)
    np.fmin.at(lowest, np.repeat(np.arange(len(counts)), counts), scores)
    return lowest
