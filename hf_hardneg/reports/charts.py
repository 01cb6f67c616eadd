"""Charts as SVG and as lines of text: the same numbers give the same bytes, legible on light and on dark."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from hf_hardneg.errors import ConfigError
from hf_hardneg.reports.hardness import EASY, HARD
from hf_hardneg.reports.templates import rendered

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 72, 36, 44, 48
BAR, BAND, INK = "#3b82c4", "#d98a1f", "#767676"
"""Each at least 3 to 1 against white and against black; the text's 4.5 to 1."""
MOST_LABELS = 14
BLOCKS = "▏▎▍▌▋▊▉█"
"""A bar of text ends within a character, by eighths; `"#"` is for terminals that lack them."""
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


MODERATE = Marked(HARD, EASY, "moderate")
"""Neither too easy to teach anything, nor so close that it may be a positive."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often a number lies between edges, to be drawn as SVG, as lines of text, or by matplotlib.

    Args:
        title, x_label (`str`): what is counted; any text.
        edges (`Sequence[float]`): (n + 1,) ascending; the first and the last may be infinite.
        counts (`Sequence[int]`): (n,) how many values lie in each bin.
        marked (`Marked`, *optional*): a range to be shaded.

    Raises:
        ConfigError: edges and counts do not fit together.

    Example:
        >>> from hf_hardneg.reports.charts import Histogram
        >>> ranks = Histogram(title="Ranks", x_label="rank", edges=(0, 1, 2), counts=(3, 1))
        >>> print(ranks.svg()[:38])
        <svg xmlns="http://www.w3.org/2000/svg
        >>> print(ranks.lines(width=40))
        Ranks, by rank
          0 to 1 █████████████████████████████ 3
          1 to 2 █████████▋                    1
    """

    title: str
    x_label: str
    edges: Sequence[float]
    counts: Sequence[int]
    marked: Marked | None = None

    def __post_init__(self) -> None:
        _check(self.edges, self.counts)

    def svg(self) -> str:
        """Draw it as an SVG document, its numbers also in words for who cannot see it.

        All bins are drawn equally wide, whatever they span, with their edges below; an infinite edge has no label.
        What was counted at all is seen: its bar is at least a pixel tall.
        """
        places = np.linspace(LEFT, WIDTH - RIGHT, len(self.edges))
        return rendered(
            "reports/histogram.svg.jinja",
            width=WIDTH,
            height=HEIGHT,
            left=LEFT,
            right=WIDTH - RIGHT,
            top=TOP,
            below=BOTTOM,
            ink=INK,
            color=BAR,
            title=printable(self.title),
            described=printable(_in_words(self.edges, self.counts, self.x_label, self.marked)),
            x_label=printable(self.x_label),
            band=self._band(self.marked, places) if self.marked else None,
            most=max(self.counts),
            bars=_bars(self.edges, self.counts, places),
            edges=self.labelled(places),
        )

    def within(self, marked: Marked, places: np.ndarray) -> tuple[float, float]:
        """Find where a range begins and stops, between the places of the edges (n + 1,).

        An end within a bin is found in proportion, and an infinite one at the end.
        """
        drawn = np.array(self.edges, dtype=np.float64)
        drawn[0] = np.nan_to_num(drawn[0], neginf=drawn[1] - 1)
        drawn[-1] = np.nan_to_num(drawn[-1], posinf=drawn[-2] + 1)
        start, stop = np.interp([marked.low, marked.high], drawn, places)
        return float(start), float(stop)

    def labelled(self, places: np.ndarray) -> list[tuple[float, float]]:
        """Choose the edges that have a label, each after its place."""
        step = -(-len(self.edges) // MOST_LABELS)
        return [(place, edge) for edge, place in zip(self.edges, places, strict=True) if np.isfinite(edge)][::step]

    def _band(self, marked: Marked, places: np.ndarray) -> dict[str, Any]:
        start, stop = self.within(marked, places)
        return {"start": start, "stop": stop, "label": printable(marked.label), "color": BAND}

    def lines(self, *, width: int = 80, blocks: str = BLOCKS) -> str:
        """Draw it as lines of text, a bin in each; bins of the marked range have a star.

        Args:
            width (`int`, defaults to 80): characters of a line.
            blocks (`str`): what bars are drawn of, ascending in their width up to a whole character.
        """
        spans = [_span(low, high) for low, high in pairwise(self.edges)]
        figures = [f"{count:,}" for count in self.counts]
        beside = max(map(len, spans)) + max(map(len, figures)) + 4
        room, most = max(width - beside, 1), max(*self.counts, 1)
        heading = f"{self.title}, by {self.x_label}"
        lines = textwrap.wrap(heading, width) or [heading]
        for span, figure, count, star in zip(spans, figures, self.counts, _stars(self.edges, self.marked), strict=True):
            drawn = _blocks(count / most * room, blocks) if count else ""
            lines.append(f"{star} {span:>{max(map(len, spans))}} {drawn:<{room}} {figure}".rstrip())
        if self.marked:
            lines.append(f"* {_span(*self.marked[:2])}: {self.marked.label}")
        return "\n".join(lines)


def round_edges(low: float, high: float, bins: int) -> list[float]:
    """Choose round edges of about so many equal bins, from the lowest to the highest number of some."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        half = max(1, abs(high)) / 2
        low, high = low - half, high + half
    power = 10.0 ** math.floor(math.log10((high - low) / bins))
    step = next(size * power for size in (1, 2, 2.5, 5, 10, 20) if size * power * bins >= high - low)
    edges = np.arange(math.floor(low / step), math.ceil(high / step) + 1) * step
    edges[[0, -1]] = min(edges[0], low), max(edges[-1], high)
    return edges.tolist()


def _stars(edges: Sequence[float], marked: Marked | None) -> list[str]:
    if marked is None:
        return [" "] * (len(edges) - 1)
    return ["*" if low >= marked.low and high <= marked.high else " " for low, high in pairwise(edges)]


def _blocks(width: float, blocks: str) -> str:
    """Draw a bar that ends within a character; what was counted at all is seen."""
    whole, rest = divmod(max(round(width * len(blocks)), 1), len(blocks))
    return blocks[-1] * whole + (blocks[rest - 1] if rest else "")


def _check(edges: Sequence[float], counts: Sequence[int]) -> None:
    if not counts or len(edges) != len(counts) + 1:
        raise ConfigError(
            f"Histogram got {len(edges)} edges and {len(counts)} counts; n counts have n + 1 edges. Give both."
        )
    finite = np.isfinite(edges)
    if not all(low < high for low, high in pairwise(edges)) or not (finite.any() and finite[1:-1].all()):
        raise ConfigError(
            f"Histogram(edges={list(edges)}): they must ascend, the first or the last may be infinite. Sort them."
        )
    if min(counts) < 0:
        raise ConfigError(f"Histogram(counts={list(counts)}): counts are 0 or more. Count again.")


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


def printable(text: str) -> str:
    """A text without characters that no XML document may hold."""
    return _NOT_XML.sub("\ufffd", text)
