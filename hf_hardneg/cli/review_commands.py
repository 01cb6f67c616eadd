"""`review`: look at mined negatives, and judge them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from hf_hardneg.cli.commands import command
from hf_hardneg.cli.named_sources import mined_split, verdicts_of
from hf_hardneg.cli.option_groups import NamedColumns
from hf_hardneg.cli.terminal import answer, tell


@dataclass(frozen=True, kw_only=True)
class Reviewed(NamedColumns):
    """What is reviewed, and where what is said of it goes."""

    mined: Annotated[str, Argument(help="folder that mine wrote, in the list layout")]
    split: Annotated[str, Option(help="which of several splits")] = "train"
    verdicts: Annotated[
        str | None, Option(metavar="FILE", help="what is said, a line each (default: beside the folder)")
    ] = None
    port: Annotated[int, Option(help="of the page; 0 is any that is free")] = 0
    browser: Annotated[bool, Option(help="open the page in a browser")] = True
    argilla: Annotated[
        str | None,
        Option(metavar="FILE", help="write negatives, and what was said, as records of Argilla; opens no page"),
    ] = None


@command("review", kept="Every verdict that the page showed is kept.")
def review(reviewed: Reviewed) -> None:
    """Judge mined negatives, on a page of this machine.

    A query at a time, the most suspicious negatives first: j and k go on and back, y is relevant, n is not, u takes it
    back. Then mine again with --verdicts, or see what it says of the others with report.
    """
    from hf_hardneg.audits import Verdicts
    from hf_hardneg.audits import review as opened

    path = verdicts_of(reviewed.mined, reviewed.verdicts)
    rows = mined_split(reviewed.mined, split=reviewed.split)
    if reviewed.argilla is None:
        opened(
            rows,
            path,
            columns=reviewed.roles,
            port=reviewed.port,
            browser=reviewed.browser,
            opened=lambda url: tell(f"The page is {url}\nVerdicts go to {path}; Ctrl-C ends the review."),
        )
    verdicts = Verdicts(path)
    relevant = sum(each.score == 1 for each in verdicts)
    written = None if reviewed.argilla is None else verdicts.to_argilla(reviewed.argilla, rows, columns=reviewed.roles)
    told = {"verdicts": path, "judged": len(verdicts), "relevant": relevant, "argilla": written}
    where = path if written is None else written
    answer(told, f"{len(verdicts):,} negatives judged, {relevant:,} of them relevant: {where}")
