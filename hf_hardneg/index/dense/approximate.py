"""Approximate dense search: FAISS proposes documents, exact scores order them, and the recall is measured and kept.

Exact search comes first because it is hard to beat. Over 831,790 hard vectors of 384 dimensions, on 2 cores, at
recall@100 of at least 0.98, it answered 893 queries a second, 4-bit product quantisation 787 in the same run, a flat
FAISS index 285, and `IVF1024,Flat` 51, which had to probe 710 of its lists; over 200,000 of them, `HNSW32` answered 229
and exact search 2,460 (`benchmarks/dense_scale.py`). So `"auto"` leaves exact search only where its codes do not fit in
memory.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.index.dense.dense_index import FILE, DenseIndex, check_faiss, load_faiss, mapped_file, write_index
from hf_hardneg.index.dense.gpu import FAISS_LIMIT, check_faiss_class, faiss_on_gpu, gpu
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.runtime.process import in_threads
from hf_hardneg.store import directories, kinds

MEASURED = "recall.json"
EXACT_UP_TO = 200_000
DEPTH = 100
SAMPLE = 512
TRAIN_BYTES = 1 << 28
ADDED = 1 << 16
QUERIES = 256
STEP = 25
REFINE = "refine"
FIRST = {REFINE: 2, "nprobe": 8, "efSearch": 64}
LAST = {REFINE: 128, "nprobe": 1 << 20, "efSearch": 1 << 14}
"""Search efforts at the start and the end: documents scored for each one wanted, and FAISS' own parameters."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The recall of an approximate search, and its effort.

    Args:
        recall (`float`): share of the exact `depth` best that it finds, mean over `queries`.
        target (`float`): what was asked for.
        depth (`int`): how many documents for each query.
        queries (`int`): size of the sample.
        sample (`str`): `"given"`, or `"documents"` where no queries were given.
        effort (`dict[str, int]`): the settings that reach the target.
        seconds, exact_seconds (`float`): of approximate and exact search for the sample.
    """

    recall: float
    target: float
    depth: int
    queries: int
    sample: str
    effort: dict[str, int]
    seconds: float
    exact_seconds: float

    @property
    def told(self) -> dict[str, Any]:
        """What recipes tell of it besides the recall."""
        return {name: getattr(self, name) for name in ("target", "depth", "queries", "sample")}


def measured_of(search: Callable[[], Hits], least: np.ndarray, depth: int, **told: Any) -> Measured:
    """Measure a search for a sample of queries, of which `least` (n,) is the score of the `depth`-th nearest document.

    Args:
        search (`Callable[[], Hits]`): finds the `depth` best of each.
        least (`np.ndarray`): (n,) float32.
        depth (`int`): how many documents.
        **told: what is known of it besides, see `Measured`.
    """
    begun = time.perf_counter()
    hits = search()
    seconds = time.perf_counter() - begun
    recall = float((hits.score >= least[hits.query]).sum() / (len(least) * depth))
    return Measured(recall=recall, depth=depth, queries=len(least), seconds=seconds, **told)


@dataclass(frozen=True, kw_only=True)
class ApproximateIndex(DenseIndex):
    """An exact index with a FAISS index before it; pickles as paths.

    Args:
        proposer (`Path`): the published FAISS index.
        tuning (`Path`): the published effort and recall.
    """

    proposer: Path
    tuning: Path

    @property
    def identity(self) -> str:
        """The vectors, the tuned index before them, and the GPU where it was asked for: it may propose others."""
        return f"{self.directory.name} {self.tuning.name}" + (" cuda" if self.device == "cuda" else "")

    @property
    def factory(self) -> str:
        """The FAISS factory string."""
        return str(directories.parameters_of(self.proposer)["factory"])

    @property
    def measured(self) -> Measured:
        """The effort, and the recall it reached on a sample."""
        return _opened(self.proposer, self.tuning)[1]

    def search(self, vectors: np.ndarray, k: np.ndarray) -> Hits:
        """See `DenseIndex`; scores are exact, some of the nearest documents may be missing."""
        index, measured = _opened(self.proposer, self.tuning)
        fast = _opened_on_gpu(self.proposer, self.tuning) if self.device == "cuda" and gpu("cuda") else None
        return _search(self, index, vectors, k, measured.effort[REFINE], fast)


def chosen_factory(factory: str, documents: int, exact: DenseIndex) -> str:
    """Resolves `"auto"`: exact search up to 200,000 documents, and while 8-bit codes fill half the memory.

    Beyond, 4-bit product quantisation: its codes are eight times smaller, and of all indexes that we measured it came
    nearest to the speed of exact search, and kept its recall for queries that are unlike the documents.
    """
    if factory != "auto":
        return factory
    if documents <= EXACT_UP_TO or exact.similarity == "l2":
        return "exact"
    width, memory = exact.width, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    parts = next((width // size for size in (4, 3, 2) if width % size == 0), width)
    return "exact" if 2 * documents * width <= memory else f"PQ{parts}x4fs"


def checked_factory(factory: str, width: int | None = None) -> None:
    """Raise if FAISS cannot build such an index; without a width, only what is wrong for any.

    Raises:
        ConfigError: naming FAISS' reason.
    """
    faiss = load_faiss(f"factory={factory!r}")
    if not factory.isascii():
        raise _refused(factory, "", "it has other characters than ASCII")
    try:
        faiss.index_factory(width or 1, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        if width is not None or "parse" in str(error):
            raise _refused(
                factory, f" over vectors {width} wide" if width else "", str(error).rpartition(": ")[2]
            ) from error


def _refused(factory: str, where: str, reason: str) -> ConfigError:
    return ConfigError(
        f"factory={factory!r} is no index that FAISS can build{where}: {reason}. "
        "Give 'auto', 'exact' or a FAISS factory string, such as 'PQ96x4fs' (vectors 96, 192, ... wide), 'HNSW32' or "
        "'IVF1024,Flat'."
    )


def build_approximate(
    exact: DenseIndex, factory: str, *, recall: float, sample: np.ndarray | None = None
) -> ApproximateIndex:
    """An approximate index over an exact one: built once, its effort raised until it finds what was asked for.

    Args:
        exact (`DenseIndex`): a flat inner product index; keeps the vectors, and scores.
        factory (`str`): of FAISS. It is trained on a sample of at most 256 MB and filled block by block.
        recall (`float`): share of the 100 nearest documents to find, mean over the sample.
        sample (`np.ndarray`, *optional*): (n, d) float32 vectors of queries, as returned by `exact.queries`; 512 of
            them are used. By default the documents themselves: for shortened texts IVF indexes then found 0.02 to 0.08
            less than they reported, product quantisation as much.

    Raises:
        ConfigError: FAISS cannot build it, or it does not reach the recall.
    """
    checked_factory(factory, exact.width)
    stored = exact.flat_vectors()
    if stored is None:
        raise ConfigError(f"{exact.directory} holds no vectors themselves. Give an index that build_dense returned.")
    if exact.device == "cuda":
        faiss = load_faiss(f"factory={factory!r}")
        check_faiss_class(faiss.index_factory(exact.width, factory, faiss.METRIC_INNER_PRODUCT), factory)
    root = exact.directory.parent
    parameters = {"exact": exact.directory.name, "factory": factory, "train_bytes": TRAIN_BYTES}
    proposer = directories.obtain(root, kinds.APPROXIMATE, parameters, functools.partial(_build, stored, factory))
    kind, asked = ("documents", _sample(stored)) if sample is None else ("given", _sample(sample))
    setting = {"index": proposer.name, "target": recall, "depth": DEPTH, "sample": kind}
    setting["vectors"] = directories.bytes_digest(asked)

    def tune(directory: Path) -> None:
        measured = _tuned(exact, mapped_file(proposer / FILE), asked, recall, kind)
        _judge(measured, factory, len(stored))
        (directory / MEASURED).write_text(json.dumps(asdict(measured), indent=1))

    tuning = directories.obtain(root, kinds.RECALL, setting, tune)
    return ApproximateIndex(**vars(exact), proposer=proposer, tuning=tuning)


def _judge(measured: Measured, factory: str, documents: int) -> None:
    """Raise if a search misses its target, and say so if it does not pay."""
    if measured.recall < measured.target:
        raise ConfigError(
            f"factory={factory!r} finds {measured.recall:.4f} of the {measured.depth} nearest at its highest effort "
            f"{measured.effort}, less than recall={measured.target}. Give factory='exact', one with longer codes, or "
            "a lower recall=; the index stays in the cache."
        )
    ratio = measured.seconds / measured.exact_seconds
    if ratio > 1 and documents > EXACT_UP_TO:
        warn(
            f"{factory} at recall {measured.recall:.4f} takes {ratio:.2g} times as long as exact search. Give "
            "factory='exact', or a lower recall=."
        )


def _build(stored: np.ndarray, factory: str, directory: Path) -> None:
    faiss, width = load_faiss("an approximate index"), stored.shape[1]
    index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    count = min(len(stored), TRAIN_BYTES // (4 * width))
    rows = np.sort(np.random.default_rng(0).choice(len(stored), count, replace=False))
    try:
        index.train(stored[rows])
    except RuntimeError as error:
        raise _refused(factory, f" from {count:,} documents", str(error).rpartition(": ")[2]) from error
    for start in range(0, len(stored), ADDED):
        index.add(stored[start : start + ADDED])
    write_index(index, directory / FILE)


def _sample(vectors: np.ndarray) -> np.ndarray:
    count = min(SAMPLE, len(vectors))
    return vectors[np.sort(np.random.default_rng(1).choice(len(vectors), count, replace=False))]


def _tuned(exact: DenseIndex, index: Any, asked: np.ndarray, target: float, sample: str) -> Measured:
    """The least effort, in steps of one half on what helps most, that reaches the target; else the best there is."""
    depth = min(DEPTH, index.ntotal)
    k = np.full(len(asked), depth)
    begun = time.perf_counter()
    least = DenseIndex.search(exact, asked, k).score.reshape(len(asked), depth)[:, -1]
    exact_seconds = time.perf_counter() - begun
    last = {**LAST, REFINE: min(LAST[REFINE], index.ntotal // (4 * depth))}

    def measure(effort: dict[str, int]) -> Measured:
        _apply(index, effort)
        search = functools.partial(_search, exact, index, asked, k, effort[REFINE])
        told = {"target": target, "sample": sample, "effort": effort, "exact_seconds": exact_seconds}
        return measured_of(search, least, depth, **told)

    best = measure({name: value for name, value in FIRST.items() if name == REFINE or _accepts(index, name)})
    while best.recall < target:
        higher = {name: (3 * value + 1) // 2 for name, value in best.effort.items()}
        efforts = [{**best.effort, name: value} for name, value in higher.items() if value <= last[name]]
        tried = max(map(measure, efforts), key=lambda trial: trial.recall, default=best)
        if tried.recall <= best.recall:
            break
        best = tried
    return best


def _accepts(index: Any, name: str) -> bool:
    try:
        _apply(index, {name: FIRST[name]})
    except RuntimeError:
        return False
    return True


def _apply(index: Any, effort: dict[str, int]) -> None:
    for name, value in effort.items():
        if name != REFINE:
            load_faiss("an approximate index").ParameterSpace().set_index_parameter(index, name, value)


def _search(exact: DenseIndex, index: Any, vectors: np.ndarray, k: np.ndarray, refine: int, fast: Any = None) -> Hits:
    """The best `k` of `refine` times as many that FAISS proposes; `k` is rounded up, so that queries share a depth.

    `fast` is the index on a GPU; what is too deep for that is searched in `index`.
    """
    load_faiss("an approximate index")
    depths = np.minimum(-(-np.maximum(k, 1) // STEP) * STEP * refine, index.ntotal)
    hits = [Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for depth in np.unique(depths):
        rows = np.flatnonzero(depths == depth)
        for start in range(0, len(rows), QUERIES):
            part = rows[start : start + QUERIES]
            asked = index if fast is None or depth > FAISS_LIMIT else fast
            docs = asked.search(vectors[part], int(depth))[1]
            hits.append(_rescored(exact, vectors, part, docs, int(k[part].max())))
    return best_first(Hits(*(np.concatenate(parts) for parts in zip(*hits, strict=True))), k)


def _rescored(exact: DenseIndex, vectors: np.ndarray, query: np.ndarray, docs: np.ndarray, k: int) -> Hits:
    """Exact scores of proposed documents (n, depth), -1 for none; only those that may be among the best `k`."""
    scores = np.full(docs.shape, -np.inf, np.float32)

    def score(part: slice) -> None:
        row, place = np.nonzero(docs[part] >= 0)
        row += part.start
        scores[row, place] = exact.score_rows(vectors, query[row], docs[row, place])

    in_threads(score, len(query), at_least=1)
    cut = max(docs.shape[1] - max(k, 1), 0)
    row, place = np.nonzero((scores >= np.partition(scores, cut, axis=1)[:, cut, None]) & (docs >= 0))
    return Hits(query[row], docs[row, place], scores[row, place])


@functools.lru_cache(maxsize=8)
def _opened(proposer: Path, tuning: Path) -> tuple[Any, Measured]:
    check_faiss(proposer)
    directories.check(tuning)
    measured = Measured(**directories.read_object(tuning, MEASURED))
    index = mapped_file(proposer / FILE)
    _apply(index, measured.effort)
    return index, measured


@functools.lru_cache(maxsize=1)
def _opened_on_gpu(proposer: Path, tuning: Path) -> Any:
    index, measured = _opened(proposer, tuning)
    lists = measured.effort.get("nprobe", 0)
    if lists > FAISS_LIMIT:
        raise ConfigError(
            f"recall={measured.target} takes {lists} lists for each query; FAISS searches at most {FAISS_LIMIT} on a "
            "GPU. Give a factory of fewer lists, a lower recall=, or factory='exact'."
        )
    return faiss_on_gpu(index)
