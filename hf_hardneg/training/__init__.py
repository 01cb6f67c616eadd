"""Mined negatives in the training loop."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "GenerationNegatives": "generations",
    "Generations": "generations",
    "HardNegativeCallback": "trainer",
    "HardNegativeLightning": "lightning",
    "HardNegativePlugin": "accelerate",
    "LiveModel": "snapshots",
    "Refresher": "refresh",
    "Schedule": "schedule",
    "StepRetrieval": "adore",
    "Tuples": "trainer",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__]
