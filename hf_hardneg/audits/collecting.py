"""What the checks find, counted over batches, with examples and histograms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_hardneg.audits.audited_rows import AuditedBatch, Side, cut
from hf_hardneg.audits.facts import Facts
from hf_hardneg.audits.finders import Flagged, View
from hf_hardneg.audits.findings import Histogram
from hf_hardneg.reports.hardness import EDGES, HardnessHistogram, compare

EXAMPLES = 3
MOST_IN_ROW = 40
OVERLAPS = tuple(round(0.1 * i, 1) for i in range(11))


@dataclass
class CheckTally:
    """What one check has found so far."""

    count: int = 0
    rows: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, hits: Flagged, batch: AuditedBatch) -> None:
        """Counts what was found in a batch."""
        owners = [(batch.positive.owner, hits.positives), (batch.negative.owner, hits.negatives)]
        owners.append((np.arange(len(batch.number)), hits.rows))
        places = [(owner[mask], np.flatnonzero(mask)) for owner, mask in owners if mask is not None]
        self.count += sum(len(place) for _, place in places)
        self.rows += len(np.unique(np.concatenate([rows for rows, _ in places])))
        kinds = [
            kind for kind, (_, mask) in zip(("positive", "negative", "row"), owners, strict=True) if mask is not None
        ]
        wanted = EXAMPLES - len(self.examples)
        for kind, (rows, place) in zip(kinds, places, strict=True):
            for row, at in zip(rows[:wanted].tolist(), place[:wanted].tolist(), strict=True):
                self.examples.append(_example(batch, row, {} if kind == "row" else {kind: at}))
        self.examples = sorted(self.examples, key=lambda one: one["row"])[:EXAMPLES]


def _example(batch: AuditedBatch, row: int, at: Mapping[str, int]) -> dict[str, Any]:
    """A row, a document of it by its place, and of the other side the first."""
    made: dict[str, Any] = {"row": int(batch.number[row])}
    for name, column in (("query", batch.query), ("query_id", batch.query_id)):
        if column is not None:
            made[name] = cut(column[row].as_py())
    for name in ("positive", "negative"):
        side: Side = getattr(batch, name)
        place = at.get(name, side.starts[row] if side.counts[row] else None)
        if place is not None and (name == "positive" or name in at or not at):
            made |= {
                label: cut(column[place].as_py())
                for label, column in ((name, side.texts), (f"{name}_id", side.ids))
                if column is not None
            }
            if side.scores is not None and side.scored[place]:
                made[f"{name}_score"] = float(side.scores[place])
    return made


def note_frequent(batch: AuditedBatch, facts: Facts, most: dict[int, dict[str, Any]]) -> None:
    """An example of each of the most frequent negatives, where it is first met."""
    side = batch.negative
    if len(most) == len(facts.most) or not side.identities:
        return
    for key in facts.most.keys() - most.keys():
        there = np.flatnonzero(side.identities[0] == np.uint64(key))
        if len(there):
            at = int(there[0])
            example = _example(batch, int(side.owner[at]), {"negative": at})
            named = {
                name: one for name, one in example.items() if name.startswith("negative") and name != "negative_score"
            }
            most[key] = {"row": example["row"], "count": facts.most[key], **named}


@dataclass
class Histograms:
    """Counts of numbers, added up."""

    overlaps: np.ndarray = field(default_factory=lambda: np.zeros(len(OVERLAPS) - 1, np.int64))
    hardness: HardnessHistogram = field(default_factory=HardnessHistogram)

    def add(self, view: View) -> None:
        """Counts a batch."""
        side = view.batch.negative
        if view.has_texts:
            self.overlaps += np.histogram(view.overlap, OVERLAPS)[0]
        if side.scores is not None:
            self.hardness += HardnessHistogram.of(compare(view.best_positive, side.owner, side.scores).relative)

    def made(self, facts: Facts) -> tuple[Histogram, ...]:
        """The histograms that have something in them."""
        sizes = facts.sizes[: MOST_IN_ROW + 1].tolist()
        edges = [float(number) for number in range(len(sizes) + 1)]
        if len(facts.sizes) > len(sizes):
            sizes.append(int(facts.sizes[MOST_IN_ROW + 1 :].sum()))
            edges.append(float("inf"))
        every = (
            ("Rows by number of negatives", "negatives", edges, sizes),
            ("Negatives by overlap with a positive", "overlap", OVERLAPS, self.overlaps.tolist()),
            ("Negatives by relative margin", "(s+ - s) / |s+|", EDGES, self.hardness.counts),
        )
        return tuple(
            Histogram(title=title, x_label=label, edges=tuple(map(float, edges)), counts=tuple(counts))
            for title, label, edges, counts in every
            if sum(counts)
        )
