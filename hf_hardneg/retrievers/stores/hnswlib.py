"""Files of hnswlib (https://github.com/nmslib/hnswlib): vectors under integer labels, read into memory."""

from __future__ import annotations

import struct
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores.vector_file import VectorFile
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.process import threads

SPACES: dict[str, Literal["cosine", "dot", "l2"]] = {"cosine": "cosine", "ip": "dot", "l2": "l2"}
EFS = (256, 512, 1024, 2048, 4096, 8192)
"""Efforts: values of `ef`, which no file keeps."""
HEAD = struct.Struct("<6Q")
"""Begins a file: offset, capacity, elements, bytes of an element, and where in it the label and the vector are."""
LABEL = 8
UNIT = 1e-3
"""How far lengths may be from 1 for vectors of the space `cosine`."""


@dataclass(frozen=True)
class Hnswlib(VectorFile):
    """A saved hnswlib index, always approximate: its recall is measured and its `ef` raised.

    Args:
        address (`str`): such as `"hnswlib:///folder/docs.bin?space=cosine"`.
        space (`str`): `"cosine"`, `"ip"` or `"l2"`, with which it was built; the file does not tell.
    """

    _: KW_ONLY
    space: str = ""
    scheme: ClassVar[str] = "hnswlib"
    extra: ClassVar[str] = "hnswlib"
    content: ClassVar[str] = "an index that hnswlib saved"
    efforts: ClassVar[tuple[int, ...]] = EFS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.space not in SPACES:
            raise ConfigError(
                f"Hnswlib got space={self.space!r}; allowed are {', '.join(SPACES)}. Give the space with which the "
                f"index was built: {self.scheme}:///folder/docs.bin?space=cosine."
            )

    @property
    def similarity(self) -> Literal["cosine", "dot", "l2"]:
        """See `VectorFile`."""
        return SPACES[self.space]

    def read(self) -> tuple[Any, np.ndarray, int]:
        """See `VectorFile`.

        Raises:
            DocumentStoreError: hnswlib cannot read the file.
            ConfigError: its vectors are not of the space, or some are deleted.
        """
        hnswlib = require("hnswlib", extra=self.extra, needed_by=self.address)
        width, elements = self._head()
        index = hnswlib.Index(self.space, width)
        try:
            index.load_index(str(self.path))
        except RuntimeError as error:
            raise self._unreadable(str(error)) from error
        labels = np.array(index.get_ids_list(), np.uint64)
        if len(labels) != elements:
            raise self._unreadable(f"it holds {len(labels)} labels of {elements} vectors")
        self._check(index, labels)
        return index, labels, width

    def propose(self, queries: np.ndarray, k: int, effort: int | None) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFile`."""
        index = self.opened.index
        index.set_ef(max(effort or EFS[0], k))
        try:
            labels, _ = index.knn_query(queries, k=k, num_threads=threads())
        except RuntimeError as error:
            raise DocumentStoreError(
                f"{self.address} answered fewer than {k} documents with ef={max(effort or EFS[0], k)}: its graph is "
                "not connected. Graphs in which each vector is reached are allowed; build it with a higher M and "
                "ef_construction."
            ) from error
        return np.repeat(np.arange(len(labels)), labels.shape[1]), labels.ravel()

    def vectors_of(self, labels: np.ndarray) -> np.ndarray:
        """See `VectorFile`."""
        return _vectors(self.opened.index, labels)

    def _head(self) -> tuple[int, int]:
        """The width of the vectors and their number, checked against the size of the file."""
        with self.path.open("rb") as stream:
            head = stream.read(HEAD.size)
        if len(head) < HEAD.size:
            raise self._unreadable("it is too short")
        _, capacity, elements, size, label, vector = HEAD.unpack(head)
        if label + LABEL != size or not vector < label or (label - vector) % 4 or not 0 < elements <= capacity:
            raise self._unreadable("it does not begin as one with vectors does")
        if elements * size > self.path.stat().st_size:
            raise self._unreadable("it is shorter than it says")
        return (label - vector) // 4, elements

    def _check(self, index: Any, labels: np.ndarray) -> None:
        """Raise for vectors that are deleted, or not of unit length where the space has none but those."""
        for start in range(0, len(labels), 1 << 16):
            try:
                lengths = np.linalg.norm(_vectors(index, labels[start : start + (1 << 16)]), axis=1)
            except RuntimeError as error:
                raise ConfigError(
                    f"{self.address} holds vectors that are marked as deleted; an index with all of its vectors is "
                    "allowed. Build it anew from those that are left."
                ) from error
            away = np.flatnonzero((np.abs(lengths - 1) > UNIT) & (lengths > 0))
            if self.space == "cosine" and len(away):
                raise ConfigError(
                    f"{self.address} says space=cosine, whose vectors have unit length, and label "
                    f"{labels[start + away[0]]} has length {lengths[away[0]]:.3g}. Give space=ip or space=l2, with "
                    "which it was built."
                )

    def _unreadable(self, why: str) -> DocumentStoreError:
        return DocumentStoreError(
            f"{self.address} names {self.path}, which hnswlib cannot read: {why}. A file that its save_index wrote is "
            "allowed. Save the index again."
        )


def _vectors(index: Any, labels: np.ndarray) -> np.ndarray:
    width = index.dim
    return np.asarray(index.get_items(labels, return_type="numpy"), np.float32).reshape(len(labels), width)
