"""`push_mined_dataset` pushes mined data to the Hub, each variant a config, in one commit with its card."""

from __future__ import annotations

import functools
import posixpath
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.corpus.columns import Columns
from hf_hardneg.corpus.documents import dataset_digest
from hf_hardneg.errors import ConfigError, DataError, HubError, check_keywords, warn
from hf_hardneg.hub.card import CardOptions, MinedDatasetCard, mined_dataset_card
from hf_hardneg.hub.front_matter import merged_metadata, metadata_of, parts
from hf_hardneg.hub.repository import README, Repository, Snapshot
from hf_hardneg.hub.variants import Variant, variants_of
from hf_hardneg.hub.written_splits import CORPUS, WrittenSplit, config_names, described, stale, written
from hf_hardneg.recipes.recipe import Recipe, recipe_of, recipes_on
from hf_hardneg.reports.report import check_mined
from hf_hardneg.runtime.arguments import Name, checked
from hf_hardneg.store import directories
from hf_hardneg.store.disk import scratch

if TYPE_CHECKING:
    import os

    from datasets import Dataset, DatasetDict
    from huggingface_hub import CommitInfo
    from typing_extensions import Unpack

CONFIGS = ("list", "triplet")
ATTEMPTS = 10
DATA = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".arrow", ".txt", ".gz", ".zst", ".zip", ".tar")
NOT_DATA = ("dataset_infos.json", "requirements.txt")


class PushOptions(CardOptions, total=False):
    """What a commit to the Hub, and the card in it, can say; see `push_mined_dataset`."""

    private: bool | None
    revision: str | None
    create_pr: bool
    token: str | None
    commit_message: str | None


@checked
def push_mined_dataset(
    mined: Dataset | DatasetDict,
    repo_id: Name,
    *,
    configs: str | Sequence[str] = CONFIGS,
    corpus: Dataset | None = None,
    index: str | os.PathLike[str] | None = None,
    recipe: Recipe | None = None,
    columns: Columns | None = None,
    **options: Unpack[PushOptions],
) -> CommitInfo:
    """Push mined data to the Hub: one config for each variant, and a card that says how it was made.

    Everything is one commit, so the repository is never seen half-way, and a push that broke off can be repeated: what
    was uploaded is not sent again, and a push without changes makes no commit. The card is merged into the old
    one: other configs, hand-written text and unknown YAML stay.

    Args:
        mined (`Dataset` or `DatasetDict`): what `mine()` returned. A `Dataset` replaces one split, its own or `train`;
            a `DatasetDict` all splits of its configs.
        repo_id (`str`): such as `user/name`; created where it does not exist.
        configs (`str` or `Sequence[str]`, defaults to `("list", "triplet")`): `list` is the mined rows as they are,
            which `reproduce` needs; layouts of `to_format` by name; `triplet-5` the n-tuple of 5 negatives;
            `triplet-ids` and `triplet-5-ids` their twins of ids; `scores` ids and a teacher's scores, with the
            configs `queries` and `documents` beside it; `scores-denoised` and `scores-retriever` name whose. The first
            is what `load_dataset` takes by default, in a repository that has no default yet.
        corpus (`Dataset`, *optional*): the documents that were mined, as config `corpus`. Without, the card refers to
            it.
        index (`str`, *optional*): the folder of an index, as `hf-hardneg index` prints it, to be put under `index/`.
        recipe (`Recipe`, *optional*): how the rows were made; by default the one they carry.
        columns (`Columns`, *optional*): as `to_format` takes them; by default as the recipe has them.
        private (`bool`, *optional*): whether a new repository is private. One that is public already is an error.
        revision (`str`, *optional*): the branch; created where it does not exist.
        create_pr (`bool`, defaults to `False`): opens a pull request instead.
        token (`str`, *optional*): of the Hub; by default the stored one.
        commit_message (`str`, *optional*): by default the configs.
        options (`PushOptions`): the arguments above from `private` on, and license, language, source_datasets and
            pretty_name of the card.

    Returns:
        `CommitInfo`: the commit, or the last one where nothing has changed.

    Raises:
        ConfigError, ColumnError, DataError: it cannot be pushed; raised before anything is uploaded.
        HubError: the Hub refuses, or cannot be reached.

    Example:
        >>> from datasets import load_dataset
        >>> commit = push_mined_dataset(mined, "user/my-hard-negatives", configs=["list", "triplet"], license="mit")
        >>> load_dataset("user/my-hard-negatives", "triplet", split="train").column_names
        ['query', 'positive', 'negative']
    """
    from datasets import DatasetDict

    check_keywords("push_mined_dataset()", options, PushOptions.__annotations__)
    revision, create_pr = options.get("revision"), options.get("create_pr", False)
    repository = Repository(repo_id=repo_id, revision=revision, token=options.get("token"))
    if create_pr and revision not in (None, "main"):
        raise ConfigError(
            f"create_pr=True and revision={revision!r}: a pull request is to main. Leave out one of them."
        )
    names = [configs] if isinstance(configs, str) else list(configs)
    whole, splits = _splits(mined)
    _check(splits, names, corpus)
    recipe = recipe or recipe_of(mined)
    if recipe is not None:
        _check_corpus(corpus, recipe)
        columns = recipe.columns | (columns or Columns())
    variants = variants_of(splits, names, corpus, columns or Columns())
    if corpus is not None:
        variants[CORPUS] = DatasetDict({"train": corpus})
    metadata: Any = {name: value for name, value in options.items() if name in CardOptions.__annotations__}
    with scratch() as folder:
        push = _Push(
            repository=repository,
            shards=written(variants, folder),
            whole=whole,
            others=_index_files(index),
            recipe=recipe,
            card=functools.partial(
                mined_dataset_card, mined, repo_id=repo_id, configs=variants, recipe=recipe, **metadata
            ),
        )
        repository.create(private=options.get("private"))
        message = options.get("commit_message") or f"Push {', '.join(names)} with hf_hardneg"
        return push.commit(message, create_pr=create_pr)


@dataclass(frozen=True, kw_only=True)
class _Push:
    """A commit to be made: files that are written already, and the card, merged into the newest at each attempt.

    Args:
        repository (`Repository`): the repository.
        shards (`list[WrittenSplit]`): the rows.
        whole (`bool`): whether configs keep no splits but these.
        others (`Mapping[str, Path]`): further files by their path in the repository.
        recipe (`Recipe`, *optional*): how the rows were made.
        card (`Callable`): makes the card from `previous`, the text of the old card with the new configs in its YAML.
    """

    repository: Repository
    shards: list[WrittenSplit]
    whole: bool
    others: Mapping[str, Path]
    recipe: Recipe | None
    card: Callable[..., MinedDatasetCard]

    def commit(self, message: str, *, create_pr: bool) -> CommitInfo:
        """Commit on top of the newest; where somebody else was quicker, merge again."""
        for attempt in range(ATTEMPTS):
            snapshot = self.repository.snapshot()
            operations = self._operations(snapshot)
            done = self.repository.commit(operations, message, parent=snapshot.sha, create_pr=create_pr)
            if done is not None:
                return done
            time.sleep(attempt / 2)
        raise HubError(
            f"{self.repository.repo_id} was changed by others in each of {ATTEMPTS} attempts, and every push must "
            "merge its card into the newest. Nothing was changed: push again when it is quiet."
        )

    def _operations(self, snapshot: Snapshot) -> list[Any]:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        files = {path: local for split in self.shards for path, local in split.files.items()} | dict(self.others)
        gone = stale(self.shards, snapshot.files, whole=self.whole)
        sizes = {path: size for path, size in snapshot.files.items() if path not in gone}
        sizes |= {path: local.stat().st_size for path, local in files.items()}
        card = self.card(previous=self._described(snapshot, sizes))
        added: dict[str, Any] = {path: str(local) for path, local in files.items()}
        added |= {README: str(card).encode(), **card.files}
        adding = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in added.items()]
        return [*adding, *(CommitOperationDelete(path_in_repo=path) for path in gone)]

    def _described(self, snapshot: Snapshot, sizes: Mapping[str, int]) -> str:
        """Put the new configs into the YAML of the card so far."""
        card = parts(snapshot.readme or "")
        metadata = metadata_of(card)
        ours = described(metadata, self.shards, sizes, whole=self.whole)
        self._check_neighbours(metadata.get("configs"), ours["configs"], snapshot.files.keys() & sizes.keys())
        self._warn(snapshot, config_names(metadata))
        return "".join(merged_metadata(card, ours, frozenset(ours)))

    def _check_neighbours(self, listed: Any, configs: Sequence[Any], files: Iterable[str]) -> None:
        """Raise where data that can be loaded now could not be loaded after the push.

        `datasets` finds no data beside configs that a card lists, reads all of a repository with the reader of the
        first config, and gives a config whatever its patterns match.

        Raises:
            HubError: the repository has such data.
        """
        repo_id, ours = self.repository.repo_id, {path for split in self.shards for path in split.files}
        pushed = {split.config for split in self.shards}
        rows = [path for path in sorted(files) if path.endswith(DATA) and path not in (*NOT_DATA, *ours)]
        if rows and not listed:
            raise HubError(
                f"{repo_id} has data that its card does not list, such as {rows[0]}, and beside configs that a card "
                "lists none is found. List it first (configs: [{config_name: default, data_files: ...}]), or push to "
                "another name. Nothing was changed."
            )
        for config in configs:
            others, taken = (_matching(config, paths) for paths in (rows, sorted(ours)))
            foreign = [path for path in others if not path.endswith(".parquet")]
            if foreign:
                raise HubError(
                    f"{repo_id} lists data that is not Parquet, such as {foreign[0]}, and load_dataset reads all "
                    "configs of a repository in one format. Push to another name, or make that Parquet first. Nothing "
                    "was changed."
                )
            if others and taken and config["config_name"] not in pushed:
                raise HubError(
                    f"The patterns of the config {config['config_name']!r} of {repo_id} fit {others[0]}, and so would "
                    f"take in {taken[0]}. Name its own files in its data_files, or push to another name. Nothing was "
                    "changed."
                )

    def _warn(self, snapshot: Snapshot, names: list[str]) -> None:
        """Warn of configs that stay and were made otherwise: their recipes stay too, and figures are of this push
        alone."""
        staying = set(names) - {split.config for split in self.shards}
        others = [
            name
            for configs, before in recipes_on(snapshot.readme or "")
            for name in configs
            if name in staying
            if self.recipe is None or replace(before, versions={}) != replace(self.recipe, versions={})
        ]
        if others:
            warn(
                f"{self.repository.repo_id} keeps the configs {', '.join(others)}, which were made otherwise. The card "
                "keeps their recipe, and its figures will be of this push alone. Push them again too, or this to "
                "another name."
            )


def _splits(mined: Dataset | DatasetDict) -> tuple[bool, DatasetDict]:
    """Tell whether these are all splits of their configs, and return the splits."""
    from datasets import Dataset, DatasetDict

    if not isinstance(mined, Dataset | DatasetDict):
        raise ConfigError(
            f"push_mined_dataset() got a {type(mined).__name__}; it takes the Dataset or DatasetDict that mine() "
            "returned. Make one of a stream by Dataset.from_generator."
        )
    whole = isinstance(mined, DatasetDict)
    splits = mined if whole else DatasetDict({str(mined.split or "train").partition("[")[0]: mined})
    for name in splits:
        if not re.fullmatch(r"\w+(\.\w+)*", name):
            raise ConfigError(
                f"The dataset is of the split {name!r}, which cannot be the name of one on the Hub: letters, digits "
                "and '_', with '.' between. Say what to call it: push DatasetDict({'train': mined})."
            )
    return whole, splits


def _check(splits: DatasetDict, names: Sequence[str], corpus: Dataset | None) -> None:
    """Raise for what cannot be pushed, before anything is written.

    Raises:
        ConfigError, UnknownNameError: a config has no such name, or none is named.
        ColumnError, DataError: rows lack columns, or a split, the corpus or all of it is empty.
    """
    if not names:
        raise ConfigError("configs=[] pushes nothing; name at least one, such as list or triplet.")
    for name in names:
        Variant.named(name)
    for split, rows in splits.items():
        check_mined(rows, f"push_mined_dataset(), of the split {split!r},")
        if not len(rows):
            raise DataError(f"The split {split!r} has no rows, so there is nothing to push. Leave it out.")
    if not splits:
        raise DataError("The DatasetDict has no splits, so there is nothing to push. Give what mine() returned.")
    if corpus is not None and not len(corpus):
        raise DataError("corpus= has no rows. Give the documents that were mined, or leave it out.")


def _check_corpus(corpus: Dataset | None, recipe: Recipe) -> None:
    """Raise unless the documents that go along are the documents that were mined.

    Raises:
        DataError: they are others.
    """
    if corpus is None:
        return
    source = recipe.corpus
    missing = [name for name in source.columns if name not in corpus.column_names]
    if missing or dataset_digest(corpus, source.columns, nullable=source.columns) != source.digest:
        raise DataError(
            f"corpus= of {len(corpus):,} documents is not what was mined: {source.rows:,} documents with the columns "
            f"{', '.join(source.columns)} and the digest {source.digest}. Give that one, or leave it out."
        )


def _matching(config: Mapping[str, Any], paths: Iterable[str]) -> list[str]:
    """List the files that a config of a card holds, by its patterns."""
    folder = config.get("data_dir") or "."
    patterns = [posixpath.normpath(f"{folder}/{pattern}") for pattern in _patterns(config.get("data_files") or "**")]
    return [path for path in paths if any(fits(pattern, path) for pattern in patterns)]


def fits(pattern: str, path: str) -> bool:
    """Tell whether a path fits a glob pattern, in which `**` stands for any folders.

    Patterns come from cards: each part of the path is looked at once for each part of the pattern.
    """
    wanted = pattern.split("/")
    places = _over_folders(wanted, {0})
    for name in path.split("/"):
        fitting = {place for place in places if place < len(wanted) and fnmatchcase(name, wanted[place])}
        places = _over_folders(wanted, {place if wanted[place] == "**" else place + 1 for place in fitting})
    return len(wanted) in places


def _over_folders(wanted: Sequence[str], places: Iterable[int]) -> set[int]:
    """Extend places in a pattern by the places after each `**`, which may stand for no folder."""
    reached = set(places)
    for place in sorted(reached):
        while place < len(wanted) and wanted[place] == "**":
            place += 1
            reached.add(place)
    return reached


def _patterns(data_files: Any) -> Iterator[str]:
    """List every path in the `data_files` of a config, in whatever form they are."""
    if isinstance(data_files, str):
        yield data_files
    elif isinstance(data_files, dict):
        yield from _patterns(data_files.get("path", list(data_files.values())))
    elif isinstance(data_files, list):
        for entry in data_files:
            yield from _patterns(entry)


def _index_files(folder: str | os.PathLike[str] | None) -> dict[str, Path]:
    """List the manifest of an index and the files it names, by their path in the repository.

    Raises:
        StoreError: a file is missing, altered, or no regular file.
    """
    if folder is None:
        return {}
    root = Path(folder)
    with directories.verifying():
        listed = directories.check(root).files
    return {f"index/{root.name}/{name}": root / name for name in (directories.MANIFEST, *listed)}
