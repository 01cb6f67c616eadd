"""Charts as SVG text: the same numbers give the same bytes, legible on a light and on a dark background."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from hf_hardneg.errors import ConfigError
from hf_hardneg.reports.templates import rendered

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 72, 36, 44, 48
BAR, BAND, INK = "#3b82c4", "#d98a1f", "#767676"
"""Each at least 3 to 1 against white and against black; the text's 4.5 to 1."""
MOST_LABELS = 14
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Marked(NamedTuple):
    """A range of values to be shaded, and what it is.

    Args:
        low, high (`float`): its ends; infinite ones reach to the end of the chart.
        label (`str`): shown in the legend.
    """

    low: float
    high: float
    label: str


def histogram(
    edges: Sequence[float], counts: Sequence[int], *, title: str, x_label: str, marked: Marked | None = None
) -> str:
    """A histogram as an SVG document, its numbers also in words for who cannot see it.

    All bins are drawn equally wide, whatever they span, with their edges below; an infinite edge has no label. What was
    counted at all is seen: its bar is at least a pixel tall.

    Args:
        edges (`Sequence[float]`): (n + 1,) ascending; the first and the last may be infinite.
        counts (`Sequence[int]`): (n,) how many values lie in each bin.
        title, x_label (`str`): any text.
        marked (`Marked`, *optional*): a range to be shaded.

    Raises:
        ConfigError: edges and counts do not fit together.

    Example:
        >>> from hf_hardneg.reports.charts import histogram
        >>> print(histogram([0, 1, 2], [3, 1], title="Ranks", x_label="rank")[:38])
        <svg xmlns="http://www.w3.org/2000/svg
    """
    _check(edges, counts)
    places = np.linspace(LEFT, WIDTH - RIGHT, len(edges))
    return rendered(
        "hf_hardneg.reports",
        "histogram.svg.jinja",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        below=BOTTOM,
        ink=INK,
        color=BAR,
        title=_printable(title),
        described=_printable(_in_words(edges, counts, x_label, marked)),
        x_label=_printable(x_label),
        band=_band(edges, places, marked) if marked else None,
        most=max(counts),
        bars=_bars(edges, counts, places),
        edges=_labelled(edges, places),
    )


def _check(edges: Sequence[float], counts: Sequence[int]) -> None:
    if not counts or len(edges) != len(counts) + 1:
        raise ConfigError(
            f"histogram() got {len(edges)} edges and {len(counts)} counts; n counts have n + 1 edges. Give both."
        )
    finite = np.isfinite(edges)
    if not all(low < high for low, high in pairwise(edges)) or not (finite.any() and finite[1:-1].all()):
        raise ConfigError(
            f"histogram(edges={list(edges)}): they must ascend, the first or the last may be infinite. Sort them."
        )
    if min(counts) < 0:
        raise ConfigError(f"histogram(counts={list(counts)}): counts are 0 or more. Count again.")


def _in_words(edges: Sequence[float], counts: Sequence[int], x_label: str, marked: Marked | None) -> str:
    bins = ", ".join(
        f"{_span(low, high)}: {count:,}" for (low, high), count in zip(pairwise(edges), counts, strict=True)
    )
    shaded = f" Shaded, {_span(marked.low, marked.high)}: {marked.label}." if marked else ""
    return f"Counts by {x_label}. {bins}.{shaded}"


def _span(low: float, high: float) -> str:
    if low == -np.inf:
        return f"below {high:.4g}"
    return f"from {low:.4g}" if high == np.inf else f"{low:.4g} to {high:.4g}"


def _band(edges: Sequence[float], places: np.ndarray, marked: Marked) -> dict[str, Any]:
    """Where the shaded range begins and stops, and its legend; an end within a bin is drawn in proportion."""
    drawn = np.array(edges, dtype=np.float64)
    drawn[0], drawn[-1] = np.nan_to_num(drawn[0], neginf=drawn[1] - 1), np.nan_to_num(drawn[-1], posinf=drawn[-2] + 1)
    start, stop = np.interp([marked.low, marked.high], drawn, places)
    return {"start": start, "stop": stop, "label": _printable(marked.label), "color": BAND}


def _bars(edges: Sequence[float], counts: Sequence[int], places: np.ndarray) -> list[dict[str, Any]]:
    """Every bin in which something was counted, at least a pixel tall."""
    heights = np.maximum(np.array(counts) * ((HEIGHT - TOP - BOTTOM) / max(*counts, 1)), 1)
    return [
        {"x": start + 1, "width": stop - start - 2, "height": height, "span": _span(low, high), "count": count}
        for (low, high), (start, stop), count, height in zip(
            pairwise(edges), pairwise(places), counts, heights, strict=True
        )
        if count
    ]


def _labelled(edges: Sequence[float], places: np.ndarray) -> list[tuple[float, float]]:
    """The places of the edges that have a label, and the edges."""
    step = -(-len(edges) // MOST_LABELS)
    return [(place, edge) for edge, place in zip(edges, places, strict=True) if np.isfinite(edge)][::step]


def _printable(text: str) -> str:
    """A text without characters that no XML document may hold."""
    return _NOT_XML.sub("\ufffd", text)
