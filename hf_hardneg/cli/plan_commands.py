"""`plan` and `sweep`: what mining would cost, and what other thresholds would yield."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from typer import Option

from hf_hardneg.cli.choices import Choice
from hf_hardneg.cli.commands import command
from hf_hardneg.cli.mine_commands import ModelOfJudge, ids_of
from hf_hardneg.cli.named_sources import pairs_and_corpus
from hf_hardneg.cli.option_groups import PairsOfCorpus
from hf_hardneg.cli.terminal import answer, note
from hf_hardneg.errors import ConfigError
from hf_hardneg.recipes.plain_yaml import plain_values


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The same job at other sizes, or on several machines."""

    documents: Annotated[int | None, Option(help="plan for so many documents like these")] = None
    rows: Annotated[int | None, Option(help="plan for so many pairs like these")] = None
    machines: Annotated[
        int | None, Option(help="plan for as many shards on so many machines like this one, with one cache")
    ] = None


@command("plan")
def plan(sources: PairsOfCorpus, choice: Choice, judged: ModelOfJudge, elsewhere: Elsewhere) -> None:
    """Say what mining will cost.

    Time, memory and disk, and something cheaper.
    """
    from hf_hardneg.planning.plans import plan
    from hf_hardneg.planning.shared_plans import SharedPlan

    inputs = {**sources.inputs, "cross_encoder": judged.cross_encoder}
    chosen = choice.chosen(sources.corpus, cross_encoder=judged.cross_encoder)
    job = pairs_and_corpus(sources, single=False, strategy=chosen.strategy)
    options = chosen.with_inputs({**inputs, **job.options})
    cost = plan(job.pairs, job.corpus, chosen.strategy, num_proc=choice.num_proc, **options)
    cost = cost.at(documents=elsewhere.documents, rows=elsewhere.rows)
    figures = {name: getattr(cost, name) for name in ("seconds", "slow", "memory", "disk", "cheaper")}
    told: dict[str, Any] = {"documents": cost.documents, "rows": cost.rows, **figures}
    if elsewhere.machines is None:
        answer(told, cost)
    else:
        shared = SharedPlan(plan=cost, machines=elsewhere.machines)
        names = ("machines", "once", "each", "shared", "seconds", "network", "index", "index_parts")
        answer({**told, **{name: getattr(shared, name) for name in names}}, shared)
    note(f"  {ids_of(job.corpus, options.get('columns'))}")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Settings to try."""

    trial: Annotated[
        list[str],
        Option(
            "--try",
            metavar="FILTER=VALUE,VALUE ...",
            help="values of the first option of a filter, such as relative_margin=0,0.05,0.1; of several filters all "
            "combinations are tried",
        ),
    ]

    @property
    def settings(self) -> dict[str, list[Any]]:
        """The values to try, by filter.

        Raises:
            ConfigError: a value cannot be read, or a filter stands twice.
        """
        grid: dict[str, list[Any]] = {}
        for text in self.trial:
            name, equals, values = text.partition("=")
            if not equals or not values or name in grid:
                raise ConfigError(
                    f"--try got {text!r}; allowed is each filter once, with values. Give such as "
                    "relative_margin=0,0.05,0.1."
                )
            try:
                grid[name] = [plain_values(value) for value in values.split(",")]
            except ValueError as error:
                raise ConfigError(
                    f"--try {text} cannot be read ({error}). Give numbers with commas between."
                ) from error
        return grid


@command("sweep")
def sweep(sources: PairsOfCorpus, choice: Choice, judged: ModelOfJudge, grid: Grid) -> None:
    """Say what other thresholds would yield.

    Candidates are searched once, and selected by each combination of filters.
    """
    from hf_hardneg.reports.sweeps import sweep

    inputs = {**sources.inputs, "cross_encoder": judged.cross_encoder}
    settings = grid.settings
    chosen = choice.chosen(sources.corpus, cross_encoder=judged.cross_encoder)
    job = pairs_and_corpus(sources, strategy=chosen.strategy)
    options: Any = chosen.with_inputs({**inputs, **job.options})
    tried = sweep(job.pairs, job.corpus, chosen.strategy, options=options, **settings)
    lines = [{"filters": list(map(repr, line.filters)), "report": line.report} for line in tried]
    answer(lines, "\n".join(map(str, tried)))
