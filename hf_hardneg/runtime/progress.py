"""The one progress bar: `datasets`' own switches apply, and only rank 0 shows it."""

from __future__ import annotations

import os
import sys
from typing import Any


def bar(**options: Any) -> Any:
    """Open a `datasets` progress bar, silent on every rank but the first.

    Args:
        options: passed on to `tqdm`, such as `total=` and `desc=`.
    """
    from datasets.utils import tqdm

    return tqdm(disable=True if _rank() else None, **options)


def show(text: str) -> None:
    """Write a text where the bars go, unless they are switched off or this is not the first rank."""
    from datasets.utils import are_progress_bars_disabled, tqdm

    if not _rank() and not are_progress_bars_disabled():
        tqdm.write(text, file=sys.stderr)


def _rank() -> int:
    return int(os.environ.get("RANK", "0") or 0)
