"""Work on the workers of an engine, such as Ray, Spark, Dask or Daft, which may be on other machines.

Tables travel there and back as bytes, by way of the engine, so that it needs no folder in which results meet. What is
large, as indexes and corpora are, travels as paths, and each worker maps it from where it lies (or see `mirrors`).
"""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from hf_hardneg.errors import HardNegError, WorkerError
from hf_hardneg.runtime.workers import InWorker, of_bytes, portable, to_bytes
from hf_hardneg.store.mirrors import Mirror, packed, unpacked

AHEAD = 2
"""Tables under way for each worker, so that none waits for the next one."""
TRIES = 3
"""How often a table is sent: a worker may be killed, and the next one may do."""
IS_TABLE = b"\xff\xff\xff\xff"
"""How a stream of Arrow begins, and no pickled error."""


class Engine(Protocol):
    """A library that has workers."""

    @property
    def name(self) -> str:
        """What it is called, in messages."""

    @property
    def workers(self) -> int:
        """How many of them compute at the same time."""

    def ask(self, work: Work, rows: bytes) -> bytes:
        """Have a worker do a work, and wait for what comes out.

        It is called from several threads, and raises whatever it likes where that worker is lost.
        """


_engine: ContextVar[tuple[Engine, Mirror | None] | None] = ContextVar("hf_hardneg_engine", default=None)


@contextlib.contextmanager
def on(engine: Engine, mirror: Mirror | None = None) -> Iterator[None]:
    """Have rows and texts computed on an engine, inside.

    Args:
        engine (`Engine`): whose workers compute.
        mirror (`Mirror`, *optional*): where they get what they do not see under its path.
    """
    token = _engine.set((engine, mirror))
    try:
        yield
    finally:
        _engine.reset(token)


def workers_elsewhere() -> int:
    """Return how many workers the engine has on which this is run, 0 where it is run here."""
    running = _engine.get()
    return 0 if running is None else running[0].workers


@dataclass(frozen=True)
class Work:
    """A function from a table to a table, as it travels: from bytes to bytes; what it raises comes back as bytes too.

    Args:
        function (`bytes`): pickled.
        mirror (`Mirror`, *optional*): where what it maps can be had from.
    """

    function: bytes
    mirror: Mirror | None = None

    def __call__(self, rows: bytes) -> bytes:
        """Do it."""
        import dill

        try:
            return to_bytes(_function(self)(of_bytes(rows)))
        except Exception as error:
            return dill.dumps((portable(error), traceback.format_exc()))


@functools.lru_cache(maxsize=2)
def _function(work: Work) -> Callable[[pa.Table], pa.Table]:
    """Return what a work does, as long as this process works on it: with its models and what it has mapped."""
    return unpacked(work.function, work.mirror)


def map_elsewhere(
    function: Callable[[pa.Table], pa.Table], tables: Iterable[pa.Table], *, desc: str
) -> Iterator[tuple[int, pa.Table]]:
    """Map tables on the engine on which this is run; yield the place and the result of each, as they are done.

    Args:
        function (`Callable`): travels pickled, and is unpickled once in a worker.
        tables (`Iterable[pa.Table]`): read as far ahead as workers need.
        desc (`str`): the name of the work, for errors.

    Raises:
        HardNegError: what the function raised there.
        WorkerError: workers were lost again and again.
    """
    running = _engine.get()
    if running is None:
        raise LookupError("no engine: map_elsewhere() runs inside on()")
    engine, mirror = running
    work, ahead = Work(packed(function, mirror), mirror), AHEAD * engine.workers
    pool, waiting = ThreadPoolExecutor(ahead), dict[Future[pa.Table], int]()
    try:
        for place, table in enumerate(tables):
            waiting[pool.submit(_asked, engine, work, table, desc)] = place
            if len(waiting) == ahead:
                yield from _done(waiting)
        while waiting:
            yield from _done(waiting)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _done(waiting: dict[Future[pa.Table], int]) -> list[tuple[int, pa.Table]]:
    """Wait until one at least is done, and take out what is."""
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    return [(waiting.pop(future), future.result()) for future in done]


def _asked(engine: Engine, work: Work, table: pa.Table, desc: str) -> pa.Table:
    """Have a table mapped by a worker, or by the next one where that is lost."""
    import dill

    rows = to_bytes(table)
    for left in range(TRIES - 1, -1, -1):
        try:
            answer = engine.ask(work, rows)
            break
        except HardNegError:
            raise
        except Exception as error:
            if not left:
                raise WorkerError(
                    f"{desc}: {TRIES} workers of {engine.name} were lost over the same rows, the last one by "
                    f"{type(error).__name__}: {str(error)[:500]}. What was done before is kept: run again, with fewer "
                    "workers or a smaller batch_size= where memory was short."
                ) from error
    if answer.startswith(IS_TABLE):
        return of_bytes(answer)
    raised, text = dill.loads(answer)
    raised.__cause__ = InWorker(f"\n{text}")
    raise raised
