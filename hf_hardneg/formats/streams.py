"""Rows that come once, of a stream or a database, are written to the cache, and read from there as often as needed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hf_hardneg.errors import DataError
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.arrow_files import stored_rows
from hf_hardneg.store.disk import scratch, writing

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

BATCH = 10_000
ROWS = "rows.arrow"


def stored_stream(stream: IterableDataset, cache_dir: Any = None) -> Dataset:
    """Read a stream once, and return its rows memory-mapped from the cache.

    Args:
        stream (`IterableDataset`): ends.
        cache_dir (`str`, *optional*): where indexes go; default is under the datasets cache.

    Raises:
        DataError: it has no rows, or later rows have other types than the first ones.
        StoreError: the disk refuses them.
    """
    features = stream.features
    schema = None if features is None else features.arrow_schema
    return stored(stream.with_format("arrow").iter(BATCH), "The stream", schema=schema, cache_dir=cache_dir)


def stored(tables: Iterable[pa.Table], what: str, *, schema: Any = None, cache_dir: Any = None) -> Dataset:
    """Write tables below each other to the cache, where equal rows lie once, and return them memory-mapped.

    Args:
        tables (`Iterable[pa.Table]`): of the same columns.
        what (`str`): what they are of, for errors.
        schema (`pa.Schema`, *optional*): of all; by default of the first.
        cache_dir (`str`, *optional*): where indexes go; default is under the datasets cache.
    """
    cache = directories.cache_root(cache_dir)
    with writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with scratch(place=cache) as folder:
            file = folder / ROWS
            write_tables(tables, file, what, schema)
            parameters = {"rows": directories.file_digest(file)}
            directory = directories.obtain(cache, kinds.CORPUS, parameters, lambda to: shutil.copyfile(file, to / ROWS))
    (rows,) = stored_rows(directory)
    return rows


def write_tables(tables: Iterable[pa.Table], file: Path, what: str, schema: Any) -> int:
    """Write tables below each other into a file of Arrow, and return how many rows they have.

    A type that only a later table tells, as where all lists of the first are empty, is the type of all.

    Raises:
        DataError: there are none, or later ones are of other types than the first.
    """
    writer, rows, is_told = None, 0, schema is not None
    with contextlib.ExitStack() as opened:
        for table in tables:
            known = schema if is_told else _with_types_of(schema or table.schema, table.schema)
            if writer is None or known != schema:
                schema, before = known, None if writer is None else file.with_suffix(".before")
                opened.close()
                if before is not None:
                    file.rename(before)
                writer = opened.enter_context(
                    pa.ipc.new_stream(opened.enter_context(pa.OSFile(str(file), "wb")), schema)
                )
                if before is not None:
                    _copy(before, writer, schema)
            try:
                aligned = table.select(schema.names).cast(schema)
            except (pa.ArrowException, KeyError, ValueError) as error:
                raise DataError(
                    f"{what} begins with rows of {', '.join(schema.names)}, and later ones are not of these types "
                    f"({error}). Say what its columns hold with features=, or cast them."
                ) from error
            writer.write_table(aligned.combine_chunks())
            rows += len(aligned)
    if writer is None:
        raise DataError(f"{what} has no rows, and one is needed at least. Look at how it is made.")
    return rows


def _copy(file: Path, writer: Any, schema: pa.Schema) -> None:
    """Write what a file holds again, in types that it did not know, and remove it."""
    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as batches:
        for batch in batches:
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))
    file.unlink()


def _with_types_of(schema: pa.Schema, later: pa.Schema) -> pa.Schema:
    """A schema in which a later one tells types that were not known; itself where nothing is new."""
    fields = [
        field.with_type(_known(field.type, later.field(field.name).type)) if field.name in later.names else field
        for field in schema
    ]
    known = pa.schema(fields)
    return schema if known.equals(schema) else known  # metadata would tell the types of before


def _known(kind: pa.DataType, later: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return later
    if pa.types.is_list(kind) and pa.types.is_list(later):
        return pa.list_(kind.value_field.with_type(_known(kind.value_type, later.value_type)))
    return kind
