"""Draw reports with matplotlib, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_hardneg.reports.charts import BAND, BAR, Histogram
from hf_hardneg.runtime.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.2, 3.6
"""Inches of a chart."""


def drawn_figure(funnel: Mapping[str, int], charts: Sequence[Histogram]) -> Figure:
    """Draw a funnel and histograms side by side; notebooks show the figure where it is the value of a cell.

    Args:
        funnel (`Mapping[str, int]`): counts by step, the first of all candidates.
        charts (`Sequence[Histogram]`): what is drawn beside it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", extra="plot", needed_by="Report.plot()")
    from matplotlib import pyplot

    size = (WIDTH * (1 + len(charts)), HEIGHT)
    figure, axes = pyplot.subplots(1, 1 + len(charts), figsize=size, layout="constrained", squeeze=False)
    pyplot.close(figure)
    _draw_funnel(axes[0, 0], funnel)
    for axis, chart in zip(axes[0, 1:], charts, strict=True):
        _draw_histogram(axis, chart)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_funnel(axis: Any, funnel: Mapping[str, int]) -> None:
    steps = list(funnel)[::-1]
    bars = axis.barh(steps, [funnel[step] for step in steps], color=BAR)
    axis.bar_label(bars, labels=[f"{funnel[step]:,}" for step in steps], padding=3, fontsize=8)
    axis.set_title("Candidates by what became of them", fontsize=10)
    axis.margins(x=0.15)
    axis.tick_params(labelsize=8)


def _draw_histogram(axis: Any, chart: Histogram) -> None:
    """Draw bins equally wide, as `Histogram.svg` does, with the edges at their ends."""
    places = np.arange(len(chart.edges))
    axis.bar(places[:-1] + 0.5, chart.counts, width=0.94, color=BAR)
    if chart.marked is not None:
        start, stop = chart.within(chart.marked, places)
        axis.axvspan(start, stop, color=BAND, alpha=0.25, linewidth=0, zorder=0, label=chart.marked.label)
        axis.legend(fontsize=8, frameon=False)
    labelled = chart.labelled(places)
    axis.set_xticks([place for place, _ in labelled], [f"{edge:.4g}" for _, edge in labelled])
    axis.set_title(chart.title, fontsize=10)
    axis.set_xlabel(chart.x_label, fontsize=9)
    axis.tick_params(labelsize=8)
