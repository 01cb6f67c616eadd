"""Times and sizes as people read them, and how many processors there are to use."""

from __future__ import annotations

import os


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def duration(seconds: float) -> str:
    """Write a time as in `"3 min 20 s"`, in at most two units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if whole < 3600:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    if whole < 100 * 3600:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{whole / 86400:,.0f} days"


def data_size(size: float) -> str:
    """Write a size as in `"1.2 GB"`, in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
