"""The table of checks: functions from a view of a batch to flags of what is wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hf_hardneg.audits.audited_rows import Side
from hf_hardneg.audits.views import Flagged, View
from hf_hardneg.filters import NearDuplicate
from hf_hardneg.text.hashes import NONE, contained, pair_keys

Severity = Literal["error", "warning", "note"]
Finder = Callable[[View], Flagged | None]
CHECKS: dict[str, Check] = {}
_DROP = "Drop these negatives; trained on, they push the query away from a right answer."


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that can be wrong with a dataset.

    Args:
        severity (`str`): an `"error"` is certainly wrong, a `"warning"` likely, a `"note"` worth knowing.
        says (`str`): what it finds, as a plural noun.
        todo (`str`): what to do about it.
        needs (`str`): what it needs to know.
        find (`Callable[[View], Flagged | None]`): marks where it is; `None` where that cannot be told.
    """

    severity: Severity
    says: str
    todo: str
    needs: str
    find: Finder


def check(severity: Severity, says: str, todo: str, *, needs: str = "texts or ids") -> Callable[[Finder], Finder]:
    """List a function in `CHECKS` under its name; see `Check`."""

    def listed(find: Finder) -> Finder:
        CHECKS[find.__name__] = Check(severity=severity, says=says, todo=todo, needs=needs, find=find)
        return find

    return listed


@check("error", "negatives with the id of a positive of their row", _DROP, needs="ids")
def positive_id(view: View) -> Flagged | None:
    """Negatives that are a positive of their row by the ids that stand there."""
    return Flagged(negatives=view.same_id) if all(side.has_ids for side in view.sides) else None


@check("error", "negatives with the text of a positive of their row", _DROP, needs="texts")
def positive_text(view: View) -> Flagged | None:
    """Negatives with the very text of a positive of their row."""
    return Flagged(negatives=view.identical) if view.has_texts else None


@check(
    "error",
    "negatives with the text of a positive of their row, but for case, width or white space",
    _DROP,
    needs="texts",
)
def positive_normalized(view: View) -> Flagged | None:
    """Negatives whose text differs from a positive of their row in case, width or white space alone."""
    return Flagged(negatives=view.same_text & ~view.identical) if view.has_texts else None


@check(
    "error",
    "negatives that are a positive of the same query in another row",
    "Drop them; mine with the positives of all rows excluded, as mine() does.",
)
def positive_elsewhere(view: View) -> Flagged | None:
    """Negatives that are a positive of the same query in another row."""
    if not view.batch.known_as(view.batch.negative):
        return None
    return Flagged(negatives=view.known & ~view.same_text & ~view.same_id)


@check(
    "error", "negatives that are the query itself", "Drop them; they teach that a text is unlike itself.", needs="texts"
)
def query_as_negative(view: View) -> Flagged | None:
    """Negatives that are the query."""
    if view.batch.query is None or view.batch.negative.texts is None:
        return None
    side = view.batch.negative
    return Flagged(negatives=(side.seen == view.batch.seen[side.owner]) & (side.seen != NONE))


@check(
    "error",
    "negatives that the judgements call relevant",
    _DROP,
    needs="qrels=, and ids of queries and documents (or corpus= and queries= to look them up)",
)
def judged_relevant(view: View) -> Flagged | None:
    """Negatives that judgements call relevant."""
    if view.facts.relevant is None:
        return None
    side = view.batch.negative
    return Flagged(negatives=contained(pair_keys(view.batch.id[side.owner], side.id), view.facts.relevant))


@check(
    "error",
    "rows whose query is a query of the test set",
    "Drop these rows; a score on that test set means nothing after training on them.",
    needs="test_queries=, or splits beside the one audited",
)
def leaked_query(view: View) -> Flagged | None:
    """Rows whose query is a query of the test set."""
    if view.facts.held_out is None or not view.batch.identities:
        return None
    if view.batch.query is None or not len(view.facts.held_out.queries):
        return Flagged(rows=contained(view.batch.id, view.facts.held_out.query_ids))
    return Flagged(rows=contained(view.batch.seen, view.facts.held_out.queries))


@check(
    "warning",
    "documents that are relevant to a query of the test set",
    "As negatives they are trained to rank low: drop those. As positives they may stay where train and test "
    "share a corpus.",
    needs="test_queries=, or splits beside the one audited, with positives or qrels=",
)
def leaked_document(view: View) -> Flagged | None:
    """Documents that are relevant to queries of the test set."""
    if view.facts.held_out is None or not len(view.facts.held_out.documents):
        return None
    table = view.facts.held_out.documents
    return Flagged(None, *(side.any_of([contained(keys, table) for keys in side.identities]) for side in view.sides))


@check(
    "error",
    "scores that are infinite or NaN",
    "Drop these documents, or score them again; one such number makes a loss NaN.",
    needs="scores",
)
def bad_score(view: View) -> Flagged | None:
    """Scores that are infinite or NaN."""
    return _documents(view, lambda side: side.scores is not None, lambda side: side.scored & ~np.isfinite(side.scores))


@check(
    "error",
    "rows with more or fewer scores, labels or ids than documents",
    "Drop these rows, or that column; a loader pairs the wrong ones, or stops.",
)
def misaligned(view: View) -> Flagged | None:
    """Rows with more or fewer scores, ids, ranks or sources than documents."""
    return Flagged(rows=view.batch.positive.misaligned | view.batch.negative.misaligned)


@check(
    "error",
    "rows whose query is null, blank, or an id that no table has",
    "Drop these rows, or fill them.",
    needs="texts of queries",
)
def missing_query(view: View) -> Flagged | None:
    """Rows whose query is null, empty or blank."""
    return None if view.batch.query is None else Flagged(rows=view.batch.seen == NONE)


@check("error", "documents whose text is null or blank", "Drop these documents, or fill them.", needs="texts")
def missing_text(view: View) -> Flagged | None:
    """Documents whose text is null, empty or blank."""
    return _documents(
        view, lambda side: side.texts is not None, lambda side: (side.seen == NONE) & ~(side.has_ids & side.unplaced)
    )


@check(
    "error",
    "documents whose id is not in the corpus",
    "Give the corpus that was mined, or drop them.",
    needs="ids, and corpus=",
)
def unknown_id(view: View) -> Flagged | None:
    """Documents whose id is not in the corpus."""
    return _documents(view, lambda side: side.has_ids and side.place is not None, lambda side: side.unplaced)


@check(
    "warning",
    "documents whose text is not in the corpus",
    "Look whether they were cut or changed after mining, or written by a model.",
    needs="corpus=, and rows without ids",
)
def unknown_text(view: View) -> Flagged | None:
    """Documents without ids whose text is not in the corpus."""
    return _documents(
        view, lambda side: not side.has_ids and side.place is not None, lambda side: side.unplaced & (side.seen != NONE)
    )


@check(
    "warning",
    "documents whose text differs from the corpus's under the same id",
    "Look whether a title, a prompt or another version of the corpus is the reason.",
    needs="texts and ids, and corpus=",
)
def other_text(view: View) -> Flagged | None:
    """Documents whose text differs from what the corpus has under their id."""
    return _documents(
        view,
        lambda side: side.in_corpus is not None,
        lambda side: (side.exact != side.in_corpus) & (side.in_corpus != NONE) & (side.seen != NONE),
    )


@check("warning", "negatives that stand in their row already", "Drop the copies; they count twice in the loss.")
def repeated_negative(view: View) -> Flagged | None:
    """Negatives that stood in the row before, by text or id."""
    return Flagged(negatives=_repeated(view.batch.negative))


@check(
    "warning",
    "positives that stand in their row already",
    "Drop the copies; such a row stands more than once in an epoch.",
)
def repeated_positive(view: View) -> Flagged | None:
    """Positives that stood in the row before."""
    return Flagged(positives=_repeated(view.batch.positive))


@check(
    "warning",
    f"negatives with a Jaccard similarity of {NearDuplicate().threshold:g} to a positive, by word 3-grams",
    "Drop those that say the same; mine with NearDuplicate().",
    needs="texts",
)
def near_duplicate(view: View) -> Flagged | None:
    """Negatives that are nearly a positive of their row."""
    if not view.has_texts:
        return None
    return Flagged(negatives=(view.overlap >= NearDuplicate().threshold) & ~view.same_text)


@check(
    "note",
    "negatives that score above every positive of their row",
    "A score of retrieval does not tell unlabelled positives: give a judge=, or look at some of them.",
    needs="scores of positives and negatives",
)
def above_positive(view: View) -> Flagged | None:
    """Negatives that score above every positive of their row."""
    if view.batch.positive.scores is None or view.batch.negative.scores is None:
        return None
    scores = view.batch.negative.scores
    return Flagged(negatives=np.isfinite(scores) & (scores > view.best_positive[view.batch.negative.owner]))


@check("warning", "rows without a positive", "Drop them; nothing can be learnt from negatives alone.")
def no_positive(view: View) -> Flagged | None:
    """Rows without a positive."""
    return Flagged(rows=view.batch.positive.counts == 0)


@check(
    "warning",
    "rows without a negative",
    "Drop them where the trainer needs one (FlagEmbedding, Tevatron), or train them with in-batch negatives.",
)
def no_negative(view: View) -> Flagged | None:
    """Rows without a negative."""
    return Flagged(rows=view.batch.negative.counts == 0)


@check(
    "note",
    "rows with fewer negatives than most have",
    "Nothing, where the trainer takes rows of any length; else mine deeper or ask for fewer.",
)
def short_row(view: View) -> Flagged | None:
    """Rows with fewer negatives than most have, and with some."""
    return Flagged(rows=(view.batch.negative.counts < view.facts.usual) & (view.batch.negative.counts > 0))


@check(
    "note",
    "negatives that are a positive of another query",
    "Right for triplet losses. In-batch losses meet them as positives too: mask by text or id.",
)
def positive_of_another(view: View) -> Flagged | None:
    """Negatives that are a positive of another query, and of no row of their query."""
    side = view.batch.negative
    if not side.identities:
        return None
    anywhere = side.any_of([contained(keys, view.facts.positives) for keys in side.identities])
    return Flagged(negatives=anywhere & ~view.known & ~view.same_text & ~view.same_id)


@check(
    "note",
    "rows whose query stands in another row too",
    "In-batch losses take the other row's positive for a negative: join the rows, or part them.",
    needs="queries",
)
def repeated_query(view: View) -> Flagged | None:
    """Rows whose query stands in another row too."""
    ways = view.batch.identities
    return Flagged(rows=contained(ways[0], view.facts.repeated_queries)) if ways else None


@check(
    "note",
    "negatives whose text stands in ten rows and 1 % of all",
    "Look at the most repeated: boilerplate, a hub of the model, or random filling of short rows.",
)
def frequent_negative(view: View) -> Flagged | None:
    """Negatives that stand in very many rows."""
    side = view.batch.negative
    return Flagged(negatives=contained(side.identities[0], view.facts.frequent)) if side.identities else None


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
