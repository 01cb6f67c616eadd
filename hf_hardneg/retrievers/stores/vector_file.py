"""Index files that hold vectors under integer labels, and no texts: these come from a corpus, by id or by row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import DocumentStoreError
from hf_hardneg.index.dense.dense_index import normalized, score_vectors
from hf_hardneg.retrievers.stores.document_store import ID, VECTOR, Description, DocumentStore
from hf_hardneg.retrievers.stores.file_marks import content_mark

BLOCK = 4096
"""Vectors read at once."""
BATCH = 256
"""Queries searched at once."""


class OpenedFile(NamedTuple):
    """An index as it was read, its mark then, its labels (n,) uint64 in rising order, and their width."""

    index: Any
    mark: str
    labels: np.ndarray
    width: int


@dataclass(frozen=True)
class VectorFile(DocumentStore):
    """A file of vectors under integer labels, which are row numbers of the corpus, or integers that are its ids.

    The index proposes documents; they are scored by the vectors that it gives back.
    """

    content: ClassVar[str]
    """What the file should be, for errors."""

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.place.path)

    @property
    @abstractmethod
    def similarity(self) -> Literal["cosine", "dot", "l2"]:
        """Kind of the scores."""

    @property
    @abstractmethod
    def efforts(self) -> tuple[int, ...]:
        """See `Description`."""

    @abstractmethod
    def read(self) -> tuple[Any, np.ndarray, int]:
        """The index in the file, its labels (n,) uint64 in any order, and the width of its vectors."""

    @abstractmethod
    def propose(self, queries: np.ndarray, k: int, effort: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The query and the label of proposed documents, (m,) each."""

    @abstractmethod
    def vectors_of(self, labels: np.ndarray) -> np.ndarray:
        """Vectors (n, d) float32 of labels that the index holds."""

    def connect(self) -> OpenedFile:
        """See `DocumentStore`.

        Raises:
            DocumentStoreError: there is no such file, or it is of another kind.
        """
        if not self.path.is_file():
            raise DocumentStoreError(
                f"{self.address} names {self.path}, which is no file; {self.content} is allowed. Give the path of "
                "the saved index, absolute or under the current folder of every process."
            )
        mark = content_mark(self.path)
        index, labels, width = self.read()
        return OpenedFile(index, mark, np.sort(labels), width)

    @property
    def opened(self) -> OpenedFile:
        """The index, while its file is as it was.

        Raises:
            DocumentStoreError: the file was written since.
        """
        if self.client.mark != content_mark(self.path):
            raise DocumentStoreError(
                f"{self.address} was written while it was searched; a file that stays is allowed. Mine again, and save "
                "an index that is in use under another name."
            )
        return self.client

    def describe(self) -> Description:
        """See `DocumentStore`; a file that was replaced is opened again."""
        if self.client.mark != content_mark(self.path):
            self.disconnect()
        opened = self.client
        return Description(
            score_kind=self.similarity,
            count=len(opened.labels),
            width=opened.width,
            mark=opened.mark,
            max_batch=BATCH,
            has_texts=False,
            efforts=self.efforts,
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `DocumentStore`."""
        asked = np.asarray(queries, np.float32)
        query, label = self.propose(asked, min(k, len(self.opened.labels)), effort)
        known, place = np.unique(label, return_inverse=True)
        vectors = self.vectors_of(known)
        if self.similarity == "cosine":
            asked, vectors = normalized(asked), normalized(vectors)
        scores = score_vectors(self.similarity, asked, vectors, query, place)
        order = np.lexsort((label, -scores.astype(np.float64), query))
        parts = np.split(order, np.searchsorted(query[order], np.arange(1, len(asked))))
        return [(label[part[:k]].astype(str).tolist(), scores[part[:k]]) for part in parts]

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `DocumentStore`; there is no column `text`."""
        labels = self._labels(ids)
        columns = {ID: pa.array(ids, pa.string())}
        if vectors:
            columns[VECTOR] = as_lists(self.vectors_of(labels))
        return pa.table(columns)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `DocumentStore`; by rising label, without a column `text`."""
        labels = self.opened.labels
        for start in range(0, len(labels), BLOCK):
            ids = labels[start : start + BLOCK].astype(str).tolist()
            yield from self.fetch(ids, vectors=vectors).combine_chunks().to_batches()

    def _labels(self, ids: Sequence[str]) -> np.ndarray:
        """The labels of ids, (n,) uint64."""
        known = self.opened.labels
        names = known.astype(str)
        order = np.argsort(names)
        place = np.searchsorted(names[order], np.asarray(ids, str)) % max(len(known), 1)
        labels = known[order][place]
        if wrong := np.flatnonzero(names[order][place] != np.asarray(ids, str)).tolist():
            raise DocumentStoreError(
                f"{self.address} holds no label {ids[wrong[0]]!r}; integers are allowed, such as {known[0]}. Ask for "
                "labels that scan() gives."
            )
        return labels


def as_lists(vectors: np.ndarray) -> pa.Array:
    """Vectors (n, d) float32 as lists of fixed size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
