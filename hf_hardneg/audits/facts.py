"""Facts are what a check must know of other rows: tables of keys, collected in a first pass.

Each distinct key takes 12 bytes, with its count: a query has one key, a positive two where rows have texts alone (six
with ids), and each distinct negative one. No text is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.lists import combined
from hf_hardneg.audits.audited_rows import AuditedBatch
from hf_hardneg.corpus.ids import as_text, named_columns
from hf_hardneg.errors import ColumnError, ConfigError, DataError
from hf_hardneg.text.hashes import NONE, id_keys, pair_keys

FREQUENT_SHARE, FREQUENT = 0.01, 10
"""A negative is frequent where it stands in more than a hundredth of the rows, and in ten."""
SHOWN = 5
QRELS = ("query-id", "corpus-id", "score")
WAITING = 1_000_000


class Tally:
    """Counts how often each key was added; `NONE` is not counted."""

    def __init__(self) -> None:
        self.keys, self.counts = np.zeros(0, np.uint64), np.zeros(0, np.int32)
        self._waiting: list[np.ndarray] = []

    def add(self, *keys: np.ndarray) -> None:
        """Count some keys."""
        self._waiting += [part[part != NONE] for part in keys]
        if sum(map(len, self._waiting)) > max(WAITING, len(self.keys)):
            self.settle()

    def settle(self) -> Tally:
        """Bring `keys` up to date, sorted and distinct, and `counts` beside them."""
        added, counts = np.unique(np.concatenate([*self._waiting, self.keys[:0]]), return_counts=True)
        keys, place = np.unique(np.concatenate([self.keys, added]), return_inverse=True)
        weights = np.concatenate([self.counts, counts])
        self.keys, self.counts = keys, np.bincount(place, weights, minlength=len(keys)).astype(np.int32)
        self._waiting = []
        return self


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Keys of what belongs to a test set.

    Args:
        queries (`np.ndarray`): sorted keys of normalised texts.
        query_ids (`np.ndarray`): keys of ids.
        documents (`np.ndarray`): sorted keys of texts and ids of its relevant documents.
    """

    queries: np.ndarray
    query_ids: np.ndarray
    documents: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts of the whole dataset.

    Args:
        rows, negatives (`int`): how many.
        sizes (`np.ndarray`): how many rows have 0, 1, 2 … negatives.
        known (`np.ndarray`): sorted keys of (query, positive).
        positives (`np.ndarray`): sorted keys of positives of any query.
        repeated_queries (`np.ndarray`): sorted keys of queries that stand in several rows.
        frequent (`np.ndarray`): sorted keys of negatives in very many rows.
        most (`dict[int, int]`): the most frequent, by key, and their counts.
        relevant (`np.ndarray`, *optional*): sorted keys of (query id, document id) judged relevant.
        held_out (`HeldOut`, *optional*): the test set.
    """

    rows: int
    negatives: int
    sizes: np.ndarray
    known: np.ndarray
    positives: np.ndarray
    repeated_queries: np.ndarray
    frequent: np.ndarray
    most: dict[int, int]
    relevant: np.ndarray | None = None
    held_out: HeldOut | None = None

    @property
    def usual(self) -> int:
        """The number of negatives that most rows have."""
        return int(self.sizes.argmax()) if len(self.sizes) else 0


@dataclass
class Collector:
    """Collects the facts of a dataset, batch by batch."""

    rows: int = 0
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    known: Tally = field(default_factory=Tally)
    positives: Tally = field(default_factory=Tally)
    queries: Tally = field(default_factory=Tally)
    negatives: Tally = field(default_factory=Tally)

    def add(self, batch: AuditedBatch) -> None:
        """Take in a batch."""
        self.rows += len(batch.number)
        sizes = np.bincount(batch.negative.counts, minlength=len(self.sizes))
        sizes[: len(self.sizes)] += self.sizes
        self.sizes = sizes
        self.queries.add(*batch.identities[:1])
        self.known.add(*batch.known_as(batch.positive))
        self.positives.add(*batch.positive.identities)
        self.negatives.add(*batch.negative.identities[:1])

    def facts(self, relevant: np.ndarray | None, held_out: HeldOut | None) -> Facts:
        """Return what was collected."""
        keys, counts = self.negatives.settle().keys, self.negatives.counts
        order = np.lexsort((keys, -counts))[:SHOWN]
        frequent = counts >= max(FREQUENT_SHARE * self.rows, FREQUENT)
        queries = self.queries.settle()
        return Facts(
            rows=self.rows,
            negatives=int(self.sizes @ np.arange(len(self.sizes))),
            sizes=self.sizes,
            known=self.known.settle().keys,
            positives=self.positives.settle().keys,
            repeated_queries=queries.keys[queries.counts > 1],
            frequent=keys[frequent],
            most={int(keys[i]): int(counts[i]) for i in order if frequent[i]},
            relevant=relevant,
            held_out=held_out,
        )


def relevant_pairs(qrels: Any, only: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read the (query id, document id) pairs that judgements call relevant, above 0: their keys, and their documents'.

    Args:
        qrels (`Dataset` or `Mapping`): BEIR's columns query-id, corpus-id, score; or from a query's id to ids of
            documents, or to a dict from id to grade.
        only (`np.ndarray`, *optional*): keys of the query ids to keep.

    Raises:
        ConfigError, ColumnError: the judgements are in another form.
        DataError: a grade is no number.
    """
    parts = [_pairs(queries, documents, grades) for queries, documents, grades in _judgements(qrels)]
    queries, documents = (np.concatenate([part[i] for part in parts] or [np.zeros(0, np.uint64)]) for i in (0, 1))
    if only is not None:
        kept = np.isin(queries, only)
        queries, documents = queries[kept], documents[kept]
    return np.unique(pair_keys(queries, documents)), np.unique(documents)


def _pairs(queries: pa.Array, documents: pa.Array, grades: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    try:
        relevant = combined(grades).to_numpy(zero_copy_only=False).astype(np.float64) > 0
    except (TypeError, ValueError) as error:
        raise DataError(
            f"qrels= has grades that are no numbers ({error}); above 0 is relevant. Convert them."
        ) from error
    named = zip((queries, documents), QRELS[:2], strict=True)
    return tuple(id_keys(as_text(ids, name))[relevant] for ids, name in named)


def _judgements(qrels: Any) -> Iterable[tuple[Any, Any, Any]]:
    if isinstance(qrels, Mapping) and not hasattr(qrels, "column_names"):
        graded = [(query, _grades(query, judged)) for query, judged in qrels.items()]
        flat = [(str(query), str(document), grade) for query, judged in graded for document, grade in judged.items()]
        columns = list(zip(*flat, strict=True)) or [(), (), ()]
        return [tuple(pa.array(column) for column in columns)]
    if not hasattr(qrels, "column_names") or isinstance(qrels, Mapping):
        raise ConfigError(
            f"qrels= is a {type(qrels).__name__}; it may be a Dataset of {', '.join(QRELS)}, or a dict from a query's "
            "id to ids of documents, or to a dict from id to grade. Give one split of it."
        )
    missing = [name for name in QRELS if name not in qrels.column_names]
    if missing:
        raise ColumnError(
            f"qrels= needs the columns {', '.join(QRELS)} and {', '.join(missing)} is not among "
            f"{', '.join(map(repr, qrels.column_names))}. Rename its columns."
        )
    tables = qrels.with_format("arrow", columns=list(QRELS)).iter(10_000)
    return (tuple(named_columns(table)[name] for name in QRELS) for table in tables)


def _grades(query: Any, judged: Any) -> dict[Any, Any]:
    if isinstance(judged, Mapping):
        return dict(judged)
    if isinstance(judged, str) or not isinstance(judged, Iterable):
        raise ConfigError(
            f"qrels= of query {query!r} is {judged!r}; allowed are a list of ids and a dict from id to grade. Give one."
        )
    return dict.fromkeys(judged, 1)


def held_out(sets: Sequence[Iterable[AuditedBatch]], qrels: Any) -> HeldOut:
    """Turn test sets into keys: their queries, and what is relevant to them by their positives and by judgements.

    Args:
        sets (`Sequence[Iterable[AuditedBatch]]`): the rows of each test set.
        qrels: as for `relevant_pairs`, or `None`.
    """
    queries, ids, documents = Tally(), Tally(), Tally()
    for batches in sets:
        for batch in batches:
            queries.add(batch.seen)
            ids.add(batch.id)
            documents.add(*batch.positive.identities)
    known = ids.settle().keys
    if qrels is not None:
        documents.add(relevant_pairs(qrels, only=known)[1])
    return HeldOut(queries=queries.settle().keys, query_ids=known, documents=documents.settle().keys)
