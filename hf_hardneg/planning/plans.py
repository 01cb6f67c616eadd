"""`plan` tells what a job costs before it runs; `mine` asks the guard first.

A job is a list of stages. What each costs is a law, linear in documents, rows and their product, whose factors were
measured on samples; a plan evaluates the laws for the sizes at hand, or for any other sizes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.errors import ColumnError, CostError, StoreError, check_keywords
from hf_hardneg.formats.loading import opened
from hf_hardneg.hard_negatives import OPTIONS, HardNegatives, usable
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.planning.costs import Law, Stage, Step
from hf_hardneg.planning.jobs import RECIPE_OPTIONS, MiningJob, ceiling
from hf_hardneg.planning.probes import measured, resident
from hf_hardneg.runtime.arguments import AtLeastOne, Processes, check_options, checked
from hf_hardneg.runtime.progress import show
from hf_hardneg.runtime.units import data_size, duration, processors
from hf_hardneg.store.disk import nearest, room_of
from hf_hardneg.strategies import Strategy, resolve

if TYPE_CHECKING:
    from datasets import Dataset
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import Documents, PairRows, PlanOptions

logger = logging.getLogger(__name__)

SHOWN_ABOVE = 60.0
"""Seconds above which `mine` shows its plan."""

BUDGET = 3600.0
"""Seconds above which `mine` raises unless `confirm_cost=True`, by the best of the probes."""

WORKER_SECONDS = 0.7
"""Starting the worker processes of a job."""

BATCH = 1000
WORTH_SAYING = 0.8
SPREAD = 1.25
"""How many times the estimate the slowest probes must say before a plan shows both."""
FAR = 100
"""A plan for more than so many times the measured sizes says that it is weak."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cost of a job; `str()` renders it.

    Args:
        recipe (`str`): the strategy.
        documents, rows (`int`): of the corpus and the pairs.
        num_proc (`int`): worker processes, 1 for none.
        stages (`tuple[Stage, ...]`): the parts of the job.
        held (`int`): bytes of memory that this process holds already.
        cache (`Path`): where indexes go.
        lexical (`Plan`, *optional*): the same job with BM25, where that would save encoding.
        measured (`tuple[int, int]`, *optional*): documents and pairs of the largest sample that costs come from.
        text_bytes (`float`): of all documents.
    """

    recipe: str
    documents: int
    rows: int
    num_proc: int
    stages: tuple[Stage, ...]
    held: int
    cache: Path
    lexical: Plan | None = None
    measured: tuple[int, int] | None = None
    text_bytes: float = 0.0

    @property
    def steps(self) -> tuple[Step, ...]:
        """The costs of each stage at these sizes."""
        return tuple(self._step(stage) for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Time of the whole job, on the clock, by the best of the probes, where nothing waits for a processor."""
        return sum(step.seconds for step in self.steps)

    @property
    def slow(self) -> float:
        """The same by the slowest of the probes with all its waiting, on a machine as busy as it was then."""
        return sum(step.slow for step in self.steps)

    @property
    def memory(self) -> float:
        """Bytes of memory at the peak, over all processes; pages of mapped index files count."""
        return self.held + max(step.memory for step in self.steps)

    @property
    def disk(self) -> float:
        """Bytes that will be written."""
        return sum(step.disk for step in self.steps)

    @property
    def cheaper(self) -> str:
        """The alternative that saves most among those that fit this job, with its estimate."""
        if self.seconds < SHOWN_ABOVE:
            return "not needed"
        cores = processors()
        others = [(replace(self, num_proc=cores), f"num_proc={cores}")] if cores > self.num_proc else []
        if self.lexical is not None:
            others.append((self.lexical, "'bm25' instead of a dense strategy"))
        best, change = min(others, key=lambda other: other[0].seconds, default=(self, ""))
        if best.seconds < WORTH_SAYING * self.seconds:
            return f"{change}: about {duration(best.seconds)}"
        tenth = replace(self, rows=max(1, self.rows // 10))
        if tenth.seconds < WORTH_SAYING * self.seconds:
            return f"a sample of {tenth.rows:,} of the pairs: about {duration(tenth.seconds)}"
        again = replace(self, stages=tuple(replace(stage, left=0.0) for stage in self.stages if not stage.in_workers))
        rest = replace(self, stages=tuple(stage for stage in self.stages if stage.in_workers))
        return f"none; but what is built stays: a second run takes about {duration(again.seconds + rest.seconds)}"

    @property
    def extrapolation(self) -> str:
        """From how much the figures are extrapolated, and whether that is too far to trust them."""
        if self.measured is None:
            return "not known"
        named = zip(("documents", "pairs"), self.measured, (self.documents, self.rows), strict=True)
        parts = [(f"{part:,} of {whole:,} {name}", whole / part) for name, part, whole in named]
        shown, times = " and ".join(part for part, _ in parts), max(factor for _, factor in parts)
        weak = f"; weak: {times:,.0f} times what was measured, more than {FAR}" if times > FAR else ""
        return f"{shown}{weak}"

    @checked
    def at(self, *, documents: AtLeastOne | None = None, rows: AtLeastOne | None = None) -> Plan:
        """Plan the same job at other sizes, with texts like these; another corpus reuses nothing.

        It says so where the sizes are more than `FAR` times what was measured.

        Args:
            documents, rows (`int`, *optional*): sizes; by default these.
        """
        stages, lexical = self.stages, self.lexical
        if documents is not None and documents != self.documents:
            stages = tuple(replace(stage, left=1.0) for stage in stages)
        if lexical is not None:
            lexical = lexical.at(documents=documents, rows=rows)
        documents, rows = documents or self.documents, rows or self.rows
        text_bytes = self.text_bytes * documents / self.documents
        return replace(self, stages=stages, lexical=lexical, documents=documents, rows=rows, text_bytes=text_bytes)

    def _step(self, stage: Stage) -> Step:
        sizes = self.documents, self.rows
        wall, batch = stage.wall(*sizes), min(self.rows, BATCH)
        if stage.in_workers and self.num_proc > 1:
            wall = stage.cpu(*sizes) / min(self.num_proc, processors()) + WORKER_SECONDS * (stage.name == "search")
            batch *= self.num_proc
        return Step(
            name=stage.name,
            seconds=wall * stage.left,
            slow=wall * stage.slower * stage.left,
            memory=stage.memory(self.documents, batch) * (stage.left > 0),
            disk=stage.disk(*sizes) * stage.left,
            reused=stage.left == 0,
            basis=stage.basis if stage.left in (0, 1) else f"{stage.basis}; {1 - stage.left:.0%} is in the cache",
        )

    def __str__(self) -> str:
        folder, free = nearest(self.cache), room_of(self.cache)
        workers = f", {self.num_proc} processes" if self.num_proc > 1 else ""
        spread = f" to {duration(self.slow)}" if self.slow > SPREAD * self.seconds else ""
        lines = [
            f"{self.recipe}",
            f"{self.documents:,} documents, {self.rows:,} pairs{workers}: about {duration(self.seconds)}{spread}, "
            f"{data_size(self.memory)} of memory, {data_size(self.disk)} of disk",
            f"  {'step':<16} {'time':>10} {'memory':>10} {'disk':>10}   known from",
            *map(str, self.steps),
            f"  measured on: {self.extrapolation}",
            f"  cheaper: {self.cheaper}",
        ]
        if self.disk > free:
            lines.append(f"  not enough room: {folder} has {data_size(free)} free; name another with cache_dir=")
        return "\n".join(lines)


@with_options_of(HardNegatives)
@checked
def plan(
    pairs: PairRows,
    corpus: Documents | Strategy | None = None,
    strategy: str | Strategy | None = None,
    *,
    num_proc: Processes | None = None,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Estimate what `mine` with these arguments costs: time, memory, disk, what it reuses, and something cheaper.

    It takes a few seconds whatever the size: stages run on samples, a model on a few hundred texts. Besides that the
    corpus is read once, as mining itself must (and does not repeat in this process), and a FAISS index of the user's
    is taken into the cache. Nothing else is built.

    Args:
        pairs, corpus (`Dataset` or whatever holds them), strategy (`str` or `Strategy`), num_proc (`int`, *optional*):
            as for `mine`.
        options: every other argument of `HardNegatives`.

    Raises:
        HardNegError: what `mine` would raise for these arguments.

    Example:
        >>> costs = plan(pairs, corpus, "dense", encoder=model)
        >>> print(costs)
        Strategy(retrievers=(Dense(),), filters=(NearQuery(),TooSimilar(),Disagreement(),), sampler=Top())
        13 documents, 4 pairs: about ... s, ... of memory, ... of disk
          step                   time     memory       disk   known from
        ...
          encode corpus         ... measured on ... texts stratified by length, linear
        ...
        >>> costs.at(documents=8_800_000).extrapolation
        '13 of 8,800,000 documents and 4 of 4 pairs; weak: 676,923 times what was measured, more than 100'
    """
    check_keywords("plan()", options, OPTIONS | {"num_proc"})
    check_options("plan", HardNegatives, options)
    job = opened("plan", pairs, corpus, strategy, options)
    return _planned(job.splits, job.corpus, job.strategy, {**options, **job.options}, num_proc)


def _planned(
    splits: Sequence[Dataset],
    corpus: Dataset,
    strategy: str | Strategy,
    options: Mapping[str, Any],
    num_proc: int | None,
) -> Plan:
    rows = sum(map(len, splits))
    if not rows:
        raise ColumnError("The pairs are empty: 0 rows. Give a dataset with at least one query.")
    job = MiningJob.open(corpus, strategy, options, splits)
    held = resident()
    (stages, sizes), cost = measured(lambda: job.stages(splits))
    if _is_planned(splits, corpus, strategy, options) and job.ceiling(splits) >= SHOWN_ABOVE:
        planning = Stage(name="plan", wall=Law(fixed=cost.wall), basis="measured; mine() plans what may be long")
        stages = (planning, *stages)
    planned = Plan(
        recipe=repr(job.strategy),
        documents=len(job.corpus),
        rows=rows,
        num_proc=num_proc or 1,
        stages=stages,
        held=held,
        cache=job.corpus.cache,
        measured=sizes,
        text_bytes=sum(job.corpus.table.column(name).nbytes for name in job.corpus.text_columns),
    )
    encoding = sum(step.seconds for step in planned.steps if step.name.startswith("encode"))
    if encoding > SHOWN_ABOVE and not job.images:
        lexical = _planned(splits, corpus, "bm25", usable("bm25", options), num_proc)
        planned = replace(planned, lexical=lexical)
    return planned


def guard(
    splits: Sequence[Dataset],
    corpus: Dataset,
    strategy: str | Strategy,
    options: Mapping[str, Any],
    *,
    num_proc: int | None,
    confirm_cost: bool,
) -> None:
    """Show the plan of a job that takes more than `SHOWN_ABOVE`; stop one above `BUDGET` that nobody confirmed.

    Jobs that are surely short, by their sizes and by what the cache has, are not measured at all.

    Raises:
        CostError: the job is above the budget and not confirmed.
        StoreError: the disk has less room than it will write, and it is not confirmed.
    """
    if not _is_planned(splits, corpus, strategy, options):
        return
    job = MiningJob.open(corpus, strategy, options, splits)
    if job.ceiling(splits) < SHOWN_ABOVE:
        return
    show("Planning: the steps of the job are measured on samples …")
    planned = _planned(splits, corpus, strategy, {**options, "encoder": job.encoder}, num_proc)
    logger.info("%s", planned)
    if planned.seconds > BUDGET and not confirm_cost:
        raise CostError(
            f"mine() would take at least {duration(planned.seconds)}, by the best of several probes; more than "
            f"{duration(BUDGET)} must be confirmed. Pass confirm_cost=True (--confirm-cost on the command line) to run "
            f"it, or try something cheaper: {planned.cheaper}.\n{planned}"
        )
    if planned.disk > room_of(planned.cache) and not confirm_cost:
        raise StoreError(
            f"mine() would write about {data_size(planned.disk)}, and {nearest(planned.cache)} has "
            f"{data_size(room_of(planned.cache))} free. Make room there, name another place with cache_dir=, or pass "
            f"confirm_cost=True (--confirm-cost on the command line) to try.\n{planned}"
        )
    if planned.seconds > SHOWN_ABOVE:
        show(str(planned))


def _is_planned(
    splits: Sequence[Dataset], corpus: Dataset, strategy: str | Strategy, options: Mapping[str, Any]
) -> bool:
    """Tell by its sizes alone whether a job may be long where nothing of it is built yet."""
    from datasets import Dataset

    recipe = {name: options[name] for name in RECIPE_OPTIONS if name in options}
    rows = sum(map(len, splits))
    return isinstance(corpus, Dataset) and ceiling(corpus, rows, resolve(strategy, **recipe), options) >= SHOWN_ABOVE
