"""Training with mined negatives: refreshes, trainers, collator, losses over all ranks, topic batches, mixing.

- Negatives mined again with the current weights: `Refresher` of a `LiveModel`, by a `Schedule`, or `AsyncRefresher`
  beside the training; rows read them through `GenerationNegatives`, from `Generations`. Searched at every step:
  `StepRetrieval`.
- In a loop: `HardNegativePlugin` for Accelerate, `HardNegativeCallback` (with `Tuples`) for `Trainer`,
  `HardNegativeLightning`.
- Batches: `CrossBatchCollator`, `known_positives`; of one topic: `TopicBatchSampler`, `query_topics`, `margin_bins`.
- Losses over all ranks: `cross_batch_loss` or `CrossBatchLoss`, with `Keys`, `Guide` and `MoCHi`; `pairwise_loss`,
  `star_loss`, `lambda_loss`; of a teacher's scores `margin_mse_loss`, `in_batch_margin_mse_loss`, `kl_loss`. To write
  one: `gather_rows`, `joined_mean`. Large batches in little memory: `cached_backward`.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "AsyncRefresher": "asynchronous",
    "CrossBatchCollator": "collator",
    "CrossBatchLoss": "losses",
    "GenerationNegatives": "newest",
    "Generations": "generations",
    "Guide": "guidance",
    "HardNegativeCallback": "trainer",
    "HardNegativeLightning": "lightning",
    "HardNegativePlugin": "accelerate",
    "Keys": "compared",
    "LiveModel": "snapshots",
    "MoCHi": "mixing",
    "Refresher": "refresh",
    "Schedule": "schedule",
    "StepRetrieval": "adore",
    "TopicBatchSampler": "topic_batches",
    "Tuples": "trainer",
    "cached_backward": "gradcache",
    "cross_batch_loss": "losses",
    "gather_rows": "gather",
    "in_batch_margin_mse_loss": "distillation",
    "joined_mean": "gather",
    "kl_loss": "distillation",
    "known_positives": "collator",
    "lambda_loss": "ranking_losses",
    "margin_bins": "topic_batches",
    "margin_mse_loss": "distillation",
    "pairwise_loss": "ranking_losses",
    "query_topics": "topic_batches",
    "star_loss": "ranking_losses",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
