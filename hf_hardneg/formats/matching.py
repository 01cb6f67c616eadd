"""How pairs and documents belong together: by ids, or the documents are the positives themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined, listed
from hf_hardneg.corpus.columns import Columns
from hf_hardneg.corpus.documents import IMAGE, id_column_of, image_columns
from hf_hardneg.corpus.ids import as_text, is_listed, named_columns
from hf_hardneg.corpus.pictures import are_pictures, names_of
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ColumnError, ConfigError, DataError
from hf_hardneg.formats.loaded import LoadedCorpus, LoadedPairs
from hf_hardneg.formats.tables import texts_of_rows

SAMPLE, LONGEST_ID = 1000, 100
"""Rows whose values are compared with ids of the corpus, and characters beyond which a text is no id."""


def corpus_of_positives(pairs: LoadedPairs, function: str) -> tuple[LoadedPairs, LoadedCorpus]:
    """Make a corpus of the positives of all rows; where pairs hold in both directions, of both sides.

    Raises:
        ConfigError: the pairs have ids of positives alone.
    """
    from datasets import Dataset, concatenate_datasets

    names = PairColumns.of(pairs.columns)
    splits = [rows for rows in pairs.splits if len(rows)]
    if not splits:
        raise DataError(f"{function}(pairs=) has no rows; it needs one query with its positive at least. Give some.")
    if any(names.positive not in rows.column_names for rows in splits):
        raise ConfigError(
            f"{function}() got pairs that name their positives by ids ({names.positive_ids!r}), and no corpus with "
            "these documents. Give it as corpus=, or positives as texts."
        )
    key = pairs.ids or names.positive_ids
    columns = [names.positive, *([key] if all(key in rows.column_names for rows in splits) else [])]
    texts: Any = None
    pictured = any(image_columns(rows, [names.positive]) for rows in splits)
    if len(columns) == 2 and not pairs.symmetric and not pictured:
        try:
            parts = [rows.select_columns(columns).with_format("arrow") for rows in splits]
            texts = texts_of_rows(concatenate_datasets(parts), [(key, names.positive)], "document")
            texts = Dataset(pa.table({"_id": as_text(texts.column("id"), key), "text": texts.column("text")}))
        except (DataError, ValueError, TypeError):  # one id has several texts: it is that of something larger
            texts = None
    if texts is None:
        sides = (names.positive, *([names.query] if pairs.symmetric else []))
        flat = [listed(_column(rows, side)).flatten() for rows in splits for side in sides]
        texts = _distinct(flat, function)
        pairs = replace(pairs, ids=None).mapped(lambda rows: _without(rows, names.positive_ids, pairs.columns))
    elif pairs.ids not in (None, PairColumns.positive_ids):
        pairs = replace(pairs, columns=cast("Columns", {**pairs.columns, "positive_ids": key}), ids=None)
    words = f"corpus: the {len(texts):,} distinct positives"
    return replace(pairs, ids=None), LoadedCorpus(rows=texts, columns=Columns(), words=words)


def _distinct(values: list[Any], function: str) -> Any:
    """Make a table of the different texts among some, or of the different images.

    Raises:
        ConfigError: there are both.
    """
    from datasets import Dataset, Features, Image

    kinds = {are_pictures(part.type) for part in values}
    if len(kinds) > 1:
        raise ConfigError(
            f"{function}() got pairs that hold in both directions, of texts and images; without a corpus, both sides "
            "are documents and must be of one kind. Give corpus=, or symmetric=False."
        )
    if kinds == {False}:
        texts = pa.concat_arrays([part.cast(pa.string()) for part in values])
        return Dataset(pa.table({"text": pc.unique(texts.drop_null())}))
    seen, parts = set[str](), []
    for part in values:
        names = names_of(part).to_pylist()
        new = [row for row, name in enumerate(names) if name is not None and name not in seen]
        first = {names[row]: row for row in reversed(new)}
        seen |= first.keys()
        parts.append(part.cast(Image().pa_type).take(pa.array(sorted(first.values()), pa.int64())))
    return Dataset(pa.table({IMAGE: pa.chunked_array(parts)})).cast(Features({IMAGE: Image()}))


def _column(rows: Any, name: str) -> Any:
    return combined(named_columns(rows.with_format("arrow", columns=[name])[:])[name])


def _without(rows: Any, name: str, columns: Columns) -> Any:
    """Leave out a column of ids that no document of the corpus has, unless the user named it."""
    return rows if "positive_ids" in columns or name not in rows.column_names else rows.remove_columns(name)


def with_ids(pairs: LoadedPairs, corpus: LoadedCorpus) -> LoadedPairs:
    """Find out whether columns hold ids of the corpus: those that may, and positives that are no texts."""
    names, told = PairColumns.of(pairs.columns), pairs.columns
    if pairs.ids is not None:
        if _are_ids(pairs, pairs.ids, corpus):
            role: Any = {} if pairs.ids == PairColumns.positive_ids else {"positive_ids": pairs.ids}
            return replace(pairs, columns=cast("Columns", {**told, **role}))
        return pairs.mapped(lambda rows: _without(rows, PairColumns.positive_ids, told))
    has_texts = all(names.positive in rows.column_names for rows in pairs.splits)
    if not has_texts or any(names.positive_ids in rows.column_names for rows in pairs.splits):
        return pairs
    if not _are_ids(pairs, names.positive, corpus):
        return pairs
    roles = {role: name for role, name in told.items() if role != "positive"}
    if names.positive == PairColumns.positive:
        pairs = pairs.mapped(lambda rows: rows.rename_column(names.positive, PairColumns.positive_ids))
    else:
        roles["positive_ids"] = names.positive
    words = f"{pairs.words or 'pairs'} ({names.positive!r} are ids of the corpus)"
    return replace(pairs, columns=cast("Columns", roles), words=words)


def _are_ids(pairs: LoadedPairs, name: str, corpus: LoadedCorpus) -> bool:
    """Tell whether the first values of a column are all ids of the corpus."""
    values = [value for rows in pairs.splits if len(rows) for value in _first_texts(rows, name)]
    if not values or any(" " in value.strip() or len(value) > LONGEST_ID for value in values):
        return False
    key = id_column_of(corpus.rows, corpus.columns.get("id"))
    if key is None or key not in corpus.rows.column_names:
        return False
    known = as_text(_column(corpus.rows, key), key)
    return not is_listed(known.type) and bool(pc.all(pc.is_in(pa.array(values, known.type), value_set=known)).as_py())


def _first_texts(rows: Any, name: str) -> list[str]:
    column = named_columns(rows.with_format("arrow", columns=[name])[:SAMPLE])[name]
    try:
        return [value for value in listed(as_text(column, name)).flatten().to_pylist() if value is not None]
    except ColumnError:  # no ids, nor texts: mining says so
        return []
