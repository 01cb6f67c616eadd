"""An audit as one HTML page that needs nothing else: no script, no style sheet, no font, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from hf_hardneg.audits.findings import Finding, Histogram
from hf_hardneg.audits.judging import Estimate
from hf_hardneg.filters import NearDuplicate
from hf_hardneg.reports.charts import Marked, histogram
from hf_hardneg.reports.hardness import EASY, HARD

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #7676764d; }
td.number { text-align: right; white-space: nowrap; }
td.text { overflow-wrap: anywhere; white-space: pre-wrap; unicode-bidi: isolate; }
.error { color: #c62828; } .warning { color: #a06000; } .note { color: #767676; }
@media (prefers-color-scheme: dark) {
  .error { color: #ff7b7b; } .warning { color: #e0a040; } .note { color: #a0a0a0; }
}
"""
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
    """The page; every text of the data escaped. See `Audit` for what is given."""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Audit of hard negatives</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f"<h1>Audit of hard negatives</h1>\n<p>{escape(summary)}.</p>",
        _table(("", "finding", "count", "rows", "what"), map(_cells, findings)),
        *_estimate(estimate),
        *map(_section, findings),
        *(
            histogram(one.edges, one.counts, title=one.title, x_label=one.x_label, marked=MARKED.get(one.x_label))
            for one in histograms
        ),
        *_unchecked(unchecked),
        "</body>\n</html>",
    ]
    return "\n".join(parts) + "\n"


def _cells(one: Finding) -> list[str]:
    link = f'<td><a href="#{escape(one.name)}">{escape(one.name)}</a></td>'
    numbers = f'<td class="number">{one.count:,}</td><td class="number">{100 * one.share:.2f} %</td>'
    return [f'<td class="{one.severity}">{one.severity}</td>', link, numbers, f"<td>{escape(one.says)}</td>"]


def _section(one: Finding) -> str:
    told = f"<p>{one.count:,} {escape(one.says)}, in {one.rows:,} rows. {escape(one.todo)}</p>"
    return (
        f'<h2 id="{escape(one.name)}" class="{one.severity}">{escape(one.name)}</h2>\n{told}\n{_examples(one.examples)}'
    )


def _estimate(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return []
    return ["<h2>False negatives</h2>", f"<pre>{escape(str(estimate))}</pre>", _examples(estimate.examples)]


def _examples(examples: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for example in examples for name in example))
    rows = [[f'<td class="text">{escape(_printed(one.get(name, "")))}</td>' for name in names] for one in examples]
    return _table(names, rows)


def _printed(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _unchecked(unchecked: Mapping[str, str]) -> list[str]:
    if not unchecked:
        return []
    rows = [[f"<td>{escape(name)}</td><td>{escape(needs)}</td>"] for name, needs in unchecked.items()]
    return ["<h2>Not checked</h2>", _table(("check", "needs"), rows)]


def _table(heads: Iterable[str], rows: Iterable[list[str]]) -> str:
    body = [f"<tr>{''.join(cells)}</tr>" for cells in rows]
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return "\n".join(["<table>", f"<tr>{head}</tr>", *body, "</table>"]) if body else ""
