"""Samplers: which of the remaining candidates become negatives. Each is a frozen dataclass with one method, `choose`.

To add one, write the class in a module of its name, a `Weighted` where it draws by weights, and list it in `SAMPLERS`;
the contract tests run over that table.
"""

from __future__ import annotations

from hf_hardneg.samplers.base import Sampler, Uniforms, Weighted
from hf_hardneg.samplers.distance_weighted import DistanceWeighted
from hf_hardneg.samplers.importance import Importance
from hf_hardneg.samplers.mixture import Mixture
from hf_hardneg.samplers.rank_zone import RankZone
from hf_hardneg.samplers.simans import SimANS
from hf_hardneg.samplers.stratified import Stratified
from hf_hardneg.samplers.top import Top
from hf_hardneg.samplers.topic_negatives import TopicNegatives
from hf_hardneg.samplers.uniform import Uniform
from hf_hardneg.samplers.unremix import UnReMix

__all__ = [
    "DistanceWeighted",
    "Importance",
    "Mixture",
    "RankZone",
    "SAMPLERS",
    "Sampler",
    "SimANS",
    "Stratified",
    "Top",
    "TopicNegatives",
    "UnReMix",
    "Uniform",
    "Uniforms",
    "Weighted",
]

_EVERY = (Top, Uniform, RankZone, SimANS, Importance, Stratified, DistanceWeighted, UnReMix, TopicNegatives, Mixture)
SAMPLERS: dict[str, type[Sampler]] = {each.name: each for each in _EVERY}
"""Every sampler by its name."""
