"""What metrics of judged documents read: rankings and judgements, as lists or as the dicts of trec_eval."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import evaluate
import numpy as np

from hf_hardneg.errors import DataError

INPUTS = """
Args:
    predictions: of each query the ids of documents, best first; or a dict from id to score, ranked as trec_eval does:
        by score as float32, and of equal scores the id that sorts last comes first.
    references: of each query the ids of its relevant documents; or a dict from id to grade.
    Or both are dicts from query to one of these. A query without prediction then has an empty ranking, where trec_eval
    leaves it out unless told `-c`.
"""


class JudgedMetric(evaluate.Metric, ABC):  # type: ignore[misc]
    """A metric that looks documents up as they are added, and stores only the figures of each query."""

    @abstractmethod
    def figures_of(self, ranking: list[str], grades: dict[str, float]) -> tuple[Any, Any]:
        """Return what is stored of a query: the two inputs of `_compute`."""

    def add_batch(self, *, predictions: Any = None, references: Any = None, **unknown: Any) -> None:
        """Add queries."""
        stored = [
            self.figures_of(_ranking(ranking, query), _grades(judged, query))
            for query, ranking, judged in _aligned(predictions, references)
        ]
        inputs = {"predictions": [first for first, _ in stored], "references": [second for _, second in stored]}
        super().add_batch(**inputs, **unknown)

    def add(self, *, prediction: Any = None, reference: Any = None, **unknown: Any) -> None:
        """Add a query."""
        self.add_batch(predictions=[prediction], references=[reference], **unknown)


def _aligned(predictions: Any, references: Any) -> Iterable[tuple[Any, Any, Any]]:
    """Pair the two inputs: the name, prediction and reference of each query.

    Raises:
        DataError: they are in different forms, or a query has only one of both.
    """
    if isinstance(predictions, Mapping) and isinstance(references, Mapping):
        unjudged = [query for query in predictions if query not in references]
        if unjudged:
            raise DataError(
                f"predictions hold {len(unjudged):,} queries that references lack, such as {unjudged[0]!r}; every "
                "query needs judgements. Leave them out of predictions."
            )
        return [(query, predictions.get(query, ()), judged) for query, judged in references.items()]
    if any(side is None or isinstance(side, (str, Mapping)) for side in (predictions, references)):
        raise DataError(
            f"predictions are a {type(predictions).__name__}, references a {type(references).__name__}; both must be "
            "lists with an entry for each query, or both dicts from query to entry. Give both in the same form."
        )
    if len(predictions) != len(references):
        raise DataError(
            f"{len(predictions):,} predictions for {len(references):,} references; each query needs one of both. "
            "Give an empty list to a query without documents."
        )
    return zip(range(len(references)), predictions, references, strict=True)


def _ranking(prediction: Any, query: Any) -> list[str]:
    """Rank the documents of a prediction as trec_eval does, best first."""
    if isinstance(prediction, Mapping):
        scores = _numbers(prediction, query, "scores").astype(np.float32).tolist()
        return [document for _, document in sorted(zip(scores, map(str, prediction), strict=True), reverse=True)]
    ids = _ids(prediction, query, "predictions")
    if len(set(ids)) < len(ids):
        twice = next(document for document in ids if ids.count(document) > 1)
        raise DataError(
            f"predictions of query {query!r} hold {twice!r} {ids.count(twice)} times; a document has one rank. "
            "Keep the best of each."
        )
    return ids


def _grades(reference: Any, query: Any) -> dict[str, float]:
    """Read the grade of each judged document; documents of a list have grade 1."""
    if isinstance(reference, Mapping):
        return dict(zip(map(str, reference), _numbers(reference, query, "grades").tolist(), strict=True))
    return dict.fromkeys(_ids(reference, query, "references"), 1.0)


def _ids(documents: Any, query: Any, what: str) -> list[str]:
    if documents is None or isinstance(documents, str) or not isinstance(documents, Iterable):
        raise DataError(
            f"{what} of query {query!r} are {documents!r}; allowed are a list of ids, or a dict from id to number. "
            f"Give {[documents] if isinstance(documents, str) else []!r}."
        )
    return list(map(str, documents))


def _numbers(by_document: Mapping[Any, Any], query: Any, what: str) -> np.ndarray:
    try:
        numbers = np.fromiter(by_document.values(), np.float64, len(by_document))
        wrong = np.flatnonzero(np.isnan(numbers))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{what} of query {query!r} cannot be read as numbers ({error}); allowed are int and float. Convert them."
        ) from error
    if len(wrong):
        raise DataError(
            f"{what} of query {query!r} have NaN, for {list(by_document)[wrong[0]]!r}; allowed are numbers. "
            "Leave it out."
        )
    return numbers
