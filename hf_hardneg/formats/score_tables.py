"""`join_scores` puts the scores of a table beside rows that name queries and documents by ids."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.arrays.lists import combined, lengths, listed, ragged
from hf_hardneg.corpus.columns import Columns, columns_of
from hf_hardneg.corpus.ids import as_text, named_columns
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ColumnError, ConfigError, DataError, warn
from hf_hardneg.formats.scores import RETRIEVER, columns_of_scores
from hf_hardneg.runtime.arguments import Name, checked
from hf_hardneg.text.hashes import NONE, id_keys, pair_keys

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
QUERIES = ("query_id", "query-id", "qid", "query")
DOCUMENTS = ("corpus_id", "corpus-id", "document_id", "doc_id", "docid", "pid")
SCORES = ("score", "scores")
_NEGATIVE = re.compile(r"negative(_\d+)?")


@checked
def join_scores(rows: Dataset, table: Dataset, name: Name, *, columns: Columns | None = None) -> Dataset:
    """Add a table's scores to the pairs of some rows; `to_format(..., scores=name)` hands them to a trainer.

    Args:
        rows (`Dataset`): mined rows with `query_id`, `positive_ids` and `negative_ids`; or ids in the columns `query`,
            `positive` and `negative` or `negative_1`, `negative_2`, …, as sentence-transformers' `triplet-50-ids` has,
            which become rows of the former kind.
        table (`Dataset`): a query id (`query_id`, `query-id`, `qid`), a document id (`corpus_id`, `document_id`,
            `pid`, …) and a `score` in each row, or lists of document ids and of scores, as `msmarco-scores-…` has.
        name (`str`): of the scores, such as `"teacher"`: the columns are `positive_teacher_scores` and
            `negative_teacher_scores`. A pair that the table lacks has none, null, and is counted in a warning.
        columns (`Columns`, *optional*): of the rows, as `mine` got them; by default what the recipe says.

    Raises:
        ColumnError: ids or scores are missing.
        DataError: the table has no pair of the rows, or two scores for one.

    Example:
        >>> from datasets import Dataset
        >>> triplets = Dataset.from_dict({"query": [1], "positive": [10], "negative_1": [11], "negative_2": [12]})
        >>> table = Dataset.from_dict({"query_id": [1], "corpus_id": [[10, 11, 12]], "score": [[9.5, 7.0, 0.5]]})
        >>> join_scores(triplets, table, "teacher")[0]["negative_teacher_scores"]
        [7.0, 0.5]
    """
    added = columns_of_scores(name)
    if name == RETRIEVER or set(added) & set(rows.column_names):
        raise ConfigError(
            f"name={name!r} would write {' and '.join(map(repr, added))}, which are there; any other name is allowed. "
            "Give another, or remove_columns() first."
        )
    names = PairColumns.of(columns_of(rows, columns))
    rows = _by_id(rows, names)
    step = _Scored(names, *_found(rows, names, table), added=added)
    missing, asked = int(np.isnan(step.scores).sum()), len(step.scores)
    if asked and missing == asked:
        raise DataError(
            f"The table has none of the {asked:,} pairs of the rows. Give the table of the same collection, whose ids "
            f"the rows have: {_first_ids(rows, names)}."
        )
    if missing:
        warn(
            f"{missing:,} of {asked:,} pairs have no score in the table, and null stands in their place: leave such "
            "rows out before training with the scores, or score them."
        )
    return rows.map(step, batched=True, batch_size=BATCH, desc="Joining scores").with_format(None)


def _by_id(rows: Dataset, names: PairColumns) -> Dataset:
    """Return rows with a query id and lists of ids, Arrow-formatted.

    Raises:
        ColumnError: they have none.
    """
    present = rows.column_names
    if {names.query_id, names.positive_ids, "negative_ids"} <= set(present):
        return rows.with_format("arrow")
    negatives = [name for name in present if _NEGATIVE.fullmatch(name)]
    if not negatives or not {"query", "positive"} <= set(present):
        raise ColumnError(
            f"join_scores() needs {names.query_id!r}, {names.positive_ids!r} and 'negative_ids', or ids in 'query', "
            f"'positive' and 'negative_1', …; the rows have {', '.join(map(repr, present))}. Give mined rows with ids."
        )
    step = _FromColumns(names, tuple(negatives))
    return rows.with_format("arrow").map(step, batched=True, batch_size=BATCH, remove_columns=present)


@dataclass(frozen=True)
class _FromColumns:
    """Ids in columns of their own as lists, a map callable."""

    names: PairColumns
    negatives: tuple[str, ...]

    def __call__(self, rows: pa.Table) -> pa.Table:
        table = named_columns(rows)
        ids = [as_text(table[name], name) for name in self.negatives]
        order = np.argsort(np.tile(np.arange(len(rows)), len(ids)), kind="stable")
        flat = pa.concat_arrays(ids).take(pa.array(order))
        return pa.table(
            {
                self.names.query_id: as_text(table["query"], "query"),
                self.names.positive_ids: listed(as_text(table["positive"], "positive")),
                "negative_ids": ragged(flat, np.full(len(rows), len(ids))),
            }
        )


def _pairs(query: pa.Array, documents: pa.ListArray) -> np.ndarray:
    """Key the pairs of each query and its documents, (n,) uint64."""
    owner = np.repeat(id_keys(query.cast(pa.large_string())), lengths(documents))
    return pair_keys(owner, id_keys(documents.flatten().cast(pa.large_string())))


def _sides(rows: pa.Table, names: PairColumns) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the keys of a batch's pairs and how many each row has, for positives and for negatives."""
    table = named_columns(rows)
    query = as_text(table[names.query_id], names.query_id)
    for name in (names.positive_ids, "negative_ids"):
        documents = listed(as_text(table[name], name))
        yield _pairs(query, documents), lengths(documents)


def _found(rows: Dataset, names: PairColumns, table: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of all pairs of some rows, ascending, and their scores, NaN where the table has none.

    Raises:
        DataError: the table has two scores for a pair.
    """
    parts = [keys for batch in rows.iter(BATCH) for keys, _ in _sides(batch, names)]
    wanted = np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))
    wanted = wanted[wanted != NONE]
    scores = np.full(len(wanted), np.nan, np.float32)
    role = {role: _column(table, names) for role, names in (("query", QUERIES), ("document", DOCUMENTS), ("", SCORES))}
    plain = table.with_format("arrow", columns=list(role.values()))
    for batch in plain.iter(BATCH) if len(table) else ():
        columns = named_columns(batch)
        query = as_text(columns[role["query"]], role["query"])
        keys = _pairs(query, listed(as_text(columns[role["document"]], role["document"])))
        said = listed(columns[role[""]]).flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        if len(said) != len(keys):
            raise DataError(
                f"The table has {len(keys)} documents and {len(said)} scores in a batch; each document needs a score. "
                "Mend the table."
            )
        place, inside = isin_sorted(keys, wanted)
        place, said = place[inside], said[inside]
        before = scores[place]
        scores[place] = said
        if ((before == before) & (before != said)).any() or ((said == said) & (scores[place] != said)).any():
            raise DataError(
                "The table has two different scores for one pair of a query and a document. Leave one of them out, or "
                "join two tables under two names."
            )
    return wanted, scores


def _column(table: Dataset, names: Sequence[str]) -> str:
    """Return the first of some names that a table has.

    Raises:
        ColumnError: it has none.
    """
    for name in names:
        if name in table.column_names:
            return name
    raise ColumnError(
        f"The table of scores has {', '.join(map(repr, table.column_names))}, and one of "
        f"{', '.join(map(repr, names))} is needed. Rename the column."
    )


def _first_ids(rows: Dataset, names: PairColumns) -> str:
    row = rows.with_format(None)[0]
    return f"such as query {row[names.query_id]!r} with document {(row[names.positive_ids] or ['?'])[0]!r}"


@dataclass(frozen=True)
class _Scored:
    """Rows with the scores of their pairs, a map callable."""

    names: PairColumns
    keys: np.ndarray
    scores: np.ndarray
    added: tuple[str, str]

    def __call__(self, rows: pa.Table) -> pa.Table:
        columns = {name: combined(rows.column(name)) for name in rows.column_names}
        for name, (keys, counts) in zip(self.added, _sides(rows, self.names), strict=True):
            place, inside = isin_sorted(keys, self.keys)
            scores = self.scores[place] if len(self.keys) else np.full(len(keys), np.nan, np.float32)
            columns[name] = ragged(pa.array(scores, mask=~inside | np.isnan(scores)), counts)
        return pa.table(columns)
