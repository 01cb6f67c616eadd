"""`to_format` writes mined data in the layout that a trainer reads."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined, lengths, listed, ragged
from hf_hardneg.corpus.columns import DRAWN, PROMOTED, PSEUDO, VERDICTS, Columns, columns_of
from hf_hardneg.corpus.pictures import by_kind
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ColumnError, ConfigError
from hf_hardneg.formats.fitting import Sizes, counted, fit
from hf_hardneg.formats.images import with_names
from hf_hardneg.formats.layouts import LAYOUTS, Layout, check_layout
from hf_hardneg.formats.rows import Rows
from hf_hardneg.formats.scores import chosen_scores, columns_of_scores
from hf_hardneg.formats.tables import WHOLE, check_all_known, corpus_table, texts_of_rows, with_ids
from hf_hardneg.runtime.arguments import Name, Negatives, checked

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

PER_NEGATIVE = ("negatives", "negative_ids", "negative_scores", "negative_ranks", "negative_sources", VERDICTS, DRAWN)
MINED = (*PER_NEGATIVE, "query_id", "positive_ids", "mining", *PSEUDO, *PROMOTED, "synthesis")
_SCORES = re.compile("(positive|negative)_(.+_)?scores")


@checked
def to_format(
    dataset: Dataset | DatasetDict,
    layout: Name,
    *,
    scores: bool | Name | None = None,
    num_negatives: Negatives | None = None,
    corpus: Dataset | None = None,
    columns: Columns | None = None,
) -> Dataset | DatasetDict:
    """Write mined data in the layout that a trainer reads.

    | layout | columns | rows | where negatives are short |
    |---|---|---|---|
    | `list` | all, unchanged | one per query | shorter list |
    | `triplet` | query, positive, `negative` (+ `scores` [s+, s-]) | one per (positive, negative) | fewer rows |
    | `n-tuple` | query, positive, `negative_1` … `negative_n` (+ `scores`) | one per positive | row left out |
    | `labeled-pair` | query, positive, `label` (or `score`) | one per document, positives first | fewer rows |
    | `labeled-list` | query, positive, `labels` (or `scores`) as lists | one per positive | shorter |
    | `flagembedding` | `query`, `pos`, `neg` (+ `pos_scores`, `neg_scores`) | one per query | shorter |
    | `tevatron` | `query_id`, `query`, `positive_passages`, `negative_passages` | one per query | shorter |
    | `nemo` | `query`, `pos_doc`, `neg_doc` | one per positive | shorter |
    | `contrastors` | `query`, `document`, `negatives`, `metadata` | one per positive | shorter |
    | `ms-swift` | `messages`, `positive_messages`, `negative_messages` | one per positive | shorter |
    | `ms-swift-reranker` | the same, documents as `assistant` | one per positive | shorter |

    These carry ids, and give a `DatasetDict`: the rows under `train` (ColBERT: `triples`), beside tables of texts:

    | layout | columns | tables | one row for each |
    |---|---|---|---|
    | `tevatron-v2` | `query_id`, `query_text`, `positive_document_ids`, `negative_document_ids` | `corpus` | query |
    | `pylate-kd` | `query_id`, `document_ids`, `scores` | `queries`, `documents` | positive; short: left out |
    | `colbert` | `qid`, `positive_pid`, `negative_pid` | `queries`, `collection` | (positive, negative) |
    | `colbert-nway` | `qid`, `pids` (+ `scores`) | `queries`, `collection` | positive; short: left out |
    | `nemo-ids` | `question_id`, `question`, `corpus_id`, `pos_doc`, `neg_doc` | `corpus` | positive |
    | `msmarco-hard-negatives` | `qid`, `pos`, `neg` (ids by retriever) | `queries`, `corpus` | query |

    Where a trainer draws a positive of a row, or reads the first only, a row without a positive or without a negative
    stops the training: only `labeled-pair` and `list` have such rows. In the labelled layouts the positive's column
    holds the documents, as in sentence-transformers. `save_format()` writes the files that trainers read,
    `from_format()` reads them. What a layout cannot carry is in `LAYOUTS[name].loses`; rows and columns of your own
    that are lost are counted in a warning before anything is written.

    Args:
        dataset (`Dataset` or `DatasetDict`): what `mine()` returned; one split of it for layouts with tables.
        layout (`str`): a name of the table.
        scores (`bool` or `str`, *optional*): add a score for each document, the positive's first, for distillation.
            `True` takes a teacher's, the scores of the scoring filter that mined: a cross-encoder's raw logits, as
            MarginMSE and KL distillation take them. A name says whose: `"denoised"` takes that filter's, `"retriever"`
            the retriever's, whose mistakes hard negatives are. By default none, but `pylate-kd` needs a teacher's,
            stretched to 0…1 in each row as PyLate's loss stretches its student's, and `colbert-nway` has them where
            there is one.
        num_negatives (`int`, *optional*): at most so many for each row; the width of `n-tuple`, `pylate-kd` and
            `colbert-nway`, which by default is the most that at least half of the rows have.
        corpus (`Dataset`, *optional*): the documents that were mined, for layouts with ids: the whole of it becomes the
            table of documents, and positives without ids are found in it by their text. Without, the table holds
            what the rows name.
        columns (`Columns`, *optional*): as `HardNegatives` got them; by default as the recipe in the data says.
            Queries without ids are numbered by first appearance.

    Raises:
        UnknownNameError: no such layout.
        ColumnError: the dataset is not mined data, or lacks ids.
        ConfigError: no row has the positive and the negatives that the layout needs; or scores are asked of rows that
            have no scores, or no teacher's.
        DataError: ids that are missing, empty, ambiguous or not in the corpus.

    Example:
        >>> from datasets import Dataset
        >>> row = {"query": "sky colour", "positive": ["blue"], "negatives": ["green", "red"]}
        >>> to_format(Dataset.from_list([row]), "flagembedding")[0]
        {'query': 'sky colour', 'pos': ['blue'], 'neg': ['green', 'red']}
    """
    from datasets import DatasetDict

    check_layout(layout)
    if isinstance(dataset, DatasetDict):
        _check_single(layout, dataset)
        options: dict[str, Any] = {"scores": scores, "num_negatives": num_negatives, "corpus": corpus}
        splits = {name: to_format(split, layout, columns=columns, **options) for name, split in dataset.items()}
        return DatasetDict(splits)
    names = PairColumns.of(columns_of(dataset, columns))
    name = None if layout == "list" else chosen_scores(scores, layout, dataset.column_names)
    needed = (names.query, names.positive, "negatives", *(columns_of_scores(name) if name else ()))
    missing = [name for name in needed if name not in dataset.column_names]
    if missing:
        raise ColumnError(
            f"to_format() needs {', '.join(map(repr, missing))}, which the dataset lacks; it has "
            f"{', '.join(map(repr, dataset.column_names))}. Give what mine() returned, and name its columns."
        )
    if layout != "list":
        dataset = with_names(dataset, (names.query, names.positive))
    plain = dataset.with_format("arrow")
    if layout == "list":
        cut = _Truncated(num_negatives) if num_negatives else None
        return plain.map(cut, batched=True).with_format(None) if cut else dataset
    return _convert(plain, layout, name, num_negatives, names, _Documents(corpus, columns_of(dataset, columns, corpus)))


def _check_single(layout: str, dataset: DatasetDict) -> None:
    if layout in LAYOUTS and LAYOUTS[layout].documents:
        raise ConfigError(
            f"The layout {layout!r} is several tables for one split, and a DatasetDict of {', '.join(dataset)} was "
            "given. Give one split at a time."
        )


@dataclass(frozen=True)
class _Documents:
    corpus: Dataset | None
    columns: Columns | None

    @functools.cached_property
    def table(self) -> Dataset | None:
        """The `id` and `text` of the corpus, where there is one."""
        return None if self.corpus is None else corpus_table(self.corpus, self.columns)


def _convert(
    dataset: Dataset, layout: str, scores: str | None, width: int | None, names: PairColumns, documents: _Documents
) -> Dataset | DatasetDict:
    shape = LAYOUTS[layout]
    wanted = fit(layout, Sizes.of(dataset, names.positive), width, _others(dataset.column_names, names))
    converter = Converter(layout, scores, wanted, names)
    if not shape.ids:
        return dataset.map(converter, batched=True, desc=f"To {layout}").with_format(None)
    identified = with_ids(dataset, names, documents.table)
    if not shape.documents:
        return identified.map(converter, batched=True, desc=f"To {layout}").with_format(None)
    return _with_tables(identified, shape, converter, documents.table)


def _with_tables(dataset: Dataset, shape: Layout, converter: Converter, corpus: Dataset | None) -> DatasetDict:
    """Write the rows, and the tables of texts that they name."""
    from datasets import Dataset, DatasetDict

    names = converter.names
    queries = texts_of_rows(dataset, [("query_id", names.query)], "query")
    pairs = [("positive_ids", names.positive), ("negative_ids", "negatives")]
    texts = corpus or Dataset(texts_of_rows(dataset, pairs, "document"))
    known = combined(texts.data.column("id"))
    for table in dataset.select_columns(["positive_ids", "negative_ids"]).iter(WHOLE):
        for column in table.columns:
            check_all_known(listed(column).flatten(), known, "document")
    if "negative_sources" in dataset.column_names:
        tables = dataset.select_columns(["negative_sources"]).iter(WHOLE)
        sources = (pc.unique(listed(table.column("negative_sources")).flatten()).to_pylist() for table in tables)
        converter = replace(converter, systems=tuple(sorted(set().union(*sources))))
    if shape.numbered:
        converter = replace(converter, numbered=(combined(queries.column("id")), known))
    size = WHOLE if shape.numbered else 1_000
    rows = dataset.map(converter, batched=True, batch_size=size, desc=f"To {converter.layout}")
    written = {shape.rows: rows.with_format(None)}
    if shape.queries:
        written[shape.queries] = _table(Dataset(queries), shape.query_key, "query_id", shape.numbered)
    written[str(shape.documents)] = _table(
        texts, shape.document_key, "document_id", shape.numbered, shape.document_image
    )
    return DatasetDict(written)


def _table(texts: Dataset, key: str, original: str, numbered: bool, image: str | None = None) -> Dataset:
    """Write a table of texts under its key; where that is a position, a third column has the id."""
    plain = texts.with_format("arrow")
    return plain.map(_Keyed(key, original, numbered, image), batched=True, with_indices=True).with_format(None)


@dataclass(frozen=True)
class _Keyed:
    key: str
    original: str
    numbered: bool
    image: str | None

    def __call__(self, table: pa.Table, rows: list[int]) -> pa.Table:
        text, image = by_kind(combined(table.column("text")))
        if self.image and image.null_count < len(image):
            return pa.table({self.key: table.column("id"), "text": text, self.image: image})
        if not self.numbered:
            return pa.table({self.key: table.column("id"), "text": table.column("text")})
        return pa.table({self.key: pa.array(rows), "text": table.column("text"), self.original: table.column("id")})


@dataclass(frozen=True)
class _Truncated:
    width: int

    def __call__(self, table: pa.Table) -> pa.Table:
        for place, name in enumerate(table.column_names):
            if name in PER_NEGATIVE or (name.startswith("negative_") and name.endswith("_scores")):
                table = table.set_column(place, name, _sliced(table.column(name), self.width))
        return table


def _others(present: Sequence[str], names: PairColumns) -> list[str]:
    """Name the columns that neither mining made nor the caller named."""
    return [name for name in present if name not in (*MINED, *astuple(names)) and not _SCORES.fullmatch(name)]


@dataclass(frozen=True)
class Converter:
    """Writes a batch of mined rows in a layout; a map callable over Arrow tables.

    Args:
        layout (`str`): a name in `LAYOUTS`.
        scores (`str`, *optional*): whose scores are written, see `columns_of_scores`.
        width (`int`): at most so many negatives of a row, exactly so many where rows must be equal.
        names (`PairColumns`): columns of the rows.
        systems (`tuple[str, ...]`), numbered (`tuple`, *optional*): what layouts with ids are told of all rows.
    """

    layout: str
    scores: str | None
    width: int
    names: PairColumns
    systems: tuple[str, ...] = ("mined",)
    numbered: tuple[pa.Array, pa.Array] | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows of a batch in the layout.

        Raises:
            ConfigError: scores are asked for and a document has none.
        """
        shape, rows = LAYOUTS[self.layout], self._rows(table)
        if shape.whole:
            least = self.width if shape.equal else 1
            rows = rows.filter((lengths(rows.positives) > 0) & (lengths(rows.negatives) >= least))
        if self.scores and rows.document_scores().flatten().null_count:
            raise ConfigError(
                f"scores={self.scores!r}, but some documents have no score: random or padded negatives, or positives "
                "that could not be scored. Leave out scores=, or mine with what scores everything."
            )
        return shape.write(rows, bool(self.scores), self.width)

    def _rows(self, table: pa.Table) -> Rows:
        ids = self._ids(table) if LAYOUTS[self.layout].ids else {}
        positives = _present(table.column(self.names.positive))
        negatives = _sliced(table.column("negatives"), self.width)
        scores = (_unscored(positives), _unscored(negatives))
        if self.scores:
            of_positives, of_negatives = map(table.column, columns_of_scores(self.scores))
            scores = (listed(of_positives), _sliced(of_negatives, self.width))
        return Rows(
            query_column=self.names.query,
            positive_column=self.names.positive,
            query=combined(table.column(self.names.query)),
            positives=positives,
            positive_scores=scores[0],
            negatives=negatives,
            negative_scores=scores[1],
            **ids,
        )

    def _ids(self, table: pa.Table) -> dict[str, pa.Array]:
        query = combined(table.column("query_id"))
        positives, negatives = listed(table.column("positive_ids")), _sliced(table.column("negative_ids"), self.width)
        if self.numbered is not None:
            queries, documents = self.numbered
            query = pc.index_in(query, value_set=queries).cast(pa.int64())
            positives, negatives = _positions(positives, documents), _positions(negatives, documents)
        ids: dict[str, Any] = {"query_id": query, "positive_ids": positives, "negative_ids": negatives}
        ids["systems"] = self.systems
        if "negative_sources" in table.column_names:
            return ids | {"sources": _sliced(table.column("negative_sources"), self.width)}
        mined = pa.repeat("mined", len(negatives.flatten()))
        return ids | {"sources": ragged(mined, lengths(negatives))}


def _present(column: pa.ChunkedArray) -> pa.ListArray:
    """Read a column of positives as lists; a null text is an empty list."""
    array = combined(column)
    return listed(array) if pa.types.is_nested(array.type) else ragged(array.drop_null(), counted(array))


def _unscored(lists: pa.ListArray) -> pa.ListArray:
    return ragged(pa.nulls(len(lists.flatten()), pa.float32()), lengths(lists))


def _positions(lists: pa.ListArray, known: pa.Array) -> pa.ListArray:
    return ragged(pc.index_in(lists.flatten(), value_set=known).cast(pa.int64()), lengths(lists))


def _sliced(column: pa.ChunkedArray, width: int) -> pa.ListArray:
    """Keep the first `width` values of each list."""
    return pc.list_slice(combined(column), 0, width, return_fixed_size_list=False)
