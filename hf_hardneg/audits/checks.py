"""The table of checks. To add a check, write its function in `finders.py` and list it in `CHECKS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hf_hardneg.audits import finders
from hf_hardneg.audits.finders import Flagged, View
from hf_hardneg.filters import NearDuplicate

Severity = Literal["error", "warning", "note"]


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
    find: Callable[[View], Flagged | None]
    needs: str = "texts or ids"


_DROP = "Drop these negatives; trained on, they push the query away from a right answer."

CHECKS: dict[str, Check] = {
    "positive_id": Check(
        severity="error",
        says="negatives with the id of a positive of their row",
        todo=_DROP,
        find=finders.positive_id,
        needs="ids",
    ),
    "positive_text": Check(
        severity="error",
        says="negatives with the text of a positive of their row",
        todo=_DROP,
        find=finders.positive_text,
        needs="texts",
    ),
    "positive_normalized": Check(
        severity="error",
        says="negatives with the text of a positive of their row, but for case, width or white space",
        todo=_DROP,
        find=finders.positive_normalized,
        needs="texts",
    ),
    "positive_elsewhere": Check(
        severity="error",
        says="negatives that are a positive of the same query in another row",
        todo="Drop them; mine with the positives of all rows excluded, as mine() does.",
        find=finders.positive_elsewhere,
    ),
    "query_as_negative": Check(
        severity="error",
        says="negatives that are the query itself",
        todo="Drop them; they teach that a text is unlike itself.",
        find=finders.query_as_negative,
        needs="texts",
    ),
    "judged_relevant": Check(
        severity="error",
        says="negatives that the judgements call relevant",
        todo=_DROP,
        find=finders.judged_relevant,
        needs="qrels=, and ids of queries and documents (or corpus= and queries= to look them up)",
    ),
    "leaked_query": Check(
        severity="error",
        says="rows whose query is a query of the test set",
        todo="Drop these rows; a score on that test set means nothing after training on them.",
        find=finders.leaked_query,
        needs="test_queries=, or splits beside the one audited",
    ),
    "leaked_document": Check(
        severity="warning",
        says="documents that are relevant to a query of the test set",
        todo="As negatives they are trained to rank low: drop those. As positives they may stay where train and test "
        "share a corpus.",
        find=finders.leaked_document,
        needs="test_queries=, or splits beside the one audited, with positives or qrels=",
    ),
    "bad_score": Check(
        severity="error",
        says="scores that are infinite or NaN",
        todo="Drop these documents, or score them again; one such number makes a loss NaN.",
        find=finders.bad_score,
        needs="scores",
    ),
    "misaligned": Check(
        severity="error",
        says="rows with more or fewer scores, labels or ids than documents",
        todo="Drop these rows, or that column; a loader pairs the wrong ones, or stops.",
        find=finders.misaligned,
    ),
    "missing_query": Check(
        severity="error",
        says="rows whose query is null, blank, or an id that no table has",
        todo="Drop these rows, or fill them.",
        find=finders.missing_query,
        needs="texts of queries",
    ),
    "missing_text": Check(
        severity="error",
        says="documents whose text is null or blank",
        todo="Drop these documents, or fill them.",
        find=finders.missing_text,
        needs="texts",
    ),
    "unknown_id": Check(
        severity="error",
        says="documents whose id is not in the corpus",
        todo="Give the corpus that was mined, or drop them.",
        find=finders.unknown_id,
        needs="ids, and corpus=",
    ),
    "unknown_text": Check(
        severity="warning",
        says="documents whose text is not in the corpus",
        todo="Look whether they were cut or changed after mining, or written by a model.",
        find=finders.unknown_text,
        needs="corpus=, and rows without ids",
    ),
    "other_text": Check(
        severity="warning",
        says="documents whose text differs from the corpus's under the same id",
        todo="Look whether a title, a prompt or another version of the corpus is the reason.",
        find=finders.other_text,
        needs="texts and ids, and corpus=",
    ),
    "repeated_negative": Check(
        severity="warning",
        says="negatives that stand in their row already",
        todo="Drop the copies; they count twice in the loss.",
        find=finders.repeated_negative,
    ),
    "repeated_positive": Check(
        severity="warning",
        says="positives that stand in their row already",
        todo="Drop the copies; such a row stands more than once in an epoch.",
        find=finders.repeated_positive,
    ),
    "near_duplicate": Check(
        severity="warning",
        says=f"negatives with a Jaccard similarity of {NearDuplicate().threshold:g} to a positive, by word 3-grams",
        todo="Drop those that say the same; mine with NearDuplicate().",
        find=finders.near_duplicate,
        needs="texts",
    ),
    "above_positive": Check(
        severity="note",
        says="negatives that score above every positive of their row",
        todo="A score of retrieval does not tell unlabelled positives: give a judge=, or look at some of them.",
        find=finders.above_positive,
        needs="scores of positives and negatives",
    ),
    "no_positive": Check(
        severity="warning",
        says="rows without a positive",
        todo="Drop them; nothing can be learnt from negatives alone.",
        find=finders.no_positive,
    ),
    "no_negative": Check(
        severity="warning",
        says="rows without a negative",
        todo="Drop them where the trainer needs one (FlagEmbedding, Tevatron), or train them with in-batch negatives.",
        find=finders.no_negative,
    ),
    "short_row": Check(
        severity="note",
        says="rows with fewer negatives than most have",
        todo="Nothing, where the trainer takes rows of any length; else mine deeper or ask for fewer.",
        find=finders.short_row,
    ),
    "positive_of_another": Check(
        severity="note",
        says="negatives that are a positive of another query",
        todo="Right for triplet losses. In-batch losses meet them as positives too: mask by text or id.",
        find=finders.positive_of_another,
    ),
    "repeated_query": Check(
        severity="note",
        says="rows whose query stands in another row too",
        todo="In-batch losses take the other row's positive for a negative: join the rows, or part them.",
        find=finders.repeated_query,
        needs="queries",
    ),
    "frequent_negative": Check(
        severity="note",
        says="negatives whose text stands in ten rows and 1 % of all",
        todo="Look at the most repeated: boilerplate, a hub of the model, or random filling of short rows.",
        find=finders.frequent_negative,
    ),
}
"""Every check by its name, errors first."""
