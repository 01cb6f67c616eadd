"""The table of layouts. To add a layout, write both functions in its family's module and list it here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from hf_hardneg.errors import unknown_name
from hf_hardneg.formats import by_id, inline, sentence_transformers
from hf_hardneg.formats.rows import Rows

COLBERT: dict[str, Any] = {
    **{"ids": True, "numbered": True, "rows": "triples", "queries": "queries", "documents": "collection"},
    **{"query_key": "qid", "document_key": "pid"},
}
"""The tables of ColBERT's layouts."""
PARTIAL, SHORT = "rows without positives or negatives", "rows without positives, rows with fewer negatives than others"
OTHERS = "other columns"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one trainer reads mined data.

    Args:
        write (`Callable`): (rows, whether scores are asked for, width) to a table.
        read (`Callable`): a table to columns of the list layout, row by row.
        columns (`tuple[str, ...]`): columns that its rows are known by; empty where order and type decide.
        beside (`tuple[str, ...]`): further columns that its trainer knows.
        ids (`bool`, defaults to `False`): whether it carries ids of queries and documents.
        scores (`str`, defaults to `"asked"`): whether it carries scores `"always"`, when asked or where a teacher gave
            them (`"taught"`), only when `"asked"`, or `"never"`.
        whole (`bool`, defaults to `True`): whether a row needs a positive and a negative.
        equal (`bool`, defaults to `False`): whether all rows must have equally many documents.
        numbered (`bool`, defaults to `False`): whether ids are positions in the tables beside it.
        rows, queries, documents (`str`): names of the table of rows and of the tables of texts; `None` without such.
        query_key, document_key (`str`): the id columns of the tables of texts.
        merge (`tuple`): what adjacent rows of one query must share to become one row again, step by step. A layout
            whose rows have one positive writes a row for each (`Rows.per_positive`) and merges them; else positives
            are lost.
        loses (`str`): the things it cannot carry, in the phrases that `tests/formats/test_layouts.py` reads.
    """

    write: Callable[[Rows, bool, int], pa.Table]
    read: Callable[[pa.Table], dict[str, Any]]
    columns: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    ids: bool = False
    scores: Literal["always", "taught", "asked", "never"] = "asked"
    whole: bool = True
    equal: bool = False
    numbered: bool = False
    rows: str = "train"
    queries: str | None = None
    documents: str | None = None
    query_key: str = "query_id"
    document_key: str = "document_id"
    document_image: str | None = None
    merge: tuple[str, ...] = ()
    loses: str = f"{PARTIAL}, ids, ranks, sources, {OTHERS}"

    def has_columns(self, columns: Sequence[str]) -> bool:
        """Whether rows with these columns are rows of this layout, and nothing else."""
        return bool(self.columns) and set(self.columns) <= set(columns) <= {*self.columns, *self.beside}


_MS_SWIFT = Layout(
    write=inline.ms_swift,
    read=inline.from_ms_swift,
    columns=("messages", "positive_messages", "negative_messages"),
    beside=("images", "positive_images", "negative_images"),
    scores="never",
    merge=("negatives",),
    loses=f"{PARTIAL}, scores, ids, ranks, sources, {OTHERS}",
)
LAYOUTS: dict[str, Layout] = {
    "triplet": Layout(
        write=sentence_transformers.triplet,
        read=sentence_transformers.from_tuple,
        merge=("positive", "negatives"),
    ),
    "n-tuple": Layout(
        write=sentence_transformers.n_tuple,
        read=sentence_transformers.from_tuple,
        equal=True,
        merge=("negatives",),
        loses=f"{SHORT}, ids, ranks, sources, {OTHERS}",
    ),
    "labeled-pair": Layout(
        write=sentence_transformers.labeled_pair,
        read=sentence_transformers.from_labeled_pair,
        whole=False,
        merge=("query",),
        loses=f"rows without documents, ids, ranks, sources, {OTHERS}; with scores, which documents are positive",
    ),
    "labeled-list": Layout(
        write=sentence_transformers.labeled_list,
        read=sentence_transformers.from_labeled_list,
        merge=("negatives",),
    ),
    "flagembedding": Layout(
        write=inline.flagembedding,
        read=inline.from_flagembedding,
        columns=("query", "pos"),
        beside=("neg", "pos_scores", "neg_scores", "prompt", "type"),
    ),
    "tevatron": Layout(
        write=inline.tevatron,
        read=inline.from_tevatron,
        columns=("query_id", "query", "positive_passages", "negative_passages"),
        beside=("answers",),
        ids=True,
        loses=f"{PARTIAL}, ranks, sources, {OTHERS}",
    ),
    "tevatron-v2": Layout(
        write=by_id.tevatron_v2,
        read=by_id.from_tevatron_v2,
        columns=("query_id", "query_text", "positive_document_ids", "negative_document_ids"),
        beside=("query_image", "query_audio", "query_video"),
        ids=True,
        documents="corpus",
        document_key="docid",
        document_image="image",
        scores="never",
        loses=f"{PARTIAL}, scores, ranks, sources, {OTHERS}",
    ),
    "pylate-kd": Layout(
        write=by_id.pylate_kd,
        read=by_id.from_pylate_kd,
        columns=("query_id", "document_ids", "scores"),
        ids=True,
        scores="always",
        equal=True,
        queries="queries",
        documents="documents",
        merge=("negatives",),
        loses=f"{SHORT}, ranks, sources, {OTHERS}, the scale of scores, that rows were one of several positives",
    ),
    "colbert": Layout(
        write=by_id.colbert,
        read=by_id.from_colbert,
        columns=("qid", "positive_pid", "negative_pid"),
        **COLBERT,
        merge=("positive", "negatives"),
        scores="never",
        loses=f"{PARTIAL}, scores, ranks, sources, {OTHERS}; in files tabs, line ends and ids of documents",
    ),
    "colbert-nway": Layout(
        write=by_id.colbert_nway,
        read=by_id.from_colbert_nway,
        columns=("qid", "pids"),
        beside=("scores",),
        **COLBERT,
        scores="taught",
        equal=True,
        merge=("negatives",),
        loses=f"{SHORT}, ranks, sources, {OTHERS}; in files tabs, line ends and ids of documents",
    ),
    "nemo": Layout(
        write=inline.nemo,
        read=inline.from_nemo,
        columns=("query", "pos_doc", "neg_doc"),
        scores="never",
        merge=("negatives",),
        loses=f"{PARTIAL}, scores, ids, ranks, sources, {OTHERS}",
    ),
    "nemo-ids": Layout(
        write=by_id.nemo_ids,
        read=by_id.from_nemo_ids,
        columns=("question_id", "question", "corpus_id", "pos_doc", "neg_doc"),
        ids=True,
        documents="corpus",
        document_key="id",
        merge=("negatives",),
        loses=f"{PARTIAL}, ranks, sources, {OTHERS}",
    ),
    "contrastors": Layout(
        write=inline.contrastors,
        read=inline.from_contrastors,
        columns=("query", "document", "negatives"),
        beside=("metadata", "document_score", "negatives_scores"),
        merge=("negatives",),
    ),
    "ms-swift": _MS_SWIFT,
    "ms-swift-reranker": replace(_MS_SWIFT, write=inline.ms_swift_reranker),
    "msmarco-hard-negatives": Layout(
        write=by_id.msmarco_hard_negatives,
        read=by_id.from_msmarco_hard_negatives,
        columns=("qid", "pos", "neg"),
        ids=True,
        queries="queries",
        documents="corpus",
        scores="never",
        loses=f"{PARTIAL}, scores, ranks, {OTHERS}, the order of negatives of different sources",
    ),
}
"""Every layout by its name, besides `list`, which is mined data as it is."""


def check_layout(name: str) -> None:
    """Raise where no layout has that name.

    Raises:
        UnknownNameError: it names the layouts, and the nearest.
    """
    if name not in ("list", *LAYOUTS):
        raise unknown_name("layout", name, ("list", *LAYOUTS))


def table() -> str:
    """Write the layouts and what they cannot carry as Markdown."""
    lines = ["| layout | rows and tables | ids | scores | lost |", "|---|---|---|---|---|"]
    for name, layout in LAYOUTS.items():
        parts = [part for part in (layout.rows, layout.queries, layout.documents) if part and layout.documents]
        cells = (f"`{name}`", ", ".join(parts) or "rows", "yes" if layout.ids else "", layout.scores, layout.loses)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
