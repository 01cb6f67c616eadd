"""The result of an audit, to be printed, stored, or written as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.audits.findings import Finding, Histogram
from hf_hardneg.audits.judging import Estimate
from hf_hardneg.errors import shown
from hf_hardneg.filters import NearDuplicate
from hf_hardneg.reports.charts import Marked, histogram
from hf_hardneg.reports.hardness import EASY, HARD
from hf_hardneg.reports.templates import rendered
from hf_hardneg.runtime.arguments import Folder, checked
from hf_hardneg.store.disk import written

SHOWN_CHARACTERS = 60
MARKED = {
    "overlap": Marked(NearDuplicate().threshold, float("inf"), "near duplicates"),
    "(s+ - s) / |s+|": Marked(HARD, EASY, "moderate"),
}
"""What a page shades, by the label of the axis."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of `audit()`, which is true where no finding is an error; `str()` renders it.

    Args:
        layout (`str`): the layout of the rows.
        rows, negatives (`int`): how many were audited; rows that a layout writes apart count as one.
        findings (`tuple[Finding, ...]`): by severity; a check that found nothing is not among them.
        unchecked (`dict[str, str]`): checks that could not be made, and what they need.
        histograms (`tuple[Histogram, ...]`): negatives in a row, overlaps with the positive, relative margins.
        estimate (`Estimate`, *optional*): the judge's estimate of false negatives.
    """

    layout: str
    rows: int
    negatives: int
    findings: tuple[Finding, ...]
    unchecked: dict[str, str] = field(default_factory=dict)
    histograms: tuple[Histogram, ...] = ()
    estimate: Estimate | None = None

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def counts(self) -> dict[str, int]:
        """The count of each finding, by name."""
        return {finding.name: finding.count for finding in self.findings}

    def __getitem__(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.name == name)

    def __str__(self) -> str:
        lines = [self.summary]
        for finding in self.findings:
            figures = f"{finding.count:>10,}  {100 * finding.share:6.2f} % of rows"
            lines.append(f"{finding.severity:<8} {finding.name:<20} {figures}  {finding.says}")
            if finding.severity != "note" and finding.examples:
                lines.append(f"{'':<9}such as {_shown(finding.examples[0])}")
            lines.append(f"{'':<9}{finding.todo}")
        if self.estimate is not None:
            lines.append(str(self.estimate))
        if self.unchecked:
            lines.append("not checked:")
            lines.extend(f"{'':<9}{name:<20} needs {needs}" for name, needs in self.unchecked.items())
        return shown("\n".join(lines))

    @property
    def summary(self) -> str:
        """The result in a line."""
        kinds = [finding.severity for finding in self.findings]
        named = [(kinds.count(kind), kind) for kind in ("error", "warning", "note") if kind in kinds]
        counted = ", ".join(f"{number} {kind}{'s' if number > 1 else ''}" for number, kind in named) or "nothing found"
        return f"{self.rows:,} rows, {self.negatives:,} negatives, layout {self.layout}: {counted}"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values that JSON can hold; infinite numbers and NaN become text."""
        values = _plain({**asdict(self), "ok": self.ok})
        if self.estimate is not None:
            for name in ("negatives", "positives", "random"):
                low, high = getattr(self.estimate, name).interval
                values["estimate"][name] |= {"low": low, "high": high}
        return values

    @checked
    def html(self, path: Folder) -> Path:
        """Write an HTML page with examples and plots, and return its path.

        It needs nothing else, no script, style sheet, font or network; every text of the data is escaped.

        Args:
            path (`str` or `Path`): replaced where it exists.

        Raises:
            StoreError: the disk refuses it.
        """
        charts = [
            histogram(each.edges, each.counts, title=each.title, x_label=each.x_label, marked=MARKED.get(each.x_label))
            for each in self.histograms
        ]
        target = Path(path)
        content = rendered("hf_hardneg.audits", "page.html.jinja", audit=self, charts=charts, cells=_cells)
        with written(target, needed=len(content), other="path=") as partial:
            partial.write_text(content, encoding="utf-8")
        return target


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _cells(examples: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The names of all that examples show, and the cells of each."""
    names = list(dict.fromkeys(name for example in examples for name in example))
    return names, [[_printed(example.get(name, "")) for name in names] for example in examples]


def _printed(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shown(example: Mapping[str, Any]) -> str:
    """Print an example in a line, with texts quoted, so that no control character gets through."""
    parts = []
    for name, value in example.items():
        if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
            value = value[:SHOWN_CHARACTERS] + "…"
        parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value!r}")
    return ", ".join(parts)
