"""People look at mined negatives, and what they say of them serves mining, reports and cards.

- Open a page on which a person judges: `review`.
- Read what was said: `Verdicts`.
"""

from __future__ import annotations

from hf_hardneg.runtime.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
