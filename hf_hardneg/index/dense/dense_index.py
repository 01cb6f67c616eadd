"""Dense indexes: FAISS files on disk, opened memory-mapped, searched with scores that do not depend on the batch.

A flat inner product index is a FAISS file, so that `datasets` can search it, with 8-bit codes of its vectors beside it,
with which we search it faster (`index/dense/exact.py`), or in torch where there is a GPU (`index/dense/gpu.py`). Any
other index is searched by FAISS, which chooses other kernels for other batch shapes, so the scores of its hits are
computed again where it stores the vectors.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_hardneg.arrays.vectors import checked_vectors
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.errors import ConfigError, DataError, StoreError, warn
from hf_hardneg.index.dense.exact import Codes, distance_pairs, nearest, open_codes, save_codes, score_pairs
from hf_hardneg.index.dense.gpu import Device, gpu, nearest_on, placed
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.process import single_thread_in_child
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.regular_files import opened

Similarity = Literal["cosine", "dot", "l2"]
SIMILARITIES: tuple[Similarity, ...] = ("cosine", "dot", "l2")
FILE = "index.faiss"
LAYOUT = 2
TIE_SLACK = 32
WIDEST = 1 << 20
WIDTH_AT, COUNT_AT, SIZE_AT, VECTORS_AT = 4, 8, 37, 45
"""Where a flat FAISS file holds the width, the number of vectors, that of their components, and the vectors."""


def load_faiss(needed_by: str) -> Any:
    """The `faiss` module, limited to one thread in a worker."""
    faiss = require("faiss", extra="cpu|gpu", needed_by=needed_by)
    single_thread_in_child()
    return faiss


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Unit-length vectors, (n, d) float32; a zero vector stays zero, so its cosines are 0."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def build_dense(
    corpus: Corpus,
    blocks: Iterable[np.ndarray],
    *,
    vectors_digest: str,
    similarity: Similarity = "cosine",
    vectors_from: str = "",
) -> DenseIndex:
    """An exact index over a corpus, built once.

    Args:
        corpus (`Corpus`): the documents.
        blocks (`Iterable[np.ndarray]`): their vectors in row order, (n_i, d) each; read only if it must be built.
        vectors_digest (`str`): what the vectors depend on: the encoder's digest, or that of a column.
        similarity (`str`, defaults to `"cosine"`): cosine normalises both sides; `"dot"` takes them as they are.
        vectors_from (`str`, *optional*): the name of their model or column, for `hf-hardneg cache ls`.

    Raises:
        DataError: vectors are not finite, not equally wide, or not as many as documents.
    """

    def build(directory: Path) -> None:
        rows = write_flat(directory / FILE, _prepared(blocks, similarity), similarity)
        check_length(rows, len(corpus))
        save_flat_codes(directory)

    if similarity not in SIMILARITIES:
        raise ConfigError(f"similarity={similarity!r} is not known; allowed are {', '.join(SIMILARITIES)}.")
    parameters = dense_parameters(corpus, vectors_digest, similarity)
    about = {**corpus.about, "model": vectors_from}
    directory = directories.obtain(corpus.cache, kinds.DENSE, parameters, build, about)
    return DenseIndex(directory=directory, similarity=similarity)


def dense_parameters(corpus: Corpus, vectors_digest: str, similarity: Similarity) -> dict[str, Any]:
    """What an exact index depends on, as plain values; see `build_dense`."""
    vectors = {"vectors": vectors_digest, "similarity": similarity, "type": "Flat"}
    return {"corpus": corpus.digest, **vectors, "layout": LAYOUT}


def _prepared(blocks: Iterable[np.ndarray], similarity: Similarity) -> Iterator[np.ndarray]:
    """Checked blocks of vectors, normalised where the similarity is cosine."""
    rows, width, zero = 0, None, list[int]()
    for block in blocks:
        vectors = checked_vectors(block, what="corpus vectors", width=width, start=rows)
        zero += (rows + np.flatnonzero(~vectors.any(axis=1))).tolist()
        rows, width = rows + len(vectors), vectors.shape[1]
        yield normalized(vectors) if similarity == "cosine" else vectors
    if zero and similarity == "cosine":
        warn(
            f"{len(zero):,} of the corpus vectors have length zero, in rows {', '.join(map(str, zero[:5]))}: they are "
            "near nothing, and their cosines count as 0. Look at those texts (empty ones?) and at the model."
        )


def write_flat(path: Path, blocks: Iterator[np.ndarray], similarity: Similarity) -> int:
    """Write a flat FAISS index block by block, so that memory stays that of a block; returns the number of vectors.

    Args:
        path (`Path`): the file.
        blocks (`Iterator[np.ndarray]`): (n_i, d) float32 each.
        similarity (`str`): `"l2"` writes an L2 index, others an inner product index.
    """
    rows, width = 0, 0
    with path.open("wb") as stream:
        for block in blocks:
            if not width:
                width = block.shape[1]
                stream.write(_head(similarity, 0, width))
            stream.write(block.tobytes())
            rows += len(block)
        stream.seek(0)
        stream.write(_head(similarity, rows, width) if rows else b"")
    return rows


def write_index(index: Any, path: Path) -> None:
    """Write a FAISS index or transform to a file; FAISS itself loses the last bytes unsaid where the disk is full."""
    faiss = load_faiss("a FAISS index")
    write = faiss.write_VectorTransform if isinstance(index, faiss.VectorTransform) else faiss.write_index
    with path.open("wb") as stream:
        write(index, faiss.PyCallbackIOWriter(stream.write))


def _head(similarity: Similarity, rows: int, width: int) -> bytes:
    """Makes the head of a FAISS file of a flat index; its vectors follow, float32 row by row."""
    faiss = load_faiss("a dense index")
    index = (faiss.IndexFlatL2 if similarity == "l2" else faiss.IndexFlatIP)(width)
    index.add(np.zeros((1, width), np.float32))
    head = bytearray(faiss.serialize_index(index)[: -4 * width].tobytes())
    for place, value in ((COUNT_AT, rows), (SIZE_AT, rows * width)):
        head[place : place + 8] = value.to_bytes(8, "little")
    return bytes(head)


def mapped_file(path: Path) -> Any:
    """The FAISS index in a file, memory-mapped."""
    faiss = load_faiss("a FAISS index")
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise StoreError(
            f"{path} is not a readable FAISS file: {error}. Save it again with faiss.write_index."
        ) from error


def check_length(vectors: int, documents: int, lacking: str = "") -> None:
    """Raise where there is not one vector for each document; `lacking` says which have none.

    Raises:
        DataError: with both numbers.
    """
    if vectors != documents:
        raise DataError(
            f"The index holds {vectors:,} vectors, the corpus {documents:,} documents{lacking}. Build the index from "
            "this very corpus, one vector per row in the same order, or select its documents with corpus.select(rows)."
        )


def proposed(index: Any, vectors: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The queries and labels of at least `k` (n,) neighbours of each query that FAISS finds, (m,) int64 each."""
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for depth in np.unique(k):
        asked = np.flatnonzero(k == depth)
        labels = index.search(vectors[asked], int(min(depth + TIE_SLACK, index.ntotal)))[1]
        query, place = np.nonzero(labels >= 0)
        parts.append((asked[query], labels[query, place]))
    queries, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return queries, labels


def score_vectors(
    similarity: Similarity, vectors: np.ndarray, documents: np.ndarray, query: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Scores of chosen pairs of `vectors[query]` and `documents[rows]`, (n,) float32; higher is better."""
    score = distance_pairs if similarity == "l2" else score_pairs
    return score(vectors, documents, query, rows)


@dataclass(frozen=True, kw_only=True)
class DenseIndex:
    """An opened-on-demand FAISS index; pickles as its path.

    Args:
        directory (`Path`): the published index.
        similarity (`str`): `"cosine"` and `"dot"` score by inner product, `"l2"` by negative squared distance.
        device (`str`, defaults to `"auto"`): where to search; see `Dense`.
    """

    directory: Path
    similarity: Similarity
    device: Device = "auto"

    @property
    def identity(self) -> str:
        """Names what hits depend on, besides the queries."""
        return self.directory.name

    @property
    def width(self) -> int:
        """Dimension of the vectors."""
        return self.faiss_index().d

    @property
    def query_width(self) -> int:
        """Dimension of query vectors, before they are prepared."""
        return self.width

    @property
    def transforms(self) -> tuple[Any, ...]:
        """The FAISS transforms that vectors went through before they were stored; none, save in a user's own index."""
        return ()

    @property
    def measured(self) -> Any:
        """The recall of an approximate search, `approximate.Measured`; `None` where it is exact."""

    @property
    def factory(self) -> str:
        """The FAISS factory string."""
        return "Flat"

    @property
    def documents(self) -> int:
        """How many vectors it holds."""
        return int(self.faiss_index().ntotal)

    def faiss_index(self) -> Any:
        """The memory-mapped FAISS index. Never call `.add` on it: FAISS aborts the process."""
        load_faiss("a dense index")
        return _opened(str(self.directory / FILE))

    def queries(self, vectors: Any, *, what: str = "query vectors") -> np.ndarray:
        """Checked query vectors, normalised where the similarity is cosine; (n, d) float32."""
        if not len(vectors):
            return np.zeros((0, self.width), np.float32)
        matrix = checked_vectors(vectors, what=what, width=self.width)
        return normalized(matrix) if self.similarity == "cosine" else matrix

    def search(self, vectors: np.ndarray, k: np.ndarray) -> Hits:
        """The nearest documents of each query.

        Args:
            vectors (`np.ndarray`): (n, d) float32, as returned by `queries`.
            k (`np.ndarray`): (n,) int64, how many, for each query.
        """
        return self.search_above(vectors, k, np.full(len(k), -np.inf, np.float32))

    def search_above(self, vectors: np.ndarray, k: np.ndarray, least: np.ndarray) -> Hits:
        """The nearest documents of each query, where none below `least` (n,) float32 is wanted; some may be there."""
        stored, codes = self._stored(), self.codes()
        if codes is not None:
            device = gpu(self.device)
            if device is not None:
                return nearest_on(device, vectors, stored, _placed(self.directory, device), k)
            return nearest(vectors, stored, codes, k, least)
        query, docs = proposed(self.faiss_index(), vectors, k)
        return best_first(Hits(query, docs, self.score_rows(vectors, query, docs)), k)

    def flat_vectors(self) -> np.ndarray | None:
        """The stored vectors (documents, d), memory-mapped, or `None` where the index is compressed."""
        return _flat_vectors(self.faiss_index())

    def _stored(self) -> np.ndarray:
        stored = self.flat_vectors()
        if stored is None:
            raise StoreError(f"{self.directory / FILE} holds no vectors. Delete its directory to rebuild it.")
        return stored

    def codes(self) -> Codes | None:
        """The 8-bit codes of the stored vectors, or `None` where it is no flat inner product index."""
        return _codes(self.directory)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of chosen corpus rows, (n, d) float32, as they are stored."""
        return self._stored()[rows]

    def score_rows(self, vectors: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32."""
        return score_vectors(self.similarity, vectors, self._stored(), query, rows)

    def score_vectors(self, vectors: np.ndarray, query: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, vector) pairs, (n,) float32; `documents` is (n, d)."""
        return score_vectors(self.similarity, vectors, documents, query, np.arange(len(query)))


def _flat_vectors(index: Any) -> np.ndarray | None:
    faiss = load_faiss("a dense index")
    index = faiss.downcast_index(index)
    if not isinstance(index, faiss.IndexFlat):
        return None
    return faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(index.ntotal, index.d)


def save_flat_codes(directory: Path) -> None:
    """Write the 8-bit codes of a flat inner product index beside it."""
    index = mapped_file(directory / FILE)
    stored = _flat_vectors(index)
    if stored is not None and index.metric_type == load_faiss("a dense index").METRIC_INNER_PRODUCT:
        save_codes(directory, stored)


@functools.lru_cache(maxsize=8)
def _codes(directory: Path) -> Codes | None:
    if "codes.npy" not in directories.read_manifest(directory).files:
        return None
    codes, stored = open_codes(directory), _flat_vectors(_opened(str(directory / FILE)))
    if stored is None or codes.codes.shape != stored.shape:
        raise directories.altered(directory, "codes.npy", f"it is not of the vectors in {FILE}")
    return codes


@functools.lru_cache(maxsize=1)
def _placed(directory: Path, device: str) -> Any:
    stored = _flat_vectors(_opened(str(directory / FILE)))
    return None if stored is None else placed(stored, device)


def close_indexes() -> None:
    """Forget the indexes that this process has opened, so that deleting their files gives the space back."""
    for remembered in (_opened, _codes, _placed):
        remembered.cache_clear()


@functools.lru_cache(maxsize=8)
def _opened(path: str) -> Any:
    check_faiss(Path(path).parent)
    return mapped_file(Path(path))


def check_faiss(directory: Path) -> None:
    """Check a published directory whose index FAISS opens, which follows what it finds in a file without looking.

    Flat files are compared with what is written here, head and size; others by their checksum, see `store.check`.

    Raises:
        StoreError: a file is missing or altered.
    """
    if FILE not in directories.check(directory).files:
        raise directories.altered(directory, directories.MANIFEST, f"it does not list {FILE}")
    if not _is_flat(directory / FILE):
        directories.check(directory, foreign=True)


def _is_flat(path: Path) -> bool:
    """Whether a file is that of a flat index, as large as it says."""
    with opened(path) as stream:
        head, size = stream.read(VECTORS_AT), stream.seek(0, os.SEEK_END)
    width, rows = (int.from_bytes(head[place:end], "little") for place, end in ((WIDTH_AT, 8), (COUNT_AT, 16)))
    if not 0 < width <= WIDEST or size != VECTORS_AT + 4 * width * rows:
        return False
    return head in {_head(similarity, rows, width) for similarity in ("dot", "l2")}
