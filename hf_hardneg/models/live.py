"""Models that live in this process are identified by their weights, and saved so that other processes can open them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.errors import ModelError

TOLERANCE, TOLERANCE_OF_HALF = 1e-3, 3e-2
"""By how much of its largest value what a model returns may change when it is saved and opened."""


def weights_digest(model: Any) -> str:
    """Return the hex digest of all weights and buffers of a torch module, read in float32, and of their types.

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
    for name, tensor in sorted({**dict(model.named_buffers()), **model.state_dict()}.items()):
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).tobytes())
    return weights.hexdigest()


def _is_part(model: Any) -> bool:
    """Say whether weights are kept elsewhere too: by FSDP, as a `DTensor`, by DeepSpeed, or on no device."""
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


def keep_settings(model: Any, directory: Path) -> None:
    """Add to the folder of a live model the settings that saving leaves out.

    These are how many values of its vectors are kept, in older versions of sentence-transformers, and the side at which
    texts are cut. A tokenizer's class may put its own normalizer in the place of the saved one, as BERT's does with
    another than its own; then the class is named that takes what is saved.

    Args:
        model: what was saved; a tokenizer too.
        directory (`Path`): where it was.
    """
    path = directory / "config_sentence_transformers.json"
    if getattr(model, "truncate_dim", None) is not None:
        _add(path, truncate_dim=model.truncate_dim)
    tokenizer = getattr(model, "tokenizer", model)
    path = next(directory.rglob("tokenizer_config.json"), directory)
    if path == directory or not hasattr(tokenizer, "backend_tokenizer"):
        return
    from transformers import AutoTokenizer

    try:
        opened = AutoTokenizer.from_pretrained(path.parent, trust_remote_code=False)
    except ValueError:  # code of its own saves what it needs
        return
    if opened.truncation_side != tokenizer.truncation_side:
        _add(path, truncation_side=tokenizer.truncation_side)
    if str(opened.backend_tokenizer.normalizer) != str(tokenizer.backend_tokenizer.normalizer):
        _add(path, tokenizer_class="PreTrainedTokenizerFast", model_input_names=list(tokenizer.model_input_names))


def _add(path: Path, **said: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | said, indent=2))


@contextmanager
def same_modes(model: Any) -> Iterator[None]:
    """Leave the modules of a model in training, or not, as they were: what encodes takes them out of it."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def close_to(live: Any, opened: np.ndarray, model: Any) -> bool:
    """Say whether a saved and opened model returns for some texts what the live one returns, up to rounding.

    Args:
        live (array): what the live model returns, of any shape.
        opened (`np.ndarray`): what the opened one returns; of the same shape, if it is the same model.
        model: the live one; where its weights are halves, so is their rounding.
    """
    expected = np.asarray(live, np.float32)
    if expected.size != opened.size:
        return False
    dtype = next((str(weight.dtype) for weight in model.parameters()), "torch.float32")
    tolerance = TOLERANCE if dtype == "torch.float32" else TOLERANCE_OF_HALF
    return bool(np.abs(expected.reshape(opened.shape) - opened).max() <= tolerance * np.abs(expected).max())
