"""Vectors on disk in numbered shards, each published whole, and a manifest that says what they are.

A shard's name carries the digest of its content, so what is reused is what was written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.disk import npy, replacing, writing
from hf_hardneg.errors import StoreError
from hf_hardneg.index import store
from hf_hardneg.index.dense import checked_vectors


@dataclass(frozen=True, kw_only=True)
class Shards:
    """A folder of shards.

    Args:
        folder (`Path`): where they lie.
        count (`int`): vectors in all.
        size (`int`): vectors in each shard but the last.
        half_above (`int`): bytes of all vectors in float32 above which they are stored as float16.
    """

    folder: Path
    count: int
    size: int
    half_above: int

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def positions(self, number: int) -> slice:
        """Which of the vectors the shard of that number holds."""
        return slice(number * self.size, min((number + 1) * self.size, self.count))

    def paths(self) -> dict[int, Path]:
        """The shards that are on disk, by number."""
        return {int(path.name.partition("-")[0]): path for path in self.folder.glob("[0-9]*-*.npy")}

    def keep_intact(self, share: Iterable[int]) -> set[int]:
        """The shards of a share that are on disk as they were written; altered ones are removed."""
        paths = self.paths()
        there = {number: paths[number] for number in share if number in paths}
        altered = {path for path in there.values() if path.stem.rpartition("-")[2] != store.file_digest(path)}
        for path in altered:
            path.unlink()
        return {number for number, path in there.items() if path not in altered}

    def publish(self, number: int, vectors: np.ndarray) -> None:
        """Write a shard, all of it or nothing.

        Args:
            number (`int`): its number.
            vectors (`np.ndarray`): (n, d) float32.

        Raises:
            DataError: float16 is stored, and a value is beyond its range.
        """
        if self.count * vectors.shape[1] * 4 > self.half_above:
            with np.errstate(over="ignore"):
                vectors = vectors.astype(np.float16)
            checked_vectors(vectors, what="vectors stored as float16", start=self.positions(number).start)
        content = npy(vectors)
        path = self.folder / f"{number:06d}-{store.bytes_digest(*content)}.npy"
        with writing(self.folder, needed=vectors.nbytes), replacing(path) as stream:
            stream.writelines(content)

    def describe(self, origin: Mapping[str, Any]) -> None:
        """Write the manifest, once the first shard is there: where the vectors come from, and how they are stored."""
        first = np.load(self.paths()[0], mmap_mode="r", allow_pickle=False)
        layout = {"count": self.count, "shard": self.size, "width": first.shape[1], "dtype": str(first.dtype)}
        text = json.dumps({"kind": "vectors", **origin, **layout}, indent=1, ensure_ascii=False)
        with writing(self.folder), replacing(self.folder / store.MANIFEST) as stream:
            stream.write(text.encode())

    def gather(self, positions: np.ndarray) -> np.ndarray:
        """Vectors at some positions, (n, d) float32.

        Raises:
            StoreError: a shard is missing.
        """
        paths, parts = self.paths(), {}
        for number in np.unique(positions // self.size):
            if number not in paths:
                raise StoreError(
                    f"Shard {number} of the vectors in {self.folder} is missing here. All processes must see one "
                    "cache_dir= (on several nodes: a shared file system); run again to encode what is missing."
                )
            parts[number] = np.load(paths[number], mmap_mode="r", allow_pickle=False)
        block = np.empty((len(positions), next(iter(parts.values())).shape[1]), np.float32)
        for number, vectors in parts.items():
            here = positions // self.size == number
            block[here] = vectors[positions[here] % self.size]
        return block
