"""How filters are applied: in which order, against which positive score, and what happens where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import Names
from hf_hardneg.draws import keyed_uniforms_of_pairs
from hf_hardneg.errors import ConfigError
from hf_hardneg.filters import Filter, ScoringFilter
from hf_hardneg.identity import identify
from hf_hardneg.pipeline.found import Found

Aggregate = Literal["min", "max", "mean", "random", "per_positive"]
MissingPositive = Literal["compute", "skip_filter", "drop_row"]


@dataclass(frozen=True, kw_only=True)
class Filtering:
    """The filters of a strategy, in order.

    Args:
        filters (`tuple[Filter, ...]`): applied in order.
        positive_agg, on_missing_positive_score: see `HardNegatives`.
        seed (`int`, *optional*): that a positive is drawn by, where `positive_agg` is `"random"`.
    """

    filters: tuple[Filter, ...]
    positive_agg: Aggregate = "min"
    on_missing_positive_score: MissingPositive = "compute"
    seed: int | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What the filters depend on, besides the candidates, as plain values."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        return {**parts, "filters": [[stage.name, identify(stage, what="filter")] for stage in self.filters]}

    def passing(
        self,
        candidates: Candidates,
        queries: Names,
        score: Callable[[ScoringFilter, Candidates], Candidates] | None = None,
    ) -> Iterator[tuple[Filter, Candidates, Candidates]]:
        """Runs the filters: yields each, in their order, with the candidates before and after it.

        Args:
            candidates (`Candidates`): anchored.
            queries (`Names`): of the batch.
            score (`Callable`, *optional*): returns the candidates that a `ScoringFilter` is about to look at with its
                scores; by default they have them.

        Raises:
            ConfigError: a filter compares with a positive's score and there is none.
        """
        for stage in self.filters:
            if score is not None and isinstance(stage, ScoringFilter):
                candidates = score(stage, candidates)
            after = candidates.take(self.keep(stage, candidates, queries))
            yield stage, candidates, after
            candidates = after

    def tail(self, candidates: Candidates, queries: Names) -> Candidates:
        """The candidates that no filter removes, but for being too deep to be scored."""
        stages = [TooDeep(stage.name) if isinstance(stage, ScoringFilter) else stage for stage in self.filters]
        for _, _, after in replace(self, filters=tuple(stages)).passing(candidates, queries):
            candidates = after
        return candidates

    def anchored(self, retrieved: Found, queries: Names) -> Candidates:
        """The candidates with the positive score that margins compare with.

        Raises:
            ConfigError: `positive_agg="per_positive"` and a row has several positives.
        """
        return replace(retrieved.candidates, positive=self._anchors(retrieved, queries))

    def keep(self, stage: Filter, candidates: Candidates, queries: Names) -> np.ndarray:
        """Mask (n,) of the candidates that a filter leaves.

        Raises:
            ConfigError: it compares with a positive's score and there is none.
        """
        self.check(stage.name, stage.needs_positive, candidates, queries)
        keep = stage.keep(candidates)
        if stage.needs_positive and self.on_missing_positive_score != "compute":
            keep = keep | np.isnan(candidates.anchor())
        return keep

    def check(self, name: str, needed: bool, candidates: Candidates, queries: Names) -> None:
        """Raise if a stage needs positive scores that are not there.

        Raises:
            ConfigError: naming a query.
        """
        missing = np.isnan(candidates.positive) & (candidates.counts() > 0)
        if needed and self.on_missing_positive_score == "compute" and missing.any():
            text = queries.texts[int(np.flatnonzero(missing)[0])]
            raise ConfigError(
                f"{name} compares with the positive's score, and {int(missing.sum())} queries of this batch have none, "
                f"such as {text[:60]!r}. Give positives the retriever can score (in the corpus, or with encoder=), "
                "or pass on_missing_positive_score='skip_filter' or 'drop_row'."
            )

    def _anchors(self, retrieved: Found, queries: Names) -> np.ndarray:
        scores, counts = retrieved.positive_score, retrieved.positive_counts
        if self.positive_agg == "random":
            return self._drawn(scores, counts, queries)
        if self.positive_agg == "per_positive":
            scores, counts = retrieved.listed, retrieved.listed_counts
            if (counts > 1).any():
                raise ConfigError(
                    f"positive_agg='per_positive' got a row of {int(counts.max())} positives; it needs rows of one. "
                    "Make one row per (query, positive) pair, or use 'min'."
                )
        anchors = np.full(len(counts), np.nan)
        reduce = {"min": np.minimum, "max": np.maximum}.get(self.positive_agg, np.add)
        some = np.flatnonzero(counts)
        if len(some):
            values = scores.astype(np.float64)
            known = ~np.isnan(values)
            neutral = {"min": np.inf, "max": -np.inf}.get(self.positive_agg, 0.0)
            starts = (np.cumsum(counts) - counts)[some]
            totals = reduce.reduceat(np.where(known, values, neutral), starts)
            usable = np.add.reduceat(known.astype(np.int64), starts)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = totals / usable if self.positive_agg == "mean" else totals
            anchors[some] = np.where(usable > 0, mean, np.nan)
        return anchors

    def _drawn(self, scores: np.ndarray, counts: np.ndarray, queries: Names) -> np.ndarray:
        """The score of one positive of each query, (queries,), of those that have a score."""
        query, place = spread(counts)
        places = pa.array(place).cast(pa.string())
        keys = keyed_uniforms_of_pairs(cast(int, self.seed), "positive", queries.identity, query, places)
        order = np.lexsort((keys, np.isnan(scores), query))
        drawn, first = np.unique(query[order], return_index=True)
        anchors = np.full(len(counts), np.nan)
        anchors[drawn] = scores[order[first]]
        return anchors


@dataclass(frozen=True)
class TooDeep(Filter):
    """Keep what was too deep for a scoring filter.

    Args:
        scores (`str`): the name of that filter.
    """

    scores: str
    name: ClassVar[str] = "too_deep"

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates without a score."""
        return np.isnan(candidates.signals[self.scores])
