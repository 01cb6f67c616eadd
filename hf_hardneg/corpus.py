"""The corpus as mining sees it: ids and texts, memory-mapped, identified by its content."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.errors import ColumnError, DataError
from hf_hardneg.index import store
from hf_hardneg.strings import Strings, strings_of

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
DEFAULT_ID_COLUMN = "_id"

_digests: WeakKeyDictionary[Any, dict[tuple[str, ...], str]] = WeakKeyDictionary()
"""Digests of datasets that this process has read, by the columns they cover; the rows of a dataset never change."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus of documents; pickles as paths, a few hundred bytes whatever its size.

    Args:
        table (`datasets.table.Table`): the id and text columns, memory-mapped.
        text_columns (`tuple[str, ...]`): joined by a space, in this order.
        id_column (`str`, *optional*): where there is none, the row number is the id.
        digest (`str`): of ids and texts; the same texts have the same digest wherever they come from.
        cache (`Path`): where indexes of this corpus live.
    """

    table: Any
    text_columns: tuple[str, ...]
    id_column: str | None
    digest: str
    cache: Path

    def __len__(self) -> int:
        return self.table.num_rows

    def texts(self, rows: np.ndarray) -> pa.Array:
        """Texts of the given rows, a string array of the same length."""
        return _join([self._take(name, rows) for name in self.text_columns])

    def ids(self, rows: np.ndarray) -> pa.Array:
        """Ids of the given rows, a string array of the same length."""
        if self.id_column is None:
            return pa.array(rows).cast(pa.string())
        return self._take(self.id_column, rows)

    def _take(self, name: str, rows: np.ndarray) -> pa.Array:
        if name not in self._strings:
            self._strings[name] = strings_of(self.table.column(name))
        strings = self._strings[name]
        if strings is None:
            return self.table.column(name).take(pa.array(rows)).combine_chunks().cast(pa.string())
        return strings.take(rows)

    @functools.cached_property
    def _strings(self) -> dict[str, Strings | None]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def batches(self, size: int = BATCH) -> Iterator[pa.Array]:
        """All texts in row order, as string arrays of up to `size`."""
        for start in range(0, len(self), size):
            yield self.texts(np.arange(start, min(start + size, len(self))))


def open_corpus(
    dataset: Dataset,
    *,
    text_column: str | Sequence[str] = "text",
    id_column: str = DEFAULT_ID_COLUMN,
    cache_dir: str | None = None,
) -> Corpus:
    """The corpus behind a dataset, checked and memory-mapped.

    A dataset that is already memory-mapped is used where it lies; one in memory, or with a selection on top, is
    written once into the cache.

    Args:
        dataset (`Dataset`): the documents.
        text_column (`str` or `Sequence[str]`, defaults to `"text"`): several are joined by a space.
        id_column (`str`, defaults to `"_id"`): where the default is absent, row numbers are ids.
        cache_dir (`str`, *optional*): where indexes go; default is under the datasets cache.

    Raises:
        ColumnError: a column is missing, or is not strings.
        DataError: the corpus is empty, or a text is null.
    """
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        raise ColumnError(
            f"The corpus is a {type(dataset).__name__}; give a datasets.Dataset, such as one split of it."
        )
    text_columns = (text_column,) if isinstance(text_column, str) else tuple(text_column)
    has_ids = id_column in dataset.column_names
    if not has_ids and id_column != DEFAULT_ID_COLUMN:
        raise missing_column(id_column, dataset.column_names, "corpus", "id_column")
    for name in text_columns:
        if name not in dataset.column_names:
            raise missing_column(name, dataset.column_names, "corpus", "text_column")
    if len(dataset) == 0:
        raise DataError("The corpus is empty: 0 rows. Give a dataset with at least one document.")
    columns = [*((id_column,) if has_ids else ()), *(name for name in text_columns if name != id_column)]
    plain = dataset.with_format("arrow", columns=columns)
    digest = dataset_digest(dataset, columns)
    cache = store.cache_root(cache_dir)
    return Corpus(
        table=_mapped_table(dataset, plain, columns, digest, cache),
        text_columns=text_columns,
        id_column=id_column if has_ids else None,
        digest=digest,
        cache=cache,
    )


def missing_column(name: str, present: Sequence[str], where: str, option: str) -> ColumnError:
    """The error for a column that is not there, naming those that are."""
    return ColumnError(
        f"The {where} has no column {name!r}; it has {', '.join(map(repr, present))}. "
        f"Name the right one with {option}=."
    )


def dataset_digest(dataset: Dataset, columns: Sequence[str]) -> str:
    """`content_digest` of a dataset in whatever format, computed once in a process."""
    known = _digests.setdefault(dataset, {})
    if tuple(columns) not in known:
        known[tuple(columns)] = content_digest(dataset.with_format("arrow", columns=list(columns)), columns)
    return known[tuple(columns)]


def content_digest(dataset: Dataset, columns: Sequence[str]) -> str:
    """Hex digest of the strings in some columns of an Arrow-formatted dataset, independent of how it is chunked.

    Raises:
        ColumnError: a column is neither strings nor integers nor lists of those.
        DataError: a value is null.
    """
    hashers = {name: (blake2b(digest_size=16), blake2b(digest_size=16)) for name in columns}
    start = 0
    for table in dataset.iter(batch_size=BATCH):
        for name, (sizes, contents) in hashers.items():
            _update(sizes, contents, _plain_strings(table.column(name), name, start))
        start += table.num_rows
    parts = {name: [sizes.hexdigest(), contents.hexdigest()] for name, (sizes, contents) in hashers.items()}
    return store.digest_of({"columns": list(columns), "rows": len(dataset), **parts})


def _plain_strings(column: pa.ChunkedArray, name: str, start: int) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        row = start + int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(
            f"Column {name!r} is null in row {row}; texts and ids may not be. Drop or fill such rows first."
        )
    return array


def _update(sizes: Any, contents: Any, array: pa.Array) -> None:
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        sizes.update(pc.list_value_length(array).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        array = array.flatten()
    if pa.types.is_integer(array.type):
        array = array.cast(pa.string())
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise ColumnError(f"A column of type {array.type} was given where text is needed; cast it to string first.")
    array = array.cast(pa.large_string())
    lengths = pc.binary_length(array).cast(pa.int64())
    sizes.update(lengths.fill_null(-1).to_numpy(zero_copy_only=False).tobytes())
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    if len(array) and array.buffers()[2] is not None:
        contents.update(memoryview(array.buffers()[2])[offsets[0] : offsets[-1]])


def _mapped_table(dataset: Dataset, plain: Dataset, columns: list[str], digest: str, cache: Path) -> Any:
    from datasets.table import ConcatenationTable, MemoryMappedTable

    def mapped(table: Any) -> bool:
        if isinstance(table, ConcatenationTable):
            return all(mapped(block) for row in table.blocks for block in row)
        return isinstance(table, MemoryMappedTable)

    if dataset._indices is None and mapped(dataset.data):
        return dataset.data.select(columns)

    def write(directory: Path) -> None:
        with pa.OSFile(str(directory / "corpus.arrow"), "wb") as sink:
            writer = None
            for table in plain.iter(batch_size=BATCH):
                table = table.select(columns).replace_schema_metadata(None).combine_chunks()
                writer = writer or pa.ipc.new_stream(sink, table.schema)
                writer.write_table(table)
            if writer is not None:
                writer.close()

    directory = store.obtain(cache, "corpus", {"digest": digest}, write)
    return MemoryMappedTable.from_file(str(directory / "corpus.arrow"))


def _join(columns: list[pa.Array]) -> pa.Array:
    strings = [column.cast(pa.string()) for column in columns]
    return strings[0] if len(strings) == 1 else pc.binary_join_element_wise(*strings, " ")
