"""`reproduce` mines a pushed dataset again from the recipe on its card, and compares row by row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_hardneg.corpus.documents import dataset_digest
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ConfigError, DataError, HardNegError, check_keywords, shown
from hf_hardneg.hard_negatives import OPTIONS, HardNegatives
from hf_hardneg.hub.front_matter import metadata_of, parts
from hf_hardneg.hub.repository import Repository, Snapshot
from hf_hardneg.hub.uses import LIST
from hf_hardneg.hub.written_splits import CORPUS, config_names
from hf_hardneg.mining import KEYWORDS, mine
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.recipes.provenance import Model, Source
from hf_hardneg.recipes.recipe import MODELS, Recipe, recipe_of
from hf_hardneg.runtime.arguments import Checked, Name, checked
from hf_hardneg.runtime.versions import installed
from hf_hardneg.steps import Steps
from hf_hardneg.strategies import Strategy

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import RunOptions

BATCH = 1000
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Reproduction(Checked):
    """The result of mining again.

    Args:
        repo_id, sha (`str`): the dataset, and its commit.
        rows (`int`): how many were compared.
        differing (`dict[str, tuple[int, ...]]`): rows that are not the same, by split.
        columns (`dict[str, int]`): in how many rows a column differs.
        changes (`tuple[str, ...]`): what has changed since: corpus, pairs, models, versions, strategy.
    """

    repo_id: str
    sha: str
    rows: int
    differing: dict[str, tuple[int, ...]] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether every row came out identical."""
        return self.rows > 0 and not self.differing

    def __str__(self) -> str:
        where = f"{self.repo_id} at {self.sha[:12]}"
        if not self.rows:
            lines = [f"{where} cannot be mined again."]
        elif self.identical:
            lines = [f"{where}: all {self.rows:,} rows are identical."]
        else:
            number = sum(map(len, self.differing.values()))
            lines = [f"{where}: {number:,} of {self.rows:,} rows differ."]
            for split, rows in self.differing.items():
                more = ", …" if len(rows) > SHOWN else ""
                lines.append(f"  {split}: rows {', '.join(map(str, rows[:SHOWN]))}{more}")
            lines.append(f"  by column: {', '.join(f'{name} in {count:,}' for name, count in self.columns.items())}")
        if self.changes:
            lines += ["What is not as it was:", *(f"  {change}" for change in self.changes)]
        elif not self.identical:
            lines.append(
                "Corpus, pairs, models and versions are as the card says: it is of other rows, or machines differ."
            )
        return shown("\n".join(lines))


@with_options_of(mine, without=OPTIONS - {"cache_dir"})
@checked
def reproduce(
    repo_id: Name,
    *,
    revision: str | None = None,
    token: str | None = None,
    corpus: Dataset | None = None,
    pairs: Dataset | DatasetDict | None = None,
    encoder: Any = None,
    cross_encoder: Any = None,
    strategy: Strategy | None = None,
    known_positives: Sequence[Dataset] = (),
    **options: Unpack[RunOptions],
) -> Reproduction:
    """Mine a pushed dataset again as its card says, and compare with what was pushed.

    Pairs are the config `list` without the mined columns; the corpus is the config `corpus`, else the Hub dataset that
    the recipe says it came from, at its commit. A recipe chooses strategies and numbers; models are given
    here, devices and folders are this machine's.

    Args:
        repo_id (`str`): such as `user/name`, pushed by `push_mined_dataset` with the config `list`.
        revision (`str`, *optional*): a branch or commit.
        token (`str`, *optional*): of the Hub; by default the stored one.
        corpus (`Dataset`, *optional*): the documents, where the recipe cannot say where they are.
        pairs (`Dataset` or `DatasetDict`, *optional*): what was mined, where rows were dropped.
        encoder, cross_encoder (*optional*): as in `HardNegatives`; needed where the recipe has one.
        strategy (`Strategy`, *optional*): where it has classes of your own, or parts that name a model.
        known_positives (`Sequence[Dataset]`, *optional*): what `mine` was given beside the pairs.
        **options: `num_proc`, `batch_size`, `confirm_cost` and `cache_dir` of `mine`.

    Returns:
        `Reproduction`: rows that differ and why; print it.

    Raises:
        ConfigError: something is neither given, nor on the Hub, nor in the recipe.
        DataError, HubError: the card has no recipe; or the dataset cannot be read.

    Example:
        >>> commit = push_mined_dataset(mined, "user/hard-negatives", configs="list", corpus=corpus)
        >>> print(reproduce("user/hard-negatives"))
        user/hard-negatives at ...: all 4 rows are identical.
    """
    from datasets import DatasetDict

    check_keywords("reproduce()", options, KEYWORDS | {"cache_dir"})
    repository = Repository(repo_id=repo_id, revision=revision, token=token)
    snapshot = repository.snapshot()
    recipe, configs = _card(snapshot, repo_id)
    pushed = repository.load(LIST, snapshot.sha)
    then = _splits(recipe, pushed)
    _check_splits(pairs, then)
    if pairs is None:
        splits = {split: _pairs(recipe, split, rows) for split, (_, rows) in then.items()}
        pairs = splits[""] if "" in splits else DatasetDict(splits)
    if corpus is None:
        corpus = _corpus(repository, recipe, CORPUS in configs, snapshot.sha)
    models = {"encoder": encoder, "cross_encoder": cross_encoder}
    _check_models(recipe, models, repo_id)
    compared = {name for name, _ in then.values()}
    changes = [f"split {name!r}: of another mining, not compared" for name in pushed if name not in compared]
    changes += [*_changed_inputs(recipe, pairs, corpus), *_changed_versions(recipe.versions, installed())]
    try:
        arguments: dict[str, Any] = {**models, "known_positives": known_positives, **options}
        again, now = _mined(recipe, strategy or recipe.rebuilt(), pairs, corpus, **arguments)
    except HardNegError as error:
        return Reproduction(repo_id=repo_id, sha=snapshot.sha, rows=0, changes=(f"mining: {error}", *changes))
    differences = {name: _compared(rows, again[split]) for split, (name, rows) in then.items()}
    changes = [*_changed_parts(recipe, now), *changes]
    return _reproduction(repo_id, snapshot.sha, sum(len(rows) for _, rows in then.values()), differences, changes)


def _reproduction(
    repo_id: str, sha: str, rows: int, differences: Mapping[str, Mapping[str, list[int]]], changes: Sequence[str]
) -> Reproduction:
    """Sum up the rows that differ, by split and column."""
    columns: Counter[str] = Counter()
    for by_column in differences.values():
        columns.update({name: len(different) for name, different in by_column.items()})
    differing = {split: tuple(sorted(set().union(*by_column.values()))) for split, by_column in differences.items()}
    return Reproduction(
        repo_id=repo_id,
        sha=sha,
        rows=rows,
        differing={split: different for split, different in differing.items() if different},
        columns=dict(columns),
        changes=tuple(changes),
    )


def _card(snapshot: Snapshot, repo_id: str) -> tuple[Recipe, list[str]]:
    """Read the recipe on a card, and the names of the configs.

    Raises:
        DataError: the card is missing, has no recipe, or has no config of the mined rows.
    """
    if snapshot.readme is None:
        raise DataError(f"{repo_id} has no card, and so no recipe. Give a dataset that hf_hardneg pushed.")
    configs = config_names(metadata_of(parts(snapshot.readme)))
    recipe = Recipe.from_card(snapshot.readme, LIST if LIST in configs else None)
    if LIST not in configs:
        raise DataError(
            f"{repo_id} has no config {LIST!r}, which holds the mined rows as they are; it has {', '.join(configs)}. "
            "Push it with configs=['list', ...]."
        )
    return recipe, configs


def _splits(recipe: Recipe, pushed: DatasetDict) -> dict[str, tuple[str, Dataset]]:
    """Find each split of the recipe: its name on the Hub and the pushed rows; `""` is a dataset mined without splits.

    Where several were pushed one at a time, the recipe's is the split whose pairs have its digest.
    """
    if recipe.pairs and "" not in recipe.pairs:
        return {name: (name, pushed[name]) for name in recipe.pairs if name in pushed}
    splits = list(pushed.items())
    if "" in recipe.pairs:
        source = recipe.pairs[""]
        fitting = [split for split in splits if _source_digest(source, _pairs(recipe, "", split[1])) == source.digest]
        splits = fitting or splits
    return {"": splits[0]}


def _check_splits(pairs: Dataset | DatasetDict | None, then: Mapping[str, Any]) -> None:
    """Raise unless the pairs that are given have the splits that were mined together."""
    if pairs is None:
        return
    splits = set(pairs) if isinstance(pairs, dict) else {""}
    if splits != set(then):
        wanted = "one Dataset" if "" in then else f"a DatasetDict of {', '.join(then)}"
        has = "one Dataset" if "" in splits else f"a DatasetDict of {', '.join(pairs)}"
        raise ConfigError(f"pairs= is {has}, and what was mined together is {wanted}. Give that.")


def _source_digest(source: Source, rows: Dataset) -> str:
    """Compute the digest of a source now, over the columns that are left."""
    columns = [name for name in source.columns if name in rows.column_names]
    return dataset_digest(rows, columns, nullable=columns)


def _pairs(recipe: Recipe, split: str, rows: Dataset) -> Dataset:
    """Select the columns of a split that mining read; it may have added the positives' texts."""
    names, source = PairColumns.of(recipe.columns), recipe.pairs.get(split)
    added = {names.positive} - set(source.columns) if source else set()
    return rows.select_columns([name for name in names.read(rows.column_names) if name not in added])


def _corpus(repository: Repository, recipe: Recipe, is_config: bool, sha: str) -> Dataset:
    """Load the documents: a config of the dataset, unless it holds others, or what the recipe refers to."""
    source = recipe.corpus
    if is_config:
        documents = _split(repository.load(CORPUS, sha), "train")
        if source.hub_id is None or _source_digest(source, documents) == source.digest:
            return documents
    if source.hub_id is None:
        raise ConfigError(
            f"The recipe of {repository.repo_id} does not say where its corpus of {source.rows:,} documents is "
            f"(files {', '.join(source.files) or 'unknown'}; digest {source.digest}). Give corpus=; next time, push it "
            "along with corpus=, or mine one from the Hub."
        )
    if re.fullmatch("[0-9a-f]{40}", source.revision or "") is None:
        raise ConfigError(
            f"The recipe of {repository.repo_id} names the corpus {source.hub_id!r} without the commit. Give corpus=."
        )
    elsewhere = Repository(repo_id=source.hub_id, token=repository.token)
    return _split(elsewhere.load(source.config, source.revision), source.split)


def _split(splits: DatasetDict, name: str | None) -> Dataset:
    return splits[name if name in splits else next(iter(splits))]


def _check_models(recipe: Recipe, models: Mapping[str, Any], repo_id: str) -> None:
    """Raise unless the user gives each model of the recipe: a card loads none."""
    for what, own_model in models.items():
        model: Model | None = getattr(recipe, what)
        if model is not None and own_model is None:
            where = f"at {model.revision} on the Hub" if model.kind == "hub" else "which is not on the Hub"
            raise ConfigError(
                f"{repo_id} was mined with the {what} {model.name!r}, {where}; its digest is {model.digest}. A card "
                f"does not choose what is loaded: where you trust that model, give it as {what}=."
            )


def _mined(
    recipe: Recipe,
    strategy: Strategy,
    pairs: Dataset | DatasetDict,
    corpus: Dataset,
    *,
    known_positives: Sequence[Dataset],
    num_proc: int | None = None,
    batch_size: int = BATCH,
    confirm_cost: bool = False,
    **options: Any,
) -> tuple[Mapping[str, Dataset], Recipe]:
    """Mine again, and return the splits and the recipe of today."""
    options |= recipe.options
    if recipe.known:
        running: dict[str, Any] = {"num_proc": num_proc, "batch_size": batch_size, "confirm_cost": confirm_cost}
        mined = mine(pairs, corpus, strategy, known_positives=known_positives, **running, **options)
        now = recipe_of(mined)
    else:
        miner = HardNegatives(corpus, strategy, **options)
        steps = Steps.of(miner, num_proc=num_proc, batch_size=batch_size)
        splits = pairs if isinstance(pairs, dict) else {"": pairs}
        mined = {name: steps.negatives(rows, miner) for name, rows in splits.items()}
        now = Recipe.of(miner, pairs=pairs, corpus=corpus)
    assert now is not None
    return mined if isinstance(mined, dict) else {"": mined}, now


def _compared(then: Dataset, now: Dataset) -> dict[str, list[int]]:
    """List the rows in which each column differs; rows that one side lacks differ in all."""
    names = [name for name in then.column_names if name in now.column_names]
    before, after = (rows.with_format("arrow", columns=names) for rows in (then, now))
    both = min(len(then), len(now))
    lacking = list(range(both, max(len(then), len(now))))
    differing: dict[str, list[int]] = {name: [] for name in names}
    for start in range(0, both, BATCH):
        tables = [rows[start : min(start + BATCH, both)] for rows in (before, after)]
        for name in names:
            left, right = (table.column(name) for table in tables)
            if not left.equals(right):
                pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
                differing[name] += [start + row for row, (old, new) in enumerate(pairs) if old != new]
    return {name: rows + lacking for name, rows in differing.items() if rows or lacking}


def _changed_inputs(then: Recipe, pairs: Dataset | DatasetDict, corpus: Dataset) -> Iterator[str]:
    """Tell how the rows that go into mining differ from the recipe's."""
    splits = pairs if isinstance(pairs, dict) else {"": pairs}
    for split, source in then.pairs.items():
        if split not in splits:
            yield f"pairs: the split {split!r} is missing"
        else:
            yield from _changed(f"pairs {split}".strip(), source, splits[split])
    yield from _changed("corpus", then.corpus, corpus)


def _changed(what: str, then: Source, now: Dataset) -> Iterator[str]:
    digest = _source_digest(then, now)
    if digest != then.digest:
        yield f"{what}: {then.rows:,} rows of digest {then.digest} then, {len(now):,} of {digest} now"


def _changed_parts(then: Recipe, now: Recipe) -> Iterator[str]:
    for what in MODELS:
        before, after = getattr(then, what), getattr(now, what)
        if before != after and (before is None or after is None or before.digest != after.digest):
            yield f"{what}: {_named(before)} then, {_named(after)} now; weights or settings are others"
    if then.strategy != now.strategy:
        yield "strategy: another one was given"
    before, after = (", ".join(_beside_pairs(recipe)) or "none" for recipe in (then, now))
    if before != after:
        yield f"known_positives beside the pairs: of digest {before} then, {after} now"


def _beside_pairs(recipe: Recipe) -> list[str]:
    """List the digests of datasets beside the pairs whose positives were excluded."""
    return sorted(set(recipe.known) - {source.digest for source in recipe.pairs.values()})


def _named(model: Model | None) -> str:
    return "none" if model is None else f"{model.name} of digest {model.digest}"


def _changed_versions(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"version of {name}: {then.get(name, 'none')} then, {now.get(name, 'none')} now"
