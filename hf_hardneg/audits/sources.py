"""What `audit()` is given, as sources of rows: datasets, streams, splits, and rows with their tables of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hf_hardneg.audits.audited_rows import AuditedRows
from hf_hardneg.audits.lookups import Lookup, open_lookup
from hf_hardneg.errors import ColumnError, ConfigError, DataError
from hf_hardneg.formats import beir
from hf_hardneg.formats.importing import layout_of, shape_of, tell
from hf_hardneg.formats.layouts import LAYOUTS
from hf_hardneg.formats.roles import check_classes

QUERY_TEXTS = ("query", "text", "question", "anchor")
QUERY_IDS = ("query_id", "query-id", "_id", "qid", "id")
IN_ORDER = dict.fromkeys(("pair", "triplet", "n-tuple"), "tuple") | {"labeled-pair": "pair", "labeled-list": "list"}
"""Layouts that are known by the order and types of their columns alone, and how they are read."""
TABLES = ("corpus", "queries", "documents", "collection", "qrels")
"""What of a mapping is no test set."""


def open_sources(dataset: Any, layout: str | None, split: str) -> tuple[AuditedRows, list[AuditedRows]]:
    """The rows to audit, with the tables beside them, and other splits.

    Raises:
        ColumnError: columns of no layout.
        ConfigError: something that cannot be read, or has no such split.
        DataError: a stream without rows.
    """
    from datasets import Dataset, IterableDataset

    if isinstance(dataset, (Dataset, IterableDataset)):
        return _source(dataset, layout, {}), []
    if not isinstance(dataset, Mapping):
        raise ConfigError(
            f"audit() got a {type(dataset).__name__}; it reads a Dataset, an IterableDataset, or a DatasetDict of "
            "splits or of rows and their tables. Give one, such as what load_dataset() returns."
        )
    if layout == "beir" or (layout is None and set(dataset) >= beir.NAMES):
        return AuditedRows(dataset=beir.read(dataset), layout="list"), []
    rows = "triples" if "triples" in dataset else split
    if rows not in dataset:
        raise ConfigError(f"There is no split {split!r}; there are {', '.join(dataset)}. Name one with split=.")
    others = [one for name, one in dataset.items() if name != rows and not name.startswith(("train", *TABLES))]
    return _source(dataset[rows], layout, dataset), [test_source(one) for one in others]


def _source(dataset: Any, layout: str | None, tables: Mapping[str, Any]) -> AuditedRows:
    schema = _schema(dataset)
    found = layout or layout_of(schema)
    if found == "beir":
        raise ConfigError("BEIR's layout is three tables; give a mapping of corpus, queries and qrels.")
    if found == "list":
        _check_list(schema.names)
    elif layout in IN_ORDER and IN_ORDER[layout] != IN_ORDER.get(layout_of(schema)):
        raise ColumnError(
            f"The columns {', '.join(map(repr, schema.names))} are those of {layout_of(schema)!r}, not of {layout!r}. "
            "Leave out layout= to have it found, or rename the columns."
        )
    shape = None if found == "list" else shape_of(found, schema.names)
    lookups = {}
    if shape is not None:
        check_classes(dataset.features or {})
        tell(schema, found)
        wanted = (("query", shape.queries, shape.query_key), ("document", shape.documents, shape.document_key))
        for what, name, key in wanted:
            if name is not None and name in tables:
                lookups["queries" if what == "query" else "documents"] = _table_lookup(tables[name], what, name, key)
    return AuditedRows(dataset=dataset, layout=found, **lookups)


def _check_list(present: Sequence[str]) -> None:
    for names in (("query", "query_id"), ("negatives", "negative_ids")):
        if not set(names) & set(present):
            raise ColumnError(
                f"The layout 'list' needs {names[0]!r} or {names[1]!r}; the dataset has "
                f"{', '.join(map(repr, present))}. Rename its columns."
            )


def _table_lookup(table: Any, what: str, name: str, key: str) -> Lookup:
    text = next((column for column in ("text", what) if column in table.column_names), None)
    if text is None or key not in table.column_names:
        raise ColumnError(
            f"The table {name!r} needs {key!r} and 'text'; it has {', '.join(map(repr, table.column_names))}. "
            "Rename its columns."
        )
    made, original = open_lookup(table, {"id": key, "text": text}), f"{what}_id"
    if original == key or original not in table.column_names:
        return made
    return replace(made, originals=open_lookup(table, {"id": key, "text": original}).table)


def _schema(dataset: Any) -> Any:
    """The Arrow schema of a dataset; of a stream that does not know it, that of its first row."""
    if dataset.features is not None:
        return dataset.features.arrow_schema
    for table in dataset.with_format("arrow").iter(1):
        return table.schema
    raise DataError("The stream has no rows; an audit needs one at least. Look at how it is made.")


def open_queries(table: Any) -> Lookup:
    """The lookup of a table of queries, whose columns are called otherwise than those of a corpus.

    Raises:
        ColumnError: no column holds their texts.
    """
    present = list(getattr(table, "column_names", ()))
    text, key = (next((name for name in names if name in present), None) for names in (QUERY_TEXTS, QUERY_IDS))
    if text is None:
        raise ColumnError(
            f"The table of queries has the columns {', '.join(map(repr, present))}; one of {', '.join(QUERY_TEXTS)} "
            f"must hold their texts, and one of {', '.join(QUERY_IDS)} their ids. Rename its columns."
        )
    return open_lookup(table, {"text": text} if key is None else {"text": text, "id": key})


def test_source(given: Any) -> AuditedRows:
    """Queries of a test set, and what is positive for them: rows of a layout, a table of queries, or their texts.

    Raises:
        ColumnError: no column holds queries.
        ConfigError: something else was given.
    """
    from datasets import Dataset

    if isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(one, str) for one in given):
        return AuditedRows(dataset=Dataset.from_dict({"query": list(given)}), layout="list")
    if not hasattr(given, "column_names") or isinstance(given, Mapping):
        raise ConfigError(
            f"A test set is a {type(given).__name__}; give a list of texts, or a Dataset with a column 'query' or "
            "'text', such as one split of it."
        )
    schema = _schema(given)
    found = _rows_layout(schema)
    return _queries(given, schema.names) if found is None else _source(given, found, {})


def _rows_layout(schema: Any) -> str | None:
    """The layout of rows that have positives too; `None` where the columns are those of a table of queries.

    Layouts that are known by the order of columns alone need a query as the first, and no id.
    """
    try:
        found = layout_of(schema)
    except ColumnError:
        return None
    named = found in LAYOUTS and LAYOUTS[found].columns
    in_order = schema.names[0] in QUERY_TEXTS and not set(QUERY_IDS) & set(schema.names)
    return found if found != "list" and (named or in_order) else None


def _queries(given: Any, present: Sequence[str]) -> AuditedRows:
    wanted = {"query": QUERY_TEXTS, "query_id": QUERY_IDS, "positive": ("positive",), "positive_ids": ("positive_ids",)}
    found = {ours: next((name for name in names if name in present), None) for ours, names in wanted.items()}
    kept = {theirs: ours for ours, theirs in found.items() if theirs is not None}
    if found["query"] is None and found["query_id"] is None:
        raise ColumnError(
            f"The test set has the columns {', '.join(map(repr, present))}; one of {', '.join(QUERY_TEXTS)} must hold "
            "the queries. Rename its columns."
        )
    changed = {theirs: ours for theirs, ours in kept.items() if theirs != ours}
    return AuditedRows(dataset=given.select_columns(list(kept)).rename_columns(changed), layout="list")
