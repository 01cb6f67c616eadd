"""Shortage: what fills a query's list, where that was asked for, and what may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.queries import Names, Queries, Reader
from hf_hardneg.errors import DataError
from hf_hardneg.filters import Filter
from hf_hardneg.retrievers import Random, RandomSearcher
from hf_hardneg.samplers import Uniforms
from hf_hardneg.signals import BoundSignal

Shortage = Literal["keep_fewer", "drop_row", "pad_next", "pad_tail", "pad_random", "error"]
SPARE = 8
"""Random documents drawn beyond those that are surely needed."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The negatives of a batch, flat, by query.

    Args:
        counts (`np.ndarray`): (queries,) how many each has.
        doc (`np.ndarray`): (n,) corpus rows.
        score (`np.ndarray`): (n,) float32, NaN where nothing was scored.
        rank (`np.ndarray`): (n,) int32 raw ranks, -1 where it was not retrieved.
        source (`np.ndarray`): (n,) strings: the retriever, or the rule that padded with it.
        signals (`Mapping[str, np.ndarray]`): (n,) what rescoring said of those that were chosen.
        removed (`dict[str, np.ndarray]`): (queries,) candidates that each stage removed, by its name.
        kept (`np.ndarray`): (queries,) how many were chosen before any padding.
        stays (`np.ndarray`): (queries,) whether the row stays in the output.
        promoted (`Candidates`, *optional*): what comes out as pseudo-positives, where that was asked for.
        drawn (`int` or `np.ndarray`): (queries,) how many of those are random documents that the sampler asked for.
        inconsistent (`np.ndarray`, *optional*): (queries,) whether the row's positives score too low, where asked.
    """

    counts: np.ndarray
    doc: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    source: np.ndarray
    signals: Mapping[str, np.ndarray]
    removed: dict[str, np.ndarray]
    kept: np.ndarray
    stays: np.ndarray
    promoted: Candidates | None = None
    drawn: int | np.ndarray = 0
    inconsistent: np.ndarray | None = None

    @classmethod
    def of(cls, candidates: Candidates, removed: dict[str, np.ndarray], promoted: Candidates | None = None) -> Chosen:
        """Candidates as negatives."""
        scored = candidates.score_kind != "none"
        score = candidates.score.astype(np.float32) if scored else np.full(len(candidates), np.nan, np.float32)
        return cls(
            counts=candidates.counts(),
            doc=candidates.doc,
            score=score,
            rank=candidates.rank,
            source=np.array(candidates.sources)[candidates.source],
            signals=candidates.signals,
            removed=removed,
            kept=candidates.counts(),
            stays=np.ones(candidates.queries, bool),
            promoted=promoted,
        )

    def owner(self) -> np.ndarray:
        """The query of each negative, (n,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def padded(self, more: Chosen) -> Chosen:
        """The same with more negatives behind the negatives of each query."""
        order = np.argsort(np.concatenate([self.owner(), more.owner()]), kind="stable")
        flat: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(more, name)])[order]
            for name in ("doc", "score", "rank", "source")
        }
        signals = {name: np.concatenate([self.signals[name], more.signals[name]])[order] for name in self.signals}
        return replace(self, counts=self.counts + more.counts, signals=signals, **flat)


@dataclass(frozen=True, kw_only=True)
class Padding:
    """The rule for queries with too few negatives.

    No rule brings back what is in the exclusion set, what comes out as a pseudo-positive, or what a `strict` filter
    removes.

    Args:
        rule (`str`): see `HardNegatives`.
        size (`int`): how many negatives a query should have.
        filters (`tuple[Filter, ...]`): of the strategy.
        signals (`Mapping[str, BoundSignal]`): what strict ones read, for documents that were not retrieved.
        reader (`Reader`), seed (`int`): for random documents.
        generation (`int`, *optional*): of refreshed negatives; each has other random documents.
    """

    rule: Shortage
    size: int
    filters: tuple[Filter, ...]
    signals: Mapping[str, BoundSignal]
    reader: Reader
    seed: int
    generation: int | None = None

    def relieve(self, chosen: Chosen, spare: Candidates, queries: Names, uniforms: Uniforms) -> Chosen:
        """The negatives with what the rule adds; for `"pad_random"` `queries` must be `Queries`.

        Args:
            chosen (`Chosen`), queries (`Names`): of a batch.
            spare (`Candidates`): what may fill up: for `"pad_tail"` what is too deep to be scored, else all.
            uniforms (`Uniforms`): keyed draws.

        Raises:
            DataError: too few, and the rule is `"error"`.
        """
        short = chosen.counts < self.size
        if not short.any() or self.rule in ("keep_fewer", "drop_row"):
            return chosen
        if self.rule == "error":
            row = int(np.flatnonzero(short)[0])
            raise DataError(
                f"{int(short.sum())} queries of this batch have fewer than num_negatives={self.size}, such as "
                f"{queries.texts[row][:60]!r} with {int(chosen.counts[row])}. "
                "Retrieve deeper, loosen the filters, or use on_shortage='keep_fewer'."
            )
        if self.rule == "pad_random":
            return chosen.padded(self._random(cast(Queries, queries), chosen, self.size - chosen.counts, self.rule))
        free = self._free(spare, chosen)
        picked = self._drawn(free, chosen, uniforms) if self.rule == "pad_tail" else self._best(free, chosen)
        return chosen.padded(replace(Chosen.of(picked, {}), source=np.full(len(picked), self.rule)))

    def mixed(self, chosen: Chosen, size: int, barred: Candidates, queries: Names) -> Chosen:
        """The negatives with `size` random documents for each query, which count among those that were kept.

        Args:
            chosen (`Chosen`), queries (`Names`): of a batch; `queries` must be `Queries`.
            size (`int`): what the sampler asks for.
            barred (`Candidates`): what may not come back, since filters removed it.
        """
        missing = np.full(len(chosen.counts), size)
        more = self._random(cast(Queries, queries), chosen, missing, Random.name, barred)
        return replace(chosen.padded(more), kept=chosen.kept + more.counts, drawn=more.counts)

    def _free(self, candidates: Candidates, chosen: Chosen) -> Candidates:
        """The candidates that may fill up: none says again what a query has, unless repeats are wanted."""
        taken = [self._numbered(chosen.owner(), chosen.doc)]
        if chosen.promoted is not None:
            taken.append(self._numbered(chosen.promoted.query, chosen.promoted.doc))
        free = ~np.isin(self._numbered(candidates.query, candidates.doc), np.concatenate(taken))
        return candidates.take(free & self._allowed(candidates))

    def _numbered(self, query: np.ndarray, doc: np.ndarray) -> np.ndarray:
        """Number pairs of a query and a document (n,), alike where the documents are the same to `dedupe`."""
        keys = self.reader.keys
        return query * len(self.reader.corpus) + (doc if keys.dedupe == "off" else keys.groups()[0][doc])

    def _allowed(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of what the strict filters leave."""
        keep = np.ones(len(candidates), bool)
        for stage in self.filters:
            if stage.strict:
                keep &= stage.keep(candidates)
        return keep

    def _best(self, free: Candidates, chosen: Chosen) -> Candidates:
        return free.take(free.ranks("survivors") < (self.size - chosen.counts)[free.query])

    def _drawn(self, free: Candidates, chosen: Chosen, uniforms: Uniforms) -> Candidates:
        """As many as are missing of each query, drawn uniformly."""
        order = np.lexsort((uniforms(self.rule, free), free.query))
        place = np.empty(len(free), np.int64)
        place[order] = free.ranks("survivors")
        return free.take(place < (self.size - chosen.counts)[free.query])

    def _random(
        self, queries: Queries, chosen: Chosen, missing: np.ndarray, source: str, barred: Candidates | None = None
    ) -> Chosen:
        """Random documents outside the exclusion set neither taken nor barred, at most `missing` (queries,)."""
        owner, docs = chosen.owner(), [np.zeros(0, np.int64)]
        counts = np.zeros(len(chosen.counts), np.int64)
        tables = [table for table in (chosen.promoted, barred) if table is not None]
        for query in np.flatnonzero(missing > 0):
            taken = [chosen.doc[owner == query], *(table.doc[table.query == query] for table in tables)]
            keys = self.reader.keys.of_rows(np.concatenate(taken))
            banned = np.append(queries.excluded_key[queries.excluded_query == query], keys)
            docs.append(self._documents(queries, int(query), banned, int(missing[query])))
            counts[query] = len(docs[-1])
        flat = np.concatenate(docs)
        return replace(
            chosen,
            counts=counts,
            doc=flat,
            score=np.full(len(flat), np.nan, np.float32),
            rank=np.full(len(flat), -1, np.int32),
            source=np.full(len(flat), source),
            signals={name: np.full(len(flat), np.nan) for name in chosen.signals},
        )

    def _documents(self, queries: Queries, query: int, banned: np.ndarray, missing: int) -> np.ndarray:
        """Rows (n,) of random documents for a query, at most `missing`, each text once and none of the banned keys."""
        searcher = RandomSearcher(self.reader.corpus, self.seed, self.generation)
        size = missing + 2 * len(banned) + SPARE
        while True:
            drawn = searcher.search([queries.identity[query]], np.array([size])).doc
            keys = self.reader.keys.of_rows(drawn)
            free = np.zeros(len(drawn), bool)
            free[np.unique(keys, return_index=True)[1]] = True
            table = Candidates.of([[0.0] * len(drawn)], docs=[drawn.tolist()], score_kind="none")
            table = replace(table, queries=len(queries), query=np.full(len(drawn), query))
            table = table.with_signals({name: signal.of(queries, table) for name, signal in self.signals.items()})
            free &= ~np.isin(keys, banned) & ~self.reader.keys.are_blank(drawn)
            fit = drawn[free & self._allowed(table)][:missing]
            if len(fit) == missing or size >= len(self.reader.corpus):
                return fit
            size *= 2
