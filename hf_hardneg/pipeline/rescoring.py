"""Rescoring: what filters and samplers must know of candidates besides their score, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.batches import Batch, flat, ragged
from hf_hardneg.corpus.queries import Queries, Reader
from hf_hardneg.filters import ScoringFilter, of_positive, share_of
from hf_hardneg.models.scorers import PairScorer
from hf_hardneg.pipeline.filtering import Filtering
from hf_hardneg.pipeline.retrieval import Found, from_columns
from hf_hardneg.signals import BoundSignal, shares_of_pool
from hf_hardneg.store.mapped_memory import release

OF_CANDIDATES, OF_POSITIVES = "signal of candidates: ", "signal of positives: "


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
        found = from_columns(rows.columns, score_kind=self.score_kind, sources=self.sources)
        added = pa.table(to_columns(self.add(found, self.reader.read(rows.columns))))
        release(rows.columns.values())
        return added

    def add(self, found: Found, queries: Queries) -> Found:
        """What retrieval found, with the signals of candidates and positives."""
        if not self.needed:
            return found
        candidates = found.candidates
        values = {name: signal.of(queries, candidates) for name, signal in self.signals.items()}
        found = replace(found, candidates=candidates.with_signals(values))
        return self._scored(found, queries) if self.scorers else found

    def _scored(self, found: Found, queries: Queries) -> Found:
        place, alive = np.arange(len(found.candidates)), self.filtering.anchored(found, queries)
        everything = alive
        last = list(self.scorers)[-1]
        values: dict[str, np.ndarray] = {}
        listed: dict[str, np.ndarray] = {}
        for stage in self.filtering.filters:
            if isinstance(stage, ScoringFilter):
                listed[stage.name] = self._positives(stage.name, queries)
                lowest = _lowest(listed[stage.name], found.listed_counts)
                alive = alive.with_signals({of_positive(stage.name): lowest[alive.query]})
                names = [stage.name, of_positive(stage.name)]
                if stage.compares:
                    scores = self._of(stage, everything, queries, None)
                    shares = shares_of_pool(scores, everything, stage.scored_depth)
                    names.append(share_of(stage.name))
                    alive = alive.with_signals({stage.name: scores[place], share_of(stage.name): shares[place]})
                else:
                    scores = self._of(stage, alive, queries, self.enough if stage.name == last else None)
                    alive = alive.with_signals({stage.name: scores})
                for name in names:
                    values[name] = np.full(len(found.candidates), np.nan)
                    values[name][place] = alive.signals[name]
            keep = self.filtering.keep(stage, alive, queries)
            place, alive = place[keep], alive.take(keep)
        return replace(found, candidates=found.candidates.with_signals(values), listed_signals=listed)

    def _positives(self, name: str, queries: Queries) -> np.ndarray:
        texts = queries.positives.texts(self.reader.corpus)
        owner = queries.positives.query[queries.listed]
        return self.scorers[name].score([queries.texts[i] for i in owner], [texts[i] for i in queries.listed])

    def _of(self, stage: ScoringFilter, alive: Candidates, queries: Queries, enough: int | None) -> np.ndarray:
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


def to_columns(found: Found) -> dict[str, pa.Array]:
    """The signals of what was found, a column of lists for each."""
    parts = (
        (OF_CANDIDATES, found.candidates.signals, found.candidates.counts()),
        (OF_POSITIVES, found.listed_signals, found.listed_counts),
    )
    return {
        f"{prefix}{name}": ragged(pa.array(values.astype(np.float32)), counts)
        for prefix, signals, counts in parts
        for name, values in signals.items()
    }


def with_columns(found: Found, columns: Mapping[str, Any]) -> Found:
    """The inverse of `to_columns`."""

    def read(prefix: str) -> dict[str, np.ndarray]:
        names = [name for name in columns if name.startswith(prefix)]
        return {name.removeprefix(prefix): flat(columns[name], np.float64)[0] for name in names}

    candidates = found.candidates.with_signals(read(OF_CANDIDATES))
    return replace(found, candidates=candidates, listed_signals=read(OF_POSITIVES))
