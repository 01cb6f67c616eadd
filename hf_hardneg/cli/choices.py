"""Which strategy is mined with: a name, settings of its parts, or a recipe from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from hf_hardneg.cli.option_groups import WORKERS
from hf_hardneg.errors import ConfigError

if TYPE_CHECKING:
    from hf_hardneg.strategies import Strategy

NUM_NEGATIVES, SEED = 4, 42
NUMBERS = ("num_negatives", "seed", "on_shortage")
"""Options of `HardNegatives` that are options of commands, and go before what a recipe says."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The strategy, how many negatives, and how to run it."""

    strategy: Annotated[str | None, Option(help="such as margin or bm25+rank_zone (default: bm25)")] = None
    set: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="PART.OPTION=VALUE ...",
            help="an option of a filter, sampler or retriever of the strategy, such as rank_window.first=5 or "
            "bm25.config.k1=1.2",
        ),
    ] = None
    recipe: Annotated[
        str | None, Option(metavar="FILE", help="YAML that --save-recipe wrote, in the place of --strategy")
    ] = None
    save_recipe: Annotated[
        str | None, Option(metavar="FILE", help="write strategy and numbers as YAML, for --recipe")
    ] = None
    num_negatives: Annotated[int | None, Option(help=f"at most so many for each query (default: {NUM_NEGATIVES})")] = (
        None
    )
    on_shortage: Annotated[
        str | None,
        Option(
            metavar="RULE",
            help="for queries with fewer: drop_row, pad_next, pad_tail, pad_random or error (default: keep_fewer)",
        ),
    ] = None
    num_proc: Annotated[int | None, Option(help=WORKERS)] = None
    seed: Annotated[int | None, Option(help=f"of all draws (default: {SEED})")] = None
    safeguards: Annotated[
        bool, Option("--safeguards/--no-safeguards", help="remove what may be an unlabelled positive, or keep it")
    ] = True

    def chosen(self, corpus: str | None = None, *, cross_encoder: str | None = None) -> MiningChoice:
        """Put together what is mined with; nothing is read but the recipe.

        Without a strategy it is `bm25`, or the search of a document store that is the corpus, as in `mine`.

        Args:
            corpus (`str`, *optional*): the documents, as the user named them.
            cross_encoder (`str`, *optional*): the model that judges.

        Raises:
            ConfigError: names, settings or numbers that cannot work.
        """
        from hf_hardneg.cli.settings import with_settings
        from hf_hardneg.hard_negatives import HardNegatives
        from hf_hardneg.recipes.recipe_files import read_recipe, save_recipe
        from hf_hardneg.runtime.arguments import check_options
        from hf_hardneg.strategies import resolve

        if self.strategy is not None and self.recipe is not None:
            raise ConfigError("--strategy and --recipe were both given, and a recipe holds its strategy. Drop one.")
        strategy: str | Strategy = self.strategy or default_strategy(corpus, safeguards=self.safeguards)
        options: dict[str, Any] = {"num_negatives": NUM_NEGATIVES, "seed": SEED}
        if self.recipe is not None:
            strategy, of_recipe = read_recipe(self.recipe)
            options |= of_recipe
        options |= {name: getattr(self, name) for name in NUMBERS if getattr(self, name) is not None}
        check_options("hf-hardneg", HardNegatives, options)
        resolved = resolve(strategy, safeguards=self.safeguards, cross_encoder=cross_encoder)
        if self.set:
            strategy = resolved = with_settings(resolved, self.set)
        if isinstance(strategy, str):
            options["safeguards"] = self.safeguards
        if self.save_recipe is not None:
            save_recipe(self.save_recipe, resolved, options)
        called = str(self.strategy or self.recipe or (strategy if isinstance(strategy, str) else "the store's search"))
        return MiningChoice(name=called, strategy=strategy, resolved=resolved, options=options)


@dataclass(frozen=True, kw_only=True)
class MiningChoice:
    """What is mined with.

    Args:
        name (`str`): what the user called it.
        strategy (`str` or `Strategy`): as `mine` takes it.
        resolved (`Strategy`): its parts.
        options (`dict`): arguments of `mine` beside it.
    """

    name: str
    strategy: str | Strategy
    resolved: Strategy
    options: dict[str, Any]

    def with_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The options, and the inputs that were given, which go before what a recipe says."""
        return {**self.options, **{name: value for name, value in inputs.items() if value is not None}}


def default_strategy(corpus: str | None, *, safeguards: bool) -> str | Strategy:
    """What mines where no strategy is named."""
    from hf_hardneg.formats.scanned import strategy_of_store
    from hf_hardneg.retrievers.stores.drivers import document_store_of

    collection = document_store_of(corpus)
    return "bm25" if collection is None else strategy_of_store(collection, safeguards=safeguards)
