"""Maps over the rows of a dataset whose results are published part by part, so that a map that was stopped goes on.

A part is an Arrow file named by the rows that it was mapped from and the digest of its content. A part that lies whole
in the folder is not mapped again, with however many workers the parts before were mapped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hf_hardneg.runtime.progress import bar
from hf_hardneg.runtime.workers import in_workers
from hf_hardneg.store.directories import file_digest
from hf_hardneg.store.disk import written
from hf_hardneg.store.elsewhere import map_elsewhere, workers_elsewhere
from hf_hardneg.store.regular_files import opened

if TYPE_CHECKING:
    from datasets import Dataset

PARTS = 20
"""Parts of a map, for each worker, where it has rows enough: a twentieth is what a kill costs."""
FEWEST = 32
"""Rows that are worth a part."""
_NAME = re.compile(r"part-(?P<start>[0-9]{12})-(?P<stop>[0-9]{12})-(?P<digest>[0-9a-f]{32})\.arrow")


def map_rows(
    rows: Dataset, function: Callable[[Any], Any], folder: Path, *, batch_size: int, num_proc: int | None, desc: str
) -> list[str]:
    """Map the batches of rows that have no result yet; return the names of all results, in the order of the rows.

    Args:
        rows (`Dataset`): at least one row, in Arrow's format.
        function (`Callable`): maps a batch to a `pyarrow.Table`; it is pickled where there are workers.
        folder (`Path`): where the results go, and where results of an earlier run may be.
        batch_size (`int`): rows at a time.
        num_proc (`int`, *optional*): worker processes.
        desc (`str`): the name of the work, for its progress and errors.

    Raises:
        WorkerError: a worker died.
        ConfigError: workers are asked for in a worker.
    """
    count = min(workers_elsewhere() or num_proc or 1, len(rows))
    done = _finished(folder, len(rows))
    missing = list(_missing(done, len(rows), _part_size(len(rows), count)))
    left = sum(len(part) for part in missing)
    with bar(total=len(rows), initial=len(rows) - left, desc=desc) as progress:
        if workers_elsewhere():
            tables = (rows[part.start : part.stop] for part in missing)
            for place, table in map_elsewhere(partial(_by_batches, function, batch_size), tables, desc=desc):
                _write(missing[place], [table], folder)
                progress.update(len(missing[place]))
        else:
            shares = [
                partial(_map_parts, function, parts, folder, batch_size)
                for parts in (missing[number::count] for number in range(count))
                if parts
            ]
            in_workers(shares, rows, progress.update, desc=desc, asked=num_proc)
    paths = dict(_parts(folder))
    return [paths[part].name for part in sorted([*done, *missing], key=lambda part: part.start)]


def _part_size(rows: int, count: int) -> int:
    """Return how many rows a part has, of which each of `count` workers may lose one."""
    return max(-(-rows // (PARTS * count)), min(FEWEST, -(-rows // count)))


def _finished(folder: Path, count: int) -> list[range]:
    """Return the rows of the parts that lie in a folder, in order, none twice; a part that was altered is removed."""
    finished: list[range] = []
    reached = 0
    for part, path in sorted(_parts(folder), key=lambda named: (named[0].start, -named[0].stop)):
        if not _is_whole(path):
            path.unlink()
        elif reached <= part.start < part.stop <= count:
            finished.append(part)
            reached = part.stop
    return finished


def _parts(folder: Path) -> Iterator[tuple[range, Path]]:
    """Yield the rows and the path of each part in a folder, by its name alone."""
    for entry in os.scandir(folder):
        if match := _NAME.fullmatch(entry.name):
            yield range(int(match["start"]), int(match["stop"])), Path(entry.path)


def _is_whole(path: Path) -> bool:
    try:
        opened(path).close()
        return path.stem.rpartition("-")[2] == file_digest(path)
    except OSError:
        return False


def _missing(done: Sequence[range], count: int, size: int) -> Iterator[range]:
    """Yield parts of at most `size` of the rows that no finished part has."""
    starts, stops = [0, *(part.stop for part in done)], [*(part.start for part in done), count]
    for start, stop in zip(starts, stops, strict=True):
        for first in range(start, stop, size):
            yield range(first, min(first + size, stop))


def _map_parts(
    function: Callable[[Any], Any],
    parts: Sequence[range],
    folder: Path,
    batch_size: int,
    rows: Dataset,
    tell: Callable[[int], None],
) -> None:
    """Map some parts, one after the other, and publish each; `tell` is called with the rows of each batch."""

    def mapped(part: range) -> Iterator[pa.Table]:
        for start in part[::batch_size]:
            batch = rows[start : min(start + batch_size, part.stop)]
            yield function(batch)
            tell(batch.num_rows)

    for part in parts:
        _write(part, mapped(part), folder)


def _by_batches(function: Callable[[pa.Table], pa.Table], batch_size: int, rows: pa.Table) -> pa.Table:
    """Map the batches of some rows."""
    return pa.concat_tables([function(rows.slice(start, batch_size)) for start in range(0, len(rows), batch_size)])


def _write(part: range, tables: Iterable[pa.Table], folder: Path) -> None:
    """Publish what came out of a part, as a file that is named by its content."""
    from datasets.arrow_writer import ArrowWriter

    called = f"part-{part.start:012d}-{part.stop:012d}"
    unnamed = folder / f"{called}-of-{os.getpid()}"
    with written(unnamed, named=partial(_called, called)) as file, ArrowWriter(path=str(file)) as writer:
        for table in tables:
            writer.write_table(table)
        writer.finalize()


def _called(rows: str, path: Path) -> str:
    return f"{rows}-{file_digest(path)}.arrow"
