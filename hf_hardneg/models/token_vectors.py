"""Token vectors of a corpus that survive, float16, in shards as `embeddings.py` keeps dense ones."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.lists import flat
from hf_hardneg.arrays.token_rows import TokenRows
from hf_hardneg.models.embeddings import SHARD, CorpusVectors, Shards
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.named_files import publish
from hf_hardneg.store.stored_arrays import mapped_array

SIZE_AS = np.dtype("<u4")


class CorpusTokenVectors(CorpusVectors):
    """Token vectors of all documents in row order, in blocks of up to `SHARD` rows, encoded when first read.

    All else is as for `CorpusVectors`.
    """

    kind: ClassVar[kinds.Kind] = kinds.TOKEN_VECTORS

    @property
    def content(self) -> dict[str, Any]:
        """What the vectors depend on, as plain values."""
        return {"texts": self._texts.digest, "encoder": self.encoder.digest, "shard": SHARD}

    @functools.cached_property
    def _shards(self) -> TokenShards:
        folder = directories.place(self.corpus.cache, self.kind, self.content)
        return TokenShards(folder=folder, count=len(self._texts.first), size=SHARD, half_above=0)

    @staticmethod
    def _encode_texts(encoder: Any, texts: list[str]) -> TokenRows:
        rows: TokenRows = encoder.encode_each_token(texts, kind="document")
        return TokenRows(rows.pointers, rows.vectors.astype(np.float16))

    @classmethod
    def _table(cls, encoder: Any, texts: pa.Table) -> pa.Table:
        rows = cls._encode_texts(encoder, texts["text"].to_pylist())
        flattened = rows.pointers * rows.width
        values = pa.LargeListArray.from_arrays(pa.array(flattened), pa.array(rows.vectors.reshape(-1)))
        return pa.table({"vectors": values, "width": np.full(len(rows), rows.width)})

    @staticmethod
    def _of_table(table: pa.Table) -> TokenRows:
        values, counts = flat(table["vectors"], np.float16)
        width = table["width"][0].as_py()
        return TokenRows(np.concatenate([[0], np.cumsum(counts // max(width, 1))]), values.reshape(-1, max(width, 1)))


@dataclass(frozen=True, kw_only=True)
class TokenShards(Shards):
    """A folder of shards of token vectors: rows of the width of vectors, first one or more that hold, as whole numbers
    of 32 bits in their bytes, how many texts there are and how many tokens each has."""

    kind: ClassVar[kinds.Kind] = kinds.TOKEN_VECTORS

    def _held(self, path: Path) -> int:
        return len(_rows(path))

    def publish(self, number: int, vectors: TokenRows) -> None:
        """Write a shard, all of it or nothing."""
        width = max(vectors.width, 1)
        numbers = np.concatenate([[len(vectors)], vectors.sizes]).astype(SIZE_AS).view(np.float16)
        head = np.zeros((-(-len(numbers) // width), width), np.float16)
        head.reshape(-1)[: len(numbers)] = numbers
        publish(self.folder, f"{number:06d}-", np.concatenate([head, vectors.vectors.reshape(-1, width)]))

    def _layout(self, path: Path) -> dict[str, Any]:
        rows = _rows(path)
        return {"width": rows.width, "dtype": str(rows.vectors.dtype)}

    def gather(self, positions: np.ndarray) -> TokenRows:
        """Read the vectors at some positions, float16.

        Raises:
            StoreError: a shard is missing.
        """
        needed = self.needed(positions)
        numbers, parts = np.array(list(needed)), [_rows(path) for path in needed.values()]
        place = np.searchsorted(numbers, positions // self.size)
        firsts = np.cumsum([0, *map(len, parts)])
        return TokenRows.joined(parts)[firsts[place] + positions % self.size]


def _rows(path: Path) -> TokenRows:
    """The token vectors in a shard, memory-mapped.

    Raises:
        OSError, ValueError: it is none.
    """
    values = mapped_array(path, np.float16)
    if values.ndim != 2 or values.size < 2:
        raise ValueError(f"it has the shape {values.shape}")
    numbers = values.reshape(-1)[: values.size // 2 * 2].view(SIZE_AS)
    count = int(numbers[0])
    head = -(-2 * (count + 1) // values.shape[1])
    pointers = np.concatenate([[0], np.cumsum(numbers[1 : count + 1], dtype=np.int64)])
    if head + pointers[-1] != len(values):
        raise ValueError(f"it has {len(values):,} rows, not those of {count:,} texts")
    return TokenRows(pointers, values[head:])
