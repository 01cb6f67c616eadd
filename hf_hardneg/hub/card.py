"""The card of a mined dataset says what it is, how it was made, and how far to trust it.

It is written from the data and its recipe alone.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypedDict

from huggingface_hub import DatasetCard

from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ConfigError, DataError, check_keywords
from hf_hardneg.hub import inert
from hf_hardneg.hub.figures import LENGTH, SCORES, SHOWN, ZONE, examples, pictures
from hf_hardneg.hub.front_matter import merged_body, merged_metadata, metadata_of, parts
from hf_hardneg.hub.inert import Markdown
from hf_hardneg.hub.limits import limits
from hf_hardneg.hub.uses import LIST, loading, use_of
from hf_hardneg.hub.written_splits import CORPUS, config_names
from hf_hardneg.recipes.recipe import Recipe, recipe_block, recipe_of, recipes_on
from hf_hardneg.recipes.serialization import expression
from hf_hardneg.reports.estimates import false_negatives
from hf_hardneg.reports.hardness import EASY, HARD
from hf_hardneg.reports.report import QUANTILES, Report, report
from hf_hardneg.runtime.arguments import checked
from hf_hardneg.text.masking import masked
from hf_hardneg.text.recipe_text import RECIPE, SECTION

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from jinja2 import Environment
    from typing_extensions import Unpack

TAGS = ("hard-negatives", "sentence-transformers", "hf_hardneg")
TASKS = ("text-retrieval", "sentence-similarity", "feature-extraction")
UNITS = ("", "K", "M", "B", "T")
SHOWN_FIGURES = ("ranks", "negative_scores", "positive_scores", "margins", "gradient_shares")


class MinedDatasetCard(DatasetCard):
    """A `DatasetCard` whose text is exactly what was rendered, as long as its `data` is not changed.

    Args:
        content (`str`): the card.
        files (`Mapping[str, bytes]`): the files it links to, by path in the repository.
    """

    def __init__(self, content: str, files: Mapping[str, bytes]) -> None:
        try:
            super().__init__(content)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"The metadata of the card that is there is none that huggingface_hub reads ({error}). Repair its YAML "
                "first; nothing was overwritten."
            ) from error
        self.files = dict(files)
        self._rendered, self._known = content, copy.deepcopy(self._said())

    def _said(self) -> tuple[Any, str]:
        return self.data.to_dict(), self.text  # type: ignore[no-untyped-call]

    def __str__(self) -> str:
        return self._rendered if self._said() == self._known else str(self.content)


class CardOptions(TypedDict, total=False):
    """Metadata of a card on the Hub; see `mined_dataset_card`."""

    license: str | None
    language: str | Sequence[str] | None
    source_datasets: Sequence[str] | None
    pretty_name: str | None


@checked
def mined_dataset_card(
    mined: Dataset | DatasetDict,
    *,
    repo_id: str,
    configs: Mapping[str, Dataset | DatasetDict] | None = None,
    recipe: Recipe | None = None,
    previous: str | None = None,
    **metadata: Unpack[CardOptions],
) -> MinedDatasetCard:
    """Write the card of mined data, merged into the card that a repository has.

    Our section stands between two comments and is replaced the next time. What was written by hand, `configs`,
    `dataset_info` and YAML that we do not know stay byte for byte; of YAML we know, old values win over what we
    would derive, except for the size, and lists of tags and tasks grow.

    Where configs stay that were made otherwise, their recipes stay too; figures are of `mined` alone.

    Texts of the data are shown as they are in the examples; whatever looks like an access token or a private key in
    them is masked.

    Args:
        mined (`Dataset` or `DatasetDict`): what `mine()` returned; all splits are counted together.
        repo_id (`str`): where it will be, such as `user/name`.
        configs (`Mapping`, *optional*): the rows of each config by its name; by default `mined` itself, as `list`.
        recipe (`Recipe`, *optional*): how it was made; by default what it carries.
        previous (`str`, *optional*): the text of the card so far.
        metadata (`CardOptions`): license, language, source_datasets, pretty_name. Without, the license that the data
            carries, and as source the Hub ids in the recipe.

    Returns:
        `MinedDatasetCard`: `str(card)` is its text; `card.files` are the pictures to be uploaded beside it.

    Raises:
        ColumnError: it is no mined data.
        DataError: the YAML or the marks of the previous card are broken, or the rows carry several recipes.

    Example:
        >>> card = mined_dataset_card(mined, repo_id="user/my-hard-negatives", license="mit")
        >>> card.data.license
        'mit'
    """
    check_keywords("mined_dataset_card()", metadata, CardOptions.__annotations__)
    rows = _joined(mined)
    recipe = recipe or recipe_of(mined)
    figures = report(rows)
    told = {name: value for name, value in metadata.items() if value}
    before = parts(previous or "")
    card = merged_metadata(before, _metadata(rows, recipe, told), frozenset(told) | {"size_categories"})
    images = pictures(figures)
    configs, listed = configs or {LIST: mined}, config_names(metadata_of(card))
    scrubbed = recipe and recipe.scrubbed()
    recipes = _recipes(scrubbed, configs, listed, previous or "")
    names = PairColumns.of(None if recipe is None else recipe.columns)
    described = {
        "configs": _configs(configs, repo_id),
        "recipes": [(of_configs, recipe_block(each, of_configs)) for of_configs, each in recipes],
        "loading": _sources(recipe, configs, listed, repo_id) if recipe else {},
        "examples": examples(rows, names.query, names.positive),
        "missed": false_negatives(rows, recipe),
        "limits": limits(figures, recipe),
        "scores": Markdown(SCORES) if SCORES in images else None,
    }
    section = _section(figures, scrubbed, described)
    heading = f"# {inert.inline(metadata.get('pretty_name') or repo_id.rpartition('/')[2])}"
    body = merged_body(before.body, section, heading)
    return MinedDatasetCard("".join((*card[:3], body)), {path: svg.encode() for path, svg in images.items()})


def _joined(mined: Dataset | DatasetDict) -> Dataset:
    from datasets import Dataset, DatasetDict, concatenate_datasets

    if isinstance(mined, DatasetDict) and mined:
        return concatenate_datasets([split.with_format(None) for split in mined.values()])
    if isinstance(mined, Dataset):
        return mined.with_format(None)
    raise ConfigError(
        f"mined_dataset_card() got a {type(mined).__name__} without rows to describe; it takes the Dataset or "
        "DatasetDict that mine() returned. Give that."
    )


def _metadata(rows: Dataset, recipe: Recipe | None, told: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the data in YAML, in the order of cards on the Hub; what the user told wins over what is derived."""
    sources = [] if recipe is None else [source.hub_id for source in (*recipe.pairs.values(), recipe.corpus)]
    carried = (rows.info.license or "").strip().lower()
    derived = {
        "language": None,
        "license": carried if carried.replace("-", "").replace(".", "").isalnum() else None,
        "pretty_name": None,
        "size_categories": [size_category(len(rows))],
        "source_datasets": list(dict.fromkeys(filter(None, sources))),
        "task_categories": list(TASKS),
        "annotations_creators": ["machine-generated"],
        "tags": list(TAGS),
    }
    values = {name: told.get(name, value) for name, value in derived.items()}
    return {name: _clean(value) for name, value in values.items() if value}


def _clean(value: Any) -> Any:
    """Clean a value for YAML: text without tokens and half surrogates, tuples as lists."""
    if isinstance(value, str):
        return masked(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return [_clean(inner) for inner in value]


def size_category(rows: int) -> str:
    """Name a number of rows as the Hub does, such as `1K<n<10K`.

    Example:
        >>> from hf_hardneg.hub.card import size_category
        >>> size_category(999), size_category(1000), size_category(123_456)
        ('n<1K', '1K<n<10K', '100K<n<1M')
    """
    if rows < 1000:
        return "n<1K"
    power = len(str(rows)) - 1
    return "n>1T" if power >= 12 else f"{_short(power)}<n<{_short(power + 1)}"


def _short(power: int) -> str:
    return f"{10 ** (power % 3)}{UNITS[power // 3]}"


def _configs(configs: Mapping[str, Dataset | DatasetDict], repo_id: str) -> list[dict[str, Any]]:
    """Describe every config: its name, the rows of each split, its columns and its use."""
    entries = []
    for name, data in configs.items():
        splits = _splits(data)
        first = next(iter(splits.values()))
        use = use_of(masked(name), first.column_names, repo_id=masked(repo_id), split=masked(next(iter(splits))))
        columns = {column: _kind(feature) for column, feature in first.features.items()}
        counts = {split: len(rows) for split, rows in splits.items()}
        entries.append({"name": name, "splits": counts, "columns": columns, "use": use})
    return entries


def _splits(data: Dataset | DatasetDict) -> Mapping[str, Dataset]:
    return data if isinstance(data, Mapping) else {str(data.split or "train").partition("[")[0]: data}


def _recipes(
    recipe: Recipe | None, configs: Iterable[str], listed: Sequence[str], previous: str
) -> list[tuple[list[str], Recipe]]:
    """List each recipe after the configs that were made by it: ours, and the recipes of configs that stay."""
    pushed = [name for name in configs if name != CORPUS]
    staying = frozenset(listed) - frozenset(pushed)
    recipes = [([masked(name) for name in pushed], recipe)] if recipe else []
    for names, other in recipes_on(previous):
        stay = [name for name in names if name in staying]
        same = next((configs for configs, known in recipes if known == other), None)
        if same is not None:
            same += stay
        elif stay:
            recipes.append((stay, other.scrubbed()))
    return recipes


def _sources(
    recipe: Recipe, configs: Mapping[str, Dataset | DatasetDict], listed: Sequence[str], repo_id: str
) -> dict[str, str]:
    """Write code that loads the corpus and the pairs from this very dataset, where they are in it."""
    code = {}
    if CORPUS in {*configs, *listed}:
        code["corpus"] = loading(repo_id, CORPUS, "train")
    pushed = _splits(configs[LIST]) if LIST in configs else {}
    for name, source in recipe.pairs.items():
        split = name or next(iter(pushed), "")
        rows = pushed.get(split)
        if rows is not None and len(rows) == source.rows and set(source.columns) <= set(rows.column_names):
            columns = expression(list(source.columns))
            code[f"pairs {name}".strip()] = f"{loading(repo_id, LIST, split)}.select_columns({columns})"
    return code


def _kind(feature: Any) -> str:
    """Name the type of a column in words."""
    if isinstance(feature, Mapping):
        return f"struct of {', '.join(feature)}"
    if hasattr(feature, "feature"):
        return f"list of {_kind(feature.feature)}"
    return str(getattr(feature, "dtype", type(feature).__name__))


def _section(figures: Report, recipe: Recipe | None, described: Mapping[str, Any]) -> str:
    context = {
        "figures": figures,
        "recipe": recipe,
        "per_row": figures.negatives / max(figures.rows, 1),
        "retrieved": max(figures.funnel["retrieved"], 1),
        "levels": QUANTILES,
        "quantiles": {name: getattr(figures, name) for name in SHOWN_FIGURES if getattr(figures, name)},
        "zone": Markdown(ZONE),
        "hard": HARD,
        "easy": EASY,
        "shown": SHOWN,
        "length": LENGTH,
        "start": Markdown(SECTION[0]),
        "end": Markdown(SECTION[1]),
        "recipe_mark": Markdown(RECIPE),
        **described,
    }
    return _environment().get_template("card").render(context).rstrip("\n")


@functools.cache
def _environment() -> Environment:
    """Set up templates that print nothing unescaped and reach nothing but their context."""
    from jinja2 import DictLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    text = files("hf_hardneg.hub").joinpath("card.md.jinja").read_text(encoding="utf-8")
    environment = ImmutableSandboxedEnvironment(
        loader=DictLoader({"card": text}),
        finalize=inert.printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda number: Markdown(f"{number:,}"),
        "number": lambda value: Markdown(f"{value:.4g}" if math.isfinite(value) else "none"),
        "percent": lambda share, digits=2: Markdown(f"{100 * share:.{digits}f} %"),
        "name": inert.name,
        "fenced": inert.fenced,
        "ours": Markdown,
    }
    return environment
