"""Where commands get their rows from: the one place that reads what `--pairs`, `--corpus` and the like name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hf_hardneg.cli.terminal import note
from hf_hardneg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from hf_hardneg.cli.option_groups import CorpusSource, PairsOfCorpus
    from hf_hardneg.corpus.columns import Columns
    from hf_hardneg.formats.loaded import JobInputs, LoadedCorpus
    from hf_hardneg.strategies import Strategy

T = TypeVar("T", "Dataset", "Dataset | DatasetDict")


def table(source: str, *, split: str = "train") -> Dataset:
    """Read the rows behind a path or Hub id.

    Raises:
        DataError: nothing has that name, or it cannot be read.
    """
    from hf_hardneg.formats.inputs import load_table

    return load_table(source, split=split)


def optional_table(source: str | None, *, split: str = "train") -> Dataset | None:
    """Read the rows behind a path or Hub id, where one is named."""
    return None if source is None else table(source, split=split)


def optional_documents(source: str | None, *, split: str = "train") -> Dataset | None:
    """Read the documents that `mine()` read of a source, where one is named."""
    if source is None:
        return None
    from hf_hardneg.formats.loading import load_corpus

    rows: Dataset = load_corpus(source, what="--corpus", split=split).rows
    return rows


def pairs_and_corpus(
    options: PairsOfCorpus,
    *,
    single: bool = True,
    strategy: str | Strategy | None = None,
    mining: Callable[[Columns], Mapping[str, Any]] | None = None,
) -> JobInputs:
    """Read what mining needs, as `mine()` does, and say what was recognised.

    Args:
        options (`PairsOfCorpus`): where it is.
        single (`bool`, defaults to `True`): whether one split of the pairs is wanted, or all of them, unless one is
            named.
        strategy (`str` or `Strategy`, *optional*): what is mined with, which decides whether a document store searches.
        mining (`Callable`, *optional*): from the roles of columns to the options of `mine`, for a job that mines all
            pairs, so that of a document store may be read what they find.
    """
    from hf_hardneg.formats.loading import load_pairs, opened
    from hf_hardneg.formats.scanned import check_searchable
    from hf_hardneg.retrievers.stores.document_store import FOUND
    from hf_hardneg.retrievers.stores.drivers import document_store_of

    caller, told = "hf-hardneg", options.inputs
    named: str | Strategy = ""
    collection = document_store_of(options.corpus)
    if collection is not None and strategy is not None:
        check_searchable(collection, strategy, told)
        if mining is not None and collection.reads == FOUND:
            caller, named = "hf-hardneg mine", strategy
            told = {**told, **mining(load_pairs(options.pairs, options.roles, what="--pairs").columns)}

    job = opened(
        caller,
        options.pairs,
        options.corpus,
        named,
        {**told, "columns": options.roles},
        default=named,
        single=single or options.split is not None,
        split=options.split,
    )
    if job.strategy and not named:
        raise ConfigError(f"--corpus {options.corpus} is the name of a strategy, and no file. Give it as --strategy.")
    if job.words:
        note(job.words)
    return replace(job, strategy=strategy or "")


def corpus_of(options: CorpusSource) -> LoadedCorpus:
    """Read a corpus, as `mine()` does."""
    from hf_hardneg.formats.loading import load_corpus

    where: dict[str, Any] = {"cache_dir": options.cache_dir, "split": options.split}
    return load_corpus(options.corpus, options.roles, what="--corpus", **where)


def mined_rows(folder: str) -> Dataset | DatasetDict:
    """Read what `mine` saved, with all its splits and what it carries.

    Raises:
        DataError: the folder holds nothing of the kind.
    """
    from hf_hardneg.formats.inputs import load_saved

    return load_saved(folder)


def mined_split(folder: str, *, split: str = "train") -> Dataset:
    """Read one split of what `mine` saved.

    Raises:
        DataError: the folder holds nothing of the kind, or no such split.
    """
    rows = mined_rows(folder)
    if not isinstance(rows, dict):
        return rows
    if split not in rows:
        raise DataError(f"{folder} has no split {split!r}; it has {', '.join(rows)}. Name one with --split.")
    return rows[split]


def negatives_of_anyone(source: str, *, layout: str | None, split: str) -> Any:
    """Read negatives in any trainer's layout: a table, or tables by name."""
    from hf_hardneg.formats.files import read_format
    from hf_hardneg.formats.inputs import is_saved, load_splits

    path = Path(source)
    if path.exists() and not is_saved(path):
        return read_format(path, layout)
    return load_splits(source, split=split)


def verdicts_of(mined: str, named: str | None) -> Path:
    """Name the file of what people said of a mined dataset: as told, else the one beside its folder."""
    folder = Path(mined)
    return Path(named) if named is not None else folder.with_name(f"{folder.name}.verdicts.jsonl")


def with_verdicts(rows: T, mined: str, named: str | None) -> T:
    """Put what people said beside the negatives, where they said something.

    Raises:
        ConfigError: the named file is not there.
        DataError: it holds something else.
    """
    from datasets import DatasetDict

    from hf_hardneg.audits import Verdicts

    path = verdicts_of(mined, named)
    if named is None and not path.exists():
        return rows
    said: Any = Verdicts(path)
    if isinstance(rows, dict):
        return cast("T", DatasetDict({split: said.on(part) for split, part in rows.items()}))
    return cast("T", said.on(rows))
