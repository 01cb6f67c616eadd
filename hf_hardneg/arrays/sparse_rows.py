"""Sparse vectors: for each text some terms with weights, in every form in which libraries give them.

A term is a whole number, such as a token's id, or a text, which becomes a negative number by its 64-bit hash.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.arrays.hashing import string_hashes
from hf_hardneg.errors import DataError

ALLOWED = (
    "a scipy.sparse matrix, a sparse torch tensor of two dimensions, or a list with a {term: weight} for each text, "
    "terms being texts or whole numbers"
)
SEED, OF_TEXT = 7, np.uint64(1 << 63)
"""Of the hashes of terms; the bit that makes a number negative."""


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Sparse vectors of n texts.

    Args:
        pointers (`np.ndarray`): (n + 1,) int64, where the terms of each text begin.
        terms (`np.ndarray`): (m,) int64, ascending and distinct within a text.
        weights (`np.ndarray`): (m,) float32, above 0.
    """

    pointers: np.ndarray
    terms: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.pointers) - 1

    def __getitem__(self, rows: np.ndarray) -> SparseRows:
        """The vectors of some texts, by their positions."""
        sizes = np.diff(self.pointers)[rows]
        group, within = spread(sizes)
        places = self.pointers[rows][group] + within
        return SparseRows(np.concatenate([[0], np.cumsum(sizes)]), self.terms[places], self.weights[places])

    @property
    def owners(self) -> np.ndarray:
        """Which text each term is of, (m,) int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.pointers))

    @classmethod
    def joined(cls, parts: Sequence[SparseRows]) -> SparseRows:
        """The vectors of several lists of texts, one after the other."""
        sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.pointers) for part in parts)])
        terms = np.concatenate([np.zeros(0, np.int64), *(part.terms for part in parts)])
        weights = np.concatenate([np.zeros(0, np.float32), *(part.weights for part in parts)])
        return cls(np.cumsum(sizes), terms, weights)

    @classmethod
    def of_dense(cls, matrix: np.ndarray) -> SparseRows:
        """The vectors in a matrix (n, d) float32, whose columns are the terms."""
        owners, terms = np.nonzero(matrix)
        return _in_order(owners, terms.astype(np.int64), matrix[owners, terms], len(matrix))

    def to_dense(self, width: int) -> np.ndarray:
        """The matrix (n, width) float32 of vectors whose terms are numbers below `width`."""
        matrix = np.zeros((len(self), width), np.float32)
        matrix[self.owners, self.terms] = self.weights
        return matrix

    def of_unit_length(self) -> SparseRows:
        """The same, each divided by its length; their products are cosines."""
        squares = np.zeros(len(self))
        np.add.at(squares, self.owners, self.weights.astype(np.float64) ** 2)
        lengths = np.sqrt(squares)[self.owners]
        return SparseRows(self.pointers, self.terms, (self.weights / lengths).astype(np.float32))


def products(rows: SparseRows, others: SparseRows, row: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The inner products of chosen pairs of vectors, (n,) float32, summed in float64.

    Args:
        rows, others (`SparseRows`): vectors.
        row, other (`np.ndarray`): (n,) positions in each.
    """
    left, right = ((each.pointers, each.terms, each.weights) for each in (rows, others))
    sums: np.ndarray = _products(left, right, np.asarray(row, np.int64), np.asarray(other, np.int64))
    return sums


@njit(cache=True, nogil=True)
def _products(left, right, row, other):
    pointers, terms, weights = left
    others, terms_of_others, weights_of_others = right
    sums = np.zeros(len(row), np.float32)
    for pair in range(len(row)):
        i, j, total = pointers[row[pair]], others[other[pair]], 0.0
        while i < pointers[row[pair] + 1] and j < others[other[pair] + 1]:
            if terms[i] == terms_of_others[j]:
                total += np.float64(weights[i]) * np.float64(weights_of_others[j])
                i += 1
                j += 1
            elif terms[i] < terms_of_others[j]:
                i += 1
            else:
                j += 1
        sums[pair] = total
    return sums


def sparse_rows(values: Any, *, what: str, count: int | None = None, start: int = 0) -> SparseRows:
    """Sparse vectors in any of the forms that are `ALLOWED`, checked.

    Args:
        values: what was given.
        what (`str`): its name, for messages.
        count (`int`, *optional*): how many there must be.
        start (`int`): row number of the first one, for messages.

    Raises:
        DataError: it is something else, dense vectors among them, or holds weights below zero, or that are no numbers.
    """
    rows = _converted(values, what, start)
    if count is not None and len(rows) != count:
        raise DataError(f"There are {len(rows)} of the {what} for {count} texts. Give one for each text, in order.")
    return rows


def _converted(values: Any, what: str, start: int) -> SparseRows:
    if isinstance(values, SparseRows):
        _check_weights(values.weights, lambda place: values.owners[place], what, start)
        return values
    if hasattr(values, "detach") and str(getattr(values, "layout", "")) == "torch.sparse_csr":
        values = values.to_sparse_coo()
    if hasattr(values, "detach") and getattr(values, "is_sparse", False) and values.ndim == 2:
        summed = values.detach().float().cpu().coalesce()
        owners, terms = summed.indices().numpy()
        return _checked(owners, terms, summed.values().numpy(), len(values), what, start)
    if hasattr(values, "tocoo") and getattr(values, "ndim", 0) == 2:
        summed = values.tocsr(copy=True)
        summed.sum_duplicates()
        owners = np.repeat(np.arange(summed.shape[0]), np.diff(summed.indptr))
        return _checked(owners, summed.indices, summed.data, summed.shape[0], what, start)
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return _of_mappings(values, what, start)
    raise DataError(f"The {what} are {_described(values)}; allowed are {ALLOWED}. Dense vectors are for Dense().")


def _described(values: Any) -> str:
    shape = getattr(values, "shape", None)
    return f"a {type(values).__name__}" + (f" of shape {tuple(shape)}, which is dense" if shape is not None else "")


def _of_mappings(values: Sequence[Any], what: str, start: int) -> SparseRows:
    mappings = [_mapping(value) for value in values]
    odd = next((row for row, mapping in enumerate(mappings) if mapping is None), None)
    if odd is not None:
        raise DataError(
            f"Row {start + odd} of the {what} is {_described(values[odd])}; allowed are {ALLOWED}. Dense vectors are "
            "for Dense()."
        )
    pairs = [pair for mapping in mappings for pair in (mapping or {}).items() if pair[1] is not None]
    sizes = [sum(weight is not None for weight in (mapping or {}).values()) for mapping in mappings]
    try:
        weights = np.array([weight for _, weight in pairs], np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"The {what} have a weight that is no number: {error}. Give numbers above 0.") from error
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return _checked(owners, _numbers([term for term, _ in pairs], what), weights, len(sizes), what, start)


def _mapping(value: Any) -> Mapping[Any, Any] | None:
    """A {term: weight} as Arrow or JSON gives it: a mapping, pairs, or the text of one; `None` for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return dict(value)
    return None


def _numbers(terms: Iterable[Any], what: str) -> np.ndarray:
    """Terms as numbers, (n,) int64."""
    listed = list(terms)
    texts = [term for term in listed if isinstance(term, str)]
    if len(texts) == len(listed):
        hashes = string_hashes(pa.array(texts, pa.large_string()), SEED)
        return (hashes | OF_TEXT).view(np.int64)
    odd = next(
        (term for term in listed if isinstance(term, bool | str) or not isinstance(term, int | np.integer)), None
    )
    if odd is not None:
        raise DataError(f"The {what} have the term {odd!r}; allowed are texts alone, or whole numbers alone.")
    return np.array(listed, np.int64)


def _checked(owners: Any, terms: Any, weights: Any, count: int, what: str, start: int) -> SparseRows:
    """Put vectors in order, leaving weights of zero out; raise for weights that no search by bounds takes."""
    weights = np.asarray(weights, np.float32)
    _check_weights(weights, lambda place: owners[place], what, start)
    above = weights > 0
    return _in_order(np.asarray(owners)[above], np.asarray(terms, np.int64)[above], weights[above], count)


def _check_weights(weights: np.ndarray, owner: Callable[[int], int], what: str, start: int) -> None:
    wrong = np.flatnonzero(~(weights >= 0) | ~np.isfinite(weights))
    if len(wrong):
        raise DataError(
            f"The {what} have the weight {weights[wrong[0]]} in row {start + int(owner(wrong[0]))}; finite weights of "
            "at least 0 are allowed, as SPLADE's are. Look at that text and at the model; vectors with signs are for "
            "Dense()."
        )


def _in_order(owners: np.ndarray, terms: np.ndarray, weights: np.ndarray, count: int) -> SparseRows:
    order = np.lexsort((terms, owners))
    pointers = np.searchsorted(owners[order], np.arange(count + 1))
    return SparseRows(pointers.astype(np.int64), terms[order], weights[order])
