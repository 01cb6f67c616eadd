"""Layouts of sentence-transformers: pairs, triplets, n-tuples and labelled rows.

Its losses read columns by order; label columns are exactly `label`, `labels`, `score`, `scores`. When they are read,
`roles` says which column is what.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined, lengths, listed, ragged
from hf_hardneg.errors import ColumnError, DataError
from hf_hardneg.formats.roles import Roles, decoded, relevant, roles_of
from hf_hardneg.formats.rows import Rows


def triplet(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write a row for each (positive, negative)."""
    rows = rows.per_positive()
    owner = pc.list_parent_indices(rows.negatives)
    columns = {
        rows.query_column: rows.query.take(owner),
        rows.positive_column: rows.positives.flatten().take(owner),
        "negative": rows.negatives.flatten(),
    }
    if scores:
        both = (rows.positive_scores.flatten().take(owner), rows.negative_scores.flatten())
        pairs = np.stack([part.to_numpy(zero_copy_only=False) for part in both], axis=1)
        columns["scores"] = ragged(pa.array(pairs.ravel()), np.full(len(pairs), 2))
    return pa.table(columns)


def n_tuple(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write a row for each positive with `width` negatives."""
    rows = rows.per_positive()
    columns = {rows.query_column: rows.query, rows.positive_column: rows.positives.flatten()}
    flat = rows.negatives.flatten()
    for number in range(width):
        columns[f"negative_{number + 1}"] = flat.take(pa.array(np.arange(number, len(flat), width)))
    if scores:
        columns["scores"] = rows.document_scores()
    return pa.table(columns)


def labeled_pair(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write a row for each document, positives first."""
    documents = rows.documents()
    queries = rows.query.take(pc.list_parent_indices(documents))
    labels = {"score": rows.document_scores().flatten()} if scores else {"label": rows.labels().flatten()}
    return pa.table({rows.query_column: queries, rows.positive_column: documents.flatten(), **labels})


def labeled_list(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write a row for each positive, with its documents as a list."""
    rows = rows.per_positive()
    labels = {"scores": rows.document_scores()} if scores else {"labels": rows.labels()}
    return pa.table({rows.query_column: rows.query, rows.positive_column: rows.documents(), **labels})


def from_tuple(table: pa.Table) -> dict[str, Any]:
    """Read a pair, a triplet or an n-tuple; `scores` are of the positive, then of the negatives."""
    roles = _roles(table)
    positives = listed(decoded(table.column(roles.positive)))
    negatives = _side_by_side([table.column(name) for name in roles.negatives], len(table))
    columns = {"query": combined(table.column(roles.query)), "positive": positives, "negatives": negatives}
    columns |= _named_ids(table, roles, positives, negatives)
    if roles.label == "scores":
        columns["positive_scores"], columns["negative_scores"] = _first_and_rest(table.column("scores"), float)
    return columns


def _roles(table: pa.Table) -> Roles:
    roles = roles_of(table.schema)
    if roles is None:
        raise ColumnError(
            f"None of the columns {', '.join(map(repr, table.column_names))} can be a query and its documents. Rename "
            "two to query and positive."
        )
    return roles


def _named_ids(table: pa.Table, roles: Roles, positives: pa.ListArray, negatives: pa.ListArray) -> dict[str, Any]:
    """Read ids from columns of their own, where a row has as many as texts."""
    columns: dict[str, Any] = {} if roles.query_id is None else {"query_id": combined(table.column(roles.query_id))}
    sides = (("positive_ids", positives, (roles.positive_id,)), ("negative_ids", negatives, roles.negative_ids))
    for name, texts, theirs in sides:
        if theirs and all(theirs):
            ids = _side_by_side([table.column(column) for column in theirs], len(table), object)
            if np.array_equal(lengths(ids), lengths(texts)):
                columns[name] = ids
    return columns


def _side_by_side(columns: list[Any], size: int, kind: type = str) -> pa.ListArray:
    """Put the values of several columns into one list for each row, (size,), without nulls."""
    lists = [listed(decoded(column, kind)) for column in columns]
    if not lists:
        return ragged(pa.array([], pa.string()), np.zeros(size, np.int64))
    owner = np.concatenate([np.repeat(np.arange(size), lengths(part)) for part in lists])
    values = pa.concat_arrays([part.flatten().cast(pa.string()) for part in lists])
    owner, values = owner[values.is_valid().to_numpy(zero_copy_only=False)], values.drop_null()
    return ragged(values.take(pa.array(np.argsort(owner, kind="stable"))), np.bincount(owner, minlength=size))


def _first_and_rest(column: Any, kind: type = str) -> tuple[pa.ListArray, pa.ListArray]:
    """Split lists of a kind of values into their first value and the others."""
    lists = listed(decoded(column, kind))
    rest = pc.list_slice(lists, 1, return_fixed_size_list=False)
    return pc.list_slice(lists, 0, 1, return_fixed_size_list=False), rest


def from_labeled_pair(table: pa.Table) -> dict[str, Any]:
    """Read a row for each document: a label above 0 makes it a positive."""
    return _by_label(table, "label")


def from_labeled_list(table: pa.Table) -> dict[str, Any]:
    """Read lists of documents: with `labels`, documents above 0 are positives; with `scores`, the first document is."""
    if "labels" in table.column_names:
        return _by_label(table, "labels")
    roles = _roles(table)
    columns = {"query": combined(table.column(roles.query))}
    columns["positive"], columns["negatives"] = _first_and_rest(table.column(roles.positive))
    columns["positive_scores"], columns["negative_scores"] = _first_and_rest(table.column("scores"), float)
    return columns


def _by_label(table: pa.Table, name: str) -> dict[str, Any]:
    roles = _roles(table)
    documents, labels = listed(decoded(table.column(roles.positive))), listed(decoded(table.column(name), float))
    unequal = np.flatnonzero(lengths(documents) != lengths(labels))
    if len(unequal):
        row = int(unequal[0])
        raise DataError(
            f"Row {row} has {lengths(documents)[row]} documents in {roles.positive!r} and "
            f"{lengths(labels)[row]} labels in {name!r}; each document needs one. Give lists of one length."
        )
    mask = relevant(labels.flatten(), name)
    owner = np.repeat(np.arange(len(table)), lengths(documents))

    def kept(values: pa.ListArray, chosen: np.ndarray) -> pa.ListArray:
        return ragged(values.flatten().filter(pa.array(chosen)), np.bincount(owner[chosen], minlength=len(table)))

    columns = {"query": combined(table.column(roles.query))}
    columns |= {"positive": kept(documents, mask), "negatives": kept(documents, ~mask)}
    ids = _named_ids(table, replace(roles, negative_ids=()), documents, documents)
    if "positive_ids" in ids:
        document_ids = ids.pop("positive_ids")
        ids |= {"positive_ids": kept(document_ids, mask), "negative_ids": kept(document_ids, ~mask)}
    return columns | ids
