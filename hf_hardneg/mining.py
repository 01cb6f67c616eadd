"""`mine`: the whole job, dataset in, dataset out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.lists import combined, lengths, listed
from hf_hardneg.corpus.ids import named_columns
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.corpus.sides import warn_of_negatives
from hf_hardneg.errors import ConfigError, check_keywords
from hf_hardneg.formats.loaded import JobInputs
from hf_hardneg.formats.loading import opened
from hf_hardneg.hard_negatives import OPTIONS, HardNegatives
from hf_hardneg.identity import one_run
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.pipeline.readable import said_of
from hf_hardneg.pipeline.selection import check_own, written
from hf_hardneg.pipeline.yields import Yields
from hf_hardneg.planning.plans import guard
from hf_hardneg.recipes.recipe import Recipe, attach
from hf_hardneg.runtime.arguments import AtLeastOne, Processes, check_options, checked
from hf_hardneg.runtime.progress import show
from hf_hardneg.runtime.versions import joined
from hf_hardneg.steps import BATCH, Steps
from hf_hardneg.store import directories
from hf_hardneg.store.elsewhere import workers_elsewhere
from hf_hardneg.strategies import Strategy, resolve

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import Documents, MinerOptions, PairRows

KEYWORDS = {"num_proc", "batch_size", "confirm_cost"}
"""What `mine` takes beside the options of `HardNegatives`."""


@with_options_of(HardNegatives)
@checked
def mine(
    pairs: PairRows,
    corpus: Documents | Strategy | None = None,
    strategy: str | Strategy | None = None,
    *,
    num_proc: Processes | None = None,
    batch_size: AtLeastOne = BATCH,
    confirm_cost: bool = False,
    known_positives: Sequence[Dataset] = (),
    **options: Unpack[MinerOptions],
) -> Dataset | DatasetDict:
    """Mine hard negatives: the pairs with their negatives.

    Every known positive of a query is excluded, in whatever row it stands, also over the splits of a `DatasetDict`.
    Two stored steps do the work: candidates, then their selection. Once the candidates are there, another margin,
    sampler or seed that asks for candidates of the same depth touches no model and no index, in any process. What is
    returned carries its `Recipe`: `recipe_of(mined)`.

    Both are read in whatever form they are: a `Dataset`, `DatasetDict` or stream, a list, a mapping, a frame, an Arrow
    table, a file, a folder, a glob, the URL of a database, a Hub id. What was recognised is said in one line, and
    `docs/data_layouts.md` has the table. Streams and databases are written to the cache once.

    Args:
        pairs (`Dataset` or whatever holds pairs): rows of `query` with `positive` (text or texts) and / or
            `positive_ids`, or of a layout that is recognised. All splits are mined.
        corpus (`Dataset` or whatever holds documents, *optional*): the documents. Of several splits the only one, else
            `corpus`, else `train`. Without it, the documents that the source of the pairs holds, as a BEIR folder
            does, else all positives. A name of a strategy that is no path is the strategy: `mine(pairs, "bm25")`. The
            URI of a document store is its documents, which it searches too where the strategy uses vectors.
        strategy (`str` or `Strategy`, *optional*): see `HardNegatives`.
        num_proc (`int`, *optional*): worker processes.
        batch_size (`int`, defaults to 1000): rows at a time; does not change the result.
        confirm_cost (`bool`, defaults to `False`): whether a job whose `plan` is above an hour may run.
        known_positives (`Sequence[Dataset]`, *optional*): rows whose positives are excluded beside the positives of the
            pairs, such as the pairs of a test set.
        options: every other argument of `HardNegatives`.

    Raises:
        HardNegError: see `HardNegatives`; raised before anything is searched.
        CostError: the job would take more than `plans.BUDGET` and nobody confirmed it.

    Example:
        >>> mined = mine(pairs, corpus, "bm25", num_negatives=2)
        >>> mined[0]["query"], mined[0]["negative_ids"]
        ('why is the sky blue', ['mars', 'sunset'])
    """
    from datasets import DatasetDict

    check_keywords("mine()", options, OPTIONS | KEYWORDS)
    how = Running(num_proc=num_proc, batch_size=batch_size, confirm_cost=confirm_cost)
    with one_run(), directories.verifying(options.get("verify") is True):
        run = MiningRun.of("mine", (pairs, corpus, strategy), how, known_positives=known_positives, **options)
        mined = run.negatives()
    return DatasetDict(mined) if isinstance(run.job.pairs, DatasetDict) else mined[""]


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a job is run, which changes no row; see `mine`."""

    num_proc: int | None
    batch_size: int
    confirm_cost: bool


@dataclass(frozen=True, kw_only=True)
class MiningRun:
    """A job of `mine`, opened: all that is costly to build is there.

    Args:
        job (`JobInputs`): the data as they were opened.
        pairs (`dict[str, Dataset]`): all rows by split, `""` where there are no splits.
        rows (`dict[str, Dataset]`): the rows of each split that are mined here.
        miner (`HardNegatives`): knows the positives of all rows.
        steps (`Steps`): how it is run.
    """

    job: JobInputs
    pairs: dict[str, Dataset]
    rows: dict[str, Dataset]
    miner: HardNegatives
    steps: Steps

    @classmethod
    def of(
        cls,
        caller: str,
        sources: tuple[Any, Any, str | Strategy | None],
        how: Running,
        *,
        known_positives: Sequence[Dataset],
        share: Callable[[int], range] = range,
        **options: Any,
    ) -> MiningRun:
        """Open a job, inside `one_run()`.

        Args:
            caller (`str`): the function that the user called.
            sources (`tuple`): the pairs, the corpus and the strategy.
            how (`Running`): how it is run.
            known_positives (`Sequence[Dataset]`): see `mine`.
            share (`Callable[[int], range]`, *optional*): which of so many rows of a split are mined here.
            options: of `HardNegatives`; what the data decide is added. Editors follow them here from `mine`.
        """
        from datasets import DatasetDict

        check_options("HardNegatives", HardNegatives, options)
        job = opened(caller, *sources, {**options, "known_positives": known_positives})
        if job.words:
            show(job.words)
        options.update(job.options)
        splits = dict(job.pairs) if isinstance(job.pairs, DatasetDict) else {"": job.pairs}
        rows = {name: _of_share(split, share(len(split))) for name, split in splits.items()}
        known = [*splits.values(), *known_positives]
        _check_own(list(splits.values()), job.strategy, options)
        miner = _opened(known, job, options)
        if miner is None or not all(Steps.of(miner).is_selection_left(split, miner) for split in rows.values()):
            wanted = {**options, "known_positives": known_positives if rows == splits else known}
            planned = [split for split in rows.values() if len(split)] or list(splits.values())
            processes = workers_elsewhere() or how.num_proc
            guard(planned, job.corpus, job.strategy, wanted, num_proc=processes, confirm_cost=how.confirm_cost)
            miner = miner or HardNegatives(job.corpus, job.strategy, known_positives=known, **options)
            _check_processes(miner, how.num_proc)
            for split in splits.values():
                miner.retrieval.reader.check_beside(split)
        steps = Steps.of(miner, num_proc=how.num_proc, batch_size=how.batch_size)
        return cls(job=job, pairs=splits, rows=rows, miner=miner, steps=steps)

    def negatives(self) -> dict[str, Dataset]:
        """The rows with their negatives and the recipe, by split; what is probably a mistake in them is said."""
        mined = {name: self.steps.negatives(split, self.miner) for name, split in self.rows.items()}
        versions = joined(version for split in self.rows.values() for version in self.steps.versions(split, self.miner))
        recipe = Recipe.of(self.miner, pairs=self.job.pairs, corpus=self.job.corpus, versions=versions)
        for split in mined.values():
            attach(split, recipe)
        columns = self.miner.retrieval.reader.columns
        warn_of_negatives(mined.values(), columns.positive)
        _say_what_has_no_positive(self.rows.values(), columns)
        self._say_what_is_lost(mined.values())
        if self.miner.selection.drops_rows:
            _say_what_is_left_out(*(sum(map(len, splits.values())) for splits in (self.rows, mined)))
        return mined

    def _say_what_is_lost(self, splits: Iterable[Dataset]) -> None:
        """Say in a line each why many rows are short, and what safeguards take of a small corpus, where it is so."""
        miner, job = self.miner, self.job
        batches = (combined(batch["mining"]) for rows in splits for batch in _mining(rows))
        sizes = {"depth": miner.retrieval.depth, "documents": len(miner.retrieval.reader.corpus)}
        yields = Yields.of(batches, wanted=miner.num_negatives, **sizes)
        strategy = cast("Strategy", miner.strategy)
        if isinstance(job.strategy, str):
            _show(said_of(strategy, job.strategy, safeguards=miner.safeguards))
        if miner.safeguards and isinstance(job.strategy, str):
            _show(yields.what_safeguards_take(strategy))
        if miner.on_shortage == "keep_fewer":
            _show(yields.why_short(strategy))


def _show(line: str) -> None:
    if line:
        show(line)


def _of_share(split: Dataset, rows: range) -> Dataset:
    return split if len(rows) == len(split) else split.select(rows)


def _check_own(splits: Sequence[Dataset], strategy: str | Strategy, options: Mapping[str, Any]) -> None:
    recipe = {name: options[name] for name in ("safeguards", "cross_encoder") if name in options}
    names = written(resolve(strategy, **recipe).filters)
    for split in splits:
        kind = split.features.get("mining")
        check_own(split.column_names, names, kind if isinstance(kind, dict) else ())


def _opened(known: list[Dataset], job: JobInputs, options: Mapping[str, Any]) -> HardNegatives | None:
    """The miner, where all it needs is built already."""
    try:
        with directories.without_building():
            return HardNegatives(job.corpus, job.strategy, known_positives=known, **options)
    except directories.NotPublished:
        return None


def _say_what_has_no_positive(splits: Collection[Dataset], columns: PairColumns) -> None:
    """Say on one line how many rows name no positive, where some do not."""
    without = 0
    for rows in splits:
        names = [name for name in columns.digested(rows) if name in (columns.positive, columns.positive_ids)]
        for batch in rows.with_format("arrow", columns=names).iter(10 * BATCH) if names and len(rows) else ():
            counts = [_values_of(column) for column in named_columns(batch).values()]
            without += int((np.sum(counts, axis=0) == 0).sum())
    if without:
        show(
            f"{without:,} of {sum(map(len, splits)):,} rows name no positive: unless another row of their query does, "
            "what answers them can come out as their negative. Give their positives, or leave them out."
        )


def _values_of(column: Any) -> np.ndarray:
    """Count the values of each row of a column of lists or of values, (n,)."""
    array = combined(column)
    if pa.types.is_nested(array.type):
        return lengths(listed(array))
    return array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)


def _say_what_is_left_out(before: int, after: int) -> None:
    """Say on one line how many rows are left out by their rules, where some are."""
    if after < before:
        show(f"{before - after:,} of {before:,} rows are left out, as a rule with 'drop_row' says.")


def _mining(rows: Dataset) -> Iterable[Any]:
    return rows.with_format("arrow", columns=["mining"]).iter(10 * BATCH) if len(rows) else ()


def _check_processes(miner: HardNegatives, num_proc: int | None) -> None:
    if (num_proc or 1) == 1:
        return
    from hf_hardneg.models.forward import resolved_device
    from hf_hardneg.models.model_names import unwrapped

    encoder = next((part.encoder for part in miner.retrieval.searcher.parts if hasattr(part, "encoder")), None)
    scorers = miner.rescoring.scorers.values()
    for what, model in [("an encoder", encoder), *(("a cross-encoder", scorer) for scorer in scorers)]:
        device = str(getattr(unwrapped(model), "device", "cpu"))
        device = resolved_device(device) if device == "auto" else device
        if device.startswith("cuda"):
            raise ConfigError(
                f"num_proc={num_proc} with {what} on {device}: workers cannot use CUDA. Use num_proc=1: the GPU is the "
                "fast part; or, for an encoder, name vectors you have with columns={'query_vector': ...}."
            )
