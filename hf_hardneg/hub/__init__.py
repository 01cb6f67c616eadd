"""Mined datasets on the Hugging Face Hub: `push_mined_dataset`, `mined_dataset_card`, and to mine them again
`reproduce`, which returns a `Reproduction`.
"""

from __future__ import annotations

from hf_hardneg.runtime.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
