"""`mine`, and what it shares with `demo`: checks before the work, the rows that are shown, the report."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from hf_hardneg.cli.choices import Choice, MiningChoice
from hf_hardneg.cli.commands import command, words_of_shards
from hf_hardneg.cli.named_sources import pairs_and_corpus
from hf_hardneg.cli.option_groups import CONFIRM, PairsOfCorpus, Saving
from hf_hardneg.cli.terminal import answer, chart, note
from hf_hardneg.corpus.columns import Columns
from hf_hardneg.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from hf_hardneg.formats.loaded import JobInputs

SHOWN_ROWS = 3


@dataclass(frozen=True, kw_only=True)
class ModelOfJudge:
    """The model that judges candidates."""

    cross_encoder: Annotated[str | None, Option(help="Hub id or path of the model that judges candidates")] = None


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """What the user agrees to."""

    confirm_cost: Annotated[bool, Option("--confirm-cost", help=CONFIRM)] = False


@dataclass(frozen=True, kw_only=True)
class Said:
    """What people said of negatives mined before."""

    verdicts: Annotated[
        str | None, Option(metavar="FILE", help="of a review: what was judged relevant is no negative")
    ] = None

    def known_positives(self, columns: Columns | None) -> list[Dataset]:
        """The pairs that were judged relevant, for `mine`."""
        from hf_hardneg.audits import Verdicts

        return [] if self.verdicts is None else [Verdicts(self.verdicts).positives(columns)]


@dataclass(frozen=True, kw_only=True)
class Looking:
    """Whether data are only looked at."""

    dry_run: Annotated[bool, Option("--dry-run", help="say what the data are, print three rows, and mine nothing")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """Which share of the rows is mined."""

    shard: Annotated[
        str | None,
        Option(metavar="K/N", help="mine the K-th of N shares of the rows, from 1, as a part in --out, for `merge`"),
    ] = None

    def check(self, saving: Saving) -> None:
        """Raise for what is no shard, and for options that belong to `merge`.

        Raises:
            ConfigError: naming the option.
        """
        if self.shard is None:
            return
        from hf_hardneg.engines.parts import Shard

        Shard.of_words(self.shard)
        if saving.format != "list" or saving.scores is not None:
            raise ConfigError(
                "--shard writes a part of the rows in the list layout, and --format and --scores were given; they are "
                "options of `hf-hardneg merge`, which has all rows. Give them there."
            )


@command("mine")
def mine(
    sources: PairsOfCorpus,
    choice: Choice,
    judged: ModelOfJudge,
    saving: Saving,
    said: Said,
    agreed: Agreed,
    looking: Looking,
    sharding: Sharding,
) -> None:
    """Mine hard negatives for pairs against a corpus."""
    inputs = {**sources.inputs, "cross_encoder": judged.cross_encoder}
    if looking.dry_run:
        _look(pairs_and_corpus(sources, single=False))
        return
    sharding.check(saving)
    chosen = checked_choice(
        choice, saving, sources.corpus, is_part=sharding.shard is not None, cross_encoder=judged.cross_encoder
    )

    def options_of(columns: Columns) -> dict[str, Any]:
        return {**chosen.with_inputs(inputs), "known_positives": said.known_positives(columns)}

    def mining() -> tuple[JobInputs, dict[str, Any]]:
        job = pairs_and_corpus(sources, single=False, strategy=chosen.strategy, mining=options_of)
        how = {"num_proc": choice.num_proc, "confirm_cost": agreed.confirm_cost}
        return job, {**inputs, **job.options, **how, "known_positives": said.known_positives(job.columns)}

    if sharding.shard is not None:
        _mine_part(mining, chosen, sharding.shard, saving)
        return
    job, options = mining()
    run(job.pairs, job.corpus, chosen, saving, **options)


def _look(job: JobInputs) -> None:
    """Print the first rows of pairs, with their positives as they are, and how many rows and documents there are."""
    from hf_hardneg.corpus.queries import PairColumns
    from hf_hardneg.formats.images import rows_with_names

    names = PairColumns.of(job.columns)
    first, rows = job.splits[0], sum(map(len, job.splits))
    for row in rows_with_names(first.select(range(min(SHOWN_ROWS, len(first)))), (names.query, names.positive)):
        note(f"query      {_line(str(row[names.query]))}")
        column = names.positive if names.positive in row else names.positive_ids
        for text in row[column] if isinstance(row[column], list) else [row[column]]:
            note(f"positive   {_line(str(text))}")
        note()
    told = {
        "rows": rows,
        "documents": len(job.corpus),
        "columns": dict(job.columns or {}),
        "words": job.words,
    }
    answer(told, f"{rows:,} pairs and {len(job.corpus):,} documents; nothing was mined")


def _mine_part(
    mining: Callable[[], tuple[JobInputs, dict[str, Any]]], chosen: MiningChoice, words: str, saving: Saving
) -> None:
    """Mine a share of the rows of a job, whose opening may fail too, and is noted then."""
    from hf_hardneg.engines.parts import IN_PLACE, Shard, noted
    from hf_hardneg.engines.shards import mined_part
    from hf_hardneg.mining import Running
    from hf_hardneg.steps import BATCH

    place, again = (Path(saving.out).absolute(), Shard.of_words(words)), words_of_shards(IN_PLACE)
    with noted(*place, again):
        job, inputs = mining()
        options = chosen.with_inputs(inputs)
        how = Running(
            batch_size=BATCH, num_proc=options.pop("num_proc", None), confirm_cost=options.pop("confirm_cost")
        )
        sources, known = (job.pairs, job.corpus, chosen.strategy), options.pop("known_positives")
        directory = mined_part(sources, options, how, known, place, again, overwrite=saving.overwrite)
    said = f"Shard {words} is in {directory}; when all are there: hf-hardneg merge {saving.out} --out FOLDER"
    answer({"out": saving.out, "shard": words, "part": directory}, said)


def checked_choice(
    choice: Choice, saving: Saving, corpus: str | None = None, *, is_part: bool = False, **options: Any
) -> MiningChoice:
    """Put together what is mined with, and raise for arguments that would fail once the work is done."""
    from hf_hardneg.formats.layouts import check_layout
    from hf_hardneg.formats.outputs import check_folder
    from hf_hardneg.formats.scores import chosen_scores
    from hf_hardneg.pipeline.selection import written

    check_layout(saving.format)
    chosen = choice.chosen(corpus, **options)
    if saving.format != "list":
        chosen_scores(saving.scores, saving.format, written(chosen.resolved.filters))
    check_folder(saving.out, overwrite=saving.overwrite, of_parts=is_part)
    return chosen


def run(pairs: Dataset | DatasetDict, corpus: Dataset, chosen: MiningChoice, saving: Saving, **inputs: Any) -> None:
    """Mine, save and report."""
    from hf_hardneg.mining import mine

    options = chosen.with_inputs(inputs)
    columns = options.get("columns")
    note(f"{chosen.name} is {chosen.resolved}\n{ids_of(corpus, columns)}\n")
    mined = mine(pairs, corpus, chosen.strategy, **options)
    deliver(mined, saving, columns, strategy=repr(chosen.resolved))


def deliver(mined: Dataset | DatasetDict, saving: Saving, columns: Columns | None, **told: Any) -> None:
    """Save mined rows, show some, and report on all; `told` is what JSON says besides."""
    from datasets import concatenate_datasets

    from hf_hardneg.corpus.queries import PairColumns
    from hf_hardneg.formats.images import rows_with_names
    from hf_hardneg.reports.report import report

    rows = save_as(mined, saving, columns)
    whole = concatenate_datasets(list(mined.values())) if isinstance(mined, dict) else mined
    names = PairColumns.of(columns)
    for row in rows_with_names(whole.select(range(min(SHOWN_ROWS, len(whole)))), (names.query, names.positive)):
        _show(row, names)
    figures = report(whole)
    note(f"{figures}{chart(figures.zone)}\n")
    said = f"Written to {saving.out}: datasets.load_from_disk({saving.out!r}) has {rows:,} rows"
    answer({**saving.told, "rows": rows, **told, "report": figures}, said)


def save_as(mined: Dataset | DatasetDict, saving: Saving, columns: Columns | None) -> int:
    """Save mined rows in a layout; return how many rows it has."""
    from hf_hardneg.formats import to_format
    from hf_hardneg.formats.outputs import save

    written = to_format(mined, saving.format, scores=saving.scores, columns=columns)
    save(written, saving.out)
    return sum(map(len, written.values())) if isinstance(written, dict) else len(written)


def ids_of(corpus: Dataset, columns: Columns | None) -> str:
    """Say in words where the ids of documents come from."""
    from hf_hardneg.corpus.documents import id_column_of

    column = id_column_of(corpus, (columns or {}).get("id"))
    return f"ids of documents: {column or 'none is given, so they are called row-0, row-1, …'}"


def _show(row: dict[str, Any], names: Any) -> None:
    positives = [row[names.positive]] if isinstance(row[names.positive], str) else row[names.positive]
    note(f"query      {_line(row[names.query])}")
    for text, score in zip(positives, row["positive_scores"], strict=True):
        note(f"positive   {_line(text)}  ({_score(score)})")
    for text, score in zip(row["negatives"], row["negative_scores"], strict=True):
        note(f"negative   {_line(text)}  ({_score(score)})")
    note()


def _score(score: float | None) -> str:
    return "no score" if score is None else f"{score:.2f}"


def _line(text: str) -> str:
    return textwrap.shorten(text, 88, placeholder=" …")
