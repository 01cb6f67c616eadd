"""`export`: mined rows in the layout of a trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from hf_hardneg.cli.commands import command
from hf_hardneg.cli.mine_commands import save_as
from hf_hardneg.cli.named_sources import mined_split
from hf_hardneg.cli.option_groups import NamedColumns, Saving
from hf_hardneg.cli.terminal import answer


@dataclass(frozen=True, kw_only=True)
class Mined(NamedColumns):
    """What is exported."""

    mined: Annotated[str, Argument(help="folder that mine wrote, in the list layout")]
    split: Annotated[str, Option(help="which of several splits")] = "train"


@command("export", kept="Nothing was written to --out.")
def export(mined: Mined, saving: Saving) -> None:
    """Save mined rows in the layout of a trainer."""
    from hf_hardneg.formats.layouts import check_layout
    from hf_hardneg.formats.outputs import check_folder

    columns = mined.roles
    check_layout(saving.format)
    check_folder(saving.out, overwrite=saving.overwrite)
    rows = save_as(mined_split(mined.mined, split=mined.split), saving, columns)
    said = f"Written to {saving.out}: datasets.load_from_disk({saving.out!r}) has {rows:,} rows"
    answer({**saving.told, "rows": rows}, said)
