"""Check the ids of mined rows, and make the tables of texts that layouts of ids need beside them.

A trainer meets a wrong id late or never: PyLate puts an empty text in its place. So here every id that rows name stands
once in its table, with one text, or nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined, lengths, listed, ragged
from hf_hardneg.corpus.columns import Columns, missing_column
from hf_hardneg.corpus.documents import id_column_of, joined, text_columns_of
from hf_hardneg.corpus.ids import as_text, named_columns, row_ids
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ColumnError, DataError

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
WHOLE = 50_000
"""Rows at once where ids are looked up, since each look-up builds its table of ids anew."""


def with_ids(dataset: Dataset, names: PairColumns, documents: Dataset | None) -> Dataset:
    """Add an id for every query and positive, as a string, to mined rows, Arrow-formatted.

    Queries without ids are numbered by first appearance; positives without ids are looked up by text in `documents`.

    Raises:
        ColumnError: positives have no ids and no corpus is given to look them up in; or negatives have no ids.
        DataError: a positive is not in the corpus; or an id is missing or empty.
    """
    present = dataset.column_names
    if "negative_ids" not in present:
        raise ColumnError(
            f"This layout carries ids, and the dataset has no column 'negative_ids'; it has "
            f"{', '.join(map(repr, present))}. Give what mine() returned."
        )
    if names.positive_ids not in present and documents is None:
        raise ColumnError(
            f"This layout carries ids, and the dataset has no column {names.positive_ids!r}. Give corpus=, the "
            "documents that were mined, to look positives up by text, or name the column with "
            "columns={'positive_ids': ...}."
        )
    query_ids = positive_ids = None
    if names.query_id not in present:
        query_ids = combined(_whole(dataset, names.query)).dictionary_encode().indices.cast(pa.string())
    if names.positive_ids not in present and documents is not None:
        positive_ids = _looked_up(_whole(dataset, names.positive), documents, names)
    identified = _Identified(names, query_ids, positive_ids)
    return dataset.map(identified, batched=True, with_indices=True, desc="Ids")


def _whole(dataset: Dataset, name: str) -> pa.ChunkedArray:
    tables = dataset.select_columns([name]).iter(BATCH)
    return pa.chunked_array([chunk for table in tables for chunk in table.column(name).chunks])


def _looked_up(positives: pa.ChunkedArray, documents: Dataset, names: PairColumns) -> pa.ListArray:
    """Find ids of positives by their texts, (n,) lists; equal documents have the id of the first."""
    lists = [listed(chunk) for chunk in positives.chunks]
    encoded = pa.chunked_array([part.flatten() for part in lists]).dictionary_encode().combine_chunks()
    texts = combined(encoded).dictionary
    place = pc.index_in(documents.data.column("text"), value_set=texts)
    known = np.flatnonzero(place.is_valid().to_numpy())
    codes, first = np.unique(place.drop_null().to_numpy(), return_index=True)
    if len(codes) < len(texts):
        missing = np.setdiff1d(np.arange(len(texts)), codes)
        raise DataError(
            f"{len(missing)} positives are not in the corpus by their text, such as "
            f"{texts[missing[0]].as_py()[:60]!r}. Give the corpus that was mined, or a column {names.positive_ids!r}."
        )
    ids = combined(documents.data.column("id").take(pa.array(known[first])))
    return ragged(ids.take(combined(encoded).indices), np.concatenate([lengths(part) for part in lists]))


@dataclass(frozen=True)
class _Identified:
    names: PairColumns
    query_ids: pa.Array | None
    positive_ids: pa.ListArray | None

    def __call__(self, table: pa.Table, rows: list[int]) -> pa.Table:
        columns_by_name = named_columns(table)
        if self.query_ids is not None:
            ids = self.query_ids.take(pa.array(rows))
        else:
            ids = as_text(columns_by_name[self.names.query_id], self.names.query_id)
        columns = {"query_id": ids, "negative_ids": listed(as_text(columns_by_name["negative_ids"], "negative_ids"))}
        if self.positive_ids is not None:
            columns["positive_ids"] = self.positive_ids.take(pa.array(rows))
        else:
            columns["positive_ids"] = listed(as_text(columns_by_name[self.names.positive_ids], self.names.positive_ids))
        for name, values in columns.items():
            _check(name, values if name == "query_id" else values.flatten())
        if not np.array_equal(lengths(columns["positive_ids"]), lengths(listed(table.column(self.names.positive)))):
            raise DataError(
                f"A row has another number of {self.names.positive_ids!r} than of {self.names.positive!r}. "
                "Give one id for each positive, in their order."
            )
        kept = {name: table.column(name) for name in table.column_names if name not in columns}
        return pa.table({**kept, **columns})


def _check(name: str, ids: pa.Array) -> None:
    bad = ids.null_count + (pc.sum(pc.equal(ids, "")).as_py() or 0)
    if bad:
        raise DataError(f"{bad} values of {name!r} are missing or empty; every id must be given. Fill them first.")


def corpus_table(corpus: Dataset, columns: Columns | None) -> Dataset:
    """Make a table of `id` and `text` of a whole corpus, ids as strings.

    Raises:
        ColumnError: a column is missing.
        DataError: an id stands twice.
    """
    roles = columns or Columns()
    texts, id_column = text_columns_of(corpus, roles.get("text")), id_column_of(corpus, roles.get("id"))
    for name in texts:
        if name not in corpus.column_names:
            raise missing_column(name, corpus.column_names, "corpus", "text")
    wanted = [name for name in dict.fromkeys([id_column, *texts]) if name in corpus.column_names]
    plain = corpus.with_format("arrow", columns=wanted)
    table = plain.map(_Document(id_column, texts), batched=True, with_indices=True, desc="Corpus")
    ids = combined(table.data.column("id"))
    _check("id", ids)
    twice = _repeated(ids)
    if len(twice):
        raise DataError(
            f"{len(twice)} ids of the corpus stand more than once, such as {twice[0].as_py()!r}. "
            "Drop the copies, or name another column with columns={'id': ...}."
        )
    return table


@dataclass(frozen=True)
class _Document:
    id_column: str | None
    texts: tuple[str, ...]

    def __call__(self, table: pa.Table, rows: list[int]) -> pa.Table:
        if self.id_column is None or self.id_column not in table.column_names:
            ids = row_ids(np.array(rows), self.id_column)
        else:
            ids = as_text(named_columns(table)[self.id_column], self.id_column)
        texts = [as_text(table.column(name), name) for name in self.texts]
        return pa.table({"id": ids, "text": joined(texts)})


def texts_of_rows(dataset: Dataset, columns: Sequence[tuple[str, str]], what: str) -> pa.Table:
    """Make a table of `id` and `text` of all that rows name, by first appearance, from pairs of (ids, texts) columns.

    Raises:
        DataError: one id has two texts.
    """
    wanted = [name for pair in columns for name in pair]
    seen: list[pa.Table] = []
    for table in dataset.select_columns(list(dict.fromkeys(wanted))).iter(BATCH):
        pairs = [(listed(table.column(ids)).flatten(), listed(table.column(texts)).flatten()) for ids, texts in columns]
        flat = [pa.concat_arrays(list(parts)) for parts in zip(*pairs, strict=True)]
        seen.append(_distinct(pa.table(flat, names=["id", "text"])))
        if len(seen) > 16:
            seen = [_distinct(pa.concat_tables(seen))]
    distinct = _distinct(pa.concat_tables(seen))
    twice = _repeated(combined(distinct.column("id")))
    if len(twice):
        raise DataError(
            f"{len(twice)} {what} ids have more than one text, such as {twice[0].as_py()!r}. "
            "Give each text an id of its own."
        )
    return distinct


def _distinct(texts: pa.Table) -> pa.Table:
    return texts.group_by(["id", "text"], use_threads=False).aggregate([]).select(["id", "text"])


def _repeated(ids: pa.Array) -> pa.Array:
    """Return the ids that stand more than once."""
    counts = ids.value_counts()
    return counts.field("values").filter(pc.greater(counts.field("counts"), 1))


def check_all_known(ids: Any, known: pa.Array, what: str) -> None:
    """Raise unless every id stands in its table.

    Raises:
        DataError: some do not; it names the first.
    """
    missing = pc.invert(pc.is_in(ids, value_set=known))
    number = pc.sum(missing).as_py() or 0
    if number:
        raise DataError(
            f"{number} {what} ids that rows name are not in the table of {what}s, such as "
            f"{ids.filter(missing)[0].as_py()!r}. Give the {what}s that these rows were made from."
        )
