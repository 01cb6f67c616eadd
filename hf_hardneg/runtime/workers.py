"""Maps over the rows of a dataset in worker processes, of which none that dies is waited for.

The pool of `Dataset.map(num_proc=)` shares queues and their locks between its workers: one that is killed while it has
a lock leaves the others, and the caller, waiting for ever. Here each has a pipe of its own, and the caller looks.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.errors import ConfigError, WorkerError
from hf_hardneg.runtime.process import end_with
from hf_hardneg.runtime.progress import bar

if TYPE_CHECKING:
    from datasets import Dataset

POLL, GRACE = 0.1, 5.0


class _InWorker(Exception):
    """The traceback of an error in its worker; the error is raised from it."""


def map_rows(
    rows: Dataset, function: Callable[[Any], Any], folder: Path, *, batch_size: int, num_proc: int | None, desc: str
) -> None:
    """Map batches of rows, and write the results as Arrow files, whose names sort in the order of the rows.

    Args:
        rows (`Dataset`): at least one row.
        function (`Callable`): maps a batch, as for `Dataset.map`; it is pickled where there are workers.
        folder (`Path`): where the files go: `rows.arrow`, or one file for each worker.
        batch_size (`int`): rows at a time.
        num_proc (`int`, *optional*): worker processes, each of which maps one part of the rows.
        desc (`str`): the name of the work, for the bar and errors.

    Raises:
        WorkerError: a worker died.
        ConfigError: workers are asked for in a worker.
    """
    count = min(num_proc or 1, len(rows))
    how = {"batched": True, "batch_size": batch_size, "load_from_cache_file": False}
    if count == 1:
        rows.map(function, cache_file_name=str(folder / "rows.arrow"), desc=desc, **how)
        return
    import dill
    import multiprocess

    if multiprocess.current_process().daemon:
        raise ConfigError(
            f"num_proc={num_proc} in a worker of a pool: such a worker may start none itself. Use num_proc=1 there."
        )
    done = multiprocess.RawArray("q", count)
    part = _Share(function=dill.dumps(function), how=how, count=count, folder=folder, parent=os.getpid())
    parts = [replace(part, number=number, rows=rows.shard(count, number, contiguous=True)) for number in range(count)]
    with _started(parts, done) as workers, bar(total=len(rows), desc=f"{desc} (num_proc={count})") as progress:
        while workers:
            multiprocess.connection.wait([worker.pipe for worker in workers], timeout=POLL)
            workers = [worker for worker in workers if not worker.has_finished(desc)]
            progress.update(min(sum(done), len(rows)) - progress.n)


@dataclass(frozen=True, kw_only=True)
class _Share:
    """The work of one worker: the shard `number` of `count`, and how to map it."""

    function: bytes
    how: dict[str, Any]
    count: int
    folder: Path
    parent: int
    number: int = 0
    rows: Any = None

    def run(self, done: Any) -> None:
        """Map the rows, and count them in a shared array."""
        import dill
        from datasets import disable_progress_bars

        disable_progress_bars()
        function, size = dill.loads(self.function), self.how["batch_size"]

        def counting(batch: Any) -> Any:
            result = function(batch)
            done[self.number] += size
            return result

        file = self.folder / f"rows_{self.number:05d}_of_{self.count:05d}.arrow"
        self.rows.map(counting, cache_file_name=str(file), new_fingerprint=f"part{self.number}", **self.how)


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
            error.__cause__ = _InWorker(f"\n{text}")
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
            process.start()
            sent.close()
            workers.append(_Worker(part, process, received))
        yield workers
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.kill()
            worker.process.join()


def _work(part: _Share, pipe: Any, done: Any) -> None:
    """Run a part in a worker process, which ends with its parent; the parent alone hears of Ctrl-C."""
    end_with(part.parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        part.run(done)
    except Exception as error:
        pipe.send((_portable(error), traceback.format_exc()))
    else:
        pipe.send((None, "done"))


def _portable(error: Exception) -> Exception:
    """Return an error as another process can read it."""
    import dill

    try:
        dill.loads(dill.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
