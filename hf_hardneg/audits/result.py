"""The result of an audit, to be printed, stored, or written as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.audits.findings import Finding
from hf_hardneg.audits.judging import Estimate
from hf_hardneg.errors import shown
from hf_hardneg.reports.charts import Histogram
from hf_hardneg.reports.templates import rendered, save_page
from hf_hardneg.runtime.arguments import Folder, checked

SHOWN_CHARACTERS = 60
TEXTS = ("query", "positive", "negative")


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
        return save_page(Path(path), rendered("audits/page.html.jinja", audit=self, shown=_texts_and_facts))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _texts_and_facts(example: Mapping[str, Any]) -> tuple[list[tuple[str, str, Any]], list[tuple[str, str]]]:
    """Part an example into its texts, each after its name and before its score, and what else is known of it."""
    texts = [name for name in TEXTS if name in example]
    scores = {f"{name}_score" for name in texts}
    facts = [(name, _printed(value)) for name, value in example.items() if name not in scores.union(texts)]
    return [(name, str(example[name]), example.get(f"{name}_score")) for name in texts], facts


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
