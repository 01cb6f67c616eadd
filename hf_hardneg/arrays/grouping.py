"""Groups and sorted tables in flat arrays."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np
from numba import njit


def isin_sorted(keys: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of each key in a sorted table, and whether it is there; both (n,)."""
    position = np.minimum(np.searchsorted(table, keys), max(len(table) - 1, 0))
    return position, (table[position] == keys) if len(table) else np.zeros(len(keys), bool)


def position_in_group(group: np.ndarray) -> np.ndarray:
    """Position of each entry within its group, 0 first, (n,) int64.

    Args:
        group (`np.ndarray`): (n,) the group of each entry, equal ones side by side.
    """
    first = np.flatnonzero(np.diff(group, prepend=group[:1] - 1)) if len(group) else np.zeros(0, np.int64)
    return spread(np.diff(first, append=len(group)))[1]


def spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The group of each entry of groups that lie side by side, and its position within it; int64, `counts.sum()` each.

    Args:
        counts (`np.ndarray`): (groups,) entries in each.
    """
    group = np.repeat(np.arange(len(counts)), counts)
    return group, np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)


@njit(cache=True, nogil=True)
def among(values, group, wanted, bounds):
    """1.0 where a value is one of those wanted in its group, else 0.0, (n,).

    Args:
        values, group (`np.ndarray`): (n,) each.
        wanted (`np.ndarray`): (m,) values, by group.
        bounds (`np.ndarray`): (groups + 1,) where each group's wanted values begin and end.
    """
    present = np.zeros(len(values))
    for i in range(len(values)):
        for j in range(bounds[group[i]], bounds[group[i] + 1]):
            if wanted[j] == values[i]:
                present[i] = 1
                break
    return present
