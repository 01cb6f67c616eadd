"""What an audit found: a report to be printed, stored, or written as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.audits.checks import Severity
from hf_hardneg.audits.judging import Estimate

SHOWN_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found.

    Args:
        name (`str`): of the check.
        severity (`str`): `"error"`, `"warning"` or `"note"`.
        count (`int`): how many negatives, documents or rows, as `says` has it.
        rows (`int`): rows it stands in.
        share (`float`): of all rows.
        says, todo (`str`): what it is, and what to do about it.
        examples (`tuple[dict, ...]`): the first few: `row` counts from 0 in the dataset as given; beside it what there
            is of `query`, `positive`, `negative`, their ids and scores, and `count` where one text is in many rows.
    """

    name: str
    severity: Severity
    count: int
    rows: int
    share: float
    says: str
    todo: str
    examples: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often a number lies between edges.

    Args:
        title, x_label (`str`): what is counted.
        edges (`tuple[float, ...]`): n + 1, ascending; the outermost may be infinite.
        counts (`tuple[int, ...]`): n.
    """

    title: str
    x_label: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


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
        lines = [f"{self.rows:,} rows, {self.negatives:,} negatives, layout {self.layout}: {self.verdict}"]
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
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """The findings in a few words."""
        kinds = [one.severity for one in self.findings]
        named = [(kinds.count(kind), kind) for kind in ("error", "warning", "note") if kind in kinds]
        return ", ".join(f"{number} {kind}{'s' if number > 1 else ''}" for number, kind in named) or "nothing found"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold; what is infinite or NaN is text."""
        made = _plain({**asdict(self), "ok": self.ok})
        if self.estimate is not None:
            for name in ("negatives", "positives", "random"):
                low, high = getattr(self.estimate, name).interval
                made["estimate"][name] |= {"low": low, "high": high}
        return made

    def html(self, path: str | Path) -> Path:
        """Writes a page of its own, with examples and plots; returns where.

        Args:
            path (`str` or `Path`): replaced where it exists.
        """
        from hf_hardneg.audits.page import page

        written = Path(path)
        written.write_text(page(self), encoding="utf-8", errors="replace")
        return written


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
    return ", ".join(f"{name} {one!r}" for name, one in cut.items())
