"""`report`: what mining did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from hf_hardneg.cli.commands import command
from hf_hardneg.cli.named_sources import mined_split, with_verdicts
from hf_hardneg.cli.option_groups import VERDICTS
from hf_hardneg.cli.terminal import answer, chart, note


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What is reported."""

    mined: Annotated[str, Argument(help="folder that mine wrote, in the list layout")]
    split: Annotated[str, Option(help="which of several splits")] = "train"
    temperature: Annotated[
        float | None, Option(help="of the InfoNCE loss to come (default: 0.05, where scores are cosines)")
    ] = None
    verdicts: Annotated[str | None, Option(metavar="FILE", help=VERDICTS)] = None
    html: Annotated[str | None, Option(help="page to write")] = None


@command("report", kept="Nothing was written.")
def report(reported: Reported) -> None:
    """Say what mining did.

    How many candidates were removed by what, and the scores, ranks and margins of the negatives.
    """
    from hf_hardneg.reports.report import report
    from hf_hardneg.store.disk import check_writable

    if reported.html:
        check_writable(reported.html, "--html")
    rows = mined_split(reported.mined, split=reported.split)
    figures = report(with_verdicts(rows, reported.mined, reported.verdicts), temperature=reported.temperature)
    answer(figures, f"{figures}{chart(figures.zone)}")
    if reported.html:
        note(f"\nWritten to {figures.html(reported.html)}")
