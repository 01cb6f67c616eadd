"""The costs of a job are measured: the library's stages run on a sample, in a cache that is thrown away.

Samples grow until the time for probing is used up, and there are two at least: a straight line through two sizes is
what plans extrapolate, since a single one cannot tell what is paid once from what grows. Other programs can only slow a
probe down. So what it waited for a processor, as Linux counts it, is taken out, and each is repeated: the best
repetition is the estimate, and the slowest with all its waiting tells what it may be on a machine as busy as now.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.sparse_rows import SparseRows
from hf_hardneg.arrays.token_rows import TokenRows
from hf_hardneg.corpus.batches import Batch
from hf_hardneg.corpus.documents import Corpus, open_corpus
from hf_hardneg.corpus.ids import as_text, is_listed, named_columns
from hf_hardneg.corpus.positives import corpus_keys
from hf_hardneg.corpus.queries import PairColumns, Queries
from hf_hardneg.errors import silenced
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.retrievers import Searcher, rows_of
from hf_hardneg.runtime.progress import alone
from hf_hardneg.store.disk import scratch
from hf_hardneg.store.mapped_memory import release
from hf_hardneg.strategies import resolve

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_hardneg.models.modules import Kind
    from hf_hardneg.models.scorers import PairScorer

T = TypeVar("T")

REPEATS, OF_SAMPLES = 3, 2
"""Runs of each probe at least; and of a sample, whose searches are probes within it."""

SHORT, MOST_REPEATS = 0.1, 12
"""Seconds for which short probes are repeated further, and how often at most."""

ENCODE_SECONDS = 2.0
"""Time for encoding sampled texts, beside the two texts that load the model."""

SAMPLE_SECONDS = 6.0
"""Time for running the stages on samples of the corpus."""

PATIENCE = 4.0
"""Probing may last so many times as long where other programs keep the processors busy."""

SEARCH_SECONDS = 1.0
"""Time for searching an index that exists already."""

STRATA, PER_STRATUM = 16, 16
"""Texts are drawn from so many classes of length, neighbours in length within each, as real batches have them."""

QUERIES, FEW = 512, 8
FIRST_SAMPLE_BYTES = 1 << 21
FIRST_SAMPLE, SECOND, LEAST_GROWTH, MOST_GROWTH = 2048, 8, 2, 64
LENGTHS_READ, GATHERED = 100_000, 1024


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of some work.

    Args:
        wall, cpu (`float`): seconds on the clock without waiting for a processor, and of all processors together.
        memory (`float`): bytes by which this process grew at its peak.
        disk (`float`): bytes written.
        slow (`float`): seconds on the clock of the slowest repetition, with all waiting; `wall` and `cpu` are of the
            best ones.
    """

    wall: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    slow: float = 0.0

    @property
    def charged(self) -> float:
        """Seconds of the time for probing that it used up."""
        return max(self.wall, self.slow / PATIENCE)

    @property
    def slower(self) -> float:
        """How many times as long as the best repetition the slowest took."""
        return max(self.slow / max(self.wall, 1e-9), 1.0)

    @classmethod
    def best(cls, costs: Sequence[Cost]) -> Cost:
        """Make one cost of several repetitions."""
        least = {what: min(getattr(cost, what) for cost in costs) for what in ("wall", "cpu")}
        most = {what: max(getattr(cost, what) for cost in costs) for what in ("memory", "disk", "slow")}
        return cls(**least, **most)

    def less(self, other: Cost) -> Cost:
        """Take the time of a part out; bytes stay."""
        wall, cpu, slow = (max(getattr(self, n) - getattr(other, n), 0.0) for n in ("wall", "cpu", "slow"))
        return replace(self, wall=wall, cpu=cpu, slow=max(slow, wall))

    def more(self, other: Cost) -> Cost:
        """Add the time of another part; bytes stay."""
        return replace(self, wall=self.wall + other.wall, cpu=self.cpu + other.cpu, slow=self.slow + other.slow)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The stages of a job, run on a part of its corpus.

    Args:
        documents, rows (`int`): how much of the corpus and of the pairs.
        costs (`Mapping[str, Cost]`): by stage.
        outside (`float`): positives per row that are not in the corpus, which an encoder must encode.
        queries (`Queries`): the rows, as read.
    """

    documents: int
    rows: int
    costs: Mapping[str, Cost]
    outside: float
    queries: Queries

    @classmethod
    def best(cls, samples: Sequence[Sample]) -> Sample:
        """Make one sample of several runs over the same documents."""
        costs = {name: Cost.best([sample.costs[name] for sample in samples]) for name in samples[0].costs}
        costs["select"] = costs["whole"].less(costs["retrieve"])
        costs["search"] = costs["retrieve"].more(costs["read"])
        return replace(samples[-1], costs=costs)


@dataclass(frozen=True, kw_only=True)
class EncodeRate:
    """The speed of a model.

    Args:
        load (`float`): seconds until the first vectors.
        wall, cpu, slower (`float`): seconds per text after that, and their spread, see `Cost`.
        memory (`float`): bytes by which the process grew.
        texts (`int`): how many were encoded to learn it.
        vectors (`np.ndarray` or `SparseRows`): of these texts; dense ones are (texts, d) float32.
    """

    load: float
    wall: float
    cpu: float
    slower: float
    memory: float
    texts: int
    vectors: Any


@dataclass(frozen=True, kw_only=True)
class Stand:
    """An encoder for samples only: instant vectors as wide as the model's.

    Args:
        width (`int`): of the vectors.
    """

    width: int
    digest: str = "stands in for a model in a sample"
    takes_images: ClassVar[bool] = True

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Draw vectors of texts at random, (n, d) float32."""
        return np.random.default_rng(len(texts)).random((len(texts), self.width), np.float32) - np.float32(0.5)


@dataclass(frozen=True, kw_only=True)
class SparseStand:
    """A sparse encoder for samples only: instant vectors, drawn from those that the model gave.

    Args:
        rows (`SparseRows`): of some texts.
    """

    rows: SparseRows
    digest: str = "stands in for a sparse model in a sample"

    def encode_sparse(self, texts: Sequence[str], *, kind: Kind) -> SparseRows:
        """Draw vectors of texts at random."""
        return self.rows[np.random.default_rng(len(texts)).integers(len(self.rows), size=len(texts))]


@dataclass(frozen=True, kw_only=True)
class TokenStand:
    """A late-interaction model for samples only: instant vectors, drawn from those that the model gave.

    Args:
        rows (`TokenRows`): of some texts.
    """

    rows: TokenRows
    digest: str = "stands in for a late-interaction model in a sample"

    def encode_each_token(self, texts: Sequence[str], *, kind: Kind) -> TokenRows:
        """Draw vectors of texts at random."""
        return self.rows[np.random.default_rng(len(texts)).integers(len(self.rows), size=len(texts))]


STANDS: dict[str, Callable[[Any], Any]] = {
    "dense": lambda vectors: Stand(width=vectors.shape[1]),
    "sparse": lambda rows: SparseStand(rows=rows),
    "tokens": lambda rows: TokenStand(rows=rows),
}
"""What stands in for a model in samples, made of some of its vectors, by which vectors these are."""


@dataclass
class _Peak:
    """The most memory this process held, watched from a thread."""

    seen: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.done.wait(0.005):
            self.seen = max(self.seen, resident())


def resident() -> int:
    """Return the bytes of memory that this process holds now; 0 where no /proc says it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def waited() -> float:
    """Return seconds for which this thread could have run but had no processor; 0 where no /proc says it."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def measured(work: Callable[[], T], folder: Path | None = None) -> tuple[T, Cost]:
    """Do some work; return its result, and what it cost.

    Args:
        work (`Callable[[], T]`): runs once.
        folder (`Path`, *optional*): where it writes.
    """
    size, before, peak = _size(folder), resident(), _Peak()
    watcher = threading.Thread(target=peak.watch, daemon=True)
    watcher.start()
    clock, cpu, waits = time.perf_counter(), time.process_time(), waited()
    try:
        result = work()
    finally:
        waits = waited() - waits  # within the time on the clock, so never more of it
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
        peak.done.set()
        watcher.join()
    grown = max(peak.seen, resident()) - before
    return result, Cost(
        wall=max(clock - waits, 0.0), cpu=cpu, memory=max(grown, 0), disk=_size(folder) - size, slow=clock
    )


def repeated(work: Callable[[], T]) -> tuple[T, Cost]:
    """Repeat some work; return its result, and the cost of the best repetition."""
    costs: list[Cost] = []
    while len(costs) < REPEATS or (len(costs) < MOST_REPEATS and sum(cost.cpu for cost in costs) < SHORT):
        result, cost = measured(work)
        costs.append(cost)
    return result, Cost.best(costs)


def _size(folder: Path | None) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder else 0


def spread(total: int, wanted: int) -> np.ndarray:
    """Return up to `wanted` row numbers out of `total`, evenly spaced, ascending."""
    return np.unique(np.linspace(0, total - 1, min(total, wanted)).astype(np.int64))


def lengths(corpus: Corpus, rows: np.ndarray) -> np.ndarray:
    """Return the bytes of the texts of some rows, (n,) int64."""
    return pc.binary_length(corpus.texts(rows)).to_numpy(zero_copy_only=False).astype(np.int64)


def stratified(sizes: np.ndarray, strata: int, each: int) -> np.ndarray:
    """Return positions of `strata * each` texts: neighbours in length around the middle of each class of equal size.

    Args:
        sizes (`np.ndarray`): (n,) lengths.
        strata, each (`int`): classes, and texts of each.
    """
    order = np.argsort(sizes, kind="stable")
    edges = np.linspace(0, len(order), min(strata, len(order)) + 1).astype(np.int64)
    middles = (edges[:-1] + edges[1:]) // 2
    starts = np.clip(middles - each // 2, edges[:-1], np.maximum(edges[1:] - each, edges[:-1]))
    return np.concatenate([order[start : min(start + each, end)] for start, end in zip(starts, edges[1:], strict=True)])


def encode_rate(encoder: Any, texts: Sequence[str], *, kind: Kind, seconds: float = ENCODE_SECONDS) -> EncodeRate:
    """Measure how fast an encoder is on texts like these.

    Args:
        encoder (`Encoder` or the like): the model.
        texts (`Sequence[str]`): a sample of what is to be encoded.
        kind (`str`): `"query"` or `"document"`.
        seconds (`float`): about how long to encode.
    """
    from hf_hardneg.models.vector_models import encoding_of

    encode = encoding_of(encoder)
    sizes = np.array([len(text.encode()) for text in texts])
    middle = [texts[row] for row in np.argsort(sizes, kind="stable")[len(sizes) // 2 :][:2]]
    _, first = measured(lambda: encode(middle, kind=kind))
    _, pilot = measured(lambda: encode(middle, kind=kind))
    affordable = seconds / REPEATS * len(middle) / max(pilot.charged, 1e-6)
    each = int(np.clip(affordable / STRATA, 1, PER_STRATUM))
    chosen = [texts[row] for row in stratified(sizes, min(STRATA, max(1, int(affordable))), each)]
    vectors, cost = repeated(lambda: encode(chosen, kind=kind))
    count = len(chosen)
    return EncodeRate(
        load=max(first.wall - pilot.wall, 0.0),
        wall=cost.wall / count,
        cpu=cost.cpu / count,
        slower=cost.slower,
        memory=first.memory + cost.memory,
        texts=count,
        vectors=vectors,
    )


def score_rate(scorer: PairScorer, queries: Sequence[str], documents: Sequence[str]) -> EncodeRate:
    """Measure how fast a cross-encoder is on pairs like these; nothing is stored.

    Args:
        scorer (`PairScorer`): the model.
        queries, documents (`Sequence[str]`): samples of both.
    """
    plain = getattr(scorer, "scorer", scorer)
    query = sorted(queries, key=len)[len(queries) // 2]

    class Paired:
        digest = plain.digest

        def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
            return plain.score([query] * len(texts), texts)[:, None]

    return encode_rate(Paired(), documents, kind="document")


def samples(
    corpus: Corpus, dataset: Dataset, pairs: Dataset, strategy: Any, options: Mapping[str, Any], *, grow: bool
) -> tuple[float, list[Sample]]:
    """Run the stages on samples of growing size until the time is used up; return seconds of loading, and samples.

    Args:
        corpus (`Corpus`): the opened corpus.
        dataset, pairs (`Dataset`), strategy (`str` or `Strategy`): as for `mine`.
        options (`Mapping`): of `HardNegatives`; what encodes must be instant.
        grow (`bool`): whether costs that depend on the size of the corpus are asked for; else one sample will do.
    """
    few = _gathered(pairs, spread(len(pairs), QUERIES))
    needed = _needed(corpus, few, options)
    mean = max(float(lengths(corpus, spread(len(corpus), 1000)).mean()), 1.0)
    size = min(int(np.clip(FIRST_SAMPLE_BYTES / mean, 64, FIRST_SAMPLE)), len(corpus))
    with alone(hidden=True):
        run = _Runner(corpus=corpus, dataset=dataset, needed=needed, strategy=strategy, options=options)
        start = _started(lambda: run(size, _dataset(few.slice(0, FEW))))
        taken: list[Sample] = []
        costs: list[Cost] = []
        while True:
            sample, cost = run.repeatedly(size, _dataset(few))
            taken.append(sample)
            costs.append(cost)
            if size >= len(corpus) or not grow:
                return start, taken
            growth = _growth([sample.documents for sample in taken], costs)
            if growth < LEAST_GROWTH:
                return start, taken
            size = min(int(growth * size), len(corpus))


def _started(run: Callable[[], Any]) -> float:
    """Return the seconds of a first run without compiling kernels, which stay compiled for other processes."""
    from numba.core import event

    compiled: list[float] = []
    with event.install_timer("numba:compile", compiled.append):
        _, cost = measured(run)
    return max(min(cost.wall, cost.slow - sum(compiled)), 0.0)


def _growth(sizes: Sequence[int], costs: Sequence[Cost]) -> float:
    """Return how many times as large as the last the next sample can be in the time that is left.

    The second is taken in any case, whatever other programs do.
    """
    if len(sizes) == 1:
        return float(np.clip(SAMPLE_SECONDS / max(costs[0].wall, 1e-9), LEAST_GROWTH, SECOND))
    spent = [cost.charged for cost in costs]
    each = max((spent[-1] - spent[-2]) / max(sizes[-1] - sizes[-2], 1), 1e-9)
    return min(1 + (SAMPLE_SECONDS - sum(spent) - spent[-1]) / each / sizes[-1], MOST_GROWTH)


def _gathered(dataset: Dataset, rows: np.ndarray) -> pa.Table:
    """Read some rows of a dataset in parts, so that little of its files is held at a time."""
    plain, parts = dataset.with_format("arrow"), []
    for start in range(0, len(rows), GATHERED):
        part = plain[rows[start : start + GATHERED]]
        parts.append(part.combine_chunks())
        release(part.columns)
    return pa.concat_tables(parts)


def _dataset(table: pa.Table) -> Dataset:
    from datasets import Dataset
    from datasets.table import InMemoryTable

    return Dataset(InMemoryTable(table), fingerprint="sample")


def _needed(corpus: Corpus, few: pa.Table, options: Mapping[str, Any]) -> np.ndarray:
    """Find the documents that the sampled pairs name by id or by text; without them the pairs cannot be read."""
    table, names = named_columns(few), PairColumns.of(options.get("columns"))
    read = (names.positive_ids, names.exclude_ids, names.positive)
    ids, excluded, texts = (_flat(table[name], name) if name is not None and name in table else [] for name in read)
    named = [np.zeros(0, np.int64)]
    wanted = pa.array([*ids, *excluded], pa.string()), pa.array(texts, pa.string())
    for start in range(0, len(corpus), LENGTHS_READ):
        rows = np.arange(start, min(start + LENGTHS_READ, len(corpus)))
        for values, asked in zip((corpus.ids, corpus.texts), wanted, strict=True):
            if len(asked):
                named.append(rows[pc.is_in(values(rows), asked).to_numpy(zero_copy_only=False)])
    return np.unique(np.concatenate(named))


def _flat(column: pa.ChunkedArray, name: str) -> list[str]:
    texts = as_text(column, name)
    values: list[str] = (texts.flatten() if is_listed(texts.type) else texts).drop_null().to_pylist()
    return values


@dataclass(frozen=True, kw_only=True)
class _Runner:
    """Runs every stage on the first documents of an even spread, in its own cache."""

    corpus: Corpus
    dataset: Dataset
    needed: np.ndarray
    strategy: Any
    options: Mapping[str, Any]

    def __call__(self, size: int, pairs: Dataset) -> Sample:
        rows = np.union1d(self.needed, spread(len(self.corpus), size))
        dataset = self._documents(rows)
        ids = {} if self.corpus.id_column is None else {"id": self.corpus.id_column}
        options = {**self.options, "columns": {**self._columns, **ids}}
        with silenced(), scratch("hf_hardneg-plan-") as folder:
            return self._stages(dataset, pairs, {**options, "cache_dir": str(folder)}, folder)

    @property
    def _columns(self) -> dict[str, Any]:
        return self.options.get("columns") or {}

    def repeatedly(self, size: int, pairs: Dataset) -> tuple[Sample, Cost]:
        """Return the best of `OF_SAMPLES` runs, and what they cost together."""
        return measured(lambda: Sample.best([self(size, pairs) for _ in range(OF_SAMPLES)]))

    def _documents(self, rows: np.ndarray) -> Dataset:
        names = [*self.corpus.text_columns]
        names += [column for role, column in self._columns.items() if role in ("vector", "parent")]
        table = _gathered(self.dataset.select_columns(list(dict.fromkeys(names))), rows)
        if self.corpus.id_column is not None and self.corpus.id_column not in names:
            table = table.append_column(self.corpus.id_column, self.corpus.ids(rows))
        return _dataset(table)

    def _stages(self, dataset: Dataset, pairs: Dataset, options: dict[str, Any], folder: Path) -> Sample:
        opened = open_corpus(dataset, columns=options["columns"], cache_dir=options["cache_dir"])
        costs = {}
        _, costs["text keys"] = measured(lambda: corpus_keys(opened, options.get("dedupe", "normalized")), folder)
        strategy = resolve(self.strategy, safeguards=options.get("safeguards", True))
        strategy = replace(strategy, sampler=strategy.sampler.for_one_query())
        alone = {**options, "symmetric": None}
        built, costs["build index"] = measured(lambda: HardNegatives(dataset, strategy, **alone), folder)
        searcher = built.retrieval.searcher
        make = {"known_positives": [pairs], **options}
        first = {**make, "known_positives": [pairs.select(range(min(FEW, len(pairs))))]}
        _, costs["first positives"] = measured(lambda: HardNegatives(dataset, strategy, **first), folder)
        miner, costs["known positives"] = measured(lambda: HardNegatives(dataset, strategy, **make), folder)
        table = pairs.with_format("arrow")[:]
        columns = Batch.of(table, miner.retrieval.reader.columns.query).columns
        miner(table.slice(0, FEW))
        queries, costs["read"] = measured(lambda: miner.retrieval.reader.read(columns))
        candidates, search = repeated(lambda: miner.retrieval.search(queries))
        size = sum(array.nbytes for array in candidates.to_columns().values())
        costs["retrieve"] = replace(search, disk=size)
        mined, costs["whole"] = measured(lambda: miner(table))
        prepared = searcher.prepare(queries)
        deep = np.full(len(queries), miner.retrieval.depth)
        _, costs["inner search"] = repeated(lambda: searcher.search(prepared, deep))
        _, costs["write"] = measured(lambda: _write(folder / "mined.arrow", mined), folder)
        outside = sum(text is not None for text in queries.positives.text) / max(len(queries), 1)
        return Sample(documents=len(opened), rows=len(queries), costs=costs, outside=outside, queries=queries)


def search_rate(searcher: Searcher, queries: Queries, depth: int) -> tuple[float, Cost, int]:
    """Measure how fast an index searches: seconds until it is open, the cost per query, and the number of queries.

    Args:
        searcher (`Searcher`): over the index.
        queries (`Queries`): a sample; as many of them are asked as there is time for.
        depth (`int`): hits for each.
    """
    prepared = searcher.prepare(queries)
    total = len(queries) if queries.vectors is None else len(queries.vectors)

    def ask(count: int) -> Cost:
        asked, deep = rows_of(prepared, np.arange(count)), np.full(count, depth)
        return repeated(lambda: searcher.search(asked, deep))[1]

    count = min(FEW, total)
    _, first = measured(lambda: searcher.search(rows_of(prepared, np.arange(count)), np.full(count, depth)))
    cost = ask(count)
    more = int(min(total, SEARCH_SECONDS / REPEATS * count / max(cost.charged, 1e-6)))
    if more > 2 * count:
        count, cost = more, ask(more)
    opened = max(first.wall - cost.wall * min(FEW, total) / count, 0.0)
    return opened, Cost(wall=cost.wall / count, cpu=cost.cpu / count, slow=cost.slow / count), count


def _write(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
