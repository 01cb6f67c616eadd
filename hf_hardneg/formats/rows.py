"""`Rows` are a batch of mined rows, from which every layout is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import lengths, ragged

LISTS = ("positives", "positive_scores", "positive_ids", "negatives", "negative_scores", "negative_ids")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A batch of mined rows.

    Args:
        query_column, positive_column (`str`): their names, which sentence-transformers' layouts keep.
        query (`pa.Array`): (n,) strings.
        positives, positive_scores, negatives, negative_scores (`pa.ListArray`): (n,) lists of strings and of float32.
        query_id (`pa.Array`, *optional*): (n,) strings or integers, where the layout has ids.
        positive_ids, negative_ids (`pa.ListArray`, *optional*): (n,) lists of such ids.
        sources (`pa.ListArray`, *optional*): (n,) lists of strings, the retriever of each negative.
        systems (`tuple[str, ...]`): every retriever of any batch.
    """

    query_column: str
    positive_column: str
    query: pa.Array
    positives: pa.ListArray
    positive_scores: pa.ListArray
    negatives: pa.ListArray
    negative_scores: pa.ListArray
    query_id: Any = None
    positive_ids: Any = None
    negative_ids: Any = None
    sources: Any = None
    systems: tuple[str, ...] = ()

    def per_positive(self) -> Rows:
        """Give each row one positive; a row of several positives is repeated for each of them."""
        owner = pc.list_parent_indices(self.positives)
        single = np.ones(len(owner), np.int64)
        columns: dict[str, Any] = {
            name: ragged(values.flatten(), single) if name.startswith("positive") else values.take(owner)
            for name, values in self._arrays().items()
        }
        return replace(self, **columns)

    def filter(self, keep: np.ndarray) -> Rows:
        """Keep the rows under a mask."""
        return replace(self, **{name: values.filter(pa.array(keep)) for name, values in self._arrays().items()})

    def _arrays(self) -> dict[str, Any]:
        names = ("query", "query_id", "sources", *LISTS)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def documents(self) -> pa.ListArray:
        """Return the documents of each row, positives before negatives."""
        return _interleaved(self.positives, self.negatives)

    def document_scores(self) -> pa.ListArray:
        """Return the scores of `documents`."""
        return _interleaved(self.positive_scores, self.negative_scores)

    def document_ids(self) -> pa.ListArray:
        """Return the ids of `documents`."""
        return _interleaved(self.positive_ids, self.negative_ids)

    def labels(self) -> pa.ListArray:
        """Return the labels of `documents`: 1 for positives, 0 for negatives."""
        sides = ((self.positives, 1), (self.negatives, 0))
        return _interleaved(*(ragged(pa.repeat(label, len(side.flatten())), lengths(side)) for side, label in sides))


def _interleaved(first: pa.ListArray, second: pa.ListArray) -> pa.ListArray:
    """Append to each list of `first` the list of `second` in the same row."""
    owner = np.concatenate([pc.list_parent_indices(lists).to_numpy() for lists in (first, second)])
    order = np.argsort(owner, kind="stable")
    values = pa.concat_arrays([first.flatten(), second.flatten()]).take(pa.array(order))
    return ragged(values, np.bincount(owner, minlength=len(first)))


def structs(lists: pa.ListArray, **fields: pa.Array) -> pa.ListArray:
    """Make lists of structs from flat fields, with the lengths of `lists`."""
    return ragged(pa.StructArray.from_arrays(list(fields.values()), names=list(fields)), lengths(lists))


def renamed(table: pa.Table, **columns: str) -> dict[str, Any]:
    """Take columns of a table under other names, as far as it has them: our name to the layout's."""
    return {ours: table.column(theirs) for ours, theirs in columns.items() if theirs in table.column_names}
