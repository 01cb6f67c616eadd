"""`review` opens a page on which people judge mined negatives."""

from __future__ import annotations

import contextlib
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from hf_hardneg.audits.review_server import ReviewServer
from hf_hardneg.audits.shown_rows import ShownRows
from hf_hardneg.audits.verdict_log import VerdictLog
from hf_hardneg.audits.verdicts import pair_columns
from hf_hardneg.corpus.columns import Columns
from hf_hardneg.errors import DataError
from hf_hardneg.reports.templates import rendered
from hf_hardneg.runtime.arguments import Folder, Range, checked
from hf_hardneg.store.disk import scratch

if TYPE_CHECKING:
    from datasets import Dataset

Port = Annotated[int, Range(least=0, most=65535, such_as=0)]


@checked
def review(
    mined: Dataset,
    verdicts: Folder = "verdicts.jsonl",
    *,
    columns: Columns | None = None,
    port: Port = 0,
    browser: bool = True,
    opened: Callable[[str], None] = print,
) -> None:
    """Open a page on this machine to look at mined negatives and judge them; returns when it is interrupted.

    The page shows a query at a time beside its positives and negatives, with the words they share, their scores, and
    what each stage of mining took; the keys are j and k for the next and the previous negative, y and n for relevant
    and not relevant, u to take back. Every verdict is on the disk before the page shows it. `Verdicts` reads them.

    Only programs of this machine reach the page, and only with the token in its address. Nothing is copied: rows are
    read where they are mapped.

    Args:
        mined (`Dataset`): what `mine()` returned, or `from_format()`.
        verdicts (`str` or `Path`, defaults to `"verdicts.jsonl"`): the file of verdicts, which is added to.
        columns (`Columns`, *optional*): as `mine` got them; by default what the recipe says.
        port (`int`, defaults to 0): of the page; 0 is any that is free.
        browser (`bool`, defaults to `True`): whether to open it in a browser.
        opened (`Callable[[str], None]`, *optional*): told the address, by default printed.

    Raises:
        ColumnError: the rows have no queries or negatives.
        ConfigError: another review writes the file, or the port is taken.
        DataError: there are no rows, or the file holds something else than verdicts.

    Example:
        >>> review(mined, "verdicts.jsonl")  # doctest: +SKIP
    """
    if not len(mined):
        raise DataError("The dataset has 0 rows; a review needs one at least. Give what mine() returned, with rows.")
    pair_columns(mined, columns)
    with (
        contextlib.closing(VerdictLog(Path(verdicts).absolute())) as log,
        ReviewServer(ShownRows.of(mined, columns, log), port) as server,
        contextlib.suppress(KeyboardInterrupt),
        contextlib.ExitStack() as stack,
    ):
        opened(server.url)
        if browser:
            stack.enter_context(_opened_in_browser(server.url))
        server.serve_forever()


@contextlib.contextmanager
def _opened_in_browser(url: str) -> Iterator[None]:
    """Open an address in a browser by a file that only this user reads: who else is here sees what programs are given.

    The file is there as long as the page is.
    """
    with scratch() as folder:
        page = folder / "open.html"
        page.write_text(rendered("audits/open.html.jinja", url=url), encoding="utf-8")
        webbrowser.open(page.as_uri())
        yield
