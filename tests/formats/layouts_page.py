"""The table of docs/data_layouts.md from the table of layouts: `python -m tests.formats.layouts_page` writes it."""

from pathlib import Path

from hf_hardneg.formats.pair_layouts import PAIR_LAYOUTS

PAGE = Path(__file__).parents[2] / "docs/data_layouts.md"
HEADING = "## Rows of pairs"


def with_table(page):
    """The page, whose table of rows says what the table of layouts says."""
    before, _, after = page.partition(HEADING)
    section, next_heading, rest = after.partition("\n## ")
    prose = [line for line in section.split("\n") if not line.startswith("|")]
    start = next(number for number, line in enumerate(prose) if line.startswith("The first of these")) + 1
    rows = [("Layout", "Known by", "Read as"), ("---", "---", "---")]
    rows += [(layout.name, layout.known_by, layout.is_read) for layout in PAIR_LAYOUTS]
    table = ["", *(f"| {' | '.join(row)} |" for row in rows), ""]
    ending = [line for line in prose[start:] if line]
    return "".join([before, HEADING, "\n".join([*prose[:start], *table, *ending, ""]), next_heading, rest])


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
