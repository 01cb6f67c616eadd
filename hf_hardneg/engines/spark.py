"""Mining on Spark: each task mines rows that it is sent; and what `mapInArrow` needs to know of a miner."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from hf_hardneg.engines.base import checked_workers, in_ordinary_types, mined_on, rows_out
from hf_hardneg.errors import ConfigError
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.mining import mine as mine_here
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.runtime.arguments import AtLeastOne, checked
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.workers import of_bytes, to_bytes
from hf_hardneg.store.elsewhere import Work
from hf_hardneg.strategies import Strategy

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import EngineOptions

BYTES = "rows binary"
"""The schema of rows that are tables of Arrow."""


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
    """Do what `hf_hardneg.mine` does in the tasks of Spark, and return the same rows, in the same order.

    The index is built here once, and mapped by the tasks from where it lies; a corpus is encoded, queries are searched
    and pairs are scored by them. What a task was at when it died is done again by another. The environment variable
    `PYSPARK_PYTHON` must name the Python in which this library is installed, on every node.

    Args:
        pairs (`pyspark.sql.DataFrame`, or whatever `mine` reads): rows in the order in which `collect()` gives them.
        corpus (`pyspark.sql.DataFrame`, or whatever `mine` reads, *optional*), strategy: see `mine`.
        workers (`int`, *optional*): tasks at the same time; by default Spark's `defaultParallelism`.
        shared (`str`, *optional*): a URL of fsspec that all nodes reach, by which index and corpus are copied to each
            node once. Without it they must see the paths of `cache_dir` and of the corpus.
        options: every other argument of `mine`.

    Raises:
        HardNegError: see `mine`, wherever it was raised; one for files that a node does not see names node and path.
        WorkerError: tasks died over the same rows again and again.
    """
    sql = require("pyspark.sql", extra="spark", needed_by="engines.spark.mine()")
    frames = [rows for rows in (pairs, corpus) if _is_frame(rows)]
    session = frames[0].sparkSession if frames else sql.SparkSession.builder.getOrCreate()
    known = getattr(_context(session), "defaultParallelism", 0)
    tasks = SparkTasks(session=session, workers=checked_workers(workers, known, "Spark Connect"))
    sources = rows_out((pairs, corpus), _tables, "Spark", options)
    return mined_on(tasks, sources, strategy, shared, options)


def schema(miner: HardNegatives, rows: Any) -> Any:
    """Return the schema of mined rows, which Spark asks for: `rows.mapInArrow(miner, schema(miner, rows))`.

    Args:
        miner (`HardNegatives`): the callable.
        rows (`pyspark.sql.DataFrame`): what it is to mine.
    """
    require("pyspark", extra="spark", needed_by="engines.spark.schema()")
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

    if not _is_frame(rows):
        raise ConfigError(
            f"schema() got rows of type {type(rows).__name__}; it needs a DataFrame of Spark. Give the one that is to "
            "be mined."
        )
    return from_arrow_schema(miner(to_arrow_schema(rows.schema).empty_table()).schema)


def _is_frame(rows: Any) -> bool:
    return type(rows).__module__.startswith("pyspark.sql.") and hasattr(rows, "mapInArrow")


def _context(session: Any) -> Any:
    """Return the context behind a session; `None` where that is one of Spark Connect."""
    with contextlib.suppress(Exception):
        return session.sparkContext
    return None


def _tables(rows: Any) -> Iterator[pa.Table] | None:
    """Yield the rows of a frame of Spark, partition by partition, in the types that `datasets` gives them."""
    if not _is_frame(rows):
        return None
    batches = rows.mapInArrow(_packed, BYTES).toLocalIterator(prefetchPartitions=True)
    return (in_ordinary_types(of_bytes(bytes(batch[0]))) for batch in batches)


def _packed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn batches into rows of bytes, in a task."""
    for batch in batches:
        yield pa.RecordBatch.from_arrays([pa.array([to_bytes(pa.Table.from_batches([batch]))])], ["rows"])


@dataclass(frozen=True)
class _OverBatches:
    """A work over batches of rows that are bytes."""

    work: Work

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            done = [self.work(rows.as_py()) for rows in batch.column(0)]
            yield pa.RecordBatch.from_arrays([pa.array(done, batch.column(0).type)], ["rows"])


@dataclass(frozen=True, kw_only=True)
class SparkTasks:
    """Tasks of Spark as the workers of an engine; see `mine`."""

    session: Any
    workers: int
    name: ClassVar[str] = "Spark"

    def ask(self, work: Work, rows: bytes) -> bytes:
        """See `Engine`. Each table is a job of one task; Spark keeps its Python processes from one to the next.

        A job over a frame takes Spark a second of planning and compiling, one over an RDD, which Connect has not, a
        fifth of that.
        """
        context = _context(self.session)
        if context is not None:
            return context.parallelize([rows], 1).map(work).collect()[0]
        frame = self.session.createDataFrame([(bytearray(rows),)], BYTES).coalesce(1)
        ((answer,),) = frame.mapInArrow(_OverBatches(work), BYTES).collect()
        return bytes(answer)
