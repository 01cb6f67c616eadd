"""Publish mined datasets on the Hugging Face Hub, with a card, and mine them again from it.

`push_mined_dataset` and `mined_dataset_card` publish; `reproduce` mines again, and returns a `Reproduction`.
"""

from __future__ import annotations

from hf_hardneg.runtime.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
