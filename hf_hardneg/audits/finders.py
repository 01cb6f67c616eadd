"""Finders are functions, one for each check, from a batch and the facts to flags of what is wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hf_hardneg.audits.audited_rows import AuditedBatch, Side
from hf_hardneg.audits.facts import Facts
from hf_hardneg.filters import NearDuplicate
from hf_hardneg.reports.hardness import best_scores
from hf_hardneg.text.hashes import NONE, contained, largest_jaccard, pair_keys


class Flagged(NamedTuple):
    """Masks of what a check finds wrong: rows (n,), positives and negatives; `None` where it does not look."""

    rows: np.ndarray | None = None
    positives: np.ndarray | None = None
    negatives: np.ndarray | None = None


@dataclass(frozen=True)
class View:
    """A batch, what is known of the dataset, and what several finders ask of both.

    Args:
        batch (`AuditedBatch`): n rows with m negatives.
        facts (`Facts`): facts of the dataset.
    """

    batch: AuditedBatch
    facts: Facts

    @property
    def sides(self) -> tuple[Side, Side]:
        """Positives and negatives."""
        return self.batch.positive, self.batch.negative

    @property
    def has_texts(self) -> bool:
        """Whether both sides have texts."""
        return all(side.texts is not None for side in self.sides)

    @functools.cached_property
    def same_id(self) -> np.ndarray:
        """Negatives with the id of a positive of their row, (m,)."""
        return self._same([side.id for side in self.sides])

    @functools.cached_property
    def same_text(self) -> np.ndarray:
        """Negatives that a reader cannot tell from a positive of their row, (m,)."""
        return self._same([side.seen for side in self.sides])

    @functools.cached_property
    def identical(self) -> np.ndarray:
        """Negatives with the very text of a positive, (m,); characters are compared only where they can be the same."""
        return self._same([side.exact for side in self.sides]) if self.same_text.any() else self.same_text

    @functools.cached_property
    def known(self) -> np.ndarray:
        """Negatives that are a positive of their query in any row, (m,)."""
        return _any(
            [contained(keys, self.facts.known) for keys in self.batch.known_as(self.batch.negative)],
            self.batch.negative,
        )

    @functools.cached_property
    def overlap(self) -> np.ndarray:
        """Largest Jaccard similarity of each negative's word 3-grams with the 3-grams of a positive of its row,
        (m,)."""
        positive, negative = self.sides
        return largest_jaccard(negative.grams, negative.starts, positive.grams, positive.starts)

    @functools.cached_property
    def best_positive(self) -> np.ndarray:
        """The highest score among the positives of each row, (n,); NaN where none is scored."""
        side = self.batch.positive
        scores = np.full(len(side.owner), np.nan) if side.scores is None else side.scores
        return best_scores(len(self.batch.number), side.owner, scores)

    def _same(self, keys: Sequence[np.ndarray]) -> np.ndarray:
        positives, negatives = (side.in_row(of_side) for side, of_side in zip(self.sides, keys, strict=True))
        return contained(negatives, np.unique(positives))


def positive_id(view: View) -> Flagged | None:
    """Negatives that are a positive of their row by the ids that stand there."""
    return Flagged(negatives=view.same_id) if all(side.has_ids for side in view.sides) else None


def positive_text(view: View) -> Flagged | None:
    """Negatives with the very text of a positive of their row."""
    return Flagged(negatives=view.identical) if view.has_texts else None


def positive_normalized(view: View) -> Flagged | None:
    """Negatives whose text differs from a positive of their row in case, width or white space alone."""
    return Flagged(negatives=view.same_text & ~view.identical) if view.has_texts else None


def positive_elsewhere(view: View) -> Flagged | None:
    """Negatives that are a positive of the same query in another row."""
    if not view.batch.known_as(view.batch.negative):
        return None
    return Flagged(negatives=view.known & ~view.same_text & ~view.same_id)


def query_as_negative(view: View) -> Flagged | None:
    """Negatives that are the query."""
    if view.batch.query is None or view.batch.negative.texts is None:
        return None
    side = view.batch.negative
    return Flagged(negatives=(side.seen == view.batch.seen[side.owner]) & (side.seen != NONE))


def judged_relevant(view: View) -> Flagged | None:
    """Negatives that judgements call relevant."""
    if view.facts.relevant is None:
        return None
    side = view.batch.negative
    return Flagged(negatives=contained(pair_keys(view.batch.id[side.owner], side.id), view.facts.relevant))


def leaked_query(view: View) -> Flagged | None:
    """Rows whose query is a query of the test set."""
    if view.facts.held_out is None or not view.batch.identities:
        return None
    if view.batch.query is None or not len(view.facts.held_out.queries):
        return Flagged(rows=contained(view.batch.id, view.facts.held_out.query_ids))
    return Flagged(rows=contained(view.batch.seen, view.facts.held_out.queries))


def leaked_document(view: View) -> Flagged | None:
    """Documents that are relevant to queries of the test set."""
    if view.facts.held_out is None or not len(view.facts.held_out.documents):
        return None
    table = view.facts.held_out.documents
    return Flagged(None, *(_any([contained(keys, table) for keys in side.identities], side) for side in view.sides))


def bad_score(view: View) -> Flagged | None:
    """Scores that are infinite or NaN."""
    return _documents(view, lambda side: side.scores is not None, lambda side: side.scored & ~np.isfinite(side.scores))


def misaligned(view: View) -> Flagged | None:
    """Rows with more or fewer scores, ids, ranks or sources than documents."""
    return Flagged(rows=view.batch.positive.misaligned | view.batch.negative.misaligned)


def missing_query(view: View) -> Flagged | None:
    """Rows whose query is null, empty or blank."""
    return None if view.batch.query is None else Flagged(rows=view.batch.seen == NONE)


def missing_text(view: View) -> Flagged | None:
    """Documents whose text is null, empty or blank."""
    return _documents(
        view, lambda side: side.texts is not None, lambda side: (side.seen == NONE) & ~(side.has_ids & side.unplaced)
    )


def unknown_id(view: View) -> Flagged | None:
    """Documents whose id is not in the corpus."""
    return _documents(view, lambda side: side.has_ids and side.place is not None, lambda side: side.unplaced)


def unknown_text(view: View) -> Flagged | None:
    """Documents without ids whose text is not in the corpus."""
    return _documents(
        view,
        lambda side: not side.has_ids and side.place is not None,
        lambda side: side.unplaced & (side.seen != NONE),
    )


def other_text(view: View) -> Flagged | None:
    """Documents whose text differs from what the corpus has under their id."""
    return _documents(
        view,
        lambda side: side.in_corpus is not None,
        lambda side: (side.exact != side.in_corpus) & (side.in_corpus != NONE) & (side.seen != NONE),
    )


def repeated_negative(view: View) -> Flagged | None:
    """Negatives that stood in the row before, by text or id."""
    return Flagged(negatives=_repeated(view.batch.negative))


def repeated_positive(view: View) -> Flagged | None:
    """Positives that stood in the row before."""
    return Flagged(positives=_repeated(view.batch.positive))


def near_duplicate(view: View) -> Flagged | None:
    """Negatives that are nearly a positive of their row."""
    if not view.has_texts:
        return None
    return Flagged(negatives=(view.overlap >= NearDuplicate().threshold) & ~view.same_text)


def above_positive(view: View) -> Flagged | None:
    """Negatives that score above every positive of their row."""
    if view.batch.positive.scores is None or view.batch.negative.scores is None:
        return None
    scores = view.batch.negative.scores
    return Flagged(negatives=np.isfinite(scores) & (scores > view.best_positive[view.batch.negative.owner]))


def no_positive(view: View) -> Flagged | None:
    """Rows without a positive."""
    return Flagged(rows=view.batch.positive.counts == 0)


def no_negative(view: View) -> Flagged | None:
    """Rows without a negative."""
    return Flagged(rows=view.batch.negative.counts == 0)


def short_row(view: View) -> Flagged | None:
    """Rows with fewer negatives than most have, and with some."""
    return Flagged(rows=(view.batch.negative.counts < view.facts.usual) & (view.batch.negative.counts > 0))


def positive_of_another(view: View) -> Flagged | None:
    """Negatives that are a positive of another query, and of no row of their query."""
    side = view.batch.negative
    if not side.identities:
        return None
    anywhere = _any([contained(keys, view.facts.positives) for keys in side.identities], side)
    return Flagged(negatives=anywhere & ~view.known & ~view.same_text & ~view.same_id)


def repeated_query(view: View) -> Flagged | None:
    """Rows whose query stands in another row too."""
    ways = view.batch.identities
    return Flagged(rows=contained(ways[0], view.facts.repeated_queries)) if ways else None


def frequent_negative(view: View) -> Flagged | None:
    """Negatives that stand in very many rows."""
    side = view.batch.negative
    return Flagged(negatives=contained(side.identities[0], view.facts.frequent)) if side.identities else None


def _any(masks: list[np.ndarray], side: Side) -> np.ndarray:
    return np.logical_or.reduce([np.zeros(len(side.owner), bool), *masks])


def _documents(view: View, told: Callable[[Side], bool], flag: Callable[[Side], np.ndarray]) -> Flagged | None:
    """Flag positives and negatives where it can be told of them; `None` where it can of neither."""
    if not any(map(told, view.sides)):
        return None
    return Flagged(None, *(flag(side) if told(side) else np.zeros(len(side.owner), bool) for side in view.sides))


def _repeated(side: Side) -> np.ndarray:
    """Documents whose text or id stood in their row before, (m,)."""
    again = np.zeros(len(side.owner), bool)
    for keys in map(side.in_row, side.identities):
        first = np.unique(keys, return_index=True)[1]
        later = np.ones(len(keys), bool)
        later[first] = False
        again |= later & (keys != NONE)
    return again
