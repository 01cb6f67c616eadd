"""UnReMix: similar, uncertain and representative candidates."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.draws import largest
from hf_hardneg.errors import ConfigError
from hf_hardneg.runtime.arguments import AboveZero, ZeroOrMore, check_fields
from hf_hardneg.samplers.base import Uniforms, Weighted, refuse_unscored
from hf_hardneg.signals import Signal
from hf_hardneg.signals.representativeness import Representativeness, Uncertainty


@dataclass(frozen=True)
class UnReMix(Weighted):
    """Candidates that are similar, uncertain and representative (arXiv 2206.01197), by a weighted sum of the three.

    Each is scaled to 0 to 1 over the query's candidates; one that cannot be told counts as 0. See
    `hf_hardneg.signals.representativeness` for what they are. The weights are ours: the paper's could not be verified.

    Args:
        similarity, uncertainty, representativeness (`float`, default to 1/3): weights.
        temperature (`float`, defaults to 0.5): of the softmax that uncertainty is taken from.
        draw_temperature (`float`, *optional*): draws by `exp(sum / draw_temperature)`; by default the highest sums are
            taken.
    """

    similarity: ZeroOrMore = 1 / 3
    uncertainty: ZeroOrMore = 1 / 3
    representativeness: ZeroOrMore = 1 / 3
    _: KW_ONLY
    temperature: AboveZero = 0.5
    draw_temperature: AboveZero | None = None
    name: ClassVar[str] = "unremix"

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.similarity + self.uncertainty + self.representativeness > 0:
            raise ConfigError(
                "UnReMix(similarity=0, uncertainty=0, representativeness=0) weighs nothing, so all candidates are "
                "alike; one weight must be above 0. Give one, or draw with Uniform()."
            )

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The two components that are no score."""
        return (Uncertainty(self.temperature), Representativeness())

    def check_kind(self, score_kind: str) -> None:
        """Raise for candidates without scores."""
        refuse_unscored("UnReMix", score_kind)

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of the highest sums of each query, or of a keyed sample."""
        if self.draw_temperature is None:
            return largest(self.sums(candidates), size, candidates.offsets())
        return super().choose(candidates, size, uniforms)

    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """See `Weighted`."""
        return self.sums(candidates) / (self.draw_temperature or 1.0)

    def sums(self, candidates: Candidates) -> np.ndarray:
        """The weighted sum for each candidate, (n,) float64."""
        first, second = (candidates.signals[signal.name] for signal in self.signals)
        return (
            self.similarity * _min_max(candidates.score, candidates)
            + self.uncertainty * _min_max(first, candidates)
            + self.representativeness * _min_max(second, candidates)
        )


def _min_max(values: np.ndarray, candidates: Candidates) -> np.ndarray:
    """Values scaled to 0 to 1 over each query's candidates; 0 where they are all alike, or NaN."""
    low, high = np.full(candidates.queries, np.inf), np.full(candidates.queries, -np.inf)
    np.fmin.at(low, candidates.query, values)
    np.fmax.at(high, candidates.query, values)
    low, high = low[candidates.query], high[candidates.query]
    scaled = np.divide(values - low, high - low, out=np.zeros(len(values)), where=high > low)
    return np.nan_to_num(scaled)
