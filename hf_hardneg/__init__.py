"""Hard-negative mining that lives inside Hugging Face `datasets`.

- Mine: `mine`, or `HardNegatives` for any verb of `datasets`; `plan` says first what it costs, `sweep` tries settings.
- Columns that are called otherwise: `Columns`.
- Which negatives train your model best: `compare`.
- Look at the result: `report`, `audit`, `hf_hardneg.metrics`; judge negatives yourself: `review`, `Verdicts`.
- What a judge finds relevant is no negative, and may be a positive: `relabel`, `demote`.
- Hand it to a trainer: `to_format`, `from_format`, `save_format`; images in the place of their names: `with_images`;
  negatives that keep up: `hf_hardneg.training`.
- Scores of a table beside mined rows: `join_scores`. A test set of hard documents alone: `evaluation_set`.
- Publish it: `hf_hardneg.hub`. How it was made: `recipe_of`, `Recipe`.
- Parts of a `Strategy`:
    - retrievers: `BM25` (`BM25Config`, `Analyzer`), `Dense`, `Sparse`, `LateInteraction`, `Hybrid`, `Random`,
      `Reranked` by a cross-encoder; indexes of corpora: `attach_bm25`, `attach_dense`
    - filters by rank and score: `RankWindow`, `AbsoluteMargin`, `RelativeMargin`, `ScoreBounds`, `SemiHard`
    - filters of likely positives: `NearQuery`, `TooSimilar`, `Disagreement`, `NearDuplicate`, `ContainsAnswer`,
      `SameParent`, `Denoised` (`hf_hardneg.models.load_cross_encoder`, `hf_hardneg.training.train_denoiser`)
    - rows that are probably noise: `ConsistentPositive`
    - samplers: `Top`, `Uniform`, `RankZone`, `SimANS`, `Importance`, `Stratified`, `DistanceWeighted`,
      `TopicNegatives`, `UnReMix`; with random documents among them: `Mixture`
    - of your own: a `Filter`, a `Sampler`, a `Signal` for either, a `Retriever`; they see `Candidates`, and
      `Candidates.of` makes some to try one on
- Negatives written by a model: `hf_hardneg.generate`. With the arguments of sentence-transformers: `hf_hardneg.compat`.
- What can go wrong: `hf_hardneg.errors`. Data to try it on: `hf_hardneg.demo`.

In examples, `pairs` has the columns `query` and `positive_ids`, `corpus` has `_id` and `text`, and `mined` is what
`mine(pairs, corpus)` returned.
"""

from __future__ import annotations

import logging

from hf_hardneg.runtime.compiled import keep_compiled_code
from hf_hardneg.runtime.lazy import attach_stub

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

logging.getLogger(__name__).addHandler(logging.NullHandler())
keep_compiled_code()
