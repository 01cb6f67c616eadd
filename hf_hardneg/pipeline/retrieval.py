"""Retrieval: every query's candidates outside its exclusion set, as a table or as columns to select from later."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import position_in_group
from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.batches import Batch
from hf_hardneg.corpus.queries import Queries, Reader
from hf_hardneg.index.hits import Fused, Hits, asked_first
from hf_hardneg.pipeline.exclusion import ALLOWED, BLANK, EXCLUDED, REPEATED, UNSCORED, best_positive_rank, judged
from hf_hardneg.pipeline.found import Found
from hf_hardneg.retrievers import Searcher, rows_of
from hf_hardneg.store.mapped_memory import release

logger = logging.getLogger(__name__)

Aggregate = Literal["min", "max", "mean", "random", "per_positive"]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """The first half of mining, itself a map callable: its output is `Found.to_columns`.

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
        code = {"code": list(self.code)} if self.code else {}
        return {"reader": self.reader.identity, "searcher": self.searcher.identity, "depth": self.depth, **code}

    def __call__(self, batch: Any) -> Any:
        """The candidates of a batch, as a table with a row for each of its rows."""
        rows = Batch.of(batch, self.reader.columns.query)
        added = pa.table(self.search(self.reader.read(rows.columns)).to_columns())
        release(rows.columns.values())
        return added

    def search(self, queries: Queries) -> Found:
        """The candidates of a batch, and the scores of its known positives by the same scorer.

        A query that loses too many hits to its exclusion set is searched again, twice as deep.
        """
        prepared = self.searcher.prepare(queries)
        known = np.bincount(queries.excluded_query, minlength=len(queries))
        wanted = asked_first(self.depth, known)
        open_rows = np.arange(len(queries))
        parts = []
        while len(open_rows):
            asked = prepared if len(open_rows) == len(queries) else rows_of(prepared, open_rows)
            hits = self.searcher.search(asked, wanted[open_rows])
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
        table["rank"] = position_in_group(hits.query)
        table["reason"] = judged(queries, Hits(*hits[:3]), self.reader.keys)
        return table

    def _found(self, queries: Queries, table: np.ndarray, prepared: Any) -> Found:
        allowed = table["reason"] == ALLOWED
        before = np.cumsum(allowed) - allowed
        position = before - before[np.searchsorted(table["query"], table["query"])]
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


TABLE = np.dtype([("query", "i8"), ("doc", "i8"), ("score", "f4"), ("rank", "i4"), ("reason", "i1"), ("source", "i1")])


def _reasons(table: np.ndarray) -> list[np.ndarray]:
    removed = (EXCLUDED, REPEATED, UNSCORED, BLANK)
    return [np.ones(len(table), bool), *(table["reason"] == reason for reason in removed)]


def _by_query(parts: list[np.ndarray]) -> np.ndarray:
    """Tables of hits of different queries as one, sorted by query, in which order each is."""
    if len(parts) == 1:
        return parts[0]
    table = np.concatenate([np.zeros(0, TABLE), *parts])
    return table[np.argsort(table["query"], kind="stable")]
