"""Negatives written by a language model; experimental.

- `SyntheticNegatives` adds them to mined rows. What writes: `EndpointGenerator` behind a URL, `LocalGenerator` on this
  machine, or a function of your own.
- What is asked: `Prompt`. What is accepted: `Validation`, which may compare with `RetrieverScorer`.
- What a language model finds more relevant than the known positive: `ListwiseJudge`, for `relabel`.
"""

from hf_hardneg.runtime.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
