"""What an audit found: a report to be printed, stored, or written as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.audits.findings import Finding, Histogram
from hf_hardneg.audits.judging import Estimate
from hf_hardneg.audits.page import page
from hf_hardneg.errors import shown
from hf_hardneg.runtime.arguments import Folder, checked
from hf_hardneg.store.disk import written

SHOWN_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What `audit()` found; true where there is no error, and `str()` renders it.

    Args:
        layout (`str`): of the rows.
        rows, negatives (`int`): audited; rows that a layout writes apart count as one.
        findings (`tuple[Finding, ...]`): by severity; a check that found nothing is not among them.
        unchecked (`dict[str, str]`): checks that could not be made, and what they need.
        histograms (`tuple[Histogram, ...]`): of negatives in a row, overlaps with the positive, relative margins.
        estimate (`Estimate`, *optional*): of false negatives, where there was a judge.
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
        """Whether there is no error."""
        return not any(one.severity == "error" for one in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def counts(self) -> dict[str, int]:
        """How many of each finding, by name."""
        return {one.name: one.count for one in self.findings}

    def __getitem__(self, name: str) -> Finding:
        return next(one for one in self.findings if one.name == name)

    def __str__(self) -> str:
        lines = [self.summary]
        for one in self.findings:
            lines.append(
                f"{one.severity:<8} {one.name:<20} {one.count:>10,}  {100 * one.share:6.2f} % of rows  {one.says}"
            )
            if one.severity != "note" and one.examples:
                lines.append(f"{'':<9}such as {_shown(one.examples[0])}")
            lines.append(f"{'':<9}{one.todo}")
        if self.estimate is not None:
            lines.append(str(self.estimate))
        if self.unchecked:
            lines.append("not checked:")
            lines.extend(f"{'':<9}{name:<20} needs {needs}" for name, needs in self.unchecked.items())
        return shown("\n".join(lines))

    @property
    def summary(self) -> str:
        """It in a line."""
        kinds = [one.severity for one in self.findings]
        named = [(kinds.count(kind), kind) for kind in ("error", "warning", "note") if kind in kinds]
        found = ", ".join(f"{number} {kind}{'s' if number > 1 else ''}" for number, kind in named) or "nothing found"
        return f"{self.rows:,} rows, {self.negatives:,} negatives, layout {self.layout}: {found}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold; what is infinite or NaN is text."""
        made = _plain({**asdict(self), "ok": self.ok})
        if self.estimate is not None:
            for name in ("negatives", "positives", "random"):
                low, high = getattr(self.estimate, name).interval
                made["estimate"][name] |= {"low": low, "high": high}
        return made

    @checked
    def html(self, path: Folder) -> Path:
        """Writes a page of its own, with examples and plots; returns where.

        Args:
            path (`str` or `Path`): replaced where it exists.

        Raises:
            StoreError: the disk refuses it.
        """
        target = Path(path)
        content = page(self.summary, self.findings, self.estimate, self.histograms, self.unchecked)
        with written(target, needed=len(content), other="path=") as partial:
            partial.write_text(content, encoding="utf-8")
        return target


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _shown(example: Mapping[str, Any]) -> str:
    """An example in a line; texts quoted, so that no control character gets through."""
    cut = {
        name: one[:SHOWN_CHARACTERS] + "…" if isinstance(one, str) and len(one) > SHOWN_CHARACTERS else one
        for name, one in example.items()
    }
    return ", ".join(f"{name} {f'{one:.4g}' if isinstance(one, float) else repr(one)}" for name, one in cut.items())
