"""Mining on Ray: each actor opens the index once and mines the rows that it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from hf_hardneg.engines.base import checked_workers, mined_on, rows_out
from hf_hardneg.mining import mine as mine_here
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.runtime.arguments import AtLeastOne, ZeroOrMore, checked
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.progress import show
from hf_hardneg.store.elsewhere import AHEAD, TRIES, Work
from hf_hardneg.strategies import Strategy

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import EngineOptions

PATIENCE = 60.0
"""Seconds without any actor after which it is said that Ray starts none."""


@with_options_of(mine_here, without=("num_proc",))
@checked
def mine(
    pairs: Any,
    corpus: Any = None,
    strategy: str | Strategy | None = None,
    *,
    workers: AtLeastOne | None = None,
    num_cpus: ZeroOrMore = 1.0,
    num_gpus: ZeroOrMore = 0.0,
    shared: str | None = None,
    **options: Unpack[EngineOptions],
) -> Dataset | DatasetDict:
    """Do what `hf_hardneg.mine` does on the actors of a Ray cluster, and return the same rows, in the same order.

    The index is built here once, and mapped by the actors from where it lies; a corpus is encoded, queries are searched
    and pairs are scored by them. What an actor was at when it died is done again by another.

    Args:
        pairs (`ray.data.Dataset`, or whatever `mine` reads): rows in the order in which Ray keeps them.
        corpus (`ray.data.Dataset`, or whatever `mine` reads, *optional*), strategy: see `mine`.
        workers (`int`, *optional*): actors; by default as many as the cluster has room for.
        num_cpus (`float`, defaults to 1): CPUs that each actor takes of its node, and threads that it uses.
        num_gpus (`float`, defaults to 0): GPUs that each takes, for encoders and cross-encoders.
        shared (`str`, *optional*): a URL of fsspec that all nodes reach, by which index and corpus are copied to each
            node once. Without it they must see the paths of `cache_dir` and of the corpus.
        options: every other argument of `mine`.

    Raises:
        HardNegError: see `mine`, wherever it was raised; one for files that a node does not see names node and path.
        WorkerError: actors died over the same rows again and again.
    """
    ray = require("ray", extra="ray", needed_by="engines.ray.mine()")
    if not ray.is_initialized():
        ray.init()
    room = ray.cluster_resources()
    shares = [room.get(name, 0) / asked for name, asked in (("CPU", num_cpus), ("GPU", num_gpus)) if asked]
    workers = checked_workers(workers, min(shares, default=1.0), "Ray's cluster")
    sources = rows_out((pairs, corpus), _tables, "Ray", options)  # first: actors may leave no CPU to read with
    with RayActors(workers=workers, num_cpus=num_cpus, num_gpus=num_gpus) as actors:
        return mined_on(actors, sources, strategy, shared, options)


def _tables(rows: Any) -> Iterator[pa.Table] | None:
    """Yield the rows of a table of Ray in their order."""
    from ray.data import Dataset

    return _in_order(rows) if isinstance(rows, Dataset) else None


def _in_order(rows: Any) -> Iterator[pa.Table]:
    execution = rows.context.execution_options
    before, execution.preserve_order = execution.preserve_order, True
    try:
        for table in rows.iter_batches(batch_format="pyarrow", batch_size=None):
            yield pa.table({name: _stored(table.column(name)) for name in table.column_names})
    finally:
        execution.preserve_order = before


def _stored(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as lists where Ray keeps it as tensors or objects of Python."""
    name = getattr(column.type, "extension_name", "")
    return pa.chunked_array([pa.array(column.to_pylist())]) if name.startswith("ray.") else column


class _Actor:
    """A worker of Ray."""

    def ready(self) -> None:
        """Return once the actor runs."""

    def do(self, work: Work, rows: bytes) -> bytes:
        """Do a work."""
        return work(rows)


@dataclass(frozen=True, kw_only=True)
class RayActors:
    """Actors of a Ray cluster as the workers of an engine, inside it as a context; see `mine`.

    One that no node has room for yet is waited for by nobody.
    """

    workers: int
    num_cpus: float
    num_gpus: float
    actors: list[Any] = field(default_factory=list)
    free: SimpleQueue[Any] = field(default_factory=SimpleQueue)
    name: ClassVar[str] = "Ray"

    def __enter__(self) -> RayActors:
        import ray

        asked: Any = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        kind: Any = ray.remote(**asked, max_restarts=-1, max_task_retries=TRIES)(_Actor)
        self.actors.extend(kind.remote() for _ in range(self.workers))
        threading.Thread(target=self._start, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        for actor in self.actors:
            ray.kill(actor)

    def ask(self, work: Work, rows: bytes) -> bytes:
        """See `Engine`."""
        import ray

        actor = self.free.get()
        try:
            if isinstance(actor, Exception):
                raise actor
            return ray.get(actor.do.remote(work, rows))
        finally:
            self.free.put(actor)

    def _start(self) -> None:
        """Put each actor into the queue as soon as it runs, or what keeps it from that."""
        import ray

        waiting = {actor.ready.remote(): actor for actor in self.actors}
        while waiting:
            started, _ = ray.wait(list(waiting), num_returns=1, timeout=PATIENCE)
            if not started and len(waiting) == self.workers:
                show(
                    f"Ray has started none of {self.workers} actors of {self.num_cpus:g} CPUs and {self.num_gpus:g} "
                    f"GPUs yet; it has {ray.available_resources()} free."
                )
            for reference in started:
                actor = waiting.pop(reference)
                try:
                    ray.get(reference)
                except Exception as error:
                    actor = error
                for _ in range(AHEAD):
                    self.free.put(actor)
