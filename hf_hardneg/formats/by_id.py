"""Layouts that carry ids, with the texts in tables beside them.

These are Tevatron v2, PyLate's and sentence-transformers' distillation, ColBERT, NeMo's corpus form and
msmarco-hard-negatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined, lengths, listed, ragged
from hf_hardneg.corpus.ids import as_text
from hf_hardneg.corpus.pictures import by_kind
from hf_hardneg.formats.roles import decoded
from hf_hardneg.formats.rows import Rows, renamed, structs


def tevatron_v2(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `query_id`, `query_text`, `query_image`, `positive_document_ids`, `negative_document_ids`.

    An image is named in `query_image`, and its `query_text` is null.
    """
    ids = {"positive_document_ids": rows.positive_ids, "negative_document_ids": rows.negative_ids}
    text, image = by_kind(rows.query)
    return pa.table({"query_id": rows.query_id, "query_text": text, "query_image": image, **ids})


def from_tevatron_v2(table: pa.Table) -> dict[str, Any]:
    """Read what `tevatron_v2` writes."""
    ids = {"positive_ids": "positive_document_ids", "negative_ids": "negative_document_ids"}
    if "query_image" in table.column_names and not pa.types.is_null(table.column("query_image").type):
        query = pc.coalesce(*(as_text(table.column(name), name) for name in ("query_text", "query_image")))
        return renamed(table, query_id="query_id", **ids) | {"query": query}
    return renamed(table, query_id="query_id", query="query_text", **ids)


def pylate_kd(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `query_id`, `document_ids` and `scores`, the positive first, a row for each positive with `width`
    negatives.

    Scores are stretched to 0…1 in each row, as PyLate's loss stretches its student's before it compares both.
    """
    rows = rows.per_positive()
    columns = {"query_id": rows.query_id, "document_ids": rows.document_ids()}
    return pa.table({**columns, "scores": _stretched(rows.document_scores())})


def _stretched(lists: pa.ListArray) -> pa.ListArray:
    """Put each list on a scale from its lowest, 0, to its highest, 1; equal values become 0."""
    counts = lengths(lists)
    flat = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    if not len(flat):
        return lists
    begins = np.cumsum(counts) - counts
    low, high = (np.repeat(extreme.reduceat(flat, begins), counts) for extreme in (np.minimum, np.maximum))
    scale = np.where(high > low, high - low, 1)
    return ragged(pa.array((flat - low) / scale, pa.float32()), counts)


def from_pylate_kd(table: pa.Table) -> dict[str, Any]:
    """Read what `pylate_kd` writes; the first document is the positive."""
    return _split(table, {"ids": "document_ids", "scores": "scores"}, "query_id")


def _split(table: pa.Table, lists: dict[str, str], query_id: str) -> dict[str, Any]:
    """Split lists, where the table has them, into their first value and the others."""
    columns = {"query_id": table.column(query_id)}
    for name, theirs in lists.items():
        if theirs in table.column_names:
            values = listed(decoded(table.column(theirs), float if name == "scores" else object))
            columns[f"positive_{name}"] = pc.list_slice(values, 0, 1, return_fixed_size_list=False)
            columns[f"negative_{name}"] = pc.list_slice(values, 1, return_fixed_size_list=False)
    return columns


def colbert(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `qid`, `positive_pid`, `negative_pid`, a row for each (positive, negative)."""
    rows = rows.per_positive()
    owner = pc.list_parent_indices(rows.negative_ids)
    return pa.table(
        {
            "qid": rows.query_id.take(owner),
            "positive_pid": rows.positive_ids.flatten().take(owner),
            "negative_pid": rows.negative_ids.flatten(),
        }
    )


def from_colbert(table: pa.Table) -> dict[str, Any]:
    """Read what `colbert` writes."""
    columns = renamed(table, query_id="qid", positive_ids="positive_pid", negative_ids="negative_pid")
    return {name: column if name == "query_id" else listed(column) for name, column in columns.items()}


def colbert_nway(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `qid`, `pids`, and `scores`, the positive first, a row for each positive with `width` negatives."""
    rows = rows.per_positive()
    columns = {"qid": rows.query_id, "pids": rows.document_ids()}
    return pa.table(columns | ({"scores": rows.document_scores()} if scores else {}))


def from_colbert_nway(table: pa.Table) -> dict[str, Any]:
    """Read what `colbert_nway` writes; the first document is the positive."""
    return _split(table, {"ids": "pids", "scores": "scores"}, "qid")


def nemo_ids(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `question_id`, `question`, `corpus_id`, `pos_doc` and `neg_doc` of {id}, and score.

    Each positive has a row, since NeMo trains on the first of a row unless it is told to take turns.
    """
    rows = rows.per_positive()
    columns = {
        "question_id": rows.query_id,
        "question": rows.query,
        "corpus_id": pa.repeat("corpus", len(rows.query)),
    }
    for name, ids, ratings in (
        ("pos_doc", rows.positive_ids, rows.positive_scores),
        ("neg_doc", rows.negative_ids, rows.negative_scores),
    ):
        columns[name] = structs(ids, id=ids.flatten(), **({"score": ratings.flatten()} if scores else {}))
    return pa.table(columns)


def from_nemo_ids(table: pa.Table) -> dict[str, Any]:
    """Read what `nemo_ids` writes."""
    columns = renamed(table, query_id="question_id", query="question")
    for kind, theirs in (("positive", "pos_doc"), ("negative", "neg_doc")):
        lists = listed(table.column(theirs))
        fields = {field.name for field in lists.type.value_type}
        for ours in {"id", "score"} & fields:
            columns[f"{kind}_{ours}s"] = ragged(pc.struct_field(lists.flatten(), ours), lengths(lists))
    return columns


def msmarco_hard_negatives(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `qid`, `pos`, and `neg`, a struct of one list of ids for each retriever."""
    flat, owner = rows.negative_ids.flatten(), pc.list_parent_indices(rows.negative_ids).to_numpy()
    sources = rows.sources.flatten()
    fields = []
    for system in rows.systems:
        mask = pc.equal(sources, system)
        counts = np.bincount(owner[mask.to_numpy(zero_copy_only=False)], minlength=len(rows.query))
        fields.append(ragged(flat.filter(mask), counts))
    negatives = pa.StructArray.from_arrays(fields, names=list(rows.systems))
    return pa.table({"qid": rows.query_id, "pos": rows.positive_ids, "neg": negatives})


def from_msmarco_hard_negatives(table: pa.Table) -> dict[str, Any]:
    """Read what `msmarco_hard_negatives` writes; negatives of the first retriever come first."""
    negatives = combined(table.column("neg"))
    systems = [field.name for field in negatives.type]
    lists = [listed(pc.struct_field(negatives, name)) for name in systems]
    owner = np.concatenate([np.repeat(np.arange(len(table)), lengths(part)) for part in lists])
    order = pa.array(np.argsort(owner, kind="stable"))
    counts = np.bincount(owner, minlength=len(table))
    ids = pa.concat_arrays([part.flatten() for part in lists]).take(order)
    names = pa.concat_arrays([pa.repeat(name, len(part.flatten())) for name, part in zip(systems, lists, strict=True)])
    columns = {"query_id": table.column("qid"), "positive_ids": listed(table.column("pos"))}
    return columns | {"negative_ids": ragged(ids, counts), "negative_sources": ragged(names.take(order), counts)}
