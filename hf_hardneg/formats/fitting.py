"""Fit mined rows to a layout: how wide it is, and what is lost, said before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.lists import combined, lengths
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.formats.layouts import LAYOUTS

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)
BATCH = 10_000


@dataclass(frozen=True)
class Sizes:
    """Numbers of documents in rows.

    Args:
        positives, negatives (`np.ndarray`): (n,) numbers of each row.
    """

    positives: np.ndarray
    negatives: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, positive_column: str) -> Sizes:
        """Count the documents of an Arrow-formatted dataset."""
        none = np.zeros(0, np.int64)
        parts = [
            (counted(table.column(positive_column)), counted(table.column("negatives")))
            for table in dataset.select_columns([positive_column, "negatives"]).iter(BATCH)
        ]
        return cls(*(np.concatenate([none, *side]) for side in zip(*parts, strict=True))) if parts else cls(none, none)

    @property
    def whole(self) -> np.ndarray:
        """Negatives of the rows that have a positive and a negative, (m,)."""
        return self.negatives[(self.positives > 0) & (self.negatives > 0)]


def counted(column: pa.ChunkedArray) -> np.ndarray:
    """Count the documents of each row, (n,); a value that is no list is one document, and a null is none."""
    array = combined(column)
    return lengths(array) if pa.types.is_nested(array.type) else array.is_valid().to_numpy(zero_copy_only=False) * 1


def fit(layout: str, sizes: Sizes, num_negatives: int | None, others: Sequence[str]) -> int:
    """Choose how many negatives each row gets, at most, or exactly where rows must be equal, and warn of what is lost.

    Args:
        layout (`str`): a name in `LAYOUTS`.
        sizes (`Sizes`): sizes of the rows.
        num_negatives (`int`, *optional*): as asked for. By default the most that a row has; where rows must be equal,
            the most that at least half of them have.
        others (`Sequence[str]`): columns that neither mining made nor the caller named.

    Raises:
        ConfigError: no row would be left.
    """
    shape, whole = LAYOUTS[layout], sizes.whole
    most = int((whole if shape.whole else sizes.negatives).max(initial=0))
    if not most:
        raise ConfigError(
            f"No row has a negative and a positive, so {layout!r} would be empty. Mine again with looser filters, and "
            "with pairs that have positives."
            if (sizes.negatives > 0).any()
            else f"No row has a negative, so {layout!r} would be empty. Mine again with looser filters."
        )
    if shape.equal and num_negatives is not None and num_negatives > most:
        raise ConfigError(
            f"num_negatives={num_negatives}, and no row has more than {most}, so {layout!r} would be empty. "
            f"num_negatives={most} keeps {int((whole == most).sum())} of {len(sizes.positives)} rows, "
            f"{usual(whole)} keeps {int((whole >= usual(whole)).sum())}; or mine more negatives."
        )
    width = num_negatives or (usual(whole) if shape.equal else most)
    told = _rows_lost(layout, sizes, width, num_negatives)
    if others:
        told.append(f"The layout {layout!r} has no place for {', '.join(map(repr, others))}: left out.")
    logger.info("The layout %r does not carry: %s.", layout, shape.loses)
    if told:
        warn(" ".join(told))
    return width


def usual(counts: np.ndarray) -> int:
    """Return the most that at least half of the rows have, of (m,) counts."""
    return int(np.sort(counts)[len(counts) // 2])


def _rows_lost(layout: str, sizes: Sizes, width: int, asked: int | None) -> list[str]:
    """Say in sentences what becomes of rows that have too few documents."""
    shape, total = LAYOUTS[layout], len(sizes.positives)
    if not shape.whole:
        empty = int(((sizes.positives == 0) & (sizes.negatives == 0)).sum())
        told = [f"{empty} of {total} rows have no document and are left out of the layout {layout!r}."] if empty else []
        return told + _short(layout, sizes.negatives, total, asked)
    lacking = {
        "no positive": sizes.positives == 0,
        "no negative": (sizes.negatives == 0) & (sizes.positives > 0),
    }
    if shape.equal:
        has_both = (sizes.positives > 0) & (sizes.negatives > 0)
        lacking[f"fewer than {width} negatives"] = (sizes.negatives < width) & has_both
    reasons = [f"{int(mask.sum())} have {what}" for what, mask in lacking.items() if mask.any()]
    out = int(np.logical_or.reduce(list(lacking.values())).sum())
    told = []
    if out:
        told.append(f"{out} of {total} rows are left out of the layout {layout!r}: {', '.join(reasons)}.")
        deeper = " Mine deeper, loosen the filters, or pass a smaller num_negatives."
        told[-1] += deeper if shape.equal and sizes.whole.min() < width else ""
    return told if shape.equal else told + _short(layout, sizes.whole, total, asked)


def _short(layout: str, counts: np.ndarray, total: int, asked: int | None) -> list[str]:
    short = 0 if asked is None else int((counts < asked).sum())
    if not short:
        return []
    return [
        f"{short} of {total} rows have fewer than {asked} negatives and give fewer rows or shorter lists in the layout "
        f"{layout!r}. Mine deeper, loosen the filters, or pass a smaller num_negatives."
    ]
