"""Findings of the checks are counted over batches, with examples and histograms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_hardneg.audits.audited_rows import AuditedBatch, Side, cut
from hf_hardneg.audits.facts import Facts
from hf_hardneg.audits.views import Flagged, View
from hf_hardneg.filters import NearDuplicate
from hf_hardneg.reports.charts import MODERATE, Histogram, Marked
from hf_hardneg.reports.hardness import EDGES, HardnessHistogram, compare

EXAMPLES = 3
MOST_IN_ROW = 40
OVERLAPS = tuple(round(0.1 * i, 1) for i in range(11))
NEAR = Marked(NearDuplicate().threshold, float("inf"), "near duplicates")


@dataclass
class CheckTally:
    """Counts of what one check has found so far, and the first examples."""

    count: int = 0
    rows: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, flags: Flagged, batch: AuditedBatch) -> None:
        """Count what a check flags in a batch."""
        masks = {
            "positive": (batch.positive.owner, flags.positives),
            "negative": (batch.negative.owner, flags.negatives),
            "row": (np.arange(len(batch.number)), flags.rows),
        }
        places = {
            kind: (owner[mask], np.flatnonzero(mask)) for kind, (owner, mask) in masks.items() if mask is not None
        }
        self.count += sum(len(place) for _, place in places.values())
        self.rows += len(np.unique(np.concatenate([rows for rows, _ in places.values()])))
        wanted = EXAMPLES - len(self.examples)
        for kind, (rows, place) in places.items():
            for row, at in zip(rows[:wanted].tolist(), place[:wanted].tolist(), strict=True):
                self.examples.append(_example(batch, row, {} if kind == "row" else {kind: at}))
        self.examples = sorted(self.examples, key=lambda example: example["row"])[:EXAMPLES]


def _example(batch: AuditedBatch, row: int, at: Mapping[str, int]) -> dict[str, Any]:
    """Show a row: a document of it by its place, and the first document of the other side."""
    example: dict[str, Any] = {"row": int(batch.number[row])}
    for name, column in (("query", batch.query), ("query_id", batch.query_id)):
        if column is not None:
            example[name] = cut(column[row].as_py())
    for name in ("positive", "negative"):
        side: Side = getattr(batch, name)
        place = at.get(name, side.starts[row] if side.counts[row] else None)
        if place is not None and (name == "positive" or name in at or not at):
            example |= {
                label: cut(column[place].as_py())
                for label, column in ((name, side.texts), (f"{name}_id", side.ids))
                if column is not None
            }
            if side.scores is not None and side.scored[place]:
                example[f"{name}_score"] = float(side.scores[place])
    return example


def note_frequent(batch: AuditedBatch, facts: Facts, most: dict[int, dict[str, Any]]) -> None:
    """Note an example of each of the most frequent negatives, where it is first met."""
    side = batch.negative
    if len(most) == len(facts.most) or not side.identities:
        return
    for key in facts.most.keys() - most.keys():
        places = np.flatnonzero(side.identities[0] == np.uint64(key))
        if len(places):
            at = int(places[0])
            example = _example(batch, int(side.owner[at]), {"negative": at})
            shown = {name: example[name] for name in example if name in ("negative", "negative_id")}
            most[key] = {"row": example["row"], "count": facts.most[key], **shown}


@dataclass
class Histograms:
    """Histograms of a dataset, added up batch by batch."""

    overlaps: np.ndarray = field(default_factory=lambda: np.zeros(len(OVERLAPS) - 1, np.int64))
    hardness: HardnessHistogram = field(default_factory=HardnessHistogram)

    def add(self, view: View) -> None:
        """Count a batch."""
        side = view.batch.negative
        if view.has_texts:
            self.overlaps += np.histogram(view.overlap, OVERLAPS)[0]
        if side.scores is not None:
            self.hardness += HardnessHistogram.of(compare(view.best_positive, side.owner, side.scores).relative)

    def filled(self, facts: Facts) -> tuple[Histogram, ...]:
        """Return the histograms that have something in them."""
        sizes = facts.sizes[: MOST_IN_ROW + 1].tolist()
        edges = [float(number) for number in range(len(sizes) + 1)]
        if len(facts.sizes) > len(sizes):
            sizes.append(int(facts.sizes[MOST_IN_ROW + 1 :].sum()))
            edges.append(float("inf"))
        every = (
            ("Rows by number of negatives", "negatives", edges, sizes, None),
            ("Negatives by overlap with a positive", "overlap", OVERLAPS, self.overlaps.tolist(), NEAR),
            ("Negatives by relative margin", "(s+ - s) / |s+|", EDGES, self.hardness.counts, MODERATE),
        )
        return tuple(
            Histogram(title=title, x_label=label, edges=tuple(map(float, edges)), counts=tuple(counts), marked=marked)
            for title, label, edges, counts, marked in every
            if sum(counts)
        )
