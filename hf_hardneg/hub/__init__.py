"""Mined datasets on the Hugging Face Hub: pushing them, and their cards."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "mined_dataset_card": "card",
    "push_mined_dataset": "push",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
