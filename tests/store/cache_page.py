"""Tables of docs/what_is_cached_when.md from the table of kinds: `python -m tests.store.cache_page` writes them."""

import re
from pathlib import Path

from hf_hardneg.store.kinds import CHANGES, KINDS

PAGE = Path(__file__).parents[2] / "docs/what_is_cached_when.md"


def changes():
    """What is computed again, by change."""
    for name, words in CHANGES.items():
        renewed = [f"`{kind}`" for kind in KINDS.values() if name in kind.renewed_by]
        extended = [f"`{kind}`" for kind in KINDS.values() if name in kind.extended_by]
        yield words, ", ".join(renewed) or "nothing", ", ".join(extended)


def kinds():
    """What each kind holds and depends on."""
    for name, kind in KINDS.items():
        yield f"`{name}`", kind.holds, kind.depends_on, "kept" if kind.lasts else ""


TABLES = {
    "What a change costs": (("You change", "Computed again", "Added to"), changes),
    "Every kind of directory": (("Kind", "Holds", "Depends on", "In a refresh"), kinds),
}
"""By the heading that a table stands under."""


def with_tables(page):
    """A page whose tables say what the table of kinds says."""
    sections = re.split("^(?=## )", page, flags=re.MULTILINE)
    return "".join(map(_with_table, sections)).rstrip() + "\n"


def _with_table(section):
    heading = section.partition("\n")[0].removeprefix("## ")
    if heading not in TABLES:
        return section
    columns, rows = TABLES[heading]
    lines = ["| " + " | ".join(row).replace("  ", " ") + " |" for row in (columns, ["---"] * len(columns), *rows())]
    prose = [line for line in section.splitlines() if not line.startswith("|")]
    return "\n\n".join(["\n".join(prose).rstrip(), "\n".join(lines), ""])


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
