"""Modules for `evaluate`, by name with `load`, or by path: `evaluate.load("hf_hardneg/metrics/retrieval")`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hf_hardneg.errors import unknown_name
from hf_hardneg.runtime.arguments import checked

if TYPE_CHECKING:
    import evaluate

_CLASSES = {
    "alignment_uniformity": "AlignmentUniformity",
    "false_negative_rate": "FalseNegativeRate",
    "hardness": "Hardness",
    "retrieval": "Retrieval",
}

__all__ = ["load"]


@checked
def load(name: str, **options: Any) -> evaluate.Metric:
    """Load a metric by its name, with its inputs in memory, so that it writes no file and takes no lock.

    Over several processes gather ids first (`accelerate.utils.gather_object`) and compute on one of them.

    Args:
        name (`str`): `"retrieval"`, `"false_negative_rate"`, `"hardness"` or `"alignment_uniformity"`.
        options: of `evaluate.Metric`; `keep_in_memory=False` stores inputs in files.

    Raises:
        UnknownNameError: there is no such metric.

    Example:
        >>> from hf_hardneg.metrics import load
        >>> load("retrieval").compute(predictions=[["a", "b"]], references=[["b"]], k=2)["mrr@2"]
        0.5
    """
    if name not in _CLASSES:
        raise unknown_name("metric", name, _CLASSES)
    module = importlib.import_module(f"{__name__}.{name}.{name}")
    return getattr(module, _CLASSES[name])(**{"keep_in_memory": True, **options})
