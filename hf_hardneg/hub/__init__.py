"""Mined datasets on the Hugging Face Hub: `push_mined_dataset`, `mined_dataset_card`, and to mine them again
`reproduce`, which returns a `Reproduction`.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "Reproduction": "reproduction",
    "mined_dataset_card": "card",
    "push_mined_dataset": "push",
    "reproduce": "reproduction",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
