"""`compare`: which negatives train best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from typer import Option

from hf_hardneg.cli.choices import NUM_NEGATIVES, SEED
from hf_hardneg.cli.commands import command
from hf_hardneg.cli.mine_commands import Agreed, ModelOfJudge
from hf_hardneg.cli.named_sources import pairs_and_corpus
from hf_hardneg.cli.option_groups import VERDICTS, WORKERS, PairsOfCorpus
from hf_hardneg.cli.terminal import answer, note


@dataclass(frozen=True, kw_only=True)
class ComparedStrategies:
    """What is compared."""

    strategies: Annotated[
        list[str] | None, Option(metavar="NAME ...", help="such as bm25 dense hybrid (default: a dozen)")
    ] = None
    model: Annotated[
        str | None, Option(help="Hub id or path of the encoder that is to be trained (default: --encoder)")
    ] = None
    num_negatives: Annotated[int, Option(help="at most so many for each query")] = NUM_NEGATIVES
    seed: Annotated[int, Option(help="of all draws of mining")] = SEED
    num_proc: Annotated[int | None, Option(help=WORKERS)] = None
    judge: Annotated[str | None, Option(help="Hub id or path of a cross-encoder that estimates false negatives")] = None
    verdicts: Annotated[str | None, Option(metavar="FILE", help=VERDICTS.partition(" (")[0])] = None
    html: Annotated[str | None, Option(help="page to write")] = None


@dataclass(frozen=True, kw_only=True)
class TrialOptions:
    """How is trained; see `Trials`."""

    learner: Annotated[str, Option(help="projection, of the model's vectors, or model, all its layers")] = "projection"
    seeds: Annotated[int, Option(help="trainings of each strategy in each round")] = 3
    rounds: Annotated[int | None, Option(help="thirds of the queries that are held out (default: 3; 1 of a model)")] = (
        None
    )
    epochs: Annotated[int | None, Option(help="passes over the pairs (default: 4; 2 of a model)")] = None
    queries: Annotated[int, Option(help="at most so many queries are mined for")] = 2000
    documents: Annotated[int, Option(help="about so many documents are ranked")] = 20_000

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `Trials` that these options are."""
        return dict(vars(self))


@command("compare", kept="What was mined and trained is kept in the cache; run it again to go on.")
def compare(
    sources: PairsOfCorpus, compared: ComparedStrategies, judged: ModelOfJudge, trained: TrialOptions, agreed: Agreed
) -> None:
    """Say which negatives train a model best.

    Mines with every strategy, trains alike with the negatives of each, and ranks held-out queries of the pairs.
    """
    from hf_hardneg.store.disk import check_writable
    from hf_hardneg.training import Trials
    from hf_hardneg.training.comparison.comparing import compare

    if compared.html:
        check_writable(compared.html, "--html")
    trials = Trials(**trained.settings)
    job = pairs_and_corpus(sources)
    options: dict[str, Any] = {**sources.inputs, "cross_encoder": judged.cross_encoder, **job.options}
    if job.store is not None:
        options["index"] = job.store
    result = compare(
        job.pairs,
        job.corpus,
        strategies=compared.strategies,
        model=compared.model,
        trials=trials,
        judge=compared.judge,
        verdicts=compared.verdicts,
        num_proc=compared.num_proc,
        confirm_cost=agreed.confirm_cost,
        num_negatives=compared.num_negatives,
        seed=compared.seed,
        **{name: value for name, value in options.items() if value is not None},
    )
    answer(result.to_dict(), result)
    if compared.html:
        note(f"\nWritten to {result.html(compared.html)}")
