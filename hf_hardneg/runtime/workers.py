"""Work in worker processes, of which none that dies is waited for.

The pool of `Dataset.map(num_proc=)` shares queues and their locks between its workers: one that is killed while it has
a lock leaves the others, and the caller, waiting for ever. Here each has a pipe of its own, and the caller looks.
"""

from __future__ import annotations

import io
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hf_hardneg.errors import ConfigError, WorkerError
from hf_hardneg.runtime.process import end_with

POLL, GRACE = 0.1, 5.0
ENDING = (signal.SIGINT, signal.SIGTERM)


class InWorker(Exception):
    """The traceback of an error in its worker; the error is raised from it."""


def in_workers(
    shares: Sequence[Callable[[Any, Callable[[int], None]], None]],
    rows: Any,
    tell: Callable[[int], None],
    *,
    desc: str,
    asked: int | None,
) -> None:
    """Do the shares of a work, each in a process of its own; a single one in this process.

    Args:
        shares (`Sequence[Callable]`): called with the rows, and a function to which each says how much more it has
            done; each is pickled for its worker.
        rows (`Dataset`): what all of them read. A worker that is forked has them from its parent; for others they are
            pickled, see `compact`.
        tell (`Callable[[int], None]`): the same for the whole work.
        desc (`str`): the name of the work, for errors.
        asked (`int`, *optional*): the `num_proc=` of the user.

    Raises:
        WorkerError: a worker died.
        ConfigError: workers are asked for in a worker.
    """
    import dill
    import multiprocess

    if (asked or 1) > 1 and multiprocess.current_process().daemon:
        raise ConfigError(
            f"num_proc={asked} in a worker of a pool: such a worker may start none itself. Use num_proc=1 there."
        )
    if len(shares) < 2:
        for share in shares:
            share(rows, tell)
        return
    done, told = multiprocess.RawArray("q", len(shares)), 0
    count, parent = len(shares), os.getpid()
    parts = [_Share(dill.dumps(share), _Shared(rows), number, count, parent) for number, share in enumerate(shares)]
    with _started(parts, done) as workers:
        while workers:
            multiprocess.connection.wait([worker.pipe for worker in workers], timeout=POLL)
            workers = [worker for worker in workers if not worker.has_finished(desc)]
            told, before = sum(done), told
            tell(told - before)


def compact(rows: Any) -> bytes:
    """Pickle a dataset: rows in memory as Arrow streams, files as their paths.

    Arrow pickles a slice of a table as all of the table, and a dataset in memory that stands beside columns in files is
    cut into as many slices as there are files.
    """
    import dill
    import pyarrow as pa

    class Compact(dill.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            return (of_bytes, (to_bytes(value),)) if isinstance(value, pa.Table) else NotImplemented

    file = io.BytesIO()
    Compact(file, recurse=False).dump(rows)
    return file.getvalue()


def to_bytes(table: Any) -> bytes:
    """Write an Arrow table as a stream, which holds its rows alone where it is a slice."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def of_bytes(stream: bytes) -> Any:
    """Read the Arrow table in a stream, whose columns are views of it."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.py_buffer(stream)).read_all()


@dataclass(frozen=True)
class _Shared:
    """Rows for a worker, pickled compactly where it is not forked."""

    rows: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return _shared, (compact(self.rows),)


def _shared(pickled: bytes) -> _Shared:
    import dill

    return _Shared(dill.loads(pickled))


@dataclass(frozen=True)
class _Share:
    """The work of one worker, pickled, and the rows that it reads: the share `number` of `count`."""

    work: bytes
    shared: _Shared
    number: int
    count: int
    parent: int

    def run(self, done: Any) -> None:
        """Do it, and count what is done in a shared array."""
        import dill
        from datasets import disable_progress_bars

        disable_progress_bars()

        def tell(more: int) -> None:
            done[self.number] += more

        dill.loads(self.work)(self.shared.rows, tell)


@dataclass(frozen=True)
class _Worker:
    """A worker as its parent sees it."""

    part: _Share
    process: Any
    pipe: Any

    def has_finished(self, desc: str) -> bool:
        """Say whether the worker has finished; raise what it raised."""
        code = self.process.exitcode
        try:
            error, text = self.pipe.recv() if self.pipe.poll() else (None, "")
        except (EOFError, OSError) as gone:
            self.process.join(timeout=GRACE)
            raise self._died(desc) from gone
        if error is not None:
            error.__cause__ = InWorker(f"\n{text}")
            raise error
        if not text and code is not None:
            raise self._died(desc)
        return bool(text)

    def _died(self, desc: str) -> WorkerError:
        code = self.process.exitcode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
            how += ", as the system does where memory runs out," if -code == signal.SIGKILL else ""
        return WorkerError(
            f"{desc}: worker {self.part.number + 1} of {self.part.count}, process {self.process.pid}, {how} before it "
            "was done. The others were stopped; steps that are stored are kept. Run again, where memory was short with "
            "a smaller num_proc= or batch_size=."
        )


@contextmanager
def _started(parts: list[_Share], done: Any) -> Iterator[list[_Worker]]:
    """Start a worker for each part; none is left afterwards."""
    import multiprocess

    workers = []
    try:
        for part in parts:
            received, sent = multiprocess.Pipe(duplex=False)
            process = multiprocess.Process(target=_work, args=(part, sent, done), daemon=True)
            with _signals_later():
                process.start()
            sent.close()
            workers.append(_Worker(part, process, received))
        yield workers
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.kill()
            worker.process.join()


@contextmanager
def _signals_later() -> Iterator[None]:
    """Have signals that end a command wait, inside: a process that begins here would say that it was interrupted."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(part: _Share, pipe: Any, done: Any) -> None:
    """Run a part in a worker process, which ends with its parent; the parent alone hears of Ctrl-C."""
    end_with(part.parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        part.run(done)
    except Exception as error:
        pipe.send((portable(error), traceback.format_exc()))
    else:
        pipe.send((None, "done"))


def portable(error: Exception) -> Exception:
    """Return an error as another process can read it."""
    import dill

    try:
        dill.loads(dill.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
