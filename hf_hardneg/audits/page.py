"""An audit as one HTML page that needs nothing else: no script, no style sheet, no font, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_hardneg.audits.findings import Finding, Histogram
from hf_hardneg.audits.judging import Estimate
from hf_hardneg.filters import NearDuplicate
from hf_hardneg.reports.charts import Marked, histogram
from hf_hardneg.reports.hardness import EASY, HARD
from hf_hardneg.reports.templates import rendered

MARKED = {
    "overlap": Marked(NearDuplicate().threshold, float("inf"), "near duplicates"),
    "(s+ - s) / |s+|": Marked(HARD, EASY, "moderate"),
}
"""What is shaded, by the label of the axis."""


def page(
    summary: str,
    findings: Sequence[Finding],
    estimate: Estimate | None,
    histograms: Sequence[Histogram],
    unchecked: Mapping[str, str],
) -> str:
    """Writes the page; every text of the data is escaped. See `Audit` for the arguments."""
    drawn = [
        histogram(chart.edges, chart.counts, title=chart.title, x_label=chart.x_label, marked=MARKED.get(chart.x_label))
        for chart in histograms
    ]
    return rendered(
        "hf_hardneg.audits",
        "page.html.jinja",
        summary=summary,
        findings=findings,
        estimate=estimate,
        estimate_examples=_examples(estimate.examples) if estimate is not None else None,
        sections=[(finding, _examples(finding.examples)) for finding in findings],
        charts=drawn,
        unchecked=unchecked,
    )


def _examples(examples: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The names of all that examples show, and the cells of each."""
    names = list(dict.fromkeys(name for example in examples for name in example))
    return names, [[_printed(example.get(name, "")) for name in names] for example in examples]


def _printed(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
