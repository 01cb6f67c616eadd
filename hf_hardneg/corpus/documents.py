"""The corpus as mining sees it: ids and texts, memory-mapped, identified by its content; images by their names."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined
from hf_hardneg.arrays.strings import Strings, strings_of
from hf_hardneg.corpus.columns import Columns, missing_column
from hf_hardneg.corpus.ids import (
    ROW_NUMBER,
    as_text,
    class_names,
    is_listed,
    is_text,
    named,
    named_columns,
    refuse_nulls,
    row_ids,
    usual_names,
)
from hf_hardneg.corpus.loaded_from import in_words
from hf_hardneg.corpus.pictures import READ, are_pictures, file_states, holds_pictures, names_of, with_pixels
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegError
from hf_hardneg.runtime.arguments import Folder, checked
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.arrow_files import check_arrow, located, mapped_from, read_arrow
from hf_hardneg.store.mapped_memory import release

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
ROWS = "corpus.arrow"
ID, TITLE, TEXT = "_id", "title", "text"
IMAGE = "image"
CONTENT = 2
"""Goes up when the same columns are read as other texts."""

_repeated: WeakKeyDictionary[Any, dict[str, bool]] = WeakKeyDictionary()
"""Which columns of datasets that this process has read have a value twice."""

_digests: WeakKeyDictionary[Any, dict[tuple[Any, ...], str]] = WeakKeyDictionary()
"""Digests of datasets that this process has read, by the columns they cover; the rows of a dataset never change."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus of documents; pickles as paths, a few hundred bytes whatever its size.

    Args:
        table (`datasets.table.Table`): the id and text columns, memory-mapped.
        text_columns (`tuple[str, ...]`): joined by a space, in this order, see `joined`.
        id_column (`str`, *optional*): where there is none, documents are called `row-0`, `row-1`, …, which no id of
            anybody's is taken for; `"row_number"` without such a column stands for `0`, `1`, ….
        digest (`str`): of ids and texts; the same texts have the same digest wherever they come from.
        cache (`Path`): where indexes of this corpus live.
        images (`datasets.table.Table`, *optional*): the column of images, as they are stored, whose names `table` has.
        words (`str`): what it is called, where that is known, and how large it is; no part of what is pickled.
    """

    table: Any
    text_columns: tuple[str, ...]
    id_column: str | None
    digest: str
    cache: Path
    images: Any = None
    words: str = field(default="", compare=False)

    def __len__(self) -> int:
        return self.table.num_rows

    def texts(self, rows: np.ndarray) -> pa.Array:
        """Texts of the given rows, a string array of the same length."""
        return joined([self._take(name, rows) for name in self.text_columns])

    def contents(self, rows: np.ndarray) -> list[str]:
        """What encoders get of the given rows: texts, and images as each a `Picture`."""
        return contents_of(self.contents_table(rows))

    def contents_table(self, rows: np.ndarray) -> pa.Table:
        """The same as a table that travels, see `contents_of`."""
        columns: dict[str, Any] = {TEXT: self.texts(rows)}
        if self.images is not None:
            stored = self.images.fast_gather(rows) if len(rows) else self.images.slice(0, 0)
            columns[IMAGE] = combined(stored.column(0))
            release(self.images.columns)
        return pa.table(columns)

    def ids(self, rows: np.ndarray) -> pa.Array:
        """Ids of the given rows, a string array of the same length."""
        if self.id_column in self.columns:
            return self._take(self.id_column, rows)
        return row_ids(rows, self.id_column)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of ids and of texts, as the digest covers them."""
        ids = (self.id_column,) if self.id_column in self.table.column_names else ()
        return (*ids, *self.text_columns)

    def _take(self, name: str, rows: np.ndarray) -> pa.Array:
        if name not in self._strings:
            column = self.table.column(name)
            column = pc.fill_null(column, "") if column.null_count and is_text(column.type) else column
            self._strings[name] = column, strings_of(column)
        column, strings = self._strings[name]
        if strings is None:
            values = column.take(pa.array(rows)).combine_chunks()
            return as_text(named(values, self._classes.get(name)), name)
        return strings.take(rows)

    @functools.cached_property
    def _classes(self) -> dict[str, list[str]]:
        return class_names(self.table.schema)

    @functools.cached_property
    def _strings(self) -> dict[str, tuple[pa.ChunkedArray, Strings | None]]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        state = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "words"}
        images = {} if self.images is None else {"images": located(self.images)}
        return {**state, "table": located(self.table), **images}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tables = {name: mapped_from(state[name]) for name in ("table", "images") if state.get(name) is not None}
        for name, value in {**state, **tables}.items():
            object.__setattr__(self, name, value)

    @property
    def about(self) -> dict[str, str]:
        """What directories of this corpus are of, in words."""
        return {"corpus": self.words} if self.words else {}

    def part(self, rows: range) -> Corpus:
        """Consecutive documents of it, as a corpus of their own."""
        digest = directories.digest_of({"corpus": self.digest, "rows": [rows.start, rows.stop]})
        words = f"{self.words}, rows {rows.start:,} to {rows.stop - 1:,}" if self.words else ""
        images = None if self.images is None else self.images.slice(rows.start, len(rows))
        table = self.table.slice(rows.start, len(rows))
        return replace(self, table=table, images=images, digest=digest, words=words)

    def batches(self, size: int = BATCH) -> Iterator[pa.Array]:
        """All texts in row order, as string arrays of up to `size`."""
        for start in range(0, len(self), size):
            yield self.texts(np.arange(start, min(start + size, len(self))))


def contents_of(table: pa.Table) -> list[str]:
    """The texts and images in a table of `Corpus.contents_table`."""
    texts: list[str] = table.column(TEXT).to_pylist()
    return with_pixels(texts, combined(table.column(IMAGE))) if IMAGE in table.column_names else texts


@checked
def open_corpus(dataset: Dataset, *, columns: Columns | None = None, cache_dir: Folder | None = None) -> Corpus:
    """The corpus behind a dataset, checked and memory-mapped.

    A dataset that is already memory-mapped is used where it lies; one in memory, or with a selection on top, is
    written once into the cache.

    Args:
        dataset (`Dataset`): the documents.
        columns (`Columns`, *optional*): whose `text` and `id` are looked at.
        cache_dir (`str`, *optional*): where indexes go; default is under the datasets cache.

    Raises:
        ColumnError: a column is missing, or is not strings.
        DataError: the corpus is empty, or a text is null.
    """
    roles = columns or Columns()
    id_column = id_column_of(dataset, roles.get("id"))
    text_columns = text_columns_of(dataset, roles.get("text"))
    for name in text_columns:
        if name not in dataset.column_names:
            raise missing_column(name, dataset.column_names, "corpus", "text")
    if len(dataset) == 0:
        raise DataError("The corpus is empty: 0 rows. Give a dataset with at least one document.")
    for name in text_columns:
        _check_text(dataset, name)
    ids = [] if id_column is None or id_column not in dataset.column_names else [id_column]
    covered = [*ids, *text_columns]
    stored = list(dict.fromkeys(covered))
    cache, words = directories.cache_root(cache_dir), in_words([dataset], "documents")
    images, pictured = None, image_columns(dataset, text_columns)
    if pictured:
        images = _stored_images(dataset, pictured, cache, words)
        dataset = _with_names(dataset, stored, images, cache, words)
        _refuse_both(dataset, text_columns, pictured[0])
    plain = dataset.with_format("arrow", columns=stored)
    digest = dataset_digest(dataset, covered, nullable=text_columns if len(text_columns) > 1 else ())
    return Corpus(
        table=_mapped_table(dataset, plain, stored, digest, cache, words),
        text_columns=text_columns,
        id_column=id_column,
        digest=digest,
        cache=cache,
        images=images,
        words=words,
    )


def id_column_of(dataset: Dataset, id_column: str | None = None) -> str | None:
    """The column of ids of a corpus: the one that was named, else one that is called as id columns are.

    A column that repeats values, as that of the documents of chunks does, holds no ids, unless it is `_id` and no other
    is called so. `None` where there is no such column.

    Args:
        dataset (`Dataset`): the documents.
        id_column (`str`, *optional*): as the user named it; `"row_number"` needs no column.

    Raises:
        ColumnError: there is no such column; or several could be it.
    """
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        raise ColumnError(
            f"The corpus is a {type(dataset).__name__}; give a datasets.Dataset, such as one split of it."
        )
    present = dataset.column_names
    if id_column is not None:
        if id_column not in present and id_column != ROW_NUMBER:
            raise missing_column(id_column, present, "corpus", "id")
        return id_column
    usual = usual_names(present)
    ids = [name for name in usual if usual == [ID] or not _repeats(dataset, name)]
    if len(ids) > 1:
        raise ColumnError(
            f"The corpus has several columns that may hold its ids, {', '.join(map(repr, ids))}, each with values "
            f"that are all different; ids are one column. Name it with columns={{'id': ...}}, where {ROW_NUMBER!r} "
            "stands for row numbers from 0."
        )
    return ids[0] if ids else None


def _repeats(dataset: Dataset, name: str) -> bool:
    """Whether a column has a value twice; what cannot be ids is left to `open_corpus` to refuse."""
    known = _repeated.setdefault(dataset, {})
    if name not in known:
        column = dataset.with_format("arrow", columns=[name])[:].column(name)
        try:
            texts = as_text(column, name).drop_null()
            known[name] = not is_listed(texts.type) and len(pc.unique(texts)) < len(texts)
        except HardNegError:
            known[name] = False
    return known[name]


def _check_text(dataset: Dataset, name: str) -> None:
    kind = dataset.features.arrow_schema.field(name).type
    if not (is_text(kind) or pa.types.is_integer(kind) or are_pictures(kind)):
        raise ColumnError(
            f"Column {name!r} is of type {kind} and was given where text is needed; cast it to string first, or name "
            "another with columns={'text': ...}."
        )


def text_columns_of(dataset: Dataset, text: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """The columns whose texts, `joined`, are the text of a document.

    Args:
        dataset (`Dataset`): the documents.
        text (`str` or `Sequence[str]`, *optional*): these; by default `text`, with `title` before it where both
            hold strings, as BEIR reads them; where there is no `text`, the only column of images.

    Raises:
        ConfigError: it is an empty list.
    """
    pictured = image_columns(dataset, dataset.column_names) if text is None and TEXT not in dataset.column_names else []
    if len(pictured) == 1:
        return (pictured[0],)
    if text is None:
        held = [getattr(dataset.features.get(name), "dtype", None) for name in (TITLE, TEXT)]
        return (TITLE, TEXT) if set(held) <= {"string", "large_string"} else (TEXT,)
    names = (text,) if isinstance(text, str) else tuple(text)
    if not names:
        raise ConfigError(
            "columns={'text': []} names no column; give the name of one, a list of several, or leave it out for "
            "'title' and 'text'."
        )
    return names


def image_columns(dataset: Dataset, names: Sequence[str], *, listed: bool = False) -> list[str]:
    """Picks the columns of images, or `listed` in lists too, from some names; a name of none is left to others."""
    schema, are_images = dataset.features.arrow_schema, holds_pictures if listed else are_pictures
    return [name for name in names if name in schema.names and are_images(schema.field(name).type)]


def _stored_images(dataset: Dataset, names: Sequence[str], cache: Path, words: str) -> Any:
    """The column of images of a corpus, memory-mapped.

    Raises:
        ConfigError: there are several.
    """
    if len(names) > 1:
        raise ConfigError(
            f"columns={{'text': ...}} names the columns {', '.join(map(repr, names))}, which hold images; one of them "
            "is allowed, beside texts. Name one."
        )
    plain, digest = dataset.with_format("arrow", columns=[names[0]]), rows_digest(dataset, names)
    digest = directories.digest_of({"images": digest})
    return _mapped_table(dataset, plain, [names[0]], digest, cache, f"images of {words}", READ)


def _with_names(dataset: Dataset, stored: Sequence[str], images: Any, cache: Path, words: str) -> Dataset:
    """The columns of ids and texts of a corpus, its images by their names, which are made once."""
    from datasets import Dataset

    column = images.column_names[0]

    def write(directory: Path) -> None:
        schema = pa.schema([(column, pa.string())])
        with pa.OSFile(str(directory / ROWS), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for start in range(0, images.num_rows, READ):
                names = names_of(combined(images.slice(start, READ).column(0)))
                writer.write_table(pa.table([names], schema=schema))
                release(images.columns)

    parameters = {"images": rows_digest(dataset, [column]), "layout": CONTENT}
    directory = directories.obtain(cache, kinds.CORPUS, parameters, write, {"corpus": f"names of images of {words}"})
    names = read_arrow(directory, ROWS).column(column)
    others = [name for name in stored if name != column]
    rows = dataset.with_format("arrow", columns=others)[:] if others else pa.table({})
    beside = {name: values for name, values in named_columns(rows).items() if name in others}
    table = pa.table({**beside, column: combined(names)})
    if table.num_rows != len(dataset):
        raise directories.altered(directory, ROWS, f"it does not hold the {len(dataset):,} images of the corpus")
    return Dataset(table.select(list(stored)))


def _refuse_both(dataset: Dataset, text_columns: Sequence[str], image: str) -> None:
    """Raise for a document that is a text and an image."""
    others = [name for name in text_columns if name != image]
    if not others:
        return
    table = dataset.with_format("arrow")[:]
    texts = joined([combined(table.column(name)) for name in others])
    both = pc.and_(combined(table.column(image)).is_valid(), pc.invert(_blank(pc.fill_null(texts, ""))))
    if rows := np.flatnonzero(both.to_numpy(zero_copy_only=False)).tolist():
        raise DataError(
            f"{len(rows):,} documents have both an image and a text in {', '.join(map(repr, others))}, first in row "
            f"{rows[0]}; a document is one of both. Name one column with columns={{'text': ...}}, or leave the other "
            "empty in each row."
        )


def joined(columns: Sequence[pa.Array]) -> pa.Array:
    """The texts of each row joined by a space, a string array (n,); of several, blank ones and nulls add nothing.

    Args:
        columns (`Sequence[pa.Array]`): (n,) each, at least one.
    """
    return functools.reduce(_with, [column.cast(pa.string()) for column in columns])


def _with(first: pa.Array, second: pa.Array) -> pa.Array:
    first, second = pc.fill_null(first, ""), pc.fill_null(second, "")
    both = pc.binary_join_element_wise(first, second, " ")
    return pc.if_else(_blank(second), first, pc.if_else(_blank(first), second, both))


def _blank(texts: pa.Array) -> pa.Array:
    return pc.or_(pc.equal(texts, ""), pc.utf8_is_space(texts))


def dataset_digest(dataset: Dataset, columns: Sequence[str], *, nullable: Collection[str] = ()) -> str:
    """`content_digest` of a dataset in whatever format, computed once in a process."""
    known, key = _digests.setdefault(dataset, {}), (*columns, frozenset(nullable))
    if key not in known:
        plain = dataset.with_format("arrow", columns=list(dict.fromkeys(columns)))
        known[key] = content_digest(plain, columns, nullable=nullable)
    return known[key]


def rows_digest(dataset: Dataset, columns: Sequence[str]) -> str:
    """Hex digest of columns of whatever type, independent of how they are chunked; computed once in a process.

    A dataset's own fingerprint does not tell: `Dataset.map` makes it of the name of a function that is imported.
    """
    columns = list(dict.fromkeys(columns))
    known, key = _digests.setdefault(dataset, {}), ("rows", *columns)
    if key not in known:
        digest = blake2b(repr([(name, dataset.features[name]) for name in columns]).encode(), digest_size=16)
        pictured = image_columns(dataset, columns)
        for table in dataset.with_format("arrow", columns=columns).iter(batch_size=READ if pictured else BATCH):
            for batch in table.select(columns).combine_chunks().to_batches():
                digest.update(batch.replace_schema_metadata(None).serialize())
                for name in pictured:
                    digest.update(file_states(batch.column(name)).encode())
            if pictured:
                release(table.columns)
        known[key] = digest.hexdigest()
    return known[key]


def content_digest(dataset: Dataset, columns: Sequence[str], *, nullable: Collection[str] = ()) -> str:
    """Hex digest of the strings in some columns of an Arrow-formatted dataset, independent of how it is chunked.

    Args:
        dataset (`Dataset`): the rows.
        columns (`Sequence[str]`): what they are read as, in order; one may stand twice.
        nullable (`Collection[str]`, *optional*): columns that may hold nulls.

    Raises:
        ColumnError: a column holds neither strings nor whole numbers nor lists of those.
        DataError: a value is null.
    """
    hashers = {name: (blake2b(digest_size=16), blake2b(digest_size=16)) for name in columns}
    start, size = 0, READ if image_columns(dataset, columns) else BATCH
    for table in dataset.iter(batch_size=size):
        texts_of = named_columns(table)
        for name, (sizes, contents) in hashers.items():
            texts = as_text(texts_of[name], name)
            if name not in nullable:
                refuse_nulls(texts, name, start)
            _update(sizes, contents, texts)
        start += table.num_rows
    parts = {name: [sizes.hexdigest(), contents.hexdigest()] for name, (sizes, contents) in hashers.items()}
    return directories.digest_of({"content": CONTENT, "columns": list(columns), "rows": len(dataset), **parts})


def _update(sizes: Any, contents: Any, array: pa.Array) -> None:
    if is_listed(array.type):
        sizes.update(pc.list_value_length(array).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        array = array.flatten()
    array = array.cast(pa.large_string())
    lengths = pc.binary_length(array).cast(pa.int64())
    sizes.update(lengths.fill_null(-1).to_numpy(zero_copy_only=False).tobytes())
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    if len(array) and array.buffers()[2] is not None:
        contents.update(memoryview(array.buffers()[2])[offsets[0] : offsets[-1]])


def _mapped_table(
    dataset: Dataset, plain: Dataset, columns: list[str], digest: str, cache: Path, words: str, size: int = BATCH
) -> Any:
    from datasets.table import ConcatenationTable, MemoryMappedTable

    def mapped(table: Any) -> bool:
        if isinstance(table, ConcatenationTable):
            return all(mapped(block) for row in table.blocks for block in row)
        return isinstance(table, MemoryMappedTable)

    if dataset._indices is None and mapped(dataset.data):
        return dataset.data.select(columns)

    def write(directory: Path) -> None:
        with pa.OSFile(str(directory / ROWS), "wb") as sink:
            writer = None
            for table in plain.iter(batch_size=size):
                table = pa.table(named_columns(table.select(columns))).combine_chunks()
                writer = writer or pa.ipc.new_stream(sink, table.schema)
                writer.write_table(table)
            if writer is not None:
                writer.close()

    directory = directories.obtain(cache, kinds.CORPUS, {"digest": digest}, write, {"corpus": words})
    check_arrow(directory, ROWS)
    table = MemoryMappedTable.from_file(str(directory / ROWS))
    if table.num_rows != len(dataset) or table.column_names != columns:
        raise directories.altered(directory, ROWS, f"it does not hold the {len(dataset):,} rows of the corpus")
    return table
