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
    """A metric that looks documents up as they are added, and stores only what it found."""

    @abstractmethod
    def found(self, ranking: list[str], grades: dict[str, float]) -> tuple[Any, Any]:
        """What to store of a query: the two inputs of `_compute`."""

    def add_batch(self, *, predictions: Any = None, references: Any = None, **unknown: Any) -> None:
        """Adds queries."""
        pairs = [
            self.found(_ranking(ranking, query), _grades(judged, query))
            for query, ranking, judged in _aligned(predictions, references)
        ]
        super().add_batch(predictions=[one for one, _ in pairs], references=[one for _, one in pairs], **unknown)

    def add(self, *, prediction: Any = None, reference: Any = None, **unknown: Any) -> None:
        """Adds a query."""
        self.add_batch(predictions=[prediction], references=[reference], **unknown)


def _aligned(predictions: Any, references: Any) -> Iterable[tuple[Any, Any, Any]]:
    """The name, prediction and reference of each query."""
    if isinstance(predictions, Mapping) and isinstance(references, Mapping):
        unjudged = [query for query in predictions if query not in references]
        if unjudged:
            raise DataError(
                f"predictions hold {len(unjudged):,} queries that references lack, such as {unjudged[0]!r}; every "
                "query needs judgements. Leave them out of predictions."
            )
        return [(query, predictions.get(query, ()), judged) for query, judged in references.items()]
    if any(one is None or isinstance(one, (str, Mapping)) for one in (predictions, references)):
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


def _ranking(given: Any, query: Any) -> list[str]:
    if isinstance(given, Mapping):
        scores = _numbers(given, query, "scores").astype(np.float32).tolist()
        return [one for _, one in sorted(zip(scores, map(str, given), strict=True), reverse=True)]
    ids = _ids(given, query, "predictions")
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise DataError(
            f"predictions of query {query!r} hold {twice!r} {ids.count(twice)} times; a document has one rank. "
            "Keep the best of each."
        )
    return ids


def _grades(given: Any, query: Any) -> dict[str, float]:
    if isinstance(given, Mapping):
        return dict(zip(map(str, given), _numbers(given, query, "grades").tolist(), strict=True))
    return dict.fromkeys(_ids(given, query, "references"), 1.0)


def _ids(given: Any, query: Any, what: str) -> list[str]:
    if given is None or isinstance(given, str) or not isinstance(given, Iterable):
        raise DataError(
            f"{what} of query {query!r} are {given!r}; allowed are a list of ids, or a dict from id to number. "
            f"Give {[given] if isinstance(given, str) else []!r}."
        )
    return list(map(str, given))


def _numbers(given: Mapping[Any, Any], query: Any, what: str) -> np.ndarray:
    try:
        numbers = np.fromiter(given.values(), np.float64, len(given))
        wrong = np.flatnonzero(np.isnan(numbers))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{what} of query {query!r} cannot be read as numbers ({error}); allowed are int and float. Convert them."
        ) from error
    if len(wrong):
        raise DataError(
            f"{what} of query {query!r} have NaN, for {list(given)[wrong[0]]!r}; allowed are numbers. Leave it out."
        )
    return numbers
