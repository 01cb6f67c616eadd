"""Sparse vectors of a corpus that survive, in shards as `embeddings.py` keeps dense ones."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.lists import flat
from hf_hardneg.arrays.sparse_rows import SparseRows
from hf_hardneg.models.embeddings import SHARD, CorpusVectors, Shards
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.named_files import publish
from hf_hardneg.store.stored_arrays import mapped_array

ENTRY = np.dtype([("row", np.int32), ("weight", np.float32), ("term", np.int64)])
"""A term of a text in a shard; the first entry says in its `term` how many texts there are."""


class CorpusSparseVectors(CorpusVectors):
    """Sparse vectors of all documents in row order, in blocks of up to `SHARD` rows, encoded when first read.

    All else is as for `CorpusVectors`.
    """

    kind: ClassVar[kinds.Kind] = kinds.SPARSE_VECTORS

    @property
    def content(self) -> dict[str, Any]:
        """What the vectors depend on, as plain values."""
        return {"texts": self._texts.digest, "encoder": self.encoder.digest, "shard": SHARD}

    @functools.cached_property
    def _shards(self) -> SparseShards:
        folder = directories.place(self.corpus.cache, self.kind, self.content)
        return SparseShards(folder=folder, count=len(self._texts.first), size=SHARD, half_above=0)

    @staticmethod
    def _encode_texts(encoder: Any, texts: list[str]) -> SparseRows:
        rows: SparseRows = encoder.encode_sparse(texts, kind="document")
        return rows

    @classmethod
    def _table(cls, encoder: Any, texts: pa.Table) -> pa.Table:
        rows = cls._encode_texts(encoder, texts["text"].to_pylist())
        bounds = pa.array(rows.pointers, pa.int64())
        columns = {"term": rows.terms, "weight": rows.weights}
        return pa.table({name: pa.LargeListArray.from_arrays(bounds, values) for name, values in columns.items()})

    @staticmethod
    def _of_table(table: pa.Table) -> SparseRows:
        terms, counts = flat(table["term"], np.int64)
        weights, _ = flat(table["weight"], np.float32)
        return SparseRows(np.concatenate([[0], np.cumsum(counts)]), terms, weights)


@dataclass(frozen=True, kw_only=True)
class SparseShards(Shards):
    """A folder of shards of sparse vectors."""

    kind: ClassVar[kinds.Kind] = kinds.SPARSE_VECTORS

    def _held(self, path: Path) -> int:
        return int(mapped_array(path, ENTRY)["term"][0])

    def publish(self, number: int, vectors: SparseRows) -> None:
        """Write a shard, all of it or nothing."""
        entries = np.zeros(len(vectors.terms) + 1, ENTRY)
        entries["term"][0] = len(vectors)
        for name, values in (("row", vectors.owners), ("weight", vectors.weights), ("term", vectors.terms)):
            entries[name][1:] = values
        publish(self.folder, f"{number:06d}-", entries)

    def _layout(self, path: Path) -> dict[str, Any]:
        return {"terms": len(mapped_array(path, ENTRY)) - 1}

    def gather(self, positions: np.ndarray) -> SparseRows:
        """Read the vectors at some positions.

        Raises:
            StoreError: a shard is missing.
        """
        needed = self.needed(positions)
        firsts = np.cumsum([0, *map(self._held, needed.values())])
        held = SparseRows.joined([_rows(path) for path in needed.values()])
        place = np.searchsorted(np.array(list(needed)), positions // self.size)
        return held[firsts[place] + positions % self.size]


def _rows(path: Path) -> SparseRows:
    entries = mapped_array(path, ENTRY)
    pointers = np.searchsorted(entries["row"][1:], np.arange(int(entries["term"][0]) + 1))
    return SparseRows(pointers.astype(np.int64), entries["term"][1:], entries["weight"][1:])
