"""Laws of cost: how the time, memory and disk of a stage grow with the corpus and the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_hardneg.runtime.units import data_size, duration


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law of growth: `fixed + document N + sort N log2 N + row R + pair N^power R`, for N documents, R rows."""

    fixed: float = 0.0
    document: float = 0.0
    sort: float = 0.0
    row: float = 0.0
    pair: float = 0.0
    power: float = 1.0

    def __call__(self, documents: int, rows: int) -> float:
        """Return the quantity for so many documents and rows."""
        ordered = self.sort * documents * np.log2(max(documents, 2))
        searched = self.pair * documents**self.power * rows
        return float(self.fixed + self.document * documents + ordered + self.row * rows + searched)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a job, and what its costs grow with.

    Args:
        name (`str`): such as `"build index"`.
        wall, cpu (`Law`): seconds on the clock in the main process; seconds of all processors; by the best probe.
        slower (`float`): how many times as long as the best probe the slowest took.
        memory, disk (`Law`): bytes.
        basis (`str`): how the figures are known.
        in_workers (`bool`): whether `num_proc` workers share it.
        left (`float`): the share that is not in the cache yet.
    """

    name: str
    wall: Law
    cpu: Law = Law()
    slower: float = 1.0
    memory: Law = Law()
    disk: Law = Law()
    basis: str
    in_workers: bool = False
    left: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a plan.

    Args:
        name (`str`): of the stage.
        seconds, slow (`float`): on the clock, by the best probe and by the slowest.
        memory, disk (`float`): bytes; beyond what the process holds at the start, and beyond what is written already.
        reused (`bool`): whether the cache has it.
        basis (`str`): how the figures are known.
    """

    name: str
    seconds: float
    slow: float
    memory: float
    disk: float
    reused: bool
    basis: str

    def __str__(self) -> str:
        if self.reused:
            return f"  {self.name:<16} {'reused':>10} {'':>10} {'':>10}   in the cache"
        memory, disk = (data_size(value) if value else "" for value in (self.memory, self.disk))
        return f"  {self.name:<16} {duration(self.seconds):>10} {memory:>10} {disk:>10}   {self.basis}"


def over_documents(points: Sequence[tuple[int, float]]) -> Law:
    """Draw a straight line through the first and the last of some (documents, quantity) points.

    It neither falls nor goes below zero. The two that are farthest apart are least disturbed by other programs. A
    single point gives a proportion.
    """
    (fewest, least), (documents, value) = points[0], points[-1]
    slope = value / documents
    if documents > fewest:
        slope = float(np.clip((value - least) / (documents - fewest), 0, slope))
    return Law(fixed=value - slope * documents, document=slope)


def over_rows(points: Sequence[tuple[int, float]]) -> Law:
    """Fit a power of the documents, between 0 and 1, through the last two points of a quantity per row.

    Search slows down with a corpus by less than in proportion, as with score bounds. A straight line through small
    samples would then be many times too high for large corpora, by what is noise in them.
    """
    documents, value = points[-1]
    power = 1.0
    if len(points) > 1 and points[-2][0] < documents:
        power = np.log(max(value, 1e-12) / max(points[-2][1], 1e-12)) / np.log(documents / points[-2][0])
    power = float(np.clip(power, 0, 1))
    return Law(pair=value / documents**power, power=power)


def sorting(points: Sequence[tuple[int, float]]) -> Law:
    """Draw the line of `over_documents` with `n log n` in place of the slope."""
    line, documents = over_documents(points), points[-1][0]
    return Law(fixed=line.fixed, sort=line.document / np.log2(max(documents, 2)))


def proportional(points: Sequence[tuple[int, float]]) -> Law:
    """Take a proportion through the last point: for bytes, which have no fixed part worth fitting."""
    documents, value = points[-1]
    return Law(document=value / documents)
