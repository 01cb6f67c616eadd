"""Groups and sorted tables in flat arrays."""

from __future__ import annotations

import numpy as np


def isin_sorted(keys: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of each key in a sorted table, and whether it is there; both (n,)."""
    position = np.minimum(np.searchsorted(table, keys), max(len(table) - 1, 0))
    return position, (table[position] == keys) if len(table) else np.zeros(len(keys), bool)
