"""`report`: what mining did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from hf_hardneg.cli.commands import command
from hf_hardneg.cli.named_sources import mined_split
from hf_hardneg.cli.terminal import answer


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What is reported."""

    mined: Annotated[str, Argument(help="folder that mine wrote, in the list layout")]
    split: Annotated[str, Option(help="which of several splits")] = "train"
    temperature: Annotated[
        float | None, Option(help="of the InfoNCE loss to come (default: 0.05, where scores are cosines)")
    ] = None


@command("report", kept="Nothing was written.")
def report(reported: Reported) -> None:
    """Say what mining did.

    How many candidates were removed by what, and the scores, ranks and margins of the negatives.
    """
    from hf_hardneg.reports.report import report

    figures = report(mined_split(reported.mined, split=reported.split), temperature=reported.temperature)
    answer(figures, figures)
