"""`push` and `reproduce`: mined data on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from hf_hardneg.cli.commands import command
from hf_hardneg.cli.named_sources import mined_rows, optional_documents, optional_table, with_verdicts
from hf_hardneg.cli.option_groups import CONFIRM, SOURCE, VERDICTS, WORKERS, NamedColumns, Placed
from hf_hardneg.cli.terminal import answer

CONFIGS = ("list", "triplet")


@dataclass(frozen=True, kw_only=True)
class Pushed(NamedColumns):
    """What is pushed, and where to."""

    mined: Annotated[str, Option(help="folder that mine wrote, in the list layout")]
    repo: Annotated[str, Option(help="such as user/name; made where there is none")]
    config: Annotated[
        list[str] | None,
        Option(metavar="CONFIG ...", help=f"such as list, triplet-5 or scores (default: {' '.join(CONFIGS)})"),
    ] = None
    corpus: Annotated[
        str | None, Option(help=f"documents, to be the config corpus: {SOURCE} (default: the card refers to them)")
    ] = None
    split: Annotated[str, Option(help="split of the corpus that is read")] = "train"
    verdicts: Annotated[str | None, Option(metavar="FILE", help=VERDICTS)] = None
    index: Annotated[str | None, Option(help="folder of an index to go along, as hf-hardneg index prints it")] = None


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The commit and the card."""

    private: Annotated[bool, Option("--private", help="make a new repository private")] = False
    revision: Annotated[str | None, Option(help="branch (default: main)")] = None
    create_pr: Annotated[bool, Option("--create-pr", help="open a pull request instead")] = False
    message: Annotated[str | None, Option(help="of the commit")] = None
    license: Annotated[str | None, Option(help="such as mit")] = None
    language: Annotated[list[str] | None, Option(metavar="LANGUAGE ...", help="such as en")] = None
    pretty_name: Annotated[str | None, Option(help="title of the card")] = None


@command("push", kept="A commit comes last, so the repository is as it was; the same command pushes it all.")
def push(pushed: Pushed, committed: Committed) -> None:
    """Push mined rows to the Hub, with a card.

    Needs a token that may write: log in with `hf auth login`, or set HF_TOKEN.
    """
    from hf_hardneg.hub import push_mined_dataset

    configs, columns = pushed.config or list(CONFIGS), pushed.roles
    done = push_mined_dataset(
        with_verdicts(mined_rows(pushed.mined), pushed.mined, pushed.verdicts),
        pushed.repo,
        configs=configs,
        corpus=optional_documents(pushed.corpus, split=pushed.split),
        commit_message=committed.message,
        columns=columns,
        index=pushed.index,
        private=committed.private or None,
        revision=committed.revision,
        create_pr=committed.create_pr,
        license=committed.license,
        language=committed.language,
        pretty_name=committed.pretty_name,
    )
    url = done.pr_url or done.commit_url
    answer({"repo": pushed.repo, "configs": configs, "url": url}, f"{', '.join(configs)} of {pushed.repo}: {url}")


@dataclass(frozen=True, kw_only=True)
class Reproduced(Placed):
    """What is mined again, and what the card cannot say."""

    repo: Annotated[str, Argument(help="such as user/name")]
    revision: Annotated[str | None, Option(help="branch or commit (default: main)")] = None
    corpus: Annotated[str | None, Option(help=f"the documents, where the card cannot say where they are: {SOURCE}")] = (
        None
    )
    pairs: Annotated[str | None, Option(help=f"what was mined, where mining dropped rows: {SOURCE}")] = None
    split: Annotated[str, Option(help="split of what is read")] = "train"
    encoder: Annotated[str | None, Option(help="path of a model that is not on the Hub")] = None
    cross_encoder: Annotated[str | None, Option(help="path of a model that is not on the Hub")] = None
    num_proc: Annotated[int | None, Option(help=WORKERS)] = None
    confirm_cost: Annotated[bool, Option("--confirm-cost", help=CONFIRM)] = False


@command("reproduce")
def reproduce(again: Reproduced) -> int:
    """Mine a pushed dataset again, and compare.

    The card says how it was mined. The exit status is 1 where rows differ.
    """
    from hf_hardneg.hub import reproduce

    names = ("revision", "encoder", "cross_encoder", "num_proc", "cache_dir", "confirm_cost")
    result = reproduce(
        again.repo,
        corpus=optional_documents(again.corpus, split=again.split),
        pairs=optional_table(again.pairs, split=again.split),
        **{name: getattr(again, name) for name in names},
    )
    answer({"identical": result.identical, "result": result}, result)
    return 0 if result.identical else 1
