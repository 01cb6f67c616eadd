"""`merge`: the rows of all shards, as one run gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument

from hf_hardneg.cli.commands import command
from hf_hardneg.cli.mine_commands import deliver
from hf_hardneg.cli.option_groups import Saving


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What is merged."""

    parts: Annotated[list[str], Argument(help="folders that shards were given as --out")]


@command("merge", kept="Nothing was written to --out.")
def merge(merged: Merged, saving: Saving) -> None:
    """Join what the shards of a job mined.

    Shards that are missing, failed, stand twice, are damaged or of another job are named, each with the command that
    mines it again.
    """
    from hf_hardneg.engines.shards import merge
    from hf_hardneg.formats.layouts import check_layout
    from hf_hardneg.formats.outputs import check_folder

    check_layout(saving.format)
    check_folder(saving.out, overwrite=saving.overwrite)
    deliver(merge(merged.parts), saving, None)
