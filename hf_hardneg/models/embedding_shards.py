"""Vectors on disk in numbered shards, each published whole, and a manifest that says what they are.

A shard's name carries the digest of its content, so what is reused is what was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.arrays.vectors import checked_vectors
from hf_hardneg.errors import StoreError
from hf_hardneg.store.kinds import VECTORS
from hf_hardneg.store.manifests import Manifest
from hf_hardneg.store.named_files import NAME, describe, is_intact, publish, shards
from hf_hardneg.store.stored_arrays import mapped_array


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
        """Say which of the vectors the shard of that number holds."""
        return slice(number * self.size, min((number + 1) * self.size, self.count))

    def paths(self) -> dict[int, Path]:
        """List the shards that are on disk, by number."""
        numbered = ((NAME.fullmatch(path.name), path) for path in shards(self.folder))
        return {int(named["number"][:-1]): path for named, path in numbered if named and named["number"]}

    def keep_intact(self, share: Iterable[int]) -> set[int]:
        """Return the shards of a share that are on disk as they were written, and remove altered ones."""
        paths, wanted = self.paths(), set(share)
        present = {number: path for number, path in paths.items() if number in wanted}
        altered = {number for number, path in present.items() if not self._is_whole(number, path)}
        for number in altered:
            present[number].unlink()
        return present.keys() - altered

    def _is_whole(self, number: int, path: Path) -> bool:
        positions = self.positions(number)
        try:
            return is_intact(path) and len(_mapped(path)) == positions.stop - positions.start
        except (OSError, ValueError):
            return False

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
        publish(self.folder, f"{number:06d}-", vectors)

    def describe(self, origin: Mapping[str, Any], about: Mapping[str, str]) -> None:
        """Write the manifest, once the first shard is there: where the vectors come from, and how they are stored."""
        first = _mapped(self.paths()[0])
        layout = {"count": self.count, "shard": self.size, "width": first.shape[1], "dtype": str(first.dtype)}
        describe(self.folder, Manifest(kind=VECTORS.name, parameters={**origin, **layout}, files={}, about=about))

    def gather(self, positions: np.ndarray) -> np.ndarray:
        """Read the vectors at some positions, (n, d) float32.

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
            parts[number] = _mapped(paths[number])
        block = np.empty((len(positions), next(iter(parts.values())).shape[1]), np.float32)
        for number, vectors in parts.items():
            here = positions // self.size == number
            block[here] = vectors[positions[here] % self.size]
        return block


def _mapped(path: Path) -> np.ndarray:
    """Return the vectors of a shard, (n, d) float32 or float16."""
    try:
        return mapped_array(path, np.float32)
    except ValueError:
        return mapped_array(path, np.float16)
