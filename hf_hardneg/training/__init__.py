"""Training with mined negatives: refreshes, trainers, collator, losses over all ranks, topic batches, mixing.

- Negatives mined again with the current weights: `Refresher` of a `LiveModel`, by a `Schedule`, or `AsyncRefresher`
  beside the training; rows read them through `GenerationNegatives`, from `Generations`. Searched at every step:
  `StepRetrieval`. Cheaper between full refreshes: `EasyRows`.
- In a loop: `HardNegativePlugin` for Accelerate, `HardNegativeCallback` (with `Tuples`) for `Trainer`,
  `HardNegativeLightning`.
- Batches: `CrossBatchCollator` with `BatchColumns`, `known_positives`; other negatives each epoch: `FreshNegatives`; of
  one topic: `TopicBatchSampler`, `query_topics`, `margin_bins`; of rows that are hard for each other:
  `GraphBatchSampler`. A cross-encoder of one's own: `train_denoiser` with `Training`.
- Losses over all ranks: `cross_batch_loss` or `CrossBatchLoss`, with `Keys`, `Guide` and `MoCHi`; `pairwise_loss`,
  `star_loss`, `lambda_loss`; of a teacher's scores `margin_mse_loss`, `in_batch_margin_mse_loss`, `kl_loss`. To write
  one: `gather_rows`, `joined_mean`. Large batches in little memory: `cached_backward`.
- How `hf_hardneg.compare` trains, to tell which negatives are best: `Trials`.
"""

from __future__ import annotations

from hf_hardneg.runtime.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
