"""Turn what `audit()` is given into sources of rows: datasets, streams, splits, and rows with their tables of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hf_hardneg.audits.audited_rows import AuditedRows
from hf_hardneg.audits.lookups import Lookup, open_lookup
from hf_hardneg.corpus.columns import with_default_names
from hf_hardneg.errors import ColumnError, ConfigError, DataError
from hf_hardneg.formats import beir
from hf_hardneg.formats.beir import QUERY_IDS, QUERY_TEXTS
from hf_hardneg.formats.importing import layout_of, shape_of, tell
from hf_hardneg.formats.layouts import LAYOUTS
from hf_hardneg.formats.roles import check_classes

IN_ORDER = dict.fromkeys(("pair", "triplet", "n-tuple"), "tuple") | {"labeled-pair": "pair", "labeled-list": "list"}
"""Layouts that are known by the order and types of their columns alone, and how they are read."""
TABLES = ("corpus", "queries", "documents", "collection", "qrels")
"""Beginnings of names in a mapping that are no test set."""


def open_sources(dataset: Any, layout: str | None, split: str) -> tuple[AuditedRows, list[AuditedRows]]:
    """Open the rows to audit, with the tables beside them, and other splits.

    Raises:
        ColumnError: the columns are of no layout.
        ConfigError: it is something that cannot be read, or has no such split.
        DataError: it is a stream without rows.
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
    beside = ("train", *TABLES)
    others = [table for name, table in dataset.items() if name != rows and not name.startswith(beside)]
    return _source(dataset[rows], layout, dataset), list(map(test_source, others))


def _source(dataset: Any, layout: str | None, tables: Mapping[str, Any]) -> AuditedRows:
    dataset = with_default_names(dataset)
    schema = _schema(dataset)
    name = layout or layout_of(schema)
    if name == "beir":
        raise ConfigError("BEIR's layout is three tables; give a mapping of corpus, queries and qrels.")
    if name == "list":
        _check_list(schema.names)
        return AuditedRows(dataset=dataset, layout=name)
    if layout in IN_ORDER and IN_ORDER[layout] != IN_ORDER.get(layout_of(schema)):
        raise ColumnError(
            f"The columns {', '.join(map(repr, schema.names))} are those of {layout_of(schema)!r}, not of {layout!r}. "
            "Leave out layout= to have it found, or rename the columns."
        )
    shape, lookups = shape_of(name, schema.names), {}
    check_classes(dataset.features or {})
    tell(schema, name)
    if shape.queries in tables:
        lookups["queries"] = _table_lookup(tables, "query", str(shape.queries), shape.query_key)
    if shape.documents in tables:
        lookups["documents"] = _table_lookup(tables, "document", str(shape.documents), shape.document_key)
    return AuditedRows(dataset=dataset, layout=name, **lookups)


def _check_list(present: Sequence[str]) -> None:
    for names in (("query", "query_id"), ("negatives", "negative_ids")):
        if not set(names) & set(present):
            raise ColumnError(
                f"The layout 'list' needs {names[0]!r} or {names[1]!r}; the dataset has "
                f"{', '.join(map(repr, present))}. Rename its columns."
            )


def _table_lookup(tables: Mapping[str, Any], what: str, name: str, key: str) -> Lookup:
    """Open a table of texts; its original ids, where rows have positions, are in a column of their own."""
    table = tables[name]
    text = next((column for column in ("text", what) if column in table.column_names), None)
    if text is None or key not in table.column_names:
        raise ColumnError(
            f"The table {name!r} needs {key!r} and 'text'; it has {', '.join(map(repr, table.column_names))}. "
            "Rename its columns."
        )
    lookup, original = open_lookup(table, {"id": key, "text": text}), f"{what}_id"
    if original == key or original not in table.column_names:
        return lookup
    return replace(lookup, originals=open_lookup(table, {"id": key, "text": original}).table)


def _schema(dataset: Any) -> Any:
    """Return the Arrow schema of a dataset; of a stream that does not know it, the schema of its first row."""
    if dataset.features is not None:
        return dataset.features.arrow_schema
    for table in dataset.with_format("arrow").iter(1):
        return table.schema
    raise DataError("The stream has no rows; an audit needs one at least. Look at how it is made.")


def open_queries(table: Any) -> Lookup:
    """Open a lookup of a table of queries, whose columns have other names than the columns of a corpus.

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


def test_source(queries: Any) -> AuditedRows:
    """Open the queries of a test set, with their positives: rows of a layout, a table of queries, or their texts.

    Raises:
        ColumnError: no column holds queries.
        ConfigError: it is something else.
    """
    from datasets import Dataset

    if (
        isinstance(queries, Sequence)
        and not isinstance(queries, str)
        and all(isinstance(text, str) for text in queries)
    ):
        return AuditedRows(dataset=Dataset.from_dict({"query": list(queries)}), layout="list")
    if not hasattr(queries, "column_names") or isinstance(queries, Mapping):
        raise ConfigError(
            f"A test set is a {type(queries).__name__}; give a list of texts, or a Dataset with a column 'query' or "
            "'text', such as one split of it."
        )
    schema = _schema(queries)
    layout = _rows_layout(schema)
    return _queries(queries, schema.names) if layout is None else _source(queries, layout, {})


def _rows_layout(schema: Any) -> str | None:
    """Detect the layout of rows that have positives too; `None` where the columns are a table of queries.

    Layouts that are known by the order of columns alone need a query as the first, and no id.
    """
    try:
        layout = layout_of(schema)
    except ColumnError:
        return None
    named = layout in LAYOUTS and LAYOUTS[layout].columns
    in_order = schema.names[0] in QUERY_TEXTS and not set(QUERY_IDS) & set(schema.names)
    return layout if layout != "list" and (named or in_order) else None


def _queries(table: Any, present: Sequence[str]) -> AuditedRows:
    """Open a table of queries, its columns renamed as mined rows have them."""
    wanted = {"query": QUERY_TEXTS, "query_id": QUERY_IDS, "positive": ("positive",), "positive_ids": ("positive_ids",)}
    matches = {ours: [name for name in names if name in present] for ours, names in wanted.items()}
    kept = {names[0]: ours for ours, names in matches.items() if names}
    if not (matches["query"] or matches["query_id"]):
        raise ColumnError(
            f"The test set has the columns {', '.join(map(repr, present))}; one of {', '.join(QUERY_TEXTS)} must hold "
            "the queries. Rename its columns."
        )
    changed = {theirs: ours for theirs, ours in kept.items() if theirs != ours}
    return AuditedRows(dataset=table.select_columns(list(kept)).rename_columns(changed), layout="list")
