"""Mining on Dask: each worker mines rows that it is sent; and what `map_partitions` needs to know of a miner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from hf_hardneg.engines.base import checked_workers, in_ordinary_types, mined_on, rows_out
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.formats.python_values import of_frame
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.mining import mine as mine_here
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.runtime.arguments import AtLeastOne, checked
from hf_hardneg.runtime.optional import require
from hf_hardneg.store.elsewhere import TRIES, Work
from hf_hardneg.strategies import Strategy

_PRINTED = re.compile(r"\[(?P<quote>['\"]).*(?P=quote)\]", re.DOTALL)

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import EngineOptions


@with_options_of(mine_here, without=("num_proc",))
@checked
def mine(
    pairs: Any,
    corpus: Any = None,
    strategy: str | Strategy | None = None,
    *,
    workers: AtLeastOne | None = None,
    shared: str | None = None,
    **options: Unpack[EngineOptions],
) -> Dataset | DatasetDict:
    """Do what `hf_hardneg.mine` does on the workers of the current `distributed.Client`, and return the same rows.

    The index is built here once, and mapped by the workers from where it lies; a corpus is encoded, queries are
    searched and pairs are scored by them. What a worker was at when it died is done again by another.

    Args:
        pairs (`dask.dataframe.DataFrame`, or whatever `mine` reads): rows, whose order stays.
        corpus (`dask.dataframe.DataFrame`, or whatever `mine` reads, *optional*), strategy: see `mine`.
        workers (`int`, *optional*): tasks at the same time; by default the threads of all workers of the client.
        shared (`str`, *optional*): a URL of fsspec that all nodes reach, by which index and corpus are copied to each
            node once. Without it they must see the paths of `cache_dir` and of the corpus.
        options: every other argument of `mine`.

    Raises:
        ConfigError: there is no client.
        HardNegError: see `mine`, wherever it was raised; one for files that a node does not see names node and path.
        WorkerError: workers died over the same rows again and again.
    """
    distributed = require("distributed", extra="dask", needed_by="engines.dask.mine()")
    try:
        client = distributed.get_client()
    except ValueError as error:
        raise ConfigError(
            "engines.dask.mine() found no client of a cluster; Dask's schedulers of threads and processes know no "
            "workers that stay. Make one before, such as client = distributed.Client(n_workers=2)."
        ) from error
    known = sum(client.nthreads().values())
    tasks = DaskTasks(client=client, workers=checked_workers(workers, known, "The client's cluster"))
    sources = rows_out((pairs, corpus), _tables, "Dask", options)
    return mined_on(tasks, sources, strategy, shared, options)


def meta(miner: HardNegatives, rows: Any) -> Any:
    """Return an empty frame of mined rows, which Dask asks for: `rows.map_partitions(miner, meta=meta(miner, rows))`.

    Args:
        miner (`HardNegatives`): the callable.
        rows (`dask.dataframe.DataFrame`): what it is to mine.
    """
    if not _is_frame(rows):
        raise ConfigError(
            f"meta() got rows of type {type(rows).__name__}; it needs a DataFrame of Dask. Give the one that is to be "
            "mined."
        )
    return miner(rows._meta)


def _is_frame(rows: Any) -> bool:
    return type(rows).__module__.startswith("dask.dataframe") and hasattr(rows, "partitions")


def _tables(rows: Any) -> Iterator[pa.Table] | None:
    """Yield the rows of a frame of Dask, partition by partition, in the types that `datasets` gives them."""
    if not _is_frame(rows):
        return None
    frames = (rows.partitions[number].compute() for number in range(rows.npartitions))
    return (_told(in_ordinary_types(of_frame(frame).data.table)) for frame in frames if len(frame))


def _told(table: pa.Table) -> pa.Table:
    """Warn of texts that are lists as Python prints them, which Dask makes of lists in frames of pandas."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_string(column.type) and _PRINTED.fullmatch(column[0].as_py() or ""):
            warn(
                f"The column {name!r} holds texts such as {column[0].as_py()[:40]!r}: Dask writes the lists of a frame "
                "of pandas as texts. Where they are lists, make the frame under "
                "dask.config.set({'dataframe.convert-string': False}), or read it with dtype_backend='pyarrow'."
            )
    return table


@dataclass(frozen=True, kw_only=True)
class DaskTasks:
    """Workers of a cluster of Dask as an engine; see `mine`."""

    client: Any
    workers: int
    name: ClassVar[str] = "Dask"

    def ask(self, work: Work, rows: bytes) -> bytes:
        """See `Engine`."""
        held = self.client.scatter(rows, hash=False)
        return self.client.submit(work, held, pure=False, retries=TRIES).result()
