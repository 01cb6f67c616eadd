"""Retrieval: every query's candidates outside its exclusion set, as a table or as columns to select from later."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.batches import Batch, flat, ragged
from hf_hardneg.corpus.queries import Queries, Reader
from hf_hardneg.index.hits import Fused, Hits
from hf_hardneg.pipeline.exclusion import ALLOWED, BLANK, EXCLUDED, REPEATED, UNSCORED, best_positive_rank, judged
from hf_hardneg.retrievers import Searcher
from hf_hardneg.store.mapped_memory import release

logger = logging.getLogger(__name__)

Aggregate = Literal["min", "max", "mean", "random", "per_positive"]
EXCLUSION_STEP = 8
SPARE = 16
COUNTS = ("retrieved", "known_positive", "duplicate", "not_a_number", "blank")
COLUMNS = (
    "candidates",
    "candidate_scores",
    "candidate_ranks",
    "candidate_sources",
    "known_positive_scores",
    "known_positive_rank",
    "listed_positives",
    "retrieval_counts",
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What retrieval hands on.

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


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """The first half of mining, itself a map callable: its output is the columns in `COLUMNS`.

    Args:
        reader (`Reader`): reads the batch.
        searcher (`Searcher`): the bound retriever.
        depth (`int`): candidates to keep for each query.
        code (`tuple[str, ...]`, *optional*): identities of retrievers of the user's own.
    """

    reader: Reader
    searcher: Searcher
    depth: int
    code: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of where a candidate may come from."""
        return self.searcher.sources

    @property
    def identity(self) -> dict[str, Any]:
        """What the candidates depend on, besides the rows, as plain values."""
        own = {"code": list(self.code)} if self.code else {}
        return {"reader": self.reader.identity, "searcher": self.searcher.identity, "depth": self.depth, **own}

    def __call__(self, batch: Any) -> Any:
        """The candidates of a batch, as a table with a row for each of its rows."""
        rows = Batch.of(batch, self.reader.columns.query)
        found = pa.table(to_columns(self.search(self.reader.read(rows.columns))))
        release(rows.columns.values())
        return found

    def search(self, queries: Queries) -> Found:
        """The candidates of a batch, and the scores of its known positives by the same scorer.

        A query that loses too many hits to its exclusion set is searched again, twice as deep.
        """
        prepared = self.searcher.prepare(queries)
        known = np.bincount(queries.excluded_query, minlength=len(queries))
        wanted = self.depth + self.depth // SPARE + -(-known // EXCLUSION_STEP) * EXCLUSION_STEP
        open_rows = np.arange(len(queries))
        parts = []
        while len(open_rows):
            hits = self.searcher.search(prepared, open_rows, wanted[open_rows])
            raw = np.bincount(hits.query, minlength=len(open_rows))
            table = self._judge(queries, hits._replace(query=open_rows[hits.query]))
            allowed = np.bincount(table["query"][table["reason"] == ALLOWED], minlength=len(queries))[open_rows]
            again = open_rows[(allowed < self.depth) & (raw >= wanted[open_rows]) & (raw < len(self.reader.corpus))]
            parts.append(table[~np.isin(table["query"], again)] if len(again) else table)
            wanted[again] *= 2
            open_rows = again
        return self._found(queries, _by_query(parts), prepared)

    def _judge(self, queries: Queries, hits: Hits | Fused) -> np.ndarray:
        """Every hit with its raw rank, its place among the allowed ones, and why it is not allowed (0 where it is)."""
        table = np.zeros(len(hits.doc), TABLE)
        for name in hits._fields:
            table[name] = getattr(hits, name)
        table["rank"] = _counted_from_zero(hits.query)
        table["reason"] = judged(queries, Hits(*hits[:3]), self.reader.keys)
        return table

    def _found(self, queries: Queries, table: np.ndarray, prepared: Any) -> Found:
        allowed = table["reason"] == ALLOWED
        before = np.cumsum(allowed) - allowed
        starts = np.searchsorted(table["query"], np.arange(len(queries)))
        position = before - np.append(before, 0)[starts][table["query"]] if len(table) else before
        seen = np.zeros(len(table), bool)
        complete = np.bincount(table["query"][allowed], minlength=len(queries)) >= self.depth
        seen = np.where(complete[table["query"]], (position < self.depth), True)
        counts = np.stack(
            [np.bincount(table["query"][seen & part], minlength=len(queries)) for part in _reasons(table)], axis=1
        )
        kept = table[allowed & seen]
        scores = self.searcher.score_positives(prepared, queries.positives)
        return Found(
            candidates=Candidates(
                queries=len(queries),
                query=kept["query"].astype(np.int64),
                doc=kept["doc"],
                score=kept["score"].astype(np.float64),
                rank=kept["rank"],
                position=position[allowed & seen].astype(np.int32),
                positive=np.full(len(queries), np.nan),
                positive_rank=best_positive_rank(queries, table["query"], table["doc"], self.reader.keys),
                score_kind=self.searcher.score_kind,
                source=kept["source"],
                sources=self.sources,
            ),
            counts=counts,
            positive_score=scores,
            positive_counts=np.bincount(queries.positives.query, minlength=len(queries)),
            listed=scores[queries.listed],
            listed_counts=queries.listed_counts,
        )


TABLE = np.dtype(
    [
        ("query", np.int64),
        ("doc", np.int64),
        ("score", np.float32),
        ("rank", np.int32),
        ("reason", np.int8),
        ("source", np.int8),
    ]
)


def _reasons(table: np.ndarray) -> list[np.ndarray]:
    removed = (EXCLUDED, REPEATED, UNSCORED, BLANK)
    return [np.ones(len(table), bool), *(table["reason"] == reason for reason in removed)]


def _by_query(parts: list[np.ndarray]) -> np.ndarray:
    """Tables of hits of different queries as one, sorted by query, in which order each is."""
    if len(parts) == 1:
        return parts[0]
    table = np.concatenate([np.zeros(0, TABLE), *parts])
    return table[np.argsort(table["query"], kind="stable")]


def _counted_from_zero(query: np.ndarray) -> np.ndarray:
    starts = np.concatenate([[0], np.flatnonzero(np.diff(query)) + 1]) if len(query) else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, len(query)))
    return np.arange(len(query)) - np.repeat(starts, lengths)


def to_columns(found: Found) -> dict[str, pa.Array]:
    """What retrieval found, as the columns in `COLUMNS`."""
    candidates = found.candidates
    per_query = candidates.counts()
    counts = [pa.array(found.counts[:, place], pa.int32()) for place in range(len(COUNTS))]
    columns = {
        "candidates": ragged(pa.array(candidates.doc), per_query),
        "candidate_scores": ragged(pa.array(candidates.score.astype(np.float32)), per_query),
        "candidate_ranks": ragged(pa.array(candidates.rank.astype(np.int32)), per_query),
        "known_positive_scores": ragged(pa.array(found.positive_score), found.positive_counts),
        "known_positive_rank": pa.array(candidates.positive_rank),
        "listed_positives": ragged(pa.array(found.listed), found.listed_counts),
        "retrieval_counts": pa.StructArray.from_arrays(counts, names=list(COUNTS)),
    }
    if len(candidates.sources) > 1:
        columns["candidate_sources"] = ragged(pa.array(candidates.source), per_query)
    return columns


def from_columns(columns: Any, *, score_kind: str, sources: tuple[str, ...]) -> Found:
    """The inverse of `to_columns`."""
    docs, per_query = flat(columns["candidates"], np.int64)
    query = np.repeat(np.arange(len(per_query)), per_query)
    positive_score, positive_counts = flat(columns["known_positive_scores"], np.float32)
    listed, listed_counts = flat(columns["listed_positives"], np.float32)
    counts = columns["retrieval_counts"].combine_chunks().flatten()
    return Found(
        candidates=Candidates(
            queries=len(per_query),
            query=query,
            doc=docs,
            score=flat(columns["candidate_scores"], np.float64)[0],
            rank=flat(columns["candidate_ranks"], np.int32)[0],
            position=_counted_from_zero(query).astype(np.int32),
            positive=np.full(len(per_query), np.nan),
            positive_rank=columns["known_positive_rank"].to_numpy().astype(np.int32),
            score_kind=score_kind,
            source=flat(columns["candidate_sources"], np.int8)[0] if len(sources) > 1 else np.zeros(len(docs), np.int8),
            sources=sources,
        ),
        counts=np.stack([part.to_numpy(zero_copy_only=False) for part in counts], axis=1).astype(np.int64),
        positive_score=positive_score,
        positive_counts=positive_counts,
        listed=listed,
        listed_counts=listed_counts,
    )
