"""A chart of named values with their ranges, as SVG: the same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from hf_hardneg.errors import ConfigError
from hf_hardneg.reports.charts import BAND, BAR, INK, WIDTH, printable, round_edges
from hf_hardneg.reports.templates import rendered

NAMES, RIGHT, TOP, BELOW, LINE = 200, 24, 44, 48, 22
"""Pixels: the names' width, the margins, and the height of a line."""
LETTERS = 30
"""Of a name that fits there."""


class Dot(NamedTuple):
    """A line of the chart.

    Args:
        name (`str`): any text.
        value (`float`): where its dot is.
        low, high (`float`): ends of the bar through it.
        is_marked (`bool`): whether it stands out.
    """

    name: str
    value: float
    low: float
    high: float
    is_marked: bool = False


@dataclass(frozen=True, kw_only=True)
class DotPlot:
    """Values of named things in lines below each other; notebooks show it where it is the value of a cell.

    Args:
        title, x_label (`str`): what is shown; any text.
        dots (`Sequence[Dot]`): the lines, at least one, of finite numbers.
        reference (`float`, *optional*): a value that a dashed line marks.
        reference_label (`str`): its name.

    Raises:
        ConfigError: there are no dots, or a number is not finite.

    Example:
        >>> from hf_hardneg.reports.dot_plots import Dot, DotPlot
        >>> plot = DotPlot(title="nDCG", x_label="nDCG@10", dots=[Dot("dense", 0.7, 0.6, 0.8)])
        >>> plot.svg()[:38]
        '<svg xmlns="http://www.w3.org/2000/svg'
    """

    title: str
    x_label: str
    dots: Sequence[Dot] = field(repr=False)
    reference: float | None = None
    reference_label: str = ""

    def __post_init__(self) -> None:
        if not self.dots or not np.isfinite([number for dot in self.dots for number in dot[1:4]]).all():
            raise ConfigError(
                f"DotPlot(dots={list(self.dots)!r}): allowed is at least one, of finite numbers. Leave out the others."
            )

    def svg(self) -> str:
        """Draw it as an SVG document, its numbers also in words for who cannot see it."""
        ends = [number for dot in self.dots for number in (dot.low, dot.value, dot.high)]
        if self.reference is not None:
            ends.append(self.reference)
        edges = round_edges(min(ends), max(ends), 6)

        def across(value: float) -> float:
            return float(np.interp(value, [edges[0], edges[-1]], [NAMES, WIDTH - RIGHT]))

        lines = [self._line(dot, TOP + LINE * (place + 0.5), across) for place, dot in enumerate(self.dots)]
        return rendered(
            "reports/dot_plot.svg.jinja",
            width=WIDTH,
            height=TOP + LINE * len(lines) + BELOW,
            left=NAMES,
            right=WIDTH - RIGHT,
            top=TOP,
            bottom=TOP + LINE * len(lines),
            ink=INK,
            title=printable(self.title),
            described=printable(self._in_words()),
            x_label=printable(self.x_label),
            lines=lines,
            edges=[(across(edge), edge) for edge in edges],
            reference=None if self.reference is None else across(self.reference),
            reference_label=printable(self.reference_label),
        )

    def _repr_svg_(self) -> str:
        return self.svg()

    def _line(self, dot: Dot, height: float, across: Any) -> dict[str, Any]:
        places = {"x": across(dot.value), "start": across(dot.low), "stop": across(dot.high)}
        name = dot.name if len(dot.name) <= LETTERS else f"{dot.name[: LETTERS - 1]}…"
        return {"y": height, "name": printable(name), "color": BAND if dot.is_marked else BAR, **places}

    def _in_words(self) -> str:
        listed = ", ".join(f"{dot.name}: {dot.value:.4g} ({dot.low:.4g} to {dot.high:.4g})" for dot in self.dots)
        beside = "" if self.reference is None else f" {self.reference_label}: {self.reference:.4g}."
        return f"{self.x_label} by name. {listed}.{beside}"
