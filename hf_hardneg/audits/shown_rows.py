"""Rows as the page shows them: plain values, of which every text stays a text."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.audits.orders import ORDERS, Order, judge_column
from hf_hardneg.audits.verdict_log import HumanVerdict, VerdictLog, keys_of_pairs
from hf_hardneg.audits.verdicts import pair_columns, pair_keys_of
from hf_hardneg.audits.word_marks import marked, terms_of
from hf_hardneg.corpus.columns import Columns
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.formats.images import with_names
from hf_hardneg.text.hashes import NONE

if TYPE_CHECKING:
    from datasets import Dataset

LOOKED_AT = 64
"""Rows that are asked at a time whether they are judged."""
MOST_POSITIVES = 20
"""Positives that a row shows, of all it lists."""
BESIDE = ("negative_ids", "negative_scores", "negative_ranks", "negative_sources")
NOT_STEPS = ("retrieved", "kept", "short", "search_recall", "inconsistent")
"""Fields of the column `mining` that count no candidates of a stage."""


@dataclass(frozen=True, kw_only=True)
class ShownRows:
    """Mined rows, read one at a time from where they are mapped, with what people said of them.

    Args:
        mined (`Dataset`): the rows.
        columns (`PairColumns`): names of the columns of queries and positives.
        log (`VerdictLog`): the verdicts.
    """

    mined: Dataset
    columns: PairColumns
    log: VerdictLog

    @classmethod
    def of(cls, mined: Dataset, columns: Columns | None, log: VerdictLog) -> ShownRows:
        """Open rows.

        Raises:
            ColumnError: they have no queries or negatives.
        """
        names = pair_columns(mined, columns)
        wanted = [names.query, names.query_id, names.positive, "negatives", *BESIDE, "positive_scores", "mining"]
        judge = judge_column(mined)
        shown = [name for name in [*wanted, judge] if name in mined.column_names]
        rows = with_names(mined.select_columns(shown), (names.query, names.positive))
        return cls(mined=rows.with_format(None), columns=names, log=log)

    def order(self, name: str) -> Order:
        """Return an order by its name in `ORDERS`; it is found once."""
        return self._orders[name] if name in self._orders else self._ordered(name)

    def _ordered(self, name: str) -> Order:
        self._orders[name] = ORDERS[name](self.mined, self.columns.query)
        return self._orders[name]

    @functools.cached_property
    def _orders(self) -> dict[str, Order]:
        return {}

    def first_open(self, name: str, start: int) -> int | None:
        """Find the first of an order, from a place on, with a negative that nobody judged; `None` where none is."""
        order = self.order(name)
        for begin in range(max(start, 0), len(order.row), LOOKED_AT):
            rows, places = (part[begin : begin + LOOKED_AT] for part in (order.row, order.place))
            is_open = self._are_open(rows, places if order.alone else None)
            if is_open.any():
                return begin + int(is_open.argmax())
        return None

    def _are_open(self, rows: np.ndarray, places: np.ndarray | None) -> np.ndarray:
        """Mask rows (n,) with a negative that nobody judged; where there are places, only the negative there counts."""
        keys, counts = pair_keys_of(self.mined.with_format("arrow")[rows.tolist()], self.columns.query)
        judged = np.fromiter((key in self.log.last for key in keys.tolist()), bool, len(keys))
        owner, inside = spread(counts)
        asked = ~judged & (keys != NONE) & ((inside == places[owner]) if places is not None else True)
        return np.bincount(owner[asked], minlength=len(rows)) > 0

    def units(self, name: str, start: int, count: int) -> list[dict[str, Any]]:
        """Show what an order has from a place on: a row each, and which of its negatives is asked about."""
        order = self.order(name)
        ends = slice(max(start, 0), max(start, 0) + count)
        pairs = zip(order.row[ends].tolist(), order.place[ends].tolist(), strict=True)
        return [{**self.shown(row), "place": place, "alone": order.alone} for row, place in pairs]

    def shown(self, number: int) -> dict[str, Any]:
        """Show a row: its query, positives and negatives with their marks, scores and verdicts, and its funnel."""
        row = self.mined[number]
        query, positives, negatives = str(row[self.columns.query]), self._positives(row), list(row["negatives"] or ())
        asked, known = terms_of(query), [terms_of(text) for text in positives[:MOST_POSITIVES]]
        scores = _aligned(row.get("positive_scores"), len(positives))
        best = max((score for score in scores if score is not None), default=None)
        nearest = frozenset[str]().union(*known) if known else frozenset[str]()
        keys = self._keys(query, negatives)
        judge = judge_column(self.mined)
        beside = {name: _aligned(row.get(name), len(negatives)) for name in (*BESIDE, *([judge] if judge else ()))}
        return {
            "row": number,
            "query": query,
            "listed": len(positives),
            "positives": [
                {"runs": marked(text, asked, ()), "score": score}
                for text, score in list(zip(positives, scores, strict=True))[:MOST_POSITIVES]
            ],
            "negatives": [
                {
                    "runs": marked(text, asked, nearest),
                    "id": _text(beside["negative_ids"][place]),
                    "score": beside["negative_scores"][place],
                    "rank": beside["negative_ranks"][place],
                    "source": _text(beside["negative_sources"][place]),
                    "judge": beside[judge][place] if judge else None,
                    "ratio": _ratio(beside["negative_scores"][place], best),
                    "verdict": self.log.score(keys[place]),
                }
                for place, text in enumerate(negatives)
            ],
            "funnel": _funnel(row.get("mining")),
        }

    def _positives(self, row: Mapping[str, Any]) -> list[str]:
        texts = row.get(self.columns.positive) or []
        return [texts] if isinstance(texts, str) else [str(text) for text in texts]

    def _keys(self, query: str, negatives: Sequence[str]) -> list[int]:
        return keys_of_pairs([query] * len(negatives), list(negatives)).tolist()

    def verdict(self, number: int, place: int, score: int | None, *, drawn: bool) -> tuple[int, HumanVerdict] | None:
        """Put what was said of a negative into words; `None` where there is no such negative, or it shows nothing."""
        if not 0 <= number < len(self.mined):
            return None
        row = self.mined[number]
        negatives, query = list(row["negatives"] or ()), str(row[self.columns.query])
        if not 0 <= place < len(negatives):
            return None
        key = self._keys(query, negatives)[place]
        if key == int(NONE):
            return None
        before = self.log.last.get(key)
        verdict = HumanVerdict(
            query_id=_text(row.get(self.columns.query_id)) or query,
            corpus_id=_text(_aligned(row.get("negative_ids"), len(negatives))[place]),
            score=score,
            query=query,
            document=str(negatives[place]),
            row=number,
            place=place,
            drawn=drawn or bool(before and before.drawn),
        )
        return key, verdict


def _aligned(values: Any, size: int) -> list[Any]:
    """Return a list of values of so many documents, with nothing where one is missing or is no finite number."""
    several = [values] if isinstance(values, int | float | str) else list(values or ())
    cut = [*several, *[None] * size][:size]
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in cut]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _ratio(score: float | None, best: float | None) -> float | None:
    return None if score is None or not best or best <= 0 else score / best


def _funnel(counts: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """List what mining retrieved for the query, what each stage removed, and what was kept."""
    steps = counts or {}
    removed = [{"step": name, "count": count} for name, count in steps.items() if name not in NOT_STEPS]
    ends = [{"step": name, "count": steps[name]} for name in ("retrieved", "kept") if steps.get(name) is not None]
    return [*ends[:1], *removed, *ends[1:]]
