"""`to_format`: mined data as each trainer reads it.

To add a layout, write a function from rows to a table here and list it in `LAYOUTS`. Column order is
what sentence-transformers' losses read; label columns are exactly `label`, `labels`, `score`, `scores`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.batches import ragged
from hf_hardneg.errors import ColumnError, ConfigError, unknown_name

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)

PER_NEGATIVE = ("negatives", "negative_ids", "negative_scores", "negative_ranks", "negative_sources")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A batch of mined rows.

    Args:
        query_column, positive_column (`str`): their names, which every layout keeps.
        query (`pa.Array`): (n,) strings.
        positives, positive_scores, negatives, negative_scores (`pa.ListArray`): (n,) lists of strings and of float32.
    """

    query_column: str
    positive_column: str
    query: pa.Array
    positives: pa.ListArray
    positive_scores: pa.ListArray
    negatives: pa.ListArray
    negative_scores: pa.ListArray

    def per_positive(self) -> Rows:
        """The same with one positive in each row; a row of several positives stands once for each."""
        owner = pc.list_parent_indices(self.positives)
        ones = np.ones(len(owner), np.int64)
        return replace(
            self,
            query=self.query.take(owner),
            positives=ragged(self.positives.flatten(), ones),
            positive_scores=ragged(self.positive_scores.flatten(), ones),
            negatives=self.negatives.take(owner),
            negative_scores=self.negative_scores.take(owner),
        )

    def filter(self, keep: np.ndarray) -> Rows:
        """The rows under a mask."""
        lists = ("query", "positives", "positive_scores", "negatives", "negative_scores")
        columns: dict[str, Any] = {name: getattr(self, name).filter(pa.array(keep)) for name in lists}
        return replace(self, **columns)

    def counts(self) -> np.ndarray:
        """Negatives of each row, (n,)."""
        return pc.list_value_length(self.negatives).to_numpy(zero_copy_only=False)

    def documents(self) -> pa.ListArray:
        """The positives before the negatives of each row."""
        return _interleaved(self.positives, self.negatives)

    def document_scores(self) -> pa.ListArray:
        """Their scores."""
        return _interleaved(self.positive_scores, self.negative_scores)

    def labels(self) -> pa.ListArray:
        """1 for positives, 0 for negatives."""
        kinds = [
            ragged(pa.array(np.full(len(lists.flatten()), label)), pc.list_value_length(lists).to_numpy())
            for label, lists in ((1, self.positives), (0, self.negatives))
        ]
        return _interleaved(*kinds)


def _interleaved(first: pa.ListArray, second: pa.ListArray) -> pa.ListArray:
    """The lists of `first`, each followed by that of `second`."""
    owner = np.concatenate([pc.list_parent_indices(lists).to_numpy() for lists in (first, second)])
    order = np.argsort(owner, kind="stable")
    values = pa.concat_arrays([first.flatten(), second.flatten()]).take(pa.array(order))
    return ragged(values, np.bincount(owner, minlength=len(first)))


def to_format(
    dataset: Dataset | DatasetDict,
    layout: str,
    *,
    scores: bool | str = False,
    num_negatives: int | None = None,
    query_column: str = "query",
    positive_column: str = "positive",
) -> Dataset | DatasetDict:
    """Mined data in the layout a trainer reads.

    | layout | columns | rows | where negatives are short |
    |---|---|---|---|
    | `list` | all, unchanged | one per query | shorter list |
    | `triplet` | query, positive, `negative` (+ `scores` [s+, s-]) | one per (positive, negative) | fewer rows |
    | `n-tuple` | query, positive, `negative_1` … `negative_n` (+ `scores`) | one per positive | row left out |
    | `labeled-pair` | query, positive, `label` (or `score`) | one per document, positives first | fewer rows |
    | `labeled-list` | query, positive, `labels` (or `scores`) as lists | one per positive | shorter; none: left out |

    In the labelled layouts the positive's column holds the documents, as in sentence-transformers.

    Args:
        dataset (`Dataset` or `DatasetDict`): what `mine()` returned.
        layout (`str`): a name of the table.
        scores (`bool` or `str`, defaults to `False`): add the retriever's scores, positive first, for distillation; or
            those of a scoring filter by its name, such as `"denoised"`: a cross-encoder's raw logits, as MarginMSE
            and KL distillation take them.
        num_negatives (`int`, *optional*): at most so many for each row; the width of `n-tuple`.
        query_column, positive_column (`str`): their names in the dataset.

    Raises:
        UnknownNameError: no such layout.
        ColumnError: the dataset is not mined data.
        ConfigError: no row has a negative and the layout needs one; or scores are asked of rows that have none.
    """
    from datasets import DatasetDict

    if layout not in ("list", *LAYOUTS):
        raise unknown_name("layout", layout, ("list", *LAYOUTS))
    if num_negatives is not None and num_negatives < 1:
        raise ConfigError(f"num_negatives={num_negatives} leaves nothing; give at least 1.")
    if isinstance(dataset, DatasetDict):
        options: dict[str, Any] = {"scores": scores, "num_negatives": num_negatives}
        options |= {"query_column": query_column, "positive_column": positive_column}
        return DatasetDict({name: to_format(split, layout, **options) for name, split in dataset.items()})
    needed = (query_column, positive_column, "negatives", *_score_columns(scores))
    missing = [name for name in needed if name not in dataset.column_names]
    if missing:
        raise ColumnError(
            f"to_format() needs {', '.join(map(repr, missing))}, which the dataset lacks; it has "
            f"{', '.join(map(repr, dataset.column_names))}. Give what mine() returned, and name its columns."
        )
    return _convert(dataset, layout, scores, num_negatives, (query_column, positive_column))


def _score_columns(scores: bool | str) -> tuple[str, str]:
    """The columns that hold the scores of positives and of negatives."""
    middle = f"{scores}_" if isinstance(scores, str) else ""
    return f"positive_{middle}scores", f"negative_{middle}scores"


def _convert(dataset: Dataset, layout: str, scores: bool | str, width: int | None, names: tuple[str, str]) -> Dataset:
    plain = dataset.with_format("arrow")
    if layout == "list":
        return plain.map(_Truncated(width), batched=True).with_format(None) if width else dataset
    lengths = _lengths(plain)
    wanted = width or int(lengths.max(initial=0))
    if not wanted:
        raise ConfigError(f"No row has a negative, so {layout!r} would be empty. Mine again with looser filters.")
    _warn(layout, lengths, wanted)
    return plain.map(_Converter(layout, scores, wanted, *names), batched=True, desc=f"To {layout}").with_format(None)


def _lengths(dataset: Dataset) -> np.ndarray:
    parts = [
        pc.list_value_length(table.column("negatives")).to_numpy()
        for table in dataset.select_columns(["negatives"]).iter(10_000)
    ]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _warn(layout: str, lengths: np.ndarray, width: int) -> None:
    short = int((lengths < width).sum())
    if short:
        fate = "are left out of" if layout == "n-tuple" else "give fewer rows or shorter lists in"
        logger.warning(
            "%d of %d rows have fewer than %d negatives and %s the layout %r. "
            "Mine deeper, loosen the filters, or pass a smaller num_negatives.",
            short,
            len(lengths),
            width,
            fate,
            layout,
        )


@dataclass(frozen=True)
class _Truncated:
    width: int

    def __call__(self, table: pa.Table) -> pa.Table:
        for place, name in enumerate(table.column_names):
            if name in PER_NEGATIVE or (name.startswith("negative_") and name.endswith("_scores")):
                table = table.set_column(place, name, _sliced(table.column(name), self.width))
        return table


@dataclass(frozen=True)
class _Converter:
    layout: str
    scores: bool | str
    width: int
    query_column: str
    positive_column: str

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = self._rows(table)
        if self.scores and rows.document_scores().flatten().null_count:
            raise ConfigError(
                "scores=True, but some documents have no score: random or padded negatives, or positives the "
                "retriever could not score. Leave out scores=, or mine with a retriever that scores everything."
            )
        return LAYOUTS[self.layout](rows, bool(self.scores), self.width)

    def _rows(self, table: pa.Table) -> Rows:
        of_positives, of_negatives = _score_columns(self.scores)
        positives = _one(table.column(self.positive_column))
        if not (pa.types.is_list(positives.type) or pa.types.is_large_list(positives.type)):
            positives = ragged(positives, np.ones(len(positives), np.int64))
        return Rows(
            query_column=self.query_column,
            positive_column=self.positive_column,
            query=_one(table.column(self.query_column)),
            positives=positives,
            positive_scores=_one(table.column(of_positives)),
            negatives=_sliced(table.column("negatives"), self.width),
            negative_scores=_sliced(table.column(of_negatives), self.width),
        )


def _sliced(column: pa.ChunkedArray, width: int) -> pa.ListArray:
    """The first `width` of each list."""
    return pc.list_slice(_one(column), 0, width, return_fixed_size_list=False)


def _one(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _triplet(rows: Rows, scores: bool, width: int) -> pa.Table:
    rows = rows.per_positive()
    owner = pc.list_parent_indices(rows.negatives)
    columns = {
        rows.query_column: rows.query.take(owner),
        rows.positive_column: rows.positives.flatten().take(owner),
        "negative": rows.negatives.flatten(),
    }
    if scores:
        both = (rows.positive_scores.flatten().take(owner), rows.negative_scores.flatten())
        pairs = np.stack([part.to_numpy(zero_copy_only=False) for part in both], axis=1)
        columns["scores"] = ragged(pa.array(pairs.ravel()), np.full(len(pairs), 2))
    return pa.table(columns)


def _n_tuple(rows: Rows, scores: bool, width: int) -> pa.Table:
    rows = rows.filter(rows.counts() == width).per_positive()
    columns = {rows.query_column: rows.query, rows.positive_column: rows.positives.flatten()}
    flat = rows.negatives.flatten()
    for number in range(width):
        columns[f"negative_{number + 1}"] = flat.take(pa.array(np.arange(number, len(flat), width)))
    if scores:
        columns["scores"] = rows.document_scores()
    return pa.table(columns)


def _labeled_pair(rows: Rows, scores: bool, width: int) -> pa.Table:
    documents = rows.documents()
    return pa.table(
        {
            rows.query_column: rows.query.take(pc.list_parent_indices(documents)),
            rows.positive_column: documents.flatten(),
            **({"score": rows.document_scores().flatten()} if scores else {"label": rows.labels().flatten()}),
        }
    )


def _labeled_list(rows: Rows, scores: bool, width: int) -> pa.Table:
    rows = rows.filter(rows.counts() > 0).per_positive()
    return pa.table(
        {
            rows.query_column: rows.query,
            rows.positive_column: rows.documents(),
            **({"scores": rows.document_scores()} if scores else {"labels": rows.labels()}),
        }
    )


LAYOUTS: dict[str, Callable[[Rows, bool, int], pa.Table]] = {
    "triplet": _triplet,
    "n-tuple": _n_tuple,
    "labeled-pair": _labeled_pair,
    "labeled-list": _labeled_list,
}
"""Every layout by its name, besides `list`, which is mined data as it is."""
