"""Layouts that carry texts in lists: FlagEmbedding, Tevatron v1, NeMo's inline form, contrastors and ms-swift.

FlagEmbedding and Tevatron draw a positive of a row anew each time, so a query has one row. NeMo and ms-swift's
embedding models read the first positive only, and its rerankers draw one: for these each positive has a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import lengths, listed, ragged
from hf_hardneg.corpus.documents import joined
from hf_hardneg.corpus.pictures import by_kind
from hf_hardneg.errors import ConfigError
from hf_hardneg.formats.rows import Rows, renamed, structs


def flagembedding(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `query`, `pos`, `neg`, and `pos_scores`, `neg_scores` for its knowledge distillation."""
    columns = {"query": rows.query, "pos": rows.positives, "neg": rows.negatives}
    if scores:
        columns |= {"pos_scores": rows.positive_scores, "neg_scores": rows.negative_scores}
    return pa.table(columns)


def from_flagembedding(table: pa.Table) -> dict[str, Any]:
    """Read what `flagembedding` writes; `prompt` and `type` are dropped. Rows without `neg` have no negatives."""
    none = ragged(pa.array([], pa.string()), np.zeros(len(table), np.int64))
    scores = renamed(table, positive_scores="pos_scores", negative_scores="neg_scores")
    return (
        renamed(table, query="query", positive="pos") | {"negatives": none} | renamed(table, negatives="neg") | scores
    )


def tevatron(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `query_id`, `query`, `positive_passages`, `negative_passages` of {docid, text}, and score.

    A `title` is never written: where a passage has one, Tevatron puts it and a space before the text, which has it
    already.
    """
    columns = {"query_id": rows.query_id, "query": rows.query}
    for kind, texts, ids, ratings in (
        ("positive", rows.positives, rows.positive_ids, rows.positive_scores),
        ("negative", rows.negatives, rows.negative_ids, rows.negative_scores),
    ):
        fields = {"docid": ids.flatten(), "text": texts.flatten()} | ({"score": ratings.flatten()} if scores else {})
        columns[f"{kind}_passages"] = structs(texts, **fields)
    return pa.table(columns)


def from_tevatron(table: pa.Table) -> dict[str, Any]:
    """Read what `tevatron` writes; a title is joined to its text by a space, as Tevatron does."""
    columns = renamed(table, query_id="query_id", query="query")
    for kind, texts in (("positive", "positive"), ("negative", "negatives")):
        lists = listed(table.column(f"{kind}_passages"))
        if pa.types.is_null(lists.type.value_type):
            lists = lists.cast(pa.list_(pa.struct({"docid": pa.string(), "text": pa.string()})))
        fields = {field.name for field in lists.type.value_type}
        parts = [pc.struct_field(lists.flatten(), part) for part in (*({"title"} & fields), "text")]
        columns[texts] = ragged(joined(parts) if len(parts) > 1 else parts[0], lengths(lists))
        for ours, theirs in ((f"{kind}_ids", "docid"), (f"{kind}_scores", "score")):
            if theirs in fields:
                columns[ours] = ragged(pc.struct_field(lists.flatten(), theirs), lengths(lists))
    return columns


def nemo(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `query`, `pos_doc`, `neg_doc`, a row for each positive, since NeMo trains on the first of a row."""
    rows = rows.per_positive()
    return pa.table({"query": rows.query, "pos_doc": rows.positives, "neg_doc": rows.negatives})


def from_nemo(table: pa.Table) -> dict[str, Any]:
    """Read what `nemo` writes, also with its queries under `question`."""
    query = "query" if "query" in table.column_names else "question"
    return renamed(table, query=query, positive="pos_doc", negatives="neg_doc")


def contrastors(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `query`, `document`, `negatives`, and `document_score`, `negatives_scores`; `metadata` names the
    objective."""
    rows = rows.per_positive()
    columns = {"query": rows.query, "document": rows.positives.flatten(), "negatives": rows.negatives}
    if scores:
        columns |= {"document_score": rows.positive_scores.flatten(), "negatives_scores": rows.negative_scores}
    names = pa.list_(pa.list_(pa.string()))
    kind = pa.struct([("objective", pa.struct([(name, names) for name in ("self", "paired", "triplet")]))])
    objective = {"self": [], "paired": [], "triplet": [["query", "document", "negatives"]]}
    return pa.table({**columns, "metadata": pa.repeat(pa.scalar({"objective": objective}, kind), len(rows.query))})


def from_contrastors(table: pa.Table) -> dict[str, Any]:
    """Read what `contrastors` writes, whose objective names these columns."""
    scores = renamed(table, positive_scores="document_score", negative_scores="negatives_scores")
    return renamed(table, query="query", positive="document", negatives="negatives") | scores


def ms_swift(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write `messages`, `positive_messages`, `negative_messages`, as ms-swift's embedding models read them since
    3.10."""
    return _conversations(rows, "user")


def ms_swift_reranker(rows: Rows, scores: bool, width: int) -> pa.Table:
    """Write them for its rerankers, which join the query and a document that answers as `assistant`."""
    return _conversations(rows, "assistant")


def _conversations(rows: Rows, role: str) -> pa.Table:
    rows = rows.per_positive()
    columns = {"messages": _said(rows.query, "user")}
    images = {"images": _shown(rows.query)}
    for name, texts in (("positive", rows.positives), ("negative", rows.negatives)):
        columns[f"{name}_messages"] = ragged(_said(texts.flatten(), role), lengths(texts))
        images[f"{name}_images"] = ragged(_shown(texts.flatten()), lengths(texts))
    every = pa.concat_arrays([rows.query, rows.positives.flatten(), rows.negatives.flatten()])
    named = by_kind(every)[1].null_count < len(every)
    return pa.table({**columns, **(images if named else {})})


def _said(texts: pa.Array, role: str) -> pa.ListArray:
    """Make a conversation of one message from each text; an image is said as `<image>`."""
    images = by_kind(texts)[1]
    content = pc.if_else(images.is_valid(), pa.scalar("<image>", texts.type), texts)
    return structs(listed(texts), role=pa.repeat(role, len(texts)), content=content)


def _shown(texts: pa.Array) -> pa.ListArray:
    """List the image of each text, or none."""
    images = by_kind(texts)[1]
    return ragged(images.drop_null(), images.is_valid().to_numpy(zero_copy_only=False).astype(np.int64))


def from_ms_swift(table: pa.Table) -> dict[str, Any]:
    """Read the last message of each conversation.

    Raises:
        ConfigError: messages show images, whose places in them are not read.
    """
    if "images" in table.column_names:
        raise ConfigError(
            "These rows of ms-swift have the column 'images'; conversations of texts are read. Keep what mine() "
            "returned, or give rows of another layout, such as n-tuple."
        )

    def last(conversations: pa.ListArray) -> pa.Array:
        ends = conversations.offsets.to_numpy()[1:] - conversations.offsets.to_numpy()[0] - 1
        return pc.struct_field(conversations.flatten(), "content").take(pa.array(ends))

    columns = {"query": last(listed(table.column("messages")))}
    for ours, theirs in (("positive", "positive_messages"), ("negatives", "negative_messages")):
        lists = listed(table.column(theirs))
        columns[ours] = ragged(last(listed(lists.flatten())), lengths(lists))
    return columns
