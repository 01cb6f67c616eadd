"""Which columns of a table of pairs hold the query, its positives and their ids, and which rows are pairs at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined
from hf_hardneg.corpus.columns import Columns, missing_column
from hf_hardneg.corpus.ids import is_text, named_columns, usual_names
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ColumnError, DataError
from hf_hardneg.formats.roles import (
    ANSWERS,
    PASSAGES,
    Named,
    is_document_id,
    is_judged_name,
    is_label,
    is_positive_id,
    is_query_id,
    named_for_ids,
    relevant,
)

if TYPE_CHECKING:
    from datasets import Dataset

JUDGED_ROWS = 1000
"""Rows by which a column's values are known for labels or for texts."""
ROLES = ("query", "query_id", "positive", "positive_ids")


@dataclass(frozen=True, kw_only=True)
class ReadPairs:
    """A table of pairs, and which column is what.

    Args:
        rows (`Dataset`): the pairs.
        columns (`Columns`): the roles of columns that are not called as they are by default.
        words (`str`, defaults to `""`): what was recognised, as far as it needs saying.
        ids (`str`, *optional*): a column that may hold ids of the positives, whose texts the rows have too.
        symmetric (`bool`, defaults to `False`): whether the pairs hold in both directions.
    """

    rows: Any
    columns: Columns = field(default_factory=Columns)
    words: str = ""
    ids: str | None = None
    symmetric: bool = False


def is_as_mined(present: Collection[str], told: Mapping[str, Any]) -> bool:
    """Tell whether columns are called as mining reads them, or as the user says."""
    names = {role: told.get(role, role) for role in ROLES}
    return names["query"] in present and bool({names["positive"], names["positive_ids"]} & set(present))


def by_names(rows: Dataset, told: Columns) -> ReadPairs:
    """Read pairs by the names of their columns; where two columns of texts have names that say nothing, by order.

    Raises:
        ColumnError: names do not tell which column is the query, or which the positive.
    """
    for role, name in dict(told).items():
        if role in ROLES and name not in rows.column_names:
            raise missing_column(str(name), rows.column_names, "table of pairs", role)
    schema = _canonical(rows.features.arrow_schema, told)
    named = Named.of(schema)
    query, positive, unknown = named.query, named.positive, list(named.unknown)
    ids = next((name for rule in (is_positive_id, is_document_id) for name in schema.names if rule(name)), None)
    ids = ids or named_for_ids(schema) if positive is None else ids
    query_id = next((name for name in named.aside if is_query_id(name)), None)
    _check_no_corpus(schema.names, query, positive, unknown)
    if query is None and positive is None and ids is None and len(unknown) == 2:
        query, positive = unknown
    elif query is None and len(unknown) == 1:
        query = unknown.pop()
    elif query is not None and positive is None and ids is None and len(unknown) == 1:
        positive = unknown.pop()
    if query is None or (positive is None and ids is None):
        raise _unclear(schema.names, query, unknown)
    back = {ours: theirs for ours, theirs in dict(told).items() if ours in ROLES and ours in schema.names}
    chosen = {"query": query, "positive": positive, "query_id": query_id}
    if positive is None:
        chosen["positive_ids"] = ids
    names = {role: back.get(name, name) for role, name in chosen.items() if name is not None}
    columns = {role: name for role, name in names.items() if name != getattr(PairColumns, role) and role not in told}
    said = [
        f"{role.replace('_', ' ')} {names[role]!r}" for role in ("query", "positive", "positive_ids") if role in names
    ]
    pairs = ReadPairs(rows=rows, columns=cast("Columns", columns), words=", ".join(said), ids=positive and ids)
    label = next(iter(named.labels), None) or judging(rows, set(rows.column_names) - {*names.values()})
    return pairs if label is None or named.negatives else labelled(pairs, label)


def _canonical(schema: pa.Schema, told: Mapping[str, Any]) -> pa.Schema:
    """Return the schema with the names of roles in the place of the user's, without answers that stand beside
    passages."""
    ours = {name: role for role, name in told.items() if role in ROLES}
    fields = [
        part.with_name(ours.get(part.name, part.name)) for part in schema if part.name in ours or part.name not in told
    ]
    cases = {part.name.lower() for part in fields}
    if "positive" not in cases and cases & set(PASSAGES) and cases & set(ANSWERS):
        fields = [part for part in fields if part.name.lower() not in ANSWERS]
    return pa.schema(fields)


def _check_no_corpus(present: list[str], query: str | None, positive: str | None, unknown: list[str]) -> None:
    """Raise for documents in the place of pairs.

    Raises:
        ColumnError: an id and a text, with nothing that can be a query but a title.
    """
    is_titled = [name.lower() for name in unknown] in ([], ["title"])
    if query is None and is_titled and usual_names(present) and str(positive).lower() in PASSAGES:
        raise ColumnError(
            f"The pairs have the columns {', '.join(map(repr, present))}, which are those of documents: none holds "
            "queries. Give documents as corpus=, and rows of queries with their positives as pairs."
        )


def _unclear(present: list[str], query: str | None, unknown: list[str]) -> ColumnError:
    missing = "a query" if query is None else "the positives"
    several = f" {', '.join(map(repr, unknown))} may hold it, and their names do not say which." if unknown else ""
    return ColumnError(
        f"The columns of the pairs are {', '.join(map(repr, present))}, and none is called as {missing} is.{several} "
        "Name them, such as columns={'query': 'question', 'positive': 'answer'}, or 'positive_ids' for ids."
    )


def judging(rows: Dataset, names: Collection[str]) -> str | None:
    """Name the first of some columns that judges rows: its name says so, and its values are not texts."""
    called = [name for name in rows.column_names if name in names and is_judged_name(name)]
    return next((name for name in called if not _are_texts(rows, name)), None)


def _are_texts(rows: Dataset, name: str) -> bool:
    """Tell whether most of the first values of a column are texts, and neither numbers nor words that judge."""
    values = combined(named_columns(rows.with_format("arrow", columns=[name])[:JUDGED_ROWS])[name]).drop_null()
    if not is_text(values.type) or not len(values):
        return False
    return 2 * sum(is_label(text) for text in values.to_pylist()) < len(values)


def labelled(pairs: ReadPairs, label: str, marks: Mapping[str, bool] | None = None) -> ReadPairs:
    """Keep the rows whose label says that the document is relevant.

    Args:
        pairs (`ReadPairs`): one document in each row.
        label (`str`): the column of numbers, booleans, classes or words.
        marks (`Mapping[str, bool]`, *optional*): what words say, for labels of another meaning than relevance.

    Raises:
        DataError: a label is missing or not understood; or no row is relevant.
        ConfigError: labels are scores.
    """
    column = combined(named_columns(pairs.rows.with_format("arrow", columns=[label])[:])[label])
    if pa.types.is_nested(column.type):
        return pairs
    mask = relevant(column, label) if marks is None else _marked(column, label, marks)
    if mask.all():
        return pairs
    if not mask.any():
        raise DataError(
            f"No row is relevant by its {label!r}, and pairs are rows of a query and a positive. Give rows of which "
            "some have a label above 0."
        )
    kept = int(mask.sum())
    words = f"{pairs.words}; {len(mask) - kept:,} of {len(mask):,} rows are not relevant by their {label!r}: left out"
    return ReadPairs(
        rows=pairs.rows.select(np.flatnonzero(mask)),
        columns=pairs.columns,
        words=words,
        ids=pairs.ids,
        symmetric=pairs.symmetric,
    )


def _marked(column: Any, label: str, marks: Mapping[str, bool]) -> np.ndarray:
    words = pc.utf8_lower(pc.utf8_trim_whitespace(column.cast(pa.string()))).fill_null("")
    strange = [word for word in pc.unique(words).to_pylist() if word not in marks]
    if strange:
        raise DataError(
            f"{label!r} has the label {strange[0]!r}; read are {', '.join(filter(None, marks))}. Map it to one of them."
        )
    return np.array([marks[word] for word in words.to_pylist()], bool)
