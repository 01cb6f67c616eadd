"""A `Recipe` says how a mined dataset was made, in plain values that travel with it and can be written on a card.

A recipe is JSON: names of known classes with their arguments, digests, versions. Nothing of it is ever evaluated. It
lies as one line in the `description` of the dataset's `DatasetInfo`, which `datasets` hands on through maps, views,
`save_to_disk` and `concatenate_datasets`; it is lost in `to_iterable_dataset` and in files of other formats, where
`Recipe.from_json` and cards keep it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any

from hf_hardneg.corpus.columns import Columns, in_order
from hf_hardneg.corpus.loaded_from import origin_of
from hf_hardneg.errors import DataError
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.recipes.provenance import (
    Model,
    Source,
    index_of,
    model_of,
    models_of_parts,
    names_encoder,
    read_source,
    searchers_of,
    source_of,
)
from hf_hardneg.recipes.serialization import (
    CLASSES,
    CUSTOM,
    STORES,
    expression,
    literal,
    model_expression,
    models_in,
    names,
    plain,
    rebuilt,
)
from hf_hardneg.retrievers.stores.store_index import STORED
from hf_hardneg.runtime.arguments import Checked, Range, checked, fit
from hf_hardneg.runtime.versions import installed
from hf_hardneg.store import directories
from hf_hardneg.store.kinds import FAISS
from hf_hardneg.strategies import Strategy
from hf_hardneg.text.masking import scrubbed
from hf_hardneg.text.recipe_text import check_sizes, described, in_card, in_description, values_of

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

FORMAT = 1
NOT_OPTIONS = ("strategy", "safeguards", "cache_dir")
"""Arguments of `HardNegatives` that the resolved strategy holds, or that decide no row."""
MODELS = ("encoder", "cross_encoder")
ADOPTED = (f"{FAISS}-", f"{STORED}-")
"""How the identity of a user's own index, or document store, begins."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Checked):
    """How a mined dataset was made. `mine()` attaches one to what it returns; `recipe_of` reads it.

    Tokens and absolute paths are taken out of every text in it.

    Args:
        versions (`dict[str, str]`): of this library, Python, and the packages that decide rows, as they were when the
            rows were made; several where stored steps of `mine()` were run with different ones.
        strategy (`dict`): the resolved strategy: `class`, and its arguments by name; see `serialization.CLASSES`.
        options (`dict`): the arguments of `HardNegatives` that decide rows.
        corpus (`Source`): the documents.
        pairs (`dict[str, Source]`): by split, `""` where there are none; empty where not known.
        known (`tuple[str, ...]`): digests of the datasets whose positives were excluded beyond each row's own.
        encoder, cross_encoder (`Model`, *optional*): the models; one that a part names beside it stands in `strategy`.
        indexes (`tuple[dict, ...]`): kind, identity, and the measured recall where search is approximate.

    Example:
        >>> recipe = recipe_of(mined)
        >>> recipe.options["num_negatives"]
        2
    """

    versions: dict[str, str]
    strategy: dict[str, Any]
    options: dict[str, Any]
    corpus: Source
    pairs: dict[str, Source] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    encoder: Model | None = None
    cross_encoder: Model | None = None
    indexes: tuple[dict[str, Any], ...] = ()

    @classmethod
    @checked
    def of(
        cls,
        miner: HardNegatives,
        *,
        pairs: Dataset | DatasetDict | None = None,
        corpus: Dataset | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> Recipe:
        """Write the recipe of what a miner makes; `mine()` attaches it, for `pairs.map(miner, batched=True)` pass it
        on.

        Args:
            miner (`HardNegatives`): as it was mapped.
            pairs (`Dataset` or `DatasetDict`, *optional*): what it was mapped over.
            corpus (`Dataset`, *optional*): as the miner got it, for where it came from.
            versions (`Mapping[str, str]`, *optional*): those with which rows were made; by default what is installed.
        """
        reader, searchers = miner.retrieval.reader, searchers_of(miner)
        documents, scorers = reader.corpus, list(miner.rescoring.scorers.values())
        scorers += [scorer for scorer in [getattr(miner.retrieval.searcher, "cross_encoder", None)] if scorer]
        splits = pairs if isinstance(pairs, Mapping) else {} if pairs is None else {"": pairs}
        known = () if reader.known is None else directories.parameters_of(reader.known.directory)["pairs"]
        models = models_of_parts(miner)
        encoders = [
            each.encoder for each in searchers if not (models and names_encoder(each)) if hasattr(each, "encoder")
        ]
        recipe = cls(
            versions=dict(versions or installed()),
            strategy=plain(miner.strategy, models),
            options=_options(miner),
            corpus=Source(rows=len(documents), digest=documents.digest, columns=documents.columns, **origin_of(corpus)),
            pairs={name: source_of(split, reader.columns) for name, split in splits.items()},
            known=tuple(known),
            encoder=next((model_of(encoder) for encoder in encoders if encoder), None),
            cross_encoder=model_of(scorers[0]) if scorers else None,
            indexes=tuple(map(index_of, searchers)),
        )
        return recipe.scrubbed()

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` wrote.

        Raises:
            DataError: it is no recipe, or one of a later version of this library.
        """
        try:
            return _read(values_of(text))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(
                f"This is no recipe that can be read ({type(error).__name__}: {str(error)[:200]}): {str(text)[:80]!r}. "
                f"Give what Recipe.to_json() wrote, in format {FORMAT}; a later format needs a later hf_hardneg."
            ) from error

    @classmethod
    @checked
    def from_card(cls, text: str, config: str | None = None) -> Recipe:
        """Read a recipe from the text of a rendered card.

        Args:
            text (`str`): of the card.
            config (`str`, *optional*): what was made by it; by default what was pushed last.

        Raises:
            DataError: the card holds no recipe of it, or one that cannot be read.
        """
        blocks = [block for configs, block in in_card(text) if config is None or config in configs]
        if not blocks:
            raise DataError(
                f"The card holds no recipe{f' of the config {config!r}' if config else ''}. Give the text of a card "
                "that hf_hardneg rendered, of data that carried its recipe."
            )
        return cls.from_json(blocks[0])

    @checked
    def to_json(self, *, indent: Annotated[int, Range(least=0, most=16, such_as=1)] | None = None) -> str:
        """Write canonical JSON: equal recipes are equal text, of ASCII, without back ticks, `<`, `>` and `&`."""
        return _json({"format": FORMAT, **asdict(self)}, sort_keys=True, allow_nan=False, indent=indent)

    def scrubbed(self) -> Recipe:
        """Take tokens and absolute paths out of every text; `of` returns a recipe without them."""
        return _recipe(_scrubbed(asdict(self)))

    def rebuilt(self) -> Strategy:
        """Rebuild the strategy from the classes in `serialization.CLASSES`.

        Raises:
            ConfigError: it holds a class or a model of the user's own, or arguments that this version does not know.
        """
        return rebuilt(self.strategy)

    @property
    def uses_mine(self) -> bool:
        """Whether the positives of exactly these pairs were excluded across rows, as `mine()` does."""
        return bool(self.known) and sorted(self.known) == sorted(
            split.digest for split in self.pairs.values() if split.rows
        )

    @property
    def columns(self) -> Columns:
        """Names of the columns that mining read, by role."""
        return self.options.get("columns") or Columns()

    @property
    def encoders_of_parts(self) -> list[Model]:
        """The models that parts of the strategy name for themselves."""
        said: list[dict[str, Any]] = [
            {part.name: model.get(part.name) for part in fields(Model)} for model in models_in(self.strategy)
        ]
        return [Model(**values) for values in said]

    @property
    def uses_own_index(self) -> bool:
        """Whether documents were searched in an index that the user brought."""
        return any(str(index.get("identity", "")).startswith(ADOPTED) for index in self.indexes)

    @checked
    def code(self, loading: Mapping[str, str] | None = None) -> str:
        """Write Python that mines it again; where rows or models are not on the Hub as they were, it says what to put
        in.

        Args:
            loading (`Mapping[str, str]`, *optional*): expressions that load such rows: `corpus`, `pairs`, or of one of
                several splits `pairs train`.
        """
        return _code(self, loading or {})


@checked
def recipe_of(dataset: Dataset | DatasetDict) -> Recipe | None:
    """Read the recipe that a mined dataset carries; `None` where it carries none.

    Raises:
        DataError: it was put together from several, or what it carries cannot be read.
    """
    splits = list(dataset.values()) if isinstance(dataset, Mapping) else [dataset]
    recipes = {line for split in splits for line in in_description(split.info.description or "")}
    if len(recipes) > 1:
        raise DataError(
            f"The dataset carries {len(recipes)} recipes, of parts that were mined differently; one is needed. Push "
            "the parts as configs of their own, or pass the one that counts as recipe=."
        )
    return Recipe.from_json(recipes.pop()) if recipes else None


def recipe_block(recipe: Recipe, configs: Sequence[str]) -> str:
    """Write the JSON that a card shows of a recipe: `Recipe.to_json`, and the configs that were made by it."""
    return _json({"configs": configs, **json.loads(recipe.to_json())}, sort_keys=True, indent=1)


def recipes_on(card: str) -> list[tuple[list[str], Recipe]]:
    """Read the recipes in the text of a card, each after the configs that were made by it, leaving out unreadable
    ones."""
    recipes = []
    for configs, block in in_card(card):
        with contextlib.suppress(DataError):
            recipes.append((configs, Recipe.from_json(block)))
    return recipes


def attach(dataset: Dataset, recipe: Recipe) -> None:
    """Put a recipe into the description of a dataset, in place of any in it; rows and fingerprint stay."""
    dataset.info.description = described(dataset.info.description or "", recipe.to_json())


def _json(value: Any, **options: Any) -> str:
    """Write JSON of ASCII, without back ticks, `<`, `>` and `&`."""
    return re.sub("[<>&`\x7f]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, **options))


def _read(values: dict[str, Any]) -> Recipe:
    """Read a recipe from plain values that somebody else may have written.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: they are no recipe.
    """
    if values.get("format", FORMAT) != FORMAT:
        raise ValueError(f"format {values['format']!r}")
    strategy, unknown = values["strategy"], values["options"].keys() - set(option_names())
    parts = {"class", *(part.name for part in fields(Strategy))}
    if unknown or set(strategy) != parts or strategy["class"] != Strategy.__name__:
        raise ValueError(f"options {sorted(unknown)}, strategy {strategy!r}"[:200])
    check_sizes([strategy, values["options"]])
    fit("Recipe", "columns", values["options"].get("columns"), Columns | None)
    return _recipe(values)


def _recipe(values: dict[str, Any]) -> Recipe:
    models = {name: Model(**values[name]) for name in MODELS if values[name]}
    return Recipe(
        versions=dict(values["versions"]),
        strategy=values["strategy"],
        options=values["options"],
        corpus=read_source(values["corpus"]),
        pairs={name: read_source(split) for name, split in values["pairs"].items()},
        known=tuple(values["known"]),
        indexes=tuple(map(dict, values["indexes"])),
        **models,
    )


def _scrubbed(value: Any) -> Any:
    """Scrub every string in plain values."""
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, Mapping):
        return {scrubbed(key): _scrubbed(inner) for key, inner in value.items()}
    return [_scrubbed(inner) for inner in value] if isinstance(value, list | tuple) else value


def _options(miner: HardNegatives) -> dict[str, Any]:
    """Write the arguments that decide rows, with the text columns that the corpus was read by."""
    texts = miner.retrieval.reader.corpus.text_columns
    options = {name: getattr(miner, name) for name in option_names()}
    return plain(options | {"columns": {**in_order(miner.columns), "text": texts if len(texts) > 1 else texts[0]}})


def option_names() -> list[str]:
    """List the arguments of `HardNegatives` that a recipe has."""
    return [option.name for option in fields(HardNegatives) if option.init and option.name not in NOT_OPTIONS]


def _code(recipe: Recipe, loading: Mapping[str, str]) -> str:
    parts = [_part(name, recipe.strategy[name]) for name in ("retrievers", "filters", "sampler")]
    note = "  # put classes of your own where dots are" if CUSTOM in names(recipe.strategy) else ""
    strategy = [f"strategy = Strategy({note}", *(f"    {part}" for part in parts), ")"]
    arguments = ["    corpus,", "    strategy,", *(f"    {argument}" for argument in _arguments(recipe)), ")"]
    entry, mining = "mine", ["mined = mine(", "    pairs,", *arguments]
    if not recipe.uses_mine:
        mapping = "mined = pairs.map(miner, batched=True)"
        entry, mining = "HardNegatives", ["miner = HardNegatives(", *arguments, mapping]
    corpus = _loading("corpus", recipe.corpus, loading.get("corpus"))
    code = "\n".join([f"corpus = {corpus}", *_pairs(recipe.pairs, loading), *strategy, *mining])
    classes = {name for name in names(recipe.strategy) if name in CLASSES and re.search(rf"\b{name}\(", code)}
    return f"{_imports({entry, *classes}, code)}\n\n{code}\n"


def _part(name: str, value: Any) -> str:
    copies = "; ".join(map(_copy, models_in(value)))
    return f"{name}={expression(value)},{f'  # {copies}' if copies else ''}"


def _imports(ours: Iterable[str], code: str) -> str:
    theirs = [name for name in ("DatasetDict", "load_dataset", "load_from_disk") if f"{name}(" in code]
    stores = sorted(set(ours) & set(STORES))
    lines = [
        f"from datasets import {', '.join(theirs)}",
        f"from hf_hardneg import {', '.join(sorted({*ours} - {*stores}))}",
    ]
    if stores:
        lines.append(f"from hf_hardneg.retrievers.stores import {', '.join(stores)}")
    if "snapshot_download(" in code:
        lines.append("from huggingface_hub import snapshot_download")
    return "\n".join(lines)


def _loading(name: str, source: Source | None, expression: str | None = None) -> str:
    if source is None:
        return f'load_from_disk("{name}")  # yours'
    told = f"{source.rows:,} rows, digest {literal(source.digest)}"
    if source.hub_id is None:
        return f"{expression}  # {told}" if expression else f'load_from_disk("{name}")  # yours: {told}'
    config = [literal(source.config)] if source.config not in (None, "default") else []
    options = [f"{key}={literal(getattr(source, key))}" for key in ("split", "revision") if getattr(source, key)]
    return f"load_dataset({', '.join([literal(source.hub_id), *config, *options])})  # {told}"


def _pairs(pairs: Mapping[str, Source], loading: Mapping[str, str]) -> list[str]:
    if list(pairs) in ([], [""]):
        return [f"pairs = {_loading('pairs', pairs.get(''), loading.get('pairs'))}"]
    lines = ["pairs = DatasetDict()"]
    return lines + [
        f"pairs[{literal(name)}] = {_loading(f'pairs-{place}', source, loading.get(f'pairs {name}'))}"
        for place, (name, source) in enumerate(pairs.items())
    ]


def _arguments(recipe: Recipe) -> list[str]:
    defaults = {option.name: plain(option.default) for option in fields(HardNegatives)}
    shown = {name: value for name, value in recipe.options.items() if value != defaults.get(name)}
    shown |= {name: recipe.options[name] for name in ("num_negatives", "seed") if name in recipe.options}
    lines = [f"{name}={expression(value)}," for name, value in sorted(shown.items())]
    lines += [_model_argument(name, getattr(recipe, name)) for name in MODELS if getattr(recipe, name)]
    if recipe.known and not recipe.uses_mine:
        lines.append(f"known_positives=[...],  # datasets of digest {', '.join(map(literal, recipe.known))}")
    if recipe.uses_own_index:
        lines.append("index=...,  # your own index")
    return lines


def _model_argument(name: str, model: Model) -> str:
    return f"{name}={model_expression(asdict(model))},  # {_copy(asdict(model))}"


def _copy(model: Mapping[str, Any]) -> str:
    """Say which model it must be."""
    digest = f"digest {literal(model.get('digest'))}"
    at_commit = model.get("kind") == "hub" and model.get("revision")
    return digest if at_commit else f"your copy of {literal(model.get('name'))}, {digest}"
