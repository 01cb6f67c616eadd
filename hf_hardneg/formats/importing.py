"""`from_format` reads what any trainer reads as mined data."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined, lengths, listed, ragged
from hf_hardneg.arrays.strings import strings_of
from hf_hardneg.corpus.columns import with_default_names
from hf_hardneg.corpus.ids import as_text, is_listed, is_text, named_columns
from hf_hardneg.corpus.pictures import holds_pictures
from hf_hardneg.errors import ColumnError, ConfigError, DataError, unknown_name, warn
from hf_hardneg.formats import beir, roles
from hf_hardneg.formats.files import read_format
from hf_hardneg.formats.layouts import LAYOUTS, Layout
from hf_hardneg.formats.merging import merged
from hf_hardneg.formats.roles import LABELS, check_classes, decoded, roles_of
from hf_hardneg.formats.tables import WHOLE, check_all_known
from hf_hardneg.runtime.arguments import checked

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

READ_ONLY = ("list", "pair", "beir")
ORDER = ("query_id", "query", "positive", "positive_ids", "negatives", "negative_ids")


@checked
def from_format(
    source: Dataset | DatasetDict | Mapping[str, Any] | str | Path, layout: str | None = None
) -> Dataset | DatasetDict:
    """Read training data of any layout as mined data: `query`, `positive`, `negatives`, and what else it carries.

    It reads every layout of `to_format()`, sentence-transformers' pairs (`pair`) and BEIR's and MTEB's three tables
    (`beir`: positives are judged above 0, negatives judged 0). Rows that a layout wrote apart are joined again where
    they are neighbours and share their query and positives, or their query and negatives.

    Args:
        source (`Dataset`, `DatasetDict`, mapping or path): the rows; with their tables of texts for layouts of ids, by
            the names that `to_format()` gives them; a file or folder as `save_format()` writes or the trainer reads.
        layout (`str`, *optional*): the layout; by default what the columns say. In sentence-transformers' layouts names
            such as `anchor`, `answer` and `negative_2` say what a column is, and ids such as `query_id` are ids; order
            only decides where names say nothing. That, and columns that are not read, is warned of.

    Returns:
        `Dataset`: `query` string, `positive` and `negatives` list[string]; where the layout has them `query_id` string,
        `positive_ids` and `negative_ids` list[string], `positive_scores` and `negative_scores` list[float32],
        `negative_sources` list[string]. A `DatasetDict` of splits gives one.

    Raises:
        UnknownNameError: no such layout.
        ColumnError: the columns are of no layout, or of another.
        ConfigError: the source is something else; the layout needs tables that are missing; or `labeled-pair` has
            scores in place of labels.
        DataError: ids that no table holds.

    Example:
        >>> from datasets import Dataset
        >>> rows = [{"query": "sky colour", "pos": ["blue"], "neg": ["green", "red"]}]
        >>> from_format(Dataset.from_list(rows))[0]
        {'query': 'sky colour', 'positive': ['blue'], 'negatives': ['green', 'red']}
    """
    from datasets import Dataset, DatasetDict

    if layout is not None and layout not in (*READ_ONLY, *LAYOUTS):
        raise unknown_name("layout", layout, (*READ_ONLY, *LAYOUTS))
    tables: Any = read_format(Path(source), layout) if isinstance(source, str | Path) else source
    if isinstance(tables, Mapping) and not tables:
        raise DataError("from_format() got no table; it needs one at least. Give rows, or a folder that holds some.")
    if isinstance(tables, Dataset):
        tables = with_default_names(tables)
        return _read(tables, layout or detect_layout(tables), {})
    if layout == "beir" or (layout is None and set(tables) >= beir.NAMES):
        return beir.read(tables)
    for name in ("train", "triples"):
        of_rows = (layout or detect_layout(tables[name])) if name in tables else None
        if of_rows in LAYOUTS and LAYOUTS[of_rows].documents:
            return _read(tables[name], of_rows, tables)
    return DatasetDict({name: from_format(split, layout) for name, split in tables.items()})


def detect_layout(dataset: Dataset) -> str:
    """Detect the layout of a dataset by its columns.

    Raises:
        ColumnError: no layout has such columns.
    """
    return layout_of(dataset.features.arrow_schema)


def layout_of(schema: pa.Schema) -> str:
    """Detect the layout of a schema, as `detect_layout` does of a dataset."""
    present = schema.names
    if (
        {"query", "negatives"} < set(present)
        and "document" not in present
        and not is_text(schema.field("negatives").type)
    ):
        return "list"
    known = {name: shape for name, shape in LAYOUTS.items() if shape.columns and set(shape.columns) <= set(present)}
    if known:
        return max(known, key=lambda name: len(known[name].columns))
    layout = _by_roles(schema)
    if layout is None:
        signatures = "; ".join(
            f"{name}: {', '.join(shape.columns)}" for name, shape in LAYOUTS.items() if shape.columns
        )
        raise ColumnError(
            f"Columns {', '.join(map(repr, present))} are those of no layout. Known are {signatures}; and a "
            "query, a positive, any number of negatives and a label column of sentence-transformers, by name or order. "
            "Rename the columns, or leave out others."
        )
    return layout


def _by_roles(schema: pa.Schema) -> str | None:
    """Detect which of sentence-transformers' layouts the columns can be; `None` where none."""
    roles = roles_of(schema)
    if roles is None:
        return None
    nested = [pa.types.is_nested(schema.field(name).type) for name in (roles.positive, *roles.negatives)]
    labelled = roles.layout_of_labels
    if labelled == "labeled-pair":
        return None if nested[0] else labelled
    if labelled == "labeled-list":
        return None if pa.types.is_primitive(schema.field(str(roles.label)).type) else labelled
    return "n-tuple" if any(nested) else {0: "pair", 1: "triplet"}.get(len(roles.negatives), "n-tuple")


def tell(schema: pa.Schema, layout: str) -> None:
    """Warn of columns that are not read, and where order had to say what columns are."""
    if layout in ("list", "beir"):
        return
    shape = LAYOUTS["triplet" if layout == "pair" else layout]
    if not shape.columns:
        roles.check_judged(schema)
        roles.tell(schema)
        return
    others = [name for name in schema.names if name not in (*shape.columns, *shape.beside)]
    if others:
        warn(f"The layout {layout!r} has no {', '.join(map(repr, others))}: those columns are left out.")


def _read(dataset: Dataset, layout: str, tables: Mapping[str, Dataset]) -> Dataset:
    if layout == "list":
        return dataset
    if layout == "beir":
        raise ConfigError("BEIR's layout is three tables; give a mapping or folder of corpus, queries and qrels.")
    shape = shape_of(layout, dataset.column_names)
    check_classes(dataset.features)
    tell(dataset.features.arrow_schema, layout)
    reader = _Reader(layout, _texts(layout, shape, tables))
    size = WHOLE if reader.texts else 1_000
    rows = dataset.with_format("arrow").map(reader, batched=True, batch_size=size, desc=f"From {layout}")
    for shared in shape.merge:
        rows = merged(rows, shared)
    return rows.with_format(None)


def shape_of(layout: str, present: Sequence[str]) -> Layout:
    """Find a layout by its name, and check it against the columns of a dataset.

    Raises:
        ColumnError: some of its columns are missing.
        ConfigError: `labeled-pair` has scores in place of labels.
    """
    shape = LAYOUTS["triplet" if layout == "pair" else layout]
    if layout == "labeled-pair" and "label" not in present:
        raise ConfigError(
            f"Columns {', '.join(map(repr, present))} do not say which documents are positive: 'labeled-pair' is read "
            "from a column 'label'. Give labels."
        )
    missing = [name for name in shape.columns if name not in present]
    if missing:
        raise ColumnError(
            f"The layout {layout!r} needs {', '.join(map(repr, missing))}, and the dataset has "
            f"{', '.join(map(repr, present))}. Rename its columns, or leave out layout= to have it found."
        )
    return shape


def columns_of(table: pa.Table, shape: Layout) -> dict[str, Any]:
    """Read a table as columns of the list layout: ids and texts as strings, scores as float32, documents as lists."""
    columns = {name: combined(column) for name, column in shape.read(_named(table)).items()}
    if "query" in columns and pa.types.is_nested(columns["query"].type):
        raise DataError(
            f"Queries are {columns['query'].type}, and each is to be one text. Join an instruction and its query first."
        )
    for name in ("query_id", "positive_ids", "negative_ids"):
        if name in columns:
            ids = as_text(columns[name], name)
            columns[name] = listed(ids) if is_listed(ids.type) else ids
    for name in ("positive", "negatives", "positive_scores", "negative_scores"):
        if name in columns:
            kind = pa.float32() if name.endswith("scores") else pa.string()
            lists = listed(decoded(columns[name], float if name.endswith("scores") else str))
            columns[name] = ragged(_cast(lists.flatten(), kind, name), lengths(lists))
    return columns


def _named(table: pa.Table) -> pa.Table:
    """Replace the numbers of classes by their names, except in labels of documents, and images by their names."""
    named = named_columns(table)
    columns = {name: table.column(name) if name in LABELS else column for name, column in named.items()}
    return pa.table(
        {name: as_text(column, name) if holds_pictures(column.type) else column for name, column in columns.items()}
    )


def _cast(values: Any, kind: pa.DataType, name: str) -> Any:
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"Values of {name!r} are {values.type}, and cannot be read as {kind} ({error}). Convert that column."
        ) from error


@dataclass(frozen=True)
class _TextTable:
    """A table of texts by id; where ids are positions, a third column has the original ids."""

    what: str
    table: Dataset
    key: str
    text: str

    def find(self, ids: pa.Array) -> np.ndarray:
        """Find the row of each id, (n,)."""
        check_all_known(ids, self._ids, self.what)
        return pc.index_in(ids, value_set=self._ids).to_numpy(zero_copy_only=False).astype(np.int64)

    def texts(self, rows: np.ndarray) -> pa.Array:
        """Return the texts at some rows."""
        return self._strings.take(rows)

    def ids(self, rows: np.ndarray) -> pa.Array:
        """Return the original ids at some rows."""
        return self._originals.take(pa.array(rows))

    @functools.cached_property
    def _ids(self) -> pa.Array:
        return _ids(self.table, self.key)

    @functools.cached_property
    def _originals(self) -> pa.Array:
        original = f"{self.what}_id"
        named = original in self.table.column_names
        return _ids(self.table, original) if named else self._ids

    @functools.cached_property
    def _strings(self) -> Any:
        return strings_of(self.table.data.column(self.text))

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _ids(table: Dataset, name: str) -> pa.Array:
    return as_text(named_columns(table.data.select([name]).table)[name], name)


def _texts(layout: str, shape: Layout, tables: Mapping[str, Dataset]) -> dict[str, _TextTable]:
    by_kind = {}
    wanted = (("query", shape.queries, shape.query_key), ("document", shape.documents, shape.document_key))
    for what, name, key in wanted:
        if name is None:
            continue
        if name not in tables:
            raise ConfigError(
                f"The layout {layout!r} carries ids, and no table {name!r} ({key}, text) was given. Give "
                f"{{{shape.rows!r}: rows, {name!r}: …}}, or the folder that holds both."
            )
        table = tables[name] if tables[name]._indices is None else tables[name].flatten_indices()
        text = next((column for column in ("text", what) if column in table.column_names), None)
        if text is None or key not in table.column_names:
            raise ColumnError(
                f"The table {name!r} needs {key!r} and 'text'; it has {', '.join(table.column_names)}. "
                "Rename its columns."
            )
        ids = _ids(table, key)
        if len(pc.unique(ids)) < len(ids):
            raise DataError(f"Ids in {name!r} stand more than once; each text needs one of its own. Drop the copies.")
        by_kind[what] = _TextTable(what, table, key, text)
    return by_kind


@dataclass(frozen=True)
class _Reader:
    layout: str
    texts: dict[str, _TextTable]

    def __call__(self, table: pa.Table) -> pa.Table:
        columns = columns_of(table, LAYOUTS["triplet" if self.layout == "pair" else self.layout])
        columns |= self._resolved(columns)
        order = [name for name in ORDER if name in columns]
        return pa.table({name: columns[name] for name in [*order, *(name for name in columns if name not in order)]})

    def _resolved(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Look up texts and original ids of the queries and documents that rows name."""
        resolved: dict[str, Any] = {}
        if "query" in self.texts:
            table = self.texts["query"]
            rows = table.find(columns["query_id"])
            resolved |= {"query": table.texts(rows), "query_id": table.ids(rows)}
        if "document" in self.texts:
            table = self.texts["document"]
            for ids, texts in (("positive_ids", "positive"), ("negative_ids", "negatives")):
                counts = lengths(columns[ids])
                rows = table.find(columns[ids].flatten())
                resolved |= {texts: ragged(table.texts(rows), counts), ids: ragged(table.ids(rows), counts)}
        return resolved
