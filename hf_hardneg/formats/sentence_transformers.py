"""The layouts of sentence-transformers. Its losses read columns by order; label columns are exactly `label`, `labels`,
`score`, `scores`, so on the way in the first column is the query and the second the positive, whatever their names.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.batches import ragged
from hf_hardneg.formats.rows import Rows, lengths, listed, one

LABELS = ("label", "labels", "score", "scores")


def triplet(rows: Rows, scores: bool, width: int) -> pa.Table:
    """One row for each (positive, negative)."""
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
    """One row for each positive with `width` negatives."""
    rows = rows.per_positive()
    columns = {rows.query_column: rows.query, rows.positive_column: rows.positives.flatten()}
    flat = rows.negatives.flatten()
    for number in range(width):
        columns[f"negative_{number + 1}"] = flat.take(pa.array(np.arange(number, len(flat), width)))
    if scores:
        columns["scores"] = rows.document_scores()
    return pa.table(columns)


def labeled_pair(rows: Rows, scores: bool, width: int) -> pa.Table:
    """One row for each document, positives first."""
    documents = rows.documents()
    return pa.table(
        {
            rows.query_column: rows.query.take(pc.list_parent_indices(documents)),
            rows.positive_column: documents.flatten(),
            **({"score": rows.document_scores().flatten()} if scores else {"label": rows.labels().flatten()}),
        }
    )


def labeled_list(rows: Rows, scores: bool, width: int) -> pa.Table:
    """One row for each positive, its documents as a list."""
    rows = rows.per_positive()
    return pa.table(
        {
            rows.query_column: rows.query,
            rows.positive_column: rows.documents(),
            **({"scores": rows.document_scores()} if scores else {"labels": rows.labels()}),
        }
    )


def from_tuple(table: pa.Table) -> dict[str, pa.Array]:
    """From a pair, a triplet or an n-tuple; `scores` are of the positive, then of the negatives."""
    query, positive, *negatives = [one(table.column(name)) for name in table.column_names if name not in LABELS]
    columns = {"query": query, "positive": listed(positive), "negatives": _rows_of(negatives, len(query))}
    if "scores" in table.column_names:
        split = _first_and_rest(listed(table.column("scores")))
        columns["positive_scores"], columns["negative_scores"] = split
    return columns


def _rows_of(columns: list[pa.Array], size: int) -> pa.ListArray:
    if not columns:
        return ragged(pa.array([], pa.string()), np.zeros(size, np.int64))
    order = np.arange(len(columns) * size).reshape(len(columns), size).T.ravel()
    return ragged(pa.concat_arrays(columns).take(pa.array(order)), np.full(size, len(columns)))


def _first_and_rest(lists: pa.ListArray) -> tuple[pa.ListArray, pa.ListArray]:
    rest = pc.list_slice(lists, 1, return_fixed_size_list=False)
    return pc.list_slice(lists, 0, 1, return_fixed_size_list=False), rest


def from_labeled_pair(table: pa.Table) -> dict[str, pa.Array]:
    """From one row for each document: a label above 0 is a positive."""
    return _by_label(table, "label")


def from_labeled_list(table: pa.Table) -> dict[str, pa.Array]:
    """From lists of documents: with `labels`, those above 0 are positives; with `scores`, the first document is."""
    if "labels" in table.column_names:
        return _by_label(table, "labels")
    query, documents = [one(table.column(name)) for name in table.column_names if name not in LABELS][:2]
    positives, negatives = _first_and_rest(listed(documents))
    of_positives, of_negatives = _first_and_rest(listed(table.column("scores")))
    columns = {"query": query, "positive": positives, "negatives": negatives}
    return columns | {"positive_scores": of_positives, "negative_scores": of_negatives}


def _by_label(table: pa.Table, name: str) -> dict[str, pa.Array]:
    query, documents = [one(table.column(name)) for name in table.column_names if name not in LABELS][:2]
    documents, labels = listed(documents), listed(table.column(name))
    relevant = labels.flatten().to_numpy(zero_copy_only=False).astype(np.float64) > 0
    owner = np.repeat(np.arange(len(query)), lengths(documents))

    def those(mask: np.ndarray) -> pa.ListArray:
        return ragged(documents.flatten().filter(pa.array(mask)), np.bincount(owner[mask], minlength=len(query)))

    return {"query": query, "positive": those(relevant), "negatives": those(~relevant)}
