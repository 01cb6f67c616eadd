"""`audit`: what is wrong with mined negatives, whoever mined them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from hf_hardneg.cli.commands import command
from hf_hardneg.cli.named_sources import negatives_of_anyone, optional_documents, optional_table
from hf_hardneg.cli.option_groups import SOURCE, NamedColumns
from hf_hardneg.cli.terminal import answer, note


@dataclass(frozen=True, kw_only=True)
class Audited(NamedColumns):
    """What is audited, and beside what."""

    dataset: Annotated[str, Argument(help="file or folder in a trainer's layout, or Hub id")]
    layout: Annotated[str | None, Option(help="of from_format() (default: what the columns say)")] = None
    split: Annotated[str, Option(help="split of what is read")] = "train"
    corpus: Annotated[str | None, Option(help=f"the documents that were mined: {SOURCE}")] = None
    queries: Annotated[str | None, Option(help="ids and texts of the queries, for rows without one of them")] = None
    qrels: Annotated[
        str | None, Option(help="judgements: query-id, corpus-id, score as BEIR's .tsv, another file or a Hub id")
    ] = None
    test: Annotated[str | None, Option(help=f"queries of a test set, to be absent from the rows: {SOURCE}")] = None
    html: Annotated[str | None, Option(help="page to write")] = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who estimates false negatives, and how."""

    judge: Annotated[str | None, Option(help="Hub id or path of a cross-encoder that estimates false negatives")] = None
    sample: Annotated[int, Option(help="pairs that the judge is asked")] = 500
    threshold: Annotated[float, Option(help="probability from which it says relevant")] = 0.5


@command("audit")
def audit(audited: Audited, asked: Asked) -> int:
    """Say what is wrong with mined negatives.

    Whoever mined them, in any layout; the exit status is 1 where there are errors.
    """
    from hf_hardneg.audits import Judge, audit
    from hf_hardneg.store.disk import check_writable

    if audited.html:
        check_writable(audited.html, "--html")
    judge = None if asked.judge is None else Judge(asked.judge, asked.sample, asked.threshold)
    columns = audited.roles
    result = audit(
        negatives_of_anyone(audited.dataset, layout=audited.layout, split=audited.split),
        corpus=optional_documents(audited.corpus),
        qrels=optional_table(audited.qrels),
        judge=judge,
        queries=optional_table(audited.queries),
        test_queries=optional_table(audited.test),
        columns=columns,
        layout=audited.layout,
        split=audited.split,
    )
    answer(result.to_dict(), result)
    if audited.html:
        note(f"\nWritten to {result.html(audited.html)}")
    return 0 if result.ok else 1
