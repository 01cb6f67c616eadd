"""The negatives of many rows as flat arrays, and as columns of mined data."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.lists import ragged
from hf_hardneg.corpus.queries import Reader
from hf_hardneg.pipeline.padding import Chosen
from hf_hardneg.store.disk import save_array, written
from hf_hardneg.store.stored_arrays import Schema, Stored

NEGATIVE = np.dtype([("doc", np.int64), ("score", np.float32), ("rank", np.int32), ("source", np.int8)])
SCHEMA = Schema.of(
    {
        "generations": Stored(np.int32, "rows", least=0),
        "counts": Stored(np.int64, "rows", least=0),
        "negatives": Stored(NEGATIVE, "negatives"),
        "listed_counts": Stored(np.int64, "rows", least=0),
        "listed": Stored(np.float32, "positives"),
    }
)
ARRAYS = tuple(name for name, _ in SCHEMA.arrays)
ADDED = {
    "negatives": pa.list_(pa.string()),
    "negative_ids": pa.list_(pa.string()),
    "negative_scores": pa.list_(pa.float32()),
    "negative_ranks": pa.list_(pa.int32()),
    "negative_sources": pa.list_(pa.string()),
    "positive_scores": pa.list_(pa.float32()),
}
"""The columns of mined data that a generation brings, besides `negative_generation`."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The negatives of n rows, m in all, as arrays.

    Args:
        generations (`np.ndarray`): (n,) int32, the generation of each row's negatives; 0 where it has none yet.
        counts (`np.ndarray`): (n,) int64, how many negatives each row has.
        negatives (`np.ndarray`): (m,) of `NEGATIVE`; scores NaN where nothing was scored.
        listed_counts (`np.ndarray`): (n,) int64, how many positives each row lists.
        listed (`np.ndarray`): (p,) float32 scores of those; NaN where they have none.
        sources (`tuple[str, ...]`): what `source` counts.
    """

    generations: np.ndarray
    counts: np.ndarray
    negatives: np.ndarray
    listed_counts: np.ndarray
    listed: np.ndarray
    sources: tuple[str, ...]

    def inconsistency(self) -> tuple[str, str] | None:
        """Name a file whose values lead out of the others, and how; `None` as a rule."""
        for name, of in (("counts", self.negatives), ("listed_counts", self.listed)):
            counts = getattr(self, name)
            if counts.max(initial=0) > len(of) or counts.sum() != len(of):
                return f"{name}.npy", f"it counts other than {len(of):,} entries"
        if self.negatives["doc"].min(initial=0) < 0:
            return "negatives.npy", "it holds negative rows"
        sources = self.negatives["source"]
        if sources.min(initial=0) < 0 or sources.max(initial=-1) >= len(self.sources):
            return "negatives.npy", "it holds sources that are not listed"
        return None

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where each row's negatives begin, (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @functools.cached_property
    def listed_starts(self) -> np.ndarray:
        """Where the positives of each row begin, (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.listed_counts)])

    @classmethod
    def of(cls, number: int, chosen: Chosen, listed: np.ndarray, listed_counts: np.ndarray) -> Generation:
        """Take the negatives that were chosen for a block of rows."""
        sources, source = np.unique(chosen.source.astype(str), return_inverse=True)
        negatives = np.empty(len(chosen.doc), NEGATIVE)
        for name, values in (("doc", chosen.doc), ("score", chosen.score), ("rank", chosen.rank), ("source", source)):
            negatives[name] = values
        return cls(
            generations=np.full(len(chosen.counts), number, np.int32),
            counts=chosen.counts.astype(np.int64),
            negatives=negatives,
            listed_counts=listed_counts.astype(np.int64),
            listed=listed.astype(np.float32),
            sources=tuple(map(str, sources)),
        )

    @classmethod
    def empty(cls, rows: int) -> Generation:
        """Make a generation without negatives for any row."""
        nothing = np.zeros(rows, np.int64)
        return cls(
            generations=nothing.astype(np.int32),
            counts=nothing,
            negatives=np.zeros(0, NEGATIVE),
            listed_counts=nothing,
            listed=np.zeros(0, np.float32),
            sources=(),
        )

    @classmethod
    def joined(cls, parts: list[Generation]) -> Generation:
        """Join blocks of rows, one after the other."""
        sources = tuple(sorted({name for part in parts for name in part.sources}))
        negatives = np.concatenate([part.negatives for part in parts])
        numbers = [np.array([sources.index(name) for name in part.sources], np.int8) for part in parts]
        renumbered = [
            number[part.negatives["source"]] for number, part in zip(numbers, parts, strict=True) if len(number)
        ]
        negatives["source"] = np.concatenate([np.zeros(0, np.int8), *renumbered])
        names = ("generations", "counts", "listed_counts", "listed")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(negatives=negatives, sources=sources, **arrays)

    def rows(self, start: int, stop: int) -> Generation:
        """Return a block of its rows."""
        negatives = self.negatives[self.starts[start] : self.starts[stop]]
        listed = self.listed[self.listed_starts[start] : self.listed_starts[stop]]
        of_rows = {name: getattr(self, name)[start:stop] for name in ("generations", "counts", "listed_counts")}
        return replace(self, negatives=negatives, listed=listed, **of_rows)

    def with_rows(self, rows: np.ndarray, renewed: Generation) -> Generation:
        """Return the same with others in the place of some rows, (k,) ascending."""
        parts, start = [], 0
        for place, row in enumerate(rows.tolist()):
            parts += [self.rows(start, row), renewed.rows(place, place + 1)]
            start = row + 1
        return self.joined([*parts, self.rows(start, len(self.counts))])

    def save(self, directory: Path) -> None:
        """Write its arrays, to be opened from a published generation."""
        for name in ARRAYS:
            save_array(directory / f"{name}.npy", getattr(self, name))

    def write(self, path: Path) -> None:
        """Write a block of rows as one file, whole or not at all."""
        with written(path) as partial, partial.open("wb") as stream:
            np.savez(
                stream, sources=np.array(self.sources, dtype=str), **{name: getattr(self, name) for name in ARRAYS}
            )

    @classmethod
    def read(cls, path: Path) -> Generation:
        """Read a block of rows that `write` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(sources=tuple(map(str, arrays["sources"])), **{name: arrays[name] for name in ARRAYS})

    def overlap(self, other: Generation) -> float:
        """Return the share of its negatives that another has for the same row, over rows of both; NaN for none."""
        both = (self.generations > 0) & (other.generations > 0)
        pairs = [set(zip(*generation._pairs(both), strict=True)) for generation in (self, other)]
        return len(pairs[0] & pairs[1]) / len(pairs[0]) if pairs[0] else float("nan")

    def _pairs(self, rows: np.ndarray) -> tuple[list[int], list[int]]:
        owner = np.repeat(np.arange(len(self.generations)), self.counts)
        inside = rows[owner]
        return owner[inside].tolist(), self.negatives["doc"][inside].tolist()

    def columns(self, rows: np.ndarray, reader: Reader) -> dict[str, pa.Array]:
        """Return the columns of `ADDED` for some of its rows."""
        counts, chosen = self.counts[rows], self.negatives[_flat(self.starts, rows)]
        listed = self.listed[_flat(self.listed_starts, rows)]
        sources = np.array([*self.sources, ""])[chosen["source"]]
        return {
            "negatives": ragged(reader.corpus.texts(chosen["doc"]), counts),
            "negative_ids": ragged(reader.corpus.ids(chosen["doc"]), counts),
            "negative_scores": ragged(pa.array(chosen["score"], mask=np.isnan(chosen["score"])), counts),
            "negative_ranks": ragged(pa.array(chosen["rank"]), counts),
            "negative_sources": ragged(pa.array(sources.tolist(), pa.string()), counts),
            "positive_scores": ragged(pa.array(listed, mask=np.isnan(listed)), self.listed_counts[rows]),
        }


def _flat(starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the positions of all entries of some rows, row by row."""
    parts = [np.arange(starts[row], starts[row + 1]) for row in rows]
    return np.concatenate([np.zeros(0, np.int64), *parts])
