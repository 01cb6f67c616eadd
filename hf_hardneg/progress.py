"""The one progress bar: `datasets`' own switches apply, and only rank 0 shows it."""

from __future__ import annotations

import os
from typing import Any


def bar(**options: Any) -> Any:
    """A `datasets` progress bar, silent on every rank but the first.

    Args:
        **options: passed on to `tqdm`, such as `total=` and `desc=`.
    """
    from datasets.utils import tqdm

    rank = int(os.environ.get("RANK", "0") or 0)
    return tqdm(disable=True if rank else None, **options)
