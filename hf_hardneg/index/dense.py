"""Dense indexes: FAISS files on disk, opened memory-mapped, searched with scores that do not depend on the batch.

A flat inner product index is a FAISS file, so that `datasets` can search it, with 8-bit codes of its vectors beside it,
with which we search it faster (`index/exact.py`), or in torch where there is a GPU (`index/gpu.py`). Any other index is
searched by FAISS, which chooses other kernels for other batch shapes, so the scores of its hits are computed again
where it stores the vectors.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_hardneg.corpus import Corpus
from hf_hardneg.errors import ConfigError, DataError, StoreError
from hf_hardneg.index import store
from hf_hardneg.index.exact import Codes, distance_pairs, nearest, open_codes, save_codes, score_pairs
from hf_hardneg.index.gpu import Device, gpu, nearest_on, placed
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.optional import require
from hf_hardneg.process import single_thread_in_child

Similarity = Literal["cosine", "dot", "l2"]
SIMILARITIES: tuple[Similarity, ...] = ("cosine", "dot", "l2")
FILE = "index.faiss"
LAYOUT = 2
TIE_SLACK = 32
COUNT_AT, SIZE_AT = 8, 37
"""Where a flat FAISS file holds the number of vectors, and of their components; FAISS reads what is written here."""


def load_faiss(needed_by: str) -> Any:
    """The `faiss` module, limited to one thread in a worker."""
    faiss = require("faiss", extra="cpu|gpu", needed_by=needed_by)
    single_thread_in_child()
    return faiss


def checked_vectors(vectors: Any, *, what: str, width: int | None = None, start: int = 0) -> np.ndarray:
    """Vectors as a finite float32 matrix (n, d).

    Args:
        vectors (array-like): what was given.
        what (`str`): its name, for messages.
        width (`int`, *optional*): the d it must have.
        start (`int`): row number of the first vector, for messages.

    Raises:
        DataError: it is not a matrix of numbers, has another width, or holds NaN or infinite values.
    """
    try:
        matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The {what} are not a matrix of numbers: {error}. Give one vector per row, all as wide."
        ) from error
    if matrix.ndim != 2:
        raise DataError(f"The {what} have shape {matrix.shape}; a matrix (rows, width) is needed.")
    if width is not None and matrix.shape[1] != width:
        raise DataError(
            f"The {what} are {matrix.shape[1]} wide, the index is {width} wide. Encode both sides with one model."
        )
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        rows = ", ".join(str(start + int(row)) for row in bad[:5])
        raise DataError(
            f"{len(bad)} of the {what} hold NaN or infinite values, in rows {rows}. "
            "Look at those texts (empty ones?) and at the model, then encode them again."
        )
    return matrix


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Unit-length vectors, (n, d) float32; a zero vector stays zero, so its cosines are 0."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def build_dense(
    corpus: Corpus, blocks: Iterable[np.ndarray], *, vectors_digest: str, similarity: Similarity = "cosine"
) -> DenseIndex:
    """An exact index over a corpus, built once.

    Args:
        corpus (`Corpus`): the documents.
        blocks (`Iterable[np.ndarray]`): their vectors in row order, (n_i, d) each; read only if it must be built.
        vectors_digest (`str`): what the vectors depend on: the encoder's digest, or that of a column.
        similarity (`str`, defaults to `"cosine"`): cosine normalises both sides; `"dot"` takes them as they are.

    Raises:
        DataError: vectors are not finite, not equally wide, or not as many as documents.
    """

    def build(directory: Path) -> None:
        rows = write_flat(directory / FILE, _prepared(blocks, similarity), similarity)
        _check_length(rows, len(corpus))
        _save_codes(directory)

    if similarity not in SIMILARITIES:
        raise ConfigError(f"similarity={similarity!r} is not known; allowed are {', '.join(SIMILARITIES)}.")
    parameters = {
        "corpus": corpus.digest,
        "vectors": vectors_digest,
        "similarity": similarity,
        "type": "Flat",
        "layout": LAYOUT,
    }
    return DenseIndex(directory=store.obtain(corpus.cache, "dense", parameters, build), similarity=similarity)


def _prepared(blocks: Iterable[np.ndarray], similarity: Similarity) -> Iterator[np.ndarray]:
    """Checked blocks of vectors, normalised where the similarity is cosine."""
    rows, width = 0, None
    for block in blocks:
        vectors = checked_vectors(block, what="corpus vectors", width=width, start=rows)
        rows, width = rows + len(vectors), vectors.shape[1]
        yield normalized(vectors) if similarity == "cosine" else vectors


def write_flat(path: Path, blocks: Iterator[np.ndarray], similarity: Similarity) -> int:
    """Write a flat FAISS index block by block, so that memory stays that of a block; returns the number of vectors.

    Args:
        path (`Path`): the file.
        blocks (`Iterator[np.ndarray]`): (n_i, d) float32 each.
        similarity (`str`): `"l2"` writes an L2 index, others an inner product index.
    """
    faiss = load_faiss("a dense index")
    rows, width = 0, 0
    with path.open("wb") as stream:
        for block in blocks:
            if not width:
                width = block.shape[1]
                kind = faiss.IndexFlatL2 if similarity == "l2" else faiss.IndexFlatIP
                one = kind(width)
                one.add(np.zeros((1, width), np.float32))
                stream.write(faiss.serialize_index(one)[: -4 * width].tobytes())
            stream.write(block.tobytes())
            rows += len(block)
        for place, value in ((COUNT_AT, rows), (SIZE_AT, rows * width)) if rows else ():
            stream.seek(place)
            stream.write(value.to_bytes(8, "little"))
    return rows


def adopt_faiss(corpus: Corpus, index: Any, *, similarity: Similarity | None = None) -> DenseIndex:
    """A user's own FAISS index, copied once into the cache so that workers can map it.

    Args:
        corpus (`Corpus`): the documents, in the order of the index.
        index (`faiss.Index` or `str`): the index, or the path of a saved one.
        similarity (`str`, *optional*): `"cosine"` or `"dot"` for an inner product index; by default cosine where a
            sample of its vectors has unit length. An L2 index is recognised by itself.

    Raises:
        StoreError: the file cannot be read.
        DataError: the index holds another number of vectors than the corpus has documents.
    """
    if isinstance(index, (str, Path)):
        source = Path(index)
        index, digest = mapped_file(source), store.file_digest(source)
        save = functools.partial(shutil.copyfile, source)
    else:
        content = load_faiss("a FAISS index").serialize_index(index)
        digest, save = store.bytes_digest(content), content.tofile
    _check_length(index.ntotal, len(corpus))
    similarity = _similarity_of(index, similarity)
    parameters = {"corpus": corpus.digest, "index": digest, "similarity": similarity, "layout": LAYOUT}

    def build(directory: Path) -> None:
        save(directory / FILE)
        _save_codes(directory)

    directory = store.obtain(corpus.cache, "faiss", parameters, build)
    return DenseIndex(directory=directory, similarity=similarity)


def mapped_file(path: Path) -> Any:
    """The FAISS index in a file, memory-mapped."""
    faiss = load_faiss("a FAISS index")
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise StoreError(
            f"{path} is not a readable FAISS file: {error}. Save it again with faiss.write_index."
        ) from error


def _check_length(vectors: int, documents: int) -> None:
    if vectors != documents:
        raise DataError(
            f"The index holds {vectors:,} vectors, the corpus {documents:,} documents. "
            "Build the index from this very corpus, one vector per row in the same order."
        )


def _similarity_of(index: Any, given: Similarity | None) -> Similarity:
    faiss = load_faiss("a FAISS index")
    metrics: dict[int, Similarity] = {faiss.METRIC_INNER_PRODUCT: "dot", faiss.METRIC_L2: "l2"}
    if index.metric_type not in metrics:
        raise ConfigError(f"The FAISS metric {index.metric_type} is not supported; use inner product or L2.")
    found = metrics[index.metric_type]
    if found == "dot" and given is None and isinstance(faiss.downcast_index(index), faiss.IndexFlat):
        sample = faiss.rev_swig_ptr(faiss.downcast_index(index).get_xb(), min(index.ntotal, 256) * index.d)
        norms = np.linalg.norm(sample.reshape(-1, index.d), axis=1)
        return "cosine" if np.allclose(norms, 1, atol=1e-4) else "dot"
    if given is not None and (given == "l2") != (found == "l2"):
        raise ConfigError(f"similarity={given!r} was given, but the index was built for {found!r}. Drop similarity=.")
    return given or found


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
        """What hits depend on, besides the queries."""
        return self.directory.name

    @property
    def width(self) -> int:
        """Dimension of the vectors."""
        return self.faiss_index().d

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
        matrix = checked_vectors(vectors, what=what, width=self.width)
        return normalized(matrix) if self.similarity == "cosine" else matrix

    def search(self, vectors: np.ndarray, k: np.ndarray) -> Hits:
        """The nearest documents of each query.

        Args:
            vectors (`np.ndarray`): (n, d) float32, as returned by `queries`.
            k (`np.ndarray`): (n,) int64, how many, for each query.
        """
        stored, codes = self.flat_vectors(), self.codes()
        if stored is not None and codes is not None:
            device = gpu(self.device)
            if device is not None:
                return nearest_on(device, vectors, stored, _placed(self.directory, device), k)
            return nearest(vectors, stored, codes, k)
        index, found = self.faiss_index(), []
        for depth in np.unique(k):
            rows = np.flatnonzero(k == depth)
            scores, docs = index.search(vectors[rows], int(min(depth + TIE_SLACK, index.ntotal)))
            hit = docs.ravel() >= 0
            signed = -scores if self.similarity == "l2" else scores
            query = np.repeat(rows, docs.shape[1])[hit]
            found.append(Hits(query, docs.ravel()[hit], signed.ravel()[hit]))
        hits = Hits(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
        if stored is not None:
            hits = hits._replace(score=self.score_rows(vectors, hits.query, hits.doc))
        return best_first(hits, k)

    def flat_vectors(self) -> np.ndarray | None:
        """The stored vectors (documents, d), memory-mapped, or `None` where the index is compressed."""
        return _flat_vectors(self.faiss_index())

    def codes(self) -> Codes | None:
        """The 8-bit codes of the stored vectors, or `None` where it is no flat inner product index."""
        return _codes(self.directory)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of chosen corpus rows, (n, d) float32, as they are stored."""
        stored = self.flat_vectors()
        return self.faiss_index().reconstruct_batch(rows) if stored is None else stored[rows]

    def score_rows(self, vectors: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32."""
        stored = self.flat_vectors()
        if stored is None:
            stored, rows = self.faiss_index().reconstruct_batch(rows), np.arange(len(rows))
        return self._score(vectors, stored, query, rows)

    def score_vectors(self, vectors: np.ndarray, query: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, vector) pairs, (n,) float32; `documents` is (n, d)."""
        return self._score(vectors, documents, query, np.arange(len(query)))

    def _score(self, vectors: np.ndarray, documents: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        score = distance_pairs if self.similarity == "l2" else score_pairs
        return score(vectors, documents, query, rows)


def _flat_vectors(index: Any) -> np.ndarray | None:
    faiss = load_faiss("a dense index")
    index = faiss.downcast_index(index)
    if not isinstance(index, faiss.IndexFlat):
        return None
    return faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(index.ntotal, index.d)


def _save_codes(directory: Path) -> None:
    index = mapped_file(directory / FILE)
    stored = _flat_vectors(index)
    if stored is not None and index.metric_type == load_faiss("a dense index").METRIC_INNER_PRODUCT:
        save_codes(directory, stored)


@functools.lru_cache(maxsize=8)
def _codes(directory: Path) -> Codes | None:
    return open_codes(directory) if (directory / "codes.npy").exists() else None


@functools.lru_cache(maxsize=1)
def _placed(directory: Path, device: str) -> Any:
    stored = _flat_vectors(_opened(str(directory / FILE)))
    return None if stored is None else placed(stored, device)


@functools.lru_cache(maxsize=8)
def _opened(path: str) -> Any:
    store.check(Path(path).parent)
    return mapped_file(Path(path))
