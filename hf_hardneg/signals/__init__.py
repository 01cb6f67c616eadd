"""Signals: what else is known of a candidate besides its score. A signal is a configuration; bound, it computes.

The rescoring step computes the signals of all filters and samplers over all candidates, so that filters stay functions
of `Candidates` alone. To add one, write both classes in a module of its name and name it in the `signals` of what reads
it.
"""

from __future__ import annotations

from hf_hardneg.signals.answer_match import AnswerMatch
from hf_hardneg.signals.base import BoundSignal, Context, Signal
from hf_hardneg.signals.overlap import Overlap, words
from hf_hardneg.signals.parent_match import ParentMatch
from hf_hardneg.signals.pool_share import POOL, SMALLEST_POOL, PoolShare, shares_of_pool
from hf_hardneg.signals.positive_similarity import PositiveSimilarity
from hf_hardneg.signals.query_match import QueryMatch
from hf_hardneg.signals.representativeness import Representativeness, Uncertainty
from hf_hardneg.signals.second_score import SecondScore
from hf_hardneg.signals.topics import SameTopic

__all__ = [
    "AnswerMatch",
    "BoundSignal",
    "Context",
    "Overlap",
    "POOL",
    "ParentMatch",
    "PoolShare",
    "PositiveSimilarity",
    "QueryMatch",
    "Representativeness",
    "SMALLEST_POOL",
    "SameTopic",
    "SecondScore",
    "Signal",
    "Uncertainty",
    "shares_of_pool",
    "words",
]
