"""Hard-negative mining that lives inside Hugging Face `datasets`."""

from __future__ import annotations

import importlib
import logging
from typing import Any

_MODULES = {
    "AbsoluteMargin": "filters",
    "Analyzer": "index.analysis",
    "AnswerOverlap": "filters",
    "BM25": "retrievers",
    "BM25Config": "index.bm25_weights",
    "CrossEncoderDenoiser": "denoising",
    "Dense": "retrievers",
    "Disagreement": "filters",
    "DistanceWeighted": "samplers",
    "EndpointGenerator": "generate.endpoint",
    "HardNegatives": "negatives",
    "Hybrid": "retrievers",
    "Importance": "samplers",
    "LocalGenerator": "generate.generators",
    "NearDuplicate": "filters",
    "NearQueryPositive": "filters",
    "OtherParent": "filters",
    "Prompt": "generate.prompts",
    "Random": "retrievers",
    "RankWindow": "filters",
    "RankZone": "samplers",
    "RelativeMargin": "filters",
    "RetrieverScorer": "generate.scorers",
    "ScoreBounds": "filters",
    "SemiHard": "filters",
    "SimANS": "samplers",
    "Strategy": "strategies",
    "SyntheticNegatives": "generate.llm",
    "TooSimilar": "filters",
    "Top": "samplers",
    "TopicNegatives": "samplers",
    "UnReMix": "samplers",
    "Uniform": "samplers",
    "Validation": "generate.validation",
    "attach_bm25": "index.attach",
    "attach_dense": "index.attach",
    "audit": "audits",
    "from_format": "formats",
    "load_cross_encoder": "score.cross_encoder",
    "mine": "mining",
    "plan": "plans",
    "report": "reports",
    "save_format": "formats",
    "sweep": "sweeps",
    "to_format": "formats",
    "train_denoiser": "score.training",
}

__all__ = sorted(_MODULES)
__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
