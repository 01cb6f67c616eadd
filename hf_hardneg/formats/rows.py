"""`Rows`: what every layout is made from, and what the list layout is called."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.corpus.batches import ragged

LISTS = ("positives", "positive_scores", "positive_ids", "negatives", "negative_scores", "negative_ids")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A batch of mined rows.

    Args:
        query_column, positive_column (`str`): their names, which sentence-transformers' layouts keep.
        query (`pa.Array`): (n,) strings.
        positives, positive_scores, negatives, negative_scores (`pa.ListArray`): (n,) lists of strings and of float32.
        query_id (`pa.Array`, *optional*): (n,) strings or integers, where the layout has ids.
        positive_ids, negative_ids (`pa.ListArray`, *optional*): (n,) lists of them.
        sources (`pa.ListArray`, *optional*): (n,) lists of strings, the retriever of each negative.
        systems (`tuple[str, ...]`): all there are, in any batch.
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
        """The same with one positive in each row; a row of several positives stands once for each."""
        owner = pc.list_parent_indices(self.positives)
        made: dict[str, Any] = {}
        for name, values in self._arrays().items():
            own = name.startswith("positive")
            made[name] = ragged(values.flatten(), np.ones(len(owner), np.int64)) if own else values.take(owner)
        return replace(self, **made)

    def filter(self, keep: np.ndarray) -> Rows:
        """The rows under a mask."""
        return replace(self, **{name: values.filter(pa.array(keep)) for name, values in self._arrays().items()})

    def _arrays(self) -> dict[str, Any]:
        names = ("query", "query_id", "sources", *LISTS)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def counts(self) -> np.ndarray:
        """Negatives of each row, (n,)."""
        return pc.list_value_length(self.negatives).to_numpy(zero_copy_only=False)

    def documents(self) -> pa.ListArray:
        """The positives before the negatives of each row."""
        return _interleaved(self.positives, self.negatives)

    def document_scores(self) -> pa.ListArray:
        """Their scores."""
        return _interleaved(self.positive_scores, self.negative_scores)

    def document_ids(self) -> pa.ListArray:
        """Their ids."""
        return _interleaved(self.positive_ids, self.negative_ids)

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


def structs(lists: pa.ListArray, **fields: pa.Array) -> pa.ListArray:
    """Lists of structs, as long as `lists`, from flat fields."""
    return ragged(pa.StructArray.from_arrays(list(fields.values()), names=list(fields)), lengths(lists))


def lengths(lists: pa.ListArray) -> np.ndarray:
    """Length of each list, (n,); a null one is 0."""
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)


def one(column: Any) -> Any:
    """A column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def listed(column: Any) -> pa.ListArray:
    """A column of lists as it is, one of values as lists of one."""
    array = one(column)
    if pa.types.is_list(array.type):
        return array
    if pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        return ragged(array.flatten(), lengths(array))
    return ragged(array, np.ones(len(array), np.int64))
