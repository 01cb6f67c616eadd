"""Reading a batch: its queries, their identity, every known positive, and what else may not come out."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import ragged
from hf_hardneg.corpus.batches import matrix
from hf_hardneg.corpus.columns import Columns, missing_column
from hf_hardneg.corpus.documents import Corpus, dataset_digest
from hf_hardneg.corpus.encodings import plain
from hf_hardneg.corpus.ids import ROW_NUMBER, flat_texts, id_texts, is_listed, is_text, named_columns, refuse_nulls
from hf_hardneg.corpus.loaded_from import in_words
from hf_hardneg.corpus.pictures import are_pictures, pictures_of, refuse_lost, refuse_names
from hf_hardneg.corpus.positives import CorpusKeys, KnownPositives, Listing, PositiveList, obtain_positives
from hf_hardneg.errors import ColumnError, warn
from hf_hardneg.text.analysis import Analyzer
from hf_hardneg.text.keys import Dedupe, text_keys
from hf_hardneg.text.numbered_words import NumberedWords

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """Names of the columns of the pairs, with those that roles have by default; see `Columns` for the roles."""

    query: str = "query"
    query_id: str = "query_id"
    positive: str = "positive"
    positive_ids: str = "positive_ids"
    query_vector: str | None = None
    exclude_ids: str | None = None
    answer: str | None = None

    @classmethod
    def of(cls, columns: Columns | None) -> PairColumns:
        """The roles of pairs in a mapping, which may name more."""
        roles = [field.name for field in fields(cls)]
        return cls(**{role: name for role, name in dict[str, Any](columns or {}).items() if role in roles})

    def read(self, present: Collection[str]) -> list[str]:
        """Picks the columns that mining reads from the ones that are there."""
        return list(dict.fromkeys(name for name in astuple(self) if name is not None and name in present))

    def digested(self, pairs: Dataset) -> list[str]:
        """Picks the columns that identify the pairs from the ones that are there."""
        schema = pairs.features.arrow_schema
        names = [name for name in (self.query, self.query_id, self.positive, self.positive_ids) if name in schema.names]
        labels = self.positive_ids in names and self.positive in names and is_label(schema.field(self.positive).type)
        return [name for name in names if not (labels and name == self.positive)]

    def has_texts(self, table: Mapping[str, pa.ChunkedArray]) -> bool:
        """Whether rows bring texts of positives: numbers beside ids are labels, which mining leaves alone."""
        if self.positive not in table or self.positive_ids not in table:
            return self.positive in table
        return not is_label(table[self.positive].type)

    def check_table(self, table: Mapping[str, pa.ChunkedArray]) -> None:
        """`check` of the columns of a batch, whose types are known."""
        default = PairColumns.positive
        other = self.positive not in (default, *table) and default in table and is_label(table[default].type)
        self.check([name for name in table if not (other and name == default)])
        _check_texts(table[self.query], self.query)
        if self.has_texts(table):
            _check_texts(table[self.positive], self.positive)
        elif self.positive in table and parent_process() is None:
            warn(
                f"Column {self.positive!r} holds {table[self.positive].type}, labels and no texts; the positives are "
                f"those of {self.positive_ids!r}, and their texts are not added. Name a new column for them with "
                "columns={'positive': 'positive_text'}, or rename yours."
            )

    def naming_documents(self, present: Sequence[str]) -> list[str]:
        """Picks the columns that name documents by ids from the ones that are there."""
        return [name for name in (self.positive_ids, self.exclude_ids) if name is not None and name in present]

    def check(self, present: Sequence[str]) -> None:
        """Raise if a needed column is missing, or one that an option names.

        Raises:
            ColumnError: naming the column and those that are there.
        """
        for name in ("query_id", "positive", "positive_ids"):
            column, default = getattr(self, name), getattr(PairColumns, name)
            is_new = name == "positive" and default not in present and self.positive_ids in present
            if column not in (default, *present) and not is_new:
                raise missing_column(column, present, "dataset", name)
        for name in ("query", "query_vector", "exclude_ids", "answer"):
            column = getattr(self, name)
            if column is not None and column not in present:
                raise missing_column(column, present, "dataset", name)
        if self.positive not in present and self.positive_ids not in present:
            raise ColumnError(
                f"The dataset has neither {self.positive!r} nor {self.positive_ids!r}; it has "
                f"{', '.join(map(repr, present))}. Name the positives with columns={{'positive': ...}} "
                "(texts) or columns={'positive_ids': ...} (ids in the corpus)."
            )


@dataclass(frozen=True, kw_only=True)
class Names:
    """The texts and identities of the queries of a batch.

    Args:
        texts (`list[str]`): n.
        identity (`list[str]`): n, what draws are keyed by.
    """

    texts: list[str]
    identity: list[str]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, kw_only=True)
class Queries(Names):
    """A batch of queries, with what may not come out for them.

    Args:
        positives (`PositiveList`): every known positive, each once for a query.
        listed (`np.ndarray`): (m,) entry in `positives` of each positive the rows themselves list, in their order.
        listed_counts (`np.ndarray`): (n,) how many each row lists.
        excluded_query, excluded_key (`np.ndarray`): the exclusion set beyond documents that repeat: (query, text key).
        vectors (`np.ndarray`, *optional*): (n, d) as given in a column.
        answer_query (`np.ndarray`), answer (`list[str]`): (query, answer), ascending by query.
    """

    positives: PositiveList
    listed: np.ndarray
    listed_counts: np.ndarray
    excluded_query: np.ndarray
    excluded_key: np.ndarray
    vectors: Any = None
    answer_query: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    answer: list[str] = field(default_factory=list)

    def answer_counts(self) -> np.ndarray:
        """How many answers each query has, (n,)."""
        return np.bincount(self.answer_query, minlength=len(self))


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads batches against a corpus.

    Args:
        corpus (`Corpus`), keys (`CorpusKeys`): the documents.
        columns (`PairColumns`): names in the pairs.
        known (`KnownPositives`, *optional*): the positives of all rows of the dataset.
        words_of_queries (`str`, defaults to `""`): what reads words of queries, which then cannot be images.
        symmetric (`bool`, defaults to `False`): whether pairs hold in both directions, and so over others.
    """

    corpus: Corpus
    keys: CorpusKeys
    columns: PairColumns
    known: KnownPositives | None = None
    symmetric: bool = False
    words_of_queries: str = ""

    @property
    def identity(self) -> str:
        """Names what reading depends on besides the rows: tables of keys and positives, and names of columns."""
        known = "" if self.known is None else self.known.directory.name
        tables = f"{self.corpus.digest} {self.keys.directory.name} {self.keys.dedupe} {known}"
        return f"{tables} {self.columns} symmetric={self.symmetric}"

    def read(self, table: Mapping[str, pa.ChunkedArray]) -> Queries:
        """The queries of a batch.

        Raises:
            ColumnError: a column is missing or of the wrong type.
            DataError: a query or positive is null, or a positive id is not in the corpus.
        """
        self.columns.check_table(table)
        names = self.names(table)
        texts = names.texts
        if self.words_of_queries:
            refuse_lost(texts)
            refuse_names(self.words_of_queries, texts)
        of_rows = self.listed_positives(table)
        keys = text_keys(texts, self.keys.dedupe)
        ids = names.identity if self.columns.query_id in table else None
        positives, listed = _merged(of_rows, self._known(keys, ids))
        excluded = [(positives.query, positives.key)]
        if self.keys.dedupe != "off" or self.symmetric:
            excluded.append((np.arange(len(texts)), keys))
        if self.columns.exclude_ids is not None:
            owner, rows = self.rows_of(table[self.columns.exclude_ids], self.columns.exclude_ids)
            excluded.append((owner, self.keys.of_rows(rows)))
        wide, answer = self.columns.query_vector, self.columns.answer
        answers = (np.zeros(0, np.int64), list[str]()) if answer is None else flat_strings(table[answer], answer)
        counts = self._listed_counts(table, len(texts))
        return Queries(
            texts=texts,
            identity=names.identity,
            positives=positives,
            listed=listed[: int(counts.sum())],
            listed_counts=counts,
            excluded_query=np.concatenate([query for query, _ in excluded]),
            excluded_key=np.concatenate([key for _, key in excluded]),
            vectors=None if wide is None else matrix(table[wide]),
            answer_query=answers[0],
            answer=answers[1],
        )

    def names(self, table: Mapping[str, pa.ChunkedArray], first_row: int | None = None) -> Names:
        """Texts and identities alone."""
        texts = strings(table[self.columns.query], self.columns.query, first_row)
        if self.columns.query_id not in table:
            return Names(texts=texts, identity=texts)
        return Names(texts=texts, identity=id_texts(table[self.columns.query_id], self.columns.query_id, first_row))

    def listed_positives(self, table: Mapping[str, pa.ChunkedArray], first_row: int | None = None) -> PositiveList:
        """The positives that the rows list: first the texts of all rows, then the ids of all rows.

        Args:
            table (`Mapping[str, pa.ChunkedArray]`): columns of the rows.
            first_row (`int`, *optional*): which row of the dataset is the first of them, for messages.
        """
        parts = []
        if self.columns.has_texts(table):
            parts.append(self._of_texts(*flat_strings(table[self.columns.positive], self.columns.positive, first_row)))
        if self.columns.positive_ids in table:
            owner, rows = self.rows_of(table[self.columns.positive_ids], self.columns.positive_ids, first_row)
            parts.append(PositiveList(query=owner, key=self.keys.of_rows(rows), row=rows, text=[None] * len(rows)))
        return PositiveList.joined(parts)

    def themselves(self, texts: list[str]) -> PositiveList:
        """Queries as positives of themselves, one for each."""
        return self._of_texts(np.arange(len(texts)), texts)

    def _of_texts(self, owner: np.ndarray, texts: list[str]) -> PositiveList:
        """Positives that are texts, of some queries (n,), with their rows in the corpus."""
        keys = text_keys(texts, self.keys.dedupe)
        rows = self.keys.row_of_keys(keys)
        outside = [text if row < 0 else None for text, row in zip(texts, rows, strict=True)]
        return PositiveList(query=owner, key=keys, row=rows, text=outside)

    def _known(self, keys: np.ndarray, ids: list[str] | None) -> list[PositiveList]:
        if self.known is None:
            return []
        parts = [PositiveList(*self.known.of(group, documents=len(self.corpus))) for group in group_keys(keys, ids)]
        return [part.take(np.flatnonzero(part.key != keys[part.query])) for part in parts] if self.symmetric else parts

    def rows_of(
        self, column: pa.ChunkedArray, name: str, first_row: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Owner row (n,) and corpus row (n,) of each id in a column.

        Raises:
            ColumnError: the corpus has no ids.
            DataError: an id is not in the corpus.
        """
        if self.corpus.id_column is None:
            raise no_ids(name, self.corpus.text_columns)
        owner, ids = flat_texts(column, name, first_row)
        return owner, self.keys.rows_of_ids(ids.to_pylist(), name)

    def check_beside(self, rows: Dataset) -> None:
        """Raise for what cannot be read of the columns that are beside the pairs: ids to exclude, and answers.

        Raises:
            ColumnError, DataError: naming the row; or an id is not in the corpus.
        """
        for name, read in ((self.columns.exclude_ids, self.rows_of), (self.columns.answer, flat_strings)):
            start = 0
            for table in rows.with_format("arrow", columns=[name]).iter(BATCH) if name in rows.column_names else ():
                read(named_columns(table)[str(name)], str(name), start)
                start += table.num_rows

    def _listed_counts(self, table: Mapping[str, pa.ChunkedArray], size: int) -> np.ndarray:
        name, read = self.columns.positive, flat_strings
        if not self.columns.has_texts(table):
            name, read = self.columns.positive_ids, flat_texts
        return np.bincount(read(table[name], name)[0], minlength=size)

    def positive_texts(self, table: Mapping[str, pa.ChunkedArray]) -> pa.Array | None:
        """Texts of the listed ids, a list array, where the batch has no column of positive texts."""
        if self.columns.positive in table:
            return None
        owner, rows = self.rows_of(table[self.columns.positive_ids], self.columns.positive_ids)
        counts = np.bincount(owner, minlength=len(table[self.columns.query]))
        return ragged(self.corpus.texts(rows), counts)


def no_ids(column: str, present: Sequence[str]) -> ColumnError:
    """The error for rows that name documents by ids, over a corpus without a column of them."""
    return ColumnError(
        f"The column {column!r} of the dataset names documents by their ids, and none of the columns of the corpus, "
        f"{', '.join(map(repr, present))}, is called as id columns are and repeats no value. Name it with "
        f"columns={{'id': ...}}, where {ROW_NUMBER!r} stands for row numbers from 0, or leave out {column!r}."
    )


def group_keys(keys: np.ndarray, ids: list[str] | None) -> list[np.ndarray]:
    """Keys under which rows count as one query: that of the text, and that of the id where there is one."""
    return [keys] if ids is None else [keys, text_keys([f"\x00id\x00{name}" for name in ids], "exact")]


def word_keys(texts: list[str]) -> np.ndarray:
    """Keys that are equal for texts of the same words in any order, without stop words where there are others; (n,)."""
    bags = (" ".join(sorted(set(terms))) for terms in _unstemmed().terms(texts))
    return text_keys([bag or text for bag, text in zip(bags, texts, strict=True)], "exact")


@functools.cache
def _unstemmed() -> NumberedWords:
    """What finds words without stop words; kept, since it remembers words."""
    return NumberedWords(Analyzer(stem=False))


def known_positives_of(
    splits: Sequence[Dataset], reader: Reader, *, by: Literal["query", "words"] = "query"
) -> KnownPositives:
    """The table of every known positive of every query over some datasets, built once.

    Args:
        splits (`Sequence[Dataset]`): rows of pairs.
        reader (`Reader`): how they are read, and against which corpus.
        by (`str`, defaults to `"query"`): rows are one query when text or id are equal; `"words"`, when
            `word_keys` are.

    Raises:
        ColumnError, DataError: the rows cannot be read, or there are none.
    """
    columns = reader.columns
    digests = [dataset_digest(split, columns.digested(split)) for split in splits if len(split)]
    if not digests:
        raise ColumnError("The pairs are empty: 0 rows. Give a dataset with at least one query.")

    def listings() -> Iterator[Listing]:
        for split in splits:
            start = 0
            for table in split.with_format("arrow").iter(batch_size=BATCH):
                yield _listing(named_columns(table), reader, by, start)
                start += table.num_rows

    parameters = {
        "pairs": digests,
        "columns": [columns.query, columns.query_id, columns.positive, columns.positive_ids],
        "keys": reader.keys.directory.name,
        "dedupe": reader.keys.dedupe,
        "by": by,
    }
    about = {"pairs": in_words(splits, "rows")}
    return obtain_positives(reader.corpus.cache, listings, parameters, about, symmetric=reader.symmetric)


def _listing(rows: Mapping[str, pa.ChunkedArray], reader: Reader, by: Literal["query", "words"], start: int) -> Listing:
    """The positives of a batch that begins at the row `start`."""
    names, listed = reader.names(rows, start), reader.listed_positives(rows, start)
    themselves = reader.themselves(names.texts)
    if by == "words":
        as_queries = word_keys(listed.texts(reader.corpus)) if reader.symmetric else listed.key
        return Listing([word_keys(names.texts)], listed, themselves, as_queries)
    ids = names.identity if reader.columns.query_id in rows else None
    return Listing(group_keys(themselves.key, ids), listed, themselves, listed.key)


def sampled_queries(known: Sequence[Dataset], reader: Reader, size: int) -> Queries:
    """A sample of the distinct queries of some datasets: the `size` with the smallest text keys, in whatever rows.

    Args:
        known (`Sequence[Dataset]`): rows of pairs, at least one.
        reader (`Reader`): how they are read.
        size (`int`): how many, at most.
    """
    plain = replace(reader, columns=replace(reader.columns, exclude_ids=None, answer=None))
    keys = [query_keys(rows, reader.columns, reader.keys.dedupe) for rows in known]
    _, first = np.unique(np.concatenate(keys), return_index=True)
    places = np.sort(first[:size])
    starts = np.cumsum([0, *map(len, keys)])
    tables = []
    for rows, start, end in zip(known, starts[:-1], starts[1:], strict=True):
        inside = places[(places >= start) & (places < end)] - start
        if len(inside):
            tables.append(rows.with_format("arrow", columns=plain.columns.read(rows.column_names))[inside])
    order = np.searchsorted(places, first[:size])
    table = pa.concat_tables(tables, promote_options="default").take(pa.array(order)).combine_chunks()
    return plain.read(named_columns(table))


def query_keys(rows: Dataset, columns: PairColumns, dedupe: Dedupe) -> np.ndarray:
    """Text keys of the queries of a dataset, one for each row."""
    if not len(rows):
        return text_keys([], dedupe)
    column = rows.with_format("arrow", columns=[columns.query])[:][columns.query]
    return text_keys(strings(column, columns.query), dedupe)


def _merged(listed: PositiveList, known: list[PositiveList]) -> tuple[PositiveList, np.ndarray]:
    """One entry per (query, key), sorted by query, and where each own entry went."""
    every = PositiveList.joined([listed, *known])
    pair = np.empty(len(every.query), dtype=[("query", np.int64), ("key", every.key.dtype)])
    pair["query"], pair["key"] = every.query, every.key
    _, first, where = np.unique(pair, return_index=True, return_inverse=True)
    return every.take(first), where[: len(listed.query)]


def is_label(kind: pa.DataType) -> bool:
    """Whether values are numbers, or lists of numbers."""
    if is_listed(kind):
        return is_label(kind.value_type)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _check_texts(column: pa.ChunkedArray, name: str) -> None:
    """Raise for numbers, such as labels or ids, in place of texts."""
    if is_label(column.type):
        raise ColumnError(
            f"Column {name!r} holds {column.type}; it must hold texts. Name the column of texts, or, where numbers are "
            f"the texts, use cast_column({name!r}, Value('string'))."
        )


def strings(
    column: pa.ChunkedArray, name: str, first_row: int | None = None, owner: np.ndarray | None = None
) -> list[str]:
    """Values of a column of strings or integers, or of images, each a `Picture`, without nulls.

    Rows of messages are as in `refuse_nulls`.
    """
    array = plain(column)
    if are_pictures(array.type):
        images = pictures_of(array)
        refuse_nulls(pa.array(images, pa.string()), name, first_row, owner)
        return [image for image in images if image is not None]
    if not (is_text(array.type) or pa.types.is_integer(array.type)):
        raise ColumnError(f"Column {name!r} holds {_held(array.type)}; it must hold strings. Cast or join it first.")
    refuse_nulls(array, name, first_row, owner)
    return array.cast(pa.string()).to_pylist()


def _held(kind: pa.DataType) -> str:
    """A type, and where it is JSON how it came to be."""
    if getattr(kind, "extension_name", None) != "arrow.json":
        return str(kind)
    return f"{kind} (values of several types, which datasets keeps as JSON: casting them would write its quotes)"


def flat_strings(column: pa.ChunkedArray, name: str, first_row: int | None = None) -> tuple[np.ndarray, list[str]]:
    """Owner row and value of each string in a column of strings or of lists of strings."""
    array = plain(column)
    if is_listed(array.type):
        refuse_nulls(array, name, first_row)
        values = array.flatten()
        owner = pc.list_parent_indices(array).to_numpy(zero_copy_only=False).astype(np.int64)
        return owner, strings(values if len(values) else pa.array([], pa.string()), name, first_row, owner)
    return np.arange(len(array)), strings(array, name, first_row)
