"""In which order rows are reviewed: as they are mined, the most suspicious first, or a random sample of negatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.arrays.lists import flat, lengths, listed
from hf_hardneg.audits.verdicts import pair_keys_of
from hf_hardneg.reports.hardness import best_scores, compare
from hf_hardneg.text.hashes import NONE

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000


class Order(NamedTuple):
    """What is shown one after the other.

    Args:
        row (`np.ndarray`): (n,) int64, the row of each.
        place (`np.ndarray`): (n,) int64, which negative of the row is asked about first.
        alone (`bool`): whether only that one is asked about.
    """

    row: np.ndarray
    place: np.ndarray
    alone: bool


def as_mined(mined: Dataset, query: str) -> Order:
    """Take the rows as they are."""
    rows = np.arange(len(mined))
    return Order(rows, np.zeros_like(rows), alone=False)


def suspicious_first(mined: Dataset, query: str) -> Order:
    """Begin with the rows whose most suspicious negative is the most suspicious; others in their order.

    Suspicious is, of a query's negatives, whatever the model that denoised them scores highest, else what comes nearest
    to the score of the best positive or lies above it.
    """
    parts, places = [np.zeros(0)], [np.zeros(0, np.int64)]
    for suspicion, counts in _suspicions(mined):
        owner, inside = spread(counts)
        best, place = np.full(len(counts), -np.inf), np.zeros(len(counts), np.int64)
        np.maximum.at(best, owner, suspicion)
        first = np.flatnonzero(suspicion == best[owner])[::-1]
        place[owner[first]] = inside[first]
        parts.append(best)
        places.append(place)
    rows = np.argsort(-np.concatenate(parts), kind="stable")
    return Order(rows, np.concatenate(places)[rows], alone=False)


def random_sample(mined: Dataset, query: str) -> Order:
    """Draw negatives one by one, each (query, negative) pair once: in the order of the keys of their texts.

    The order depends on the texts alone, so that every review of these rows draws the same ones.
    """
    start, parts = 0, [np.zeros((3, 0), np.uint64)]
    for table in mined.with_format("arrow", columns=[query, "negatives"]).iter(BATCH):
        keys, counts = pair_keys_of(table, query)
        owner, inside = spread(counts)
        parts.append(np.stack([keys, (start + owner).astype(np.uint64), inside.astype(np.uint64)]))
        start += len(counts)
    keys, rows, places = np.concatenate(parts, axis=1)
    _, first = np.unique(keys, return_index=True)
    first = first[keys[first] != NONE]
    return Order(rows[first].astype(np.int64), places[first].astype(np.int64), alone=True)


ORDERS: dict[str, Callable[[Dataset, str], Order]] = {
    "most suspicious first": suspicious_first,
    "as mined": as_mined,
    "random sample": random_sample,
}
"""Every order by the name that the page shows; the first is the one it begins with."""


def judge_column(mined: Dataset) -> str | None:
    """Name the column of scores of the model that denoised the negatives, if there is one."""
    names = [name for name in mined.column_names if name.startswith("negative_") and name.endswith("_scores")]
    return next((name for name in names if name != "negative_scores"), None)


def _suspicions(mined: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield how suspicious the negatives of each batch are, (m,), `-inf` where nothing tells; and their counts."""
    judge = judge_column(mined)
    names = [judge] if judge else ["negative_scores", "positive_scores"]
    is_scored = set(names) <= set(mined.column_names)
    for table in mined.with_format("arrow", columns=names if is_scored else ["negatives"]).iter(BATCH):
        counted = listed(table.column(names[0] if is_scored else "negatives"))
        counts = lengths(counted).astype(np.int64)
        suspicion = np.full(int(counts.sum()), -np.inf)
        if is_scored:
            scores = flat(counted, np.float64)[0]
            told = scores if judge else _nearness(scores, counts, listed(table.column("positive_scores")))
            suspicion[np.isfinite(told)] = told[np.isfinite(told)]
        yield suspicion, counts


def _nearness(scores: np.ndarray, counts: np.ndarray, positives: pa.ListArray) -> np.ndarray:
    """Return how near scores come to the best positive of their row, in parts of its score; NaN without scores."""
    anchors, per_row = flat(positives, np.float64)
    best = best_scores(len(counts), spread(per_row)[0], anchors)
    compared = compare(best, spread(counts)[0], scores)
    nearness = np.full(len(scores), np.nan)
    nearness[compared.place] = -np.clip(compared.relative, -1e9, 1e9)
    return nearness
