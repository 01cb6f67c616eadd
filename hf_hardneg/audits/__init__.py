"""How far mined negatives can be trusted, whoever mined them.

- Checks tell what is wrong with them: `audit`, an `Audit` of `Finding`s by `CHECKS`.
- A model estimates how many are false: `Judge`, `Estimate`.
- A judge decides which negatives stay, go, or are positives: `hf_hardneg.relabel`, with any `ListJudge` too.
- People look at them on a page, and what they say serves mining, reports and cards: `review`, `Verdicts`.
"""

from __future__ import annotations

from hf_hardneg.runtime.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
