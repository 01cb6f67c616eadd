"""Models that live in this process: what identifies them, and how they are saved for others."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.errors import ModelError


def weights_digest(model: Any) -> str:
    """Hex digest of all weights of a torch module, read in float32.

    Raises:
        ModelError: this process holds a part of them only.
    """
    if _is_part(model):
        raise ModelError(
            f"The weights of this {type(model).__name__} are spread over processes or devices, as FSDP, ZeRO-3, tensor "
            "parallelism and offloading do; whole ones can be read. Train it with DistributedDataParallel, or give a "
            "callable list[str] -> (n, d) that gathers them, with a digest that changes with the weights."
        )
    weights = blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode())
        weights.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).tobytes())
    return weights.hexdigest()


def _is_part(model: Any) -> bool:
    """Whether weights are kept elsewhere too: by FSDP, as a `DTensor`, by DeepSpeed, or on no device."""
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()) or any(
        hasattr(weight, "full_tensor") or hasattr(weight, "ds_id") or weight.is_meta for weight in model.parameters()
    )


def save_model(model: Any, directory: Path) -> None:
    """Save a model of transformers or sentence-transformers from this process, whatever its rank.

    In a process group newer transformers write on rank 0 alone. Here the process that holds the folder's lock writes,
    and that can be any.
    """
    parts = [part for part in model.modules() if hasattr(part, "should_save_on_this_rank")]
    for part in parts:
        part.should_save_on_this_rank = lambda is_main_process: is_main_process
    try:
        model.save_pretrained(str(directory))
    finally:
        for part in parts:
            del part.should_save_on_this_rank
