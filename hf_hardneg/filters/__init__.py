"""Filters: which candidates may stay. Each is a frozen dataclass with one method, `keep`.

To add one, write the class in the module of its family and list it in `FILTERS`; the contract tests run over that
table.
"""

from __future__ import annotations

from hf_hardneg.filters.base import Filter, ScoringFilter, of_positive, share_of
from hf_hardneg.filters.consistent_positive import ConsistentPositive
from hf_hardneg.filters.denoised import Denoised
from hf_hardneg.filters.likely_positives import (
    ContainsAnswer,
    Disagreement,
    NearDuplicate,
    NearQuery,
    SameParent,
    TooSimilar,
)
from hf_hardneg.filters.rank_and_score import AbsoluteMargin, RankWindow, RelativeMargin, ScoreBounds, SemiHard

__all__ = [
    "AbsoluteMargin",
    "ConsistentPositive",
    "ContainsAnswer",
    "Denoised",
    "Disagreement",
    "FILTERS",
    "Filter",
    "NearDuplicate",
    "NearQuery",
    "RankWindow",
    "RelativeMargin",
    "SameParent",
    "ScoreBounds",
    "ScoringFilter",
    "SemiHard",
    "TooSimilar",
    "of_positive",
    "share_of",
]

_OF_RANK_AND_SCORE = (RankWindow, AbsoluteMargin, RelativeMargin, ScoreBounds, SemiHard, ConsistentPositive)
_OF_LIKELY_POSITIVES = (TooSimilar, Disagreement, NearQuery, NearDuplicate, ContainsAnswer, SameParent, Denoised)
FILTERS: dict[str, type[Filter]] = {each.name: each for each in (*_OF_RANK_AND_SCORE, *_OF_LIKELY_POSITIVES)}
"""Every filter by its name."""
