"""A softmax over scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.errors import ConfigError
from hf_hardneg.runtime.arguments import AboveZero, AtLeastOne, check_fields
from hf_hardneg.samplers.base import Weighted, refuse_unscored


@dataclass(frozen=True)
class Importance(Weighted):
    """A softmax over the candidates' scores, `p ~ exp(s / temperature)`.

    In proportion to what InfoNCE would make of each; not the sampler of Wu et al., which is `DistanceWeighted`.

    Refreshed negatives may become harder from generation to generation, as a curriculum: the temperature then goes from
    `temperature` of the first mining to `last_temperature` of generation `generations`, by the same factor each time,
    and stays there.

    Args:
        temperature (`float`, defaults to 0.1): in units of the scores; near 0 the best-ranked are taken.
        last_temperature (`float`, *optional*): by default the same in all generations of a `Refresher`.
        generations (`int`, *optional*): the one that has the last temperature first, such as 5.

    Raises:
        ConfigError: one of the last two without the other.
    """

    temperature: AboveZero = 0.1
    last_temperature: AboveZero | None = None
    generations: AtLeastOne | None = None
    name: ClassVar[str] = "importance"

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.last_temperature is None) != (self.generations is None):
            raise ConfigError(
                f"Importance(last_temperature={self.last_temperature}, generations={self.generations}): a temperature "
                "that changes needs both. Give both, such as 0.02 and 5, or neither."
            )

    def at(self, generation: int) -> Importance:
        """The same with the temperature of a generation alone."""
        if self.last_temperature is None or self.generations is None:
            return self
        share = min(generation / self.generations, 1.0)
        temperature = self.temperature * (self.last_temperature / self.temperature) ** share
        return replace(self, temperature=temperature, last_temperature=None, generations=None)

    def check_kind(self, score_kind: str) -> None:
        """Raise for candidates without scores."""
        refuse_unscored("Importance", score_kind)

    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """See `Weighted`."""
        return candidates.score / self.temperature
