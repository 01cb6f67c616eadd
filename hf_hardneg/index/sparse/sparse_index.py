"""An index of sparse vectors on disk: postings as BM25 has them, searched by the same kernel with weighted queries."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.arrays.sparse_rows import SparseRows
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.errors import ConfigError, DataError, warn
from hf_hardneg.index.bm25 import building, kernel
from hf_hardneg.index.bm25.building import SHARE, PostingBlock, write_postings
from hf_hardneg.index.bm25.consistency import inconsistency
from hf_hardneg.index.bm25.kernel import Postings, Terms
from hf_hardneg.index.bm25.searching import best_of, scores_of
from hf_hardneg.index.hits import Hits
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import reserved, save_array
from hf_hardneg.store.mapped_memory import drop
from hf_hardneg.store.stored_arrays import Schema, Stored

LAYOUT = 1
KNOWN, ENDS, TERMS, WEIGHTS = "terms", "rows.ends", "rows.terms", "rows.weights"
STATISTICS = "hf_hardneg.json"
REACH = 0.5
"""Queries have many terms, of which a document has few, so that largest weights together say little; see the kernel."""
AT_ONCE = 1 << 22
"""Terms of blocks that are counted together."""

SCHEMA = Schema.of(
    {
        **dict(building.SCHEMA.arrays),
        KNOWN: Stored(np.int64, "terms"),
        ENDS: Stored(np.int64, "documents+1", bounds="postings"),
        TERMS: Stored(np.int32, "postings", least=0, below="terms"),
        WEIGHTS: Stored(np.float32, "postings", least=0),
    }
)
"""`terms`, ascending, say which number or hash each term is; `rows.*` are the vectors document by document."""


def build_sparse(corpus: Corpus, blocks: Iterable[SparseRows], *, digest: str, vectors_from: str = "") -> SparseIndex:
    """The index of the sparse vectors of a corpus, built once; memory holds a block, the terms, and one term's weights.

    Args:
        corpus (`Corpus`): the documents.
        blocks (`Iterable[SparseRows]`): their vectors in row order; read twice, and only if it must be built.
        digest (`str`): what the vectors depend on: the encoder's digest, or that of a column.
        vectors_from (`str`, *optional*): the name of their model or column, for `hf-hardneg cache ls`.

    Raises:
        ConfigError: no document has a term.
        DataError: there are more or fewer vectors than documents.
    """
    parameters = {"corpus": corpus.digest, "vectors": digest, "layout": LAYOUT}

    def build(directory: Path) -> None:
        _write(directory, blocks, len(corpus))

    about = {**corpus.about, "model": vectors_from}
    return SparseIndex(directory=directories.obtain(corpus.cache, kinds.SPARSE, parameters, build, about))


def _write(directory: Path, blocks: Iterable[SparseRows], documents: int) -> None:
    known, having, sizes = _counted(blocks)
    if len(sizes) != documents:
        raise DataError(f"There are {len(sizes):,} sparse vectors for {documents:,} documents. Give one for each.")
    if not len(known):
        raise ConfigError("No document has a term of a weight above 0: nothing can be found. Look at the model.")
    if empty := np.flatnonzero(sizes == 0).tolist():
        warn(
            f"{len(empty):,} of the documents have no term, in rows {', '.join(map(str, empty[:5]))}: nothing finds "
            "them by sparse vectors. Look at those texts (empty ones?) and at the model."
        )
    ends = np.concatenate([[0], np.cumsum(sizes)])
    save_array(directory / f"{KNOWN}.npy", known)
    save_array(directory / f"{ENDS}.npy", ends)
    terms = reserved(directory / f"{TERMS}.npy", np.int32, (int(ends[-1]),))
    weights = reserved(directory / f"{WEIGHTS}.npy", np.float32, (int(ends[-1]),))

    def postings() -> Iterator[PostingBlock]:
        row = place = 0
        for block in blocks:
            ids = np.searchsorted(known, block.terms)
            inside = slice(place, place + len(ids))
            terms[inside], weights[inside] = ids, block.weights
            yield PostingBlock(ids, (block.owners + row).astype(np.int32), block.weights)
            row, place = row + len(block), place + len(ids)

    common = np.flatnonzero(having * SHARE >= documents).astype(np.int32)
    write_postings(directory, postings(), having, common, documents)
    (directory / STATISTICS).write_text(json.dumps({"documents": documents}))


def _counted(blocks: Iterable[SparseRows]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct terms, ascending, how many documents have each, and how many terms each document has."""
    known, having = np.zeros((2, 0), np.int64)
    sizes, waiting = [np.zeros(0, np.int64)], list[np.ndarray]()

    def join() -> tuple[np.ndarray, np.ndarray]:
        terms, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *waiting]), return_counts=True)
        both, place = np.unique(np.concatenate([known, terms]), return_inverse=True)
        waiting.clear()
        return both, np.bincount(place, np.concatenate([having, counts]), len(both)).astype(np.int64)

    for block in blocks:
        sizes.append(np.diff(block.pointers))
        waiting.append(block.terms)
        if sum(map(len, waiting)) > AT_ONCE:
            known, having = join()
    known, having = join()
    return known, having, np.concatenate(sizes)


@dataclass(frozen=True, kw_only=True)
class SparseIndex:
    """An opened-on-demand index of sparse vectors; pickles as its path.

    Args:
        directory (`Path`): what `build_sparse` built.
    """

    directory: Path

    @property
    def identity(self) -> str:
        """Names what hits depend on, besides the queries."""
        return self.directory.name

    def search(self, queries: SparseRows, k: np.ndarray) -> Hits:
        """The best documents of each of n queries that share at least one term with it, at most `k` (n,) each."""
        return best_of(_opened(self.directory).postings, self._terms(queries), k, reach=REACH)

    def score_rows(self, queries: SparseRows, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32, equal to those `search` gives."""
        return scores_of(_opened(self.directory).postings, self._terms(queries), query, rows)

    def vectors(self, rows: np.ndarray) -> SparseRows:
        """The vectors of some documents."""
        opened = _opened(self.directory)
        held = SparseRows(opened.ends, opened.terms, opened.weights)[rows]
        return SparseRows(held.pointers, opened.known[held.terms], held.weights)

    def _terms(self, queries: SparseRows) -> Terms:
        """What the index knows of the terms of queries, in the order in which their weights are summed."""
        opened = _opened(self.directory)
        place, is_known = isin_sorted(queries.terms, opened.known)
        pointers = np.concatenate([[0], np.cumsum(is_known)])[queries.pointers]
        return kernel.ordered(Terms(place[is_known], queries.weights[is_known], pointers), opened.postings)


class OpenedRows(NamedTuple):
    """The memory-mapped parts of an index: see `SCHEMA`."""

    postings: Postings
    known: np.ndarray
    ends: np.ndarray
    terms: np.ndarray
    weights: np.ndarray


@functools.lru_cache(maxsize=4)
def _opened(directory: Path) -> OpenedRows:
    said: Any = directories.read_object(directory, STATISTICS).get("documents")
    if type(said) is not int or not 0 < said < 1 << 31:
        raise directories.altered(directory, STATISTICS, "it names no number of documents")
    arrays = SCHEMA.opened(directory, documents=said, words=-(-said // 64))
    postings = Postings(said, *(arrays[name.removesuffix(".npy")] for name in building.ARRAYS))
    if wrong := inconsistency(postings):
        raise directories.altered(directory, *wrong)
    known = arrays[KNOWN]
    if (np.diff(known) <= 0).any():
        raise directories.altered(directory, f"{KNOWN}.npy", "its terms do not ascend")
    for array in (postings.rows, postings.weights, postings.bits, postings.before, arrays[TERMS], arrays[WEIGHTS]):
        drop(array)
    return OpenedRows(postings, known, arrays[ENDS], arrays[TERMS], arrays[WEIGHTS])
