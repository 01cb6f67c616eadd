"""Ids of mined rows, and the tables of texts that layouts of ids need beside them, checked.

A trainer meets a wrong id late or never: PyLate puts an empty text where it finds none. So here every id that rows name
stands once in its table, with one text, or nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.corpus.batches import ragged
from hf_hardneg.corpus.columns import Columns, missing_column
from hf_hardneg.corpus.documents import id_column_of, joined, text_columns_of
from hf_hardneg.corpus.ids import as_text, named_columns, row_ids
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ColumnError, DataError
from hf_hardneg.formats.rows import lengths, listed, one

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
WHOLE = 50_000
"""Rows at once where ids are looked up, since each look-up builds its table of ids anew."""


def with_ids(dataset: Dataset, names: PairColumns, documents: Dataset | None) -> Dataset:
    """Mined rows, Arrow-formatted, with an id for every query and positive, as strings.

    Queries without ids are numbered by first appearance; positives without are looked up by text in `documents`.

    Raises:
        ColumnError: positives have no ids and there is no corpus to look them up in; or negatives have none.
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
        query_ids = one(_whole(dataset, names.query).dictionary_encode().combine_chunks()).indices.cast(pa.string())
    if names.positive_ids not in present and documents is not None:
        positive_ids = _looked_up(_whole(dataset, names.positive), documents, names)
    identified = _Identified(names, query_ids, positive_ids)
    return dataset.map(identified, batched=True, with_indices=True, desc="Ids")


def _whole(dataset: Dataset, name: str) -> pa.ChunkedArray:
    tables = dataset.select_columns([name]).iter(BATCH)
    return pa.chunked_array([chunk for table in tables for chunk in table.column(name).chunks])


def _looked_up(positives: pa.ChunkedArray, documents: Dataset, names: PairColumns) -> pa.ListArray:
    """Ids of positives by their texts, (n,) lists; of equal documents the first's."""
    lists = [listed(chunk) for chunk in positives.chunks]
    encoded = pa.chunked_array([part.flatten() for part in lists]).dictionary_encode().combine_chunks()
    texts = one(encoded).dictionary
    found = pc.index_in(documents.data.column("text"), value_set=texts)
    known = np.flatnonzero(found.is_valid().to_numpy())
    codes, first = np.unique(found.drop_null().to_numpy(), return_index=True)
    if len(codes) < len(texts):
        missing = np.setdiff1d(np.arange(len(texts)), codes)
        raise DataError(
            f"{len(missing)} positives are not in the corpus by their text, such as "
            f"{texts[missing[0]].as_py()[:60]!r}. Give the corpus that was mined, or a column {names.positive_ids!r}."
        )
    ids = one(documents.data.column("id").take(pa.array(known[first])))
    return ragged(ids.take(one(encoded).indices), np.concatenate([lengths(part) for part in lists]))


@dataclass(frozen=True)
class _Identified:
    names: PairColumns
    query_ids: pa.Array | None
    positive_ids: pa.ListArray | None

    def __call__(self, table: pa.Table, rows: list[int]) -> pa.Table:
        given = named_columns(table)
        if self.query_ids is not None:
            ids = self.query_ids.take(pa.array(rows))
        else:
            ids = as_text(given[self.names.query_id], self.names.query_id)
        columns = {"query_id": ids, "negative_ids": listed(as_text(given["negative_ids"], "negative_ids"))}
        if self.positive_ids is not None:
            columns["positive_ids"] = self.positive_ids.take(pa.array(rows))
        else:
            columns["positive_ids"] = listed(as_text(given[self.names.positive_ids], self.names.positive_ids))
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
    """`id` and `text` of a whole corpus, ids as strings.

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
    made = plain.map(_Document(id_column, texts), batched=True, with_indices=True, desc="Corpus")
    ids = one(made.data.column("id"))
    _check("id", ids)
    counts = ids.value_counts()
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise DataError(
            f"{len(twice)} ids of the corpus stand more than once, such as {twice.field('values')[0].as_py()!r}. "
            "Drop the copies, or name another column with columns={'id': ...}."
        )
    return made


@dataclass(frozen=True)
class _Document:
    id_column: str | None
    texts: tuple[str, ...]

    def __call__(self, table: pa.Table, rows: list[int]) -> pa.Table:
        if self.id_column is None or self.id_column not in table.column_names:
            ids = row_ids(np.array(rows), self.id_column)
        else:
            ids = as_text(named_columns(table)[self.id_column], self.id_column)
        return pa.table({"id": ids, "text": joined([one(table.column(name)) for name in self.texts])})


def texts_of_rows(dataset: Dataset, columns: Sequence[tuple[str, str]], what: str) -> pa.Table:
    """`id` and `text` of all that rows name, by first appearance, from pairs of (ids, texts) columns.

    Raises:
        DataError: one id has two texts.
    """
    wanted = [name for pair in columns for name in pair]
    seen: list[pa.Table] = []
    for table in dataset.select_columns(list(dict.fromkeys(wanted))).iter(BATCH):
        pairs = [(listed(table.column(ids)).flatten(), listed(table.column(texts)).flatten()) for ids, texts in columns]
        flat = {
            "id": pa.concat_arrays([ids for ids, _ in pairs]),
            "text": pa.concat_arrays([text for _, text in pairs]),
        }
        seen.append(_distinct(pa.table(flat), ["id", "text"]))
        if len(seen) > 16:
            seen = [_distinct(pa.concat_tables(seen), ["id", "text"])]
    made = _distinct(pa.concat_tables(seen), ["id", "text"])
    counts = one(made.column("id")).value_counts()
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise DataError(
            f"{len(twice)} {what} ids have more than one text, such as {twice.field('values')[0].as_py()!r}. "
            "Give each text an id of its own."
        )
    return made


def _distinct(table: pa.Table, names: list[str]) -> pa.Table:
    return table.group_by(names, use_threads=False).aggregate([]).select(names)


def check_all_known(ids: Any, known: pa.Array, what: str) -> None:
    """Every id stands in its table.

    Raises:
        DataError: some do not; it names one.
    """
    missing = pc.invert(pc.is_in(ids, value_set=known))
    number = pc.sum(missing).as_py() or 0
    if number:
        raise DataError(
            f"{number} {what} ids that rows name are not in the table of {what}s, such as "
            f"{ids.filter(missing)[0].as_py()!r}. Give the {what}s that these rows were made from."
        )
