"""Rows of any layout become one ragged table, batch by batch, which every check reads."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.arrays.lists import combined, flat, lengths, listed, ragged
from hf_hardneg.audits.lookups import Lookup
from hf_hardneg.formats.importing import columns_of
from hf_hardneg.formats.layouts import LAYOUTS, Layout
from hf_hardneg.formats.merging import equal_neighbours, fixed_columns, joined
from hf_hardneg.signals import words
from hf_hardneg.text.hashes import NONE, exact_keys, id_keys, normalized_keys, pair_keys, word_grams

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

BATCH = 4_000
NUMBER = "row number"
SHOWN = 200
"""Characters of a text in an example."""
PARALLEL = {"positive": ("ids", "scores"), "negative": ("ids", "scores", "ranks", "sources")}
_BESIDE = [f"{side}_{what}" for side, names in PARALLEL.items() for what in names]
LISTED = ("query", "query_id", "positive", "negatives", *_BESIDE)
MINED = Layout(
    write=lambda rows, scores, width: pa.table({}),
    read=lambda table: {name: table.column(name) for name in LISTED if name in table.column_names},
    columns=("query", "negatives"),
)
"""Reads the list layout, for which `LAYOUTS` has no entry."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """The positives or the negatives of a batch, laid end to end: m documents of n rows.

    Args:
        counts (`np.ndarray`): (n,) documents of each row.
        texts, ids (`pa.Array`, *optional*): (m,) strings, null where one is missing.
        scores (`np.ndarray`, *optional*): (m,) float64.
        scored (`np.ndarray`): (m,) whether it has a score.
        misaligned (`np.ndarray`): (n,) whether a column of the row has another length.
        has_ids (`bool`): whether ids stood in the rows, else they were looked up by text.
        place (`np.ndarray`, *optional*): (m,) row in the corpus, -1 where it is not in it.
        in_corpus (`np.ndarray`, *optional*): (m,) exact keys of the corpus's texts under the ids of rows with texts.
    """

    counts: np.ndarray
    texts: Any
    ids: Any
    scores: Any
    scored: np.ndarray
    misaligned: np.ndarray
    has_ids: bool
    place: Any
    in_corpus: Any

    @functools.cached_property
    def owner(self) -> np.ndarray:
        """The row of each document, (m,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """The places where rows begin and end, (n + 1,)."""
        return np.append(0, np.cumsum(self.counts))

    @property
    def unplaced(self) -> np.ndarray:
        """Whether each document is missing from the corpus, (m,); none is without a corpus."""
        return np.zeros(len(self.owner), bool) if self.place is None else self.place < 0

    @functools.cached_property
    def seen(self) -> np.ndarray:
        """Keys of normalised texts, (m,); `NONE` without texts."""
        return np.full(len(self.owner), NONE) if self.texts is None else normalized_keys(self.texts)

    @functools.cached_property
    def exact(self) -> np.ndarray:
        """Keys of texts, (m,)."""
        return np.where(self.seen == NONE, NONE, exact_keys(self.texts))

    @functools.cached_property
    def id(self) -> np.ndarray:
        """Keys of ids, (m,); `NONE` without ids."""
        return np.full(len(self.owner), NONE) if self.ids is None else id_keys(self.ids)

    @property
    def identities(self) -> list[np.ndarray]:
        """Keys of what a document is known by: its text, its id, or both; each (m,)."""
        return [keys for keys, column in ((self.seen, self.texts), (self.id, self.ids)) if column is not None]

    @functools.cached_property
    def grams(self) -> tuple[np.ndarray, np.ndarray]:
        """Word 3-grams of the texts: bounds (m + 1,) and keys."""
        return word_grams(self.texts, words)

    def any_of(self, masks: list[np.ndarray]) -> np.ndarray:
        """Whether a document is marked by any of some masks (m,); none is by no masks."""
        return np.logical_or.reduce([np.zeros(len(self.owner), bool), *masks])

    def in_row(self, keys: np.ndarray) -> np.ndarray:
        """Keys of (row, key), (m,)."""
        return pair_keys(self.owner + 1, keys)


@dataclass(frozen=True, kw_only=True)
class AuditedBatch:
    """n rows, in which the parts of a row that a layout writes apart are joined.

    Args:
        number (`np.ndarray`): (n,) row in the dataset, counted from 0; the row of its first part.
        query, query_id (`pa.Array`, *optional*): (n,) strings.
        positive, negative (`Side`): their documents.
    """

    number: np.ndarray
    query: Any
    query_id: Any
    positive: Side
    negative: Side

    @functools.cached_property
    def seen(self) -> np.ndarray:
        """Keys of normalised queries, (n,); `NONE` without texts."""
        return np.full(len(self.number), NONE) if self.query is None else normalized_keys(self.query)

    @functools.cached_property
    def id(self) -> np.ndarray:
        """Keys of query ids, (n,); `NONE` without."""
        return np.full(len(self.number), NONE) if self.query_id is None else id_keys(self.query_id)

    @property
    def identities(self) -> list[np.ndarray]:
        """Keys of what a query is known by: its text, its id, or both; each (n,)."""
        return [keys for keys, column in ((self.seen, self.query), (self.id, self.query_id)) if column is not None]

    def with_keys(self, *, compared: bool) -> AuditedBatch:
        """This batch with its keys computed, so that who reads them need not wait.

        Args:
            compared (`bool`): also those by which the texts of a row are compared with each other.
        """
        sides = (self.positive, self.negative)
        _ = [(keyed.seen, keyed.id) for keyed in (self, *sides)]
        if compared and all(side.texts is not None for side in sides):
            _ = [side.grams for side in sides]
        return self

    def known_as(self, side: Side) -> list[np.ndarray]:
        """Keys of (query, document) in every way both are known by; each (m,)."""
        return [pair_keys(query[side.owner], document) for query in self.identities for document in side.identities]


@dataclass(frozen=True, kw_only=True)
class AuditedRows:
    """Rows of some layout, which can be read more than once.

    Args:
        dataset (`Dataset` or `IterableDataset`): the rows.
        layout (`str`): their layout.
        documents, queries (`Lookup`, *optional*): tables of texts and ids.
    """

    dataset: Dataset | IterableDataset
    layout: str
    documents: Lookup | None = None
    queries: Lookup | None = None

    def batches(self) -> Iterator[AuditedBatch]:
        """Read all rows."""
        shape = MINED if self.layout == "list" else LAYOUTS["triplet" if self.layout == "pair" else self.layout]
        tables: Iterable[pa.Table] = self._tables(shape)
        for shared in shape.merge:
            tables = _joined(tables, shared)
        yield from map(self._batch, filter(len, tables))

    def _tables(self, shape: Layout) -> Iterator[pa.Table]:
        start = 0
        for table in self.dataset.with_format("arrow").iter(BATCH):
            number = np.arange(start, start + len(table))
            evened, uneven = _evened(table) if self.layout == "labeled-list" else (table, None)
            columns = columns_of(evened, shape)
            if uneven is not None:
                columns["uneven"] = ragged(pa.array(uneven), np.ones(len(uneven), np.int64))
            start += len(table)
            yield pa.table({**columns, NUMBER: number})

    def _batch(self, table: pa.Table) -> AuditedBatch:
        columns = {name: combined(table.column(name)) for name in table.column_names}
        query, query_id = columns.get("query"), columns.get("query_id")
        if self.queries is not None:
            place = self.queries.rows_of_ids(query_id) if query_id is not None else self.queries.rows_of_texts(query)
            query = self.queries.texts(place) if query is None else query
            query_id = self.queries.ids(place) if query_id is None or self.queries.originals else query_id
        sides = {kind: self._side(columns, kind) for kind in PARALLEL}
        query = None if query is None else query.cast(pa.string())
        return AuditedBatch(number=columns[NUMBER].to_numpy(), query=query, query_id=query_id, **sides)

    def _side(self, columns: dict[str, Any], kind: str) -> Side:
        lists = columns.get("negatives" if kind == "negative" else kind)
        beside = {what: listed(columns[f"{kind}_{what}"]) for what in PARALLEL[kind] if f"{kind}_{what}" in columns}
        leading = next((column for column in (lists, beside.get("ids")) if column is not None), None)
        counts = np.zeros(len(columns[NUMBER]), np.int64) if leading is None else lengths(leading).astype(np.int64)
        misaligned, values = np.zeros(len(counts), bool), {}
        if kind == "negative" and "uneven" in columns:
            flags, parts = flat(columns["uneven"], bool)
            np.logical_or.at(misaligned, np.repeat(np.arange(len(parts)), parts), flags)
        for what, column in beside.items():
            values[what], wrong = _aligned(column, counts)
            misaligned |= wrong
        texts, ids = None if lists is None else lists.flatten(), values.get("ids")
        place = in_corpus = None
        if self.documents is not None and (ids is not None or texts is not None):
            place = self.documents.rows_of_ids(ids) if ids is not None else self.documents.rows_of_texts(texts)
            in_corpus = None if ids is None or texts is None else self.documents.exact(place)
            texts = self.documents.texts(place) if texts is None else texts
        has_ids = ids is not None
        if self.documents is not None and place is not None and (not has_ids or self.documents.originals):
            ids = self.documents.ids(place)
        scores = values.get("scores")
        return Side(
            counts=counts,
            texts=texts,
            ids=ids,
            scores=None if scores is None else scores.to_numpy(zero_copy_only=False).astype(np.float64),
            scored=np.zeros(0, bool) if scores is None else scores.is_valid().to_numpy(zero_copy_only=False),
            misaligned=misaligned,
            has_ids=has_ids,
            place=place,
            in_corpus=in_corpus,
        )


def _joined(tables: Iterable[pa.Table], shared: str) -> Iterator[pa.Table]:
    """Join neighbours that a layout wrote apart into one row, also across tables."""
    waiting = None
    for table in filter(len, tables):
        whole = table if waiting is None else pa.concat_tables([waiting, table])
        fixed = fixed_columns(whole.column_names, shared)
        begins = np.flatnonzero(np.append(True, ~equal_neighbours(whole, fixed)))
        rows = joined(whole, begins, [name for name in whole.column_names if name not in (*fixed, NUMBER)])
        yield rows[:-1]
        waiting = rows[-1:]
    if waiting is not None:
        yield waiting


def _aligned(lists: pa.ListArray, counts: np.ndarray) -> tuple[Any, np.ndarray]:
    """Flatten lists to `counts` (n,) values in each row, null where a row has another number; and mark such rows."""
    sizes = lengths(lists)
    wrong = sizes != counts
    if not wrong.any():
        return lists.flatten(), wrong
    owner, within = spread(counts)
    place = (np.cumsum(sizes) - sizes)[owner] + within
    return lists.flatten().take(pa.array(place, mask=wrong[owner])), wrong


def _evened(table: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """Empty the rows of a labelled list that have unequally many documents and labels, and mark them, (n,)."""
    names = [name for name in table.column_names if pa.types.is_nested(table.schema.field(name).type)]
    lists = {name: listed(table.column(name)) for name in names}
    documents, labels = map(lengths, lists.values())
    uneven = documents != labels
    if uneven.any():
        for name, column in lists.items():
            keep = ~uneven[np.repeat(np.arange(len(uneven)), lengths(column))]
            evened = ragged(column.flatten().filter(pa.array(keep)), np.where(uneven, 0, lengths(column)))
            table = table.set_column(table.column_names.index(name), name, evened)
    return table, uneven


def cut(text: str | None) -> str | None:
    """Cut a text to the length of an example."""
    return text if text is None or len(text) <= SHOWN else text[:SHOWN] + "…"
