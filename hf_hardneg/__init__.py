"""Hard-negative mining that lives inside Hugging Face `datasets`.

- Mine: `mine`, or `HardNegatives` for any verb of `datasets`; `plan` says first what it costs, `sweep` tries settings.
- Columns that are called otherwise: `Columns`.
- Look at the result: `report`, `audit`, `hf_hardneg.metrics`.
- Hand it to a trainer: `to_format`, `from_format`, `save_format`; negatives that keep up: `hf_hardneg.training`.
- Publish it: `hf_hardneg.hub`. How it was made: `recipe_of`, `Recipe`.
- Parts of a `Strategy`:
    - retrievers: `BM25` (`BM25Config`, `Analyzer`), `Dense`, `Hybrid`, `Random`; their indexes: `attach_bm25`,
      `attach_dense`
    - filters by rank and score: `RankWindow`, `AbsoluteMargin`, `RelativeMargin`, `ScoreBounds`, `SemiHard`
    - filters of likely positives: `NearQuery`, `TooSimilar`, `Disagreement`, `NearDuplicate`, `ContainsAnswer`,
      `SameParent`, `Denoised` (`load_cross_encoder`, `train_denoiser`)
    - samplers: `Top`, `Uniform`, `RankZone`, `SimANS`, `Importance`, `DistanceWeighted`, `TopicNegatives`, `UnReMix`
    - of your own: filters and samplers see `Candidates`; `Candidates.of` makes some to try one on
- Negatives written by a model: `SyntheticNegatives`, `EndpointGenerator`, `LocalGenerator`, `Prompt`, `Validation`,
  `RetrieverScorer`.
- What can go wrong: `hf_hardneg.errors`. Data to try it on: `hf_hardneg.demo`.

In examples, `pairs` has the columns `query` and `positive_ids`, `corpus` has `_id` and `text`, and `mined` is what
`mine(pairs, corpus)` returned.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

from hf_hardneg.runtime.compiled import keep_compiled_code

_MODULES = {
    "AbsoluteMargin": "filters",
    "Analyzer": "text.analysis",
    "BM25": "retrievers",
    "BM25Config": "index.bm25.weights",
    "Candidates": "candidates",
    "Columns": "corpus.columns",
    "ContainsAnswer": "filters",
    "Denoised": "filters",
    "Dense": "retrievers",
    "Disagreement": "filters",
    "DistanceWeighted": "samplers",
    "EndpointGenerator": "generate.endpoint",
    "HardNegatives": "hard_negatives",
    "Hybrid": "retrievers",
    "Importance": "samplers",
    "LocalGenerator": "generate.generators",
    "NearDuplicate": "filters",
    "NearQuery": "filters",
    "Prompt": "generate.prompts",
    "Random": "retrievers",
    "RankWindow": "filters",
    "RankZone": "samplers",
    "Recipe": "recipes.recipe",
    "RelativeMargin": "filters",
    "RetrieverScorer": "generate.retriever_scorer",
    "SameParent": "filters",
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
    "attach_bm25": "retrievers.attach",
    "attach_dense": "retrievers.attach",
    "audit": "audits",
    "from_format": "formats",
    "load_cross_encoder": "models.cross_encoder",
    "mine": "mining",
    "plan": "planning.plans",
    "recipe_of": "recipes.recipe",
    "report": "reports.report",
    "save_format": "formats",
    "sweep": "reports.sweeps",
    "to_format": "formats",
    "train_denoiser": "training.denoiser",
}

__all__ = sorted(_MODULES)
__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())
keep_compiled_code()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
