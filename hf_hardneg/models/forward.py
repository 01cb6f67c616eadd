"""Forward passes of transformers models, whose result for a text does not depend on what else they run.

Texts are padded to a length that is a function of their own token count (the next multiple of 8), and on CPU each batch
is run by one thread, which makes the result the same to the last bit for any batch size, order and thread count.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_hardneg.errors import ConfigError, HardNegError, ModelError
from hf_hardneg.models.allocation import in_proportion
from hf_hardneg.runtime.process import in_child, single_thread_in_child, torch_threads
from hf_hardneg.runtime.progress import before_import

if TYPE_CHECKING:
    from torch import Tensor

LENGTH_STEP = 8
BATCH_TOKENS = {"cpu": 1024, "gpu": 65536}
"""Padded tokens of a forward pass; on CPU they do not change the result."""


def resolved_device(device: str) -> str:
    """Return the device that `"auto"` means here, and any other as it is.

    Raises:
        ConfigError: torch knows no such device, or this machine has none.
    """
    if device != "auto":
        check_device(device)
        return device
    before_import("torch", "Loading torch …")
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """Raise for a device that torch does not know, or that this machine lacks; `"auto"` is always there.

    Raises:
        ConfigError: naming it.
    """
    if device == "auto":
        return
    import torch

    if not in_child() and not _is_usable(device):
        raise ConfigError(
            f"device={device!r} is none of this machine; allowed are 'auto', 'cpu' and its accelerators, of which "
            f"torch sees {torch.cuda.device_count()} of CUDA. Give one of them, or leave device= out."
        )


def _is_usable(device: str) -> bool:
    """Say whether torch can compute there; nothing is started on it."""
    import torch

    try:
        kind = torch.device(device)
    except RuntimeError:
        return False
    if kind.type == "cpu":
        return True
    module: Any = torch.backends.mps if kind.type == "mps" else getattr(torch, kind.type, None)
    if module is None or not hasattr(module, "is_available") or not module.is_available():
        return False
    return kind.index is None or kind.index < getattr(module, "device_count", lambda: 1)()


def device_here(device: str, *, instead: str) -> str:
    """Return the device on which a model may run in this process; a worker is limited to one thread.

    Args:
        device (`str`): where the model is to run, or `"auto"`.
        instead (`str`): what to do besides `num_proc=1`, for the message.

    Raises:
        ConfigError: this process is a worker and the device is a GPU.
    """
    device = resolved_device(device)
    if device.startswith("cuda") and in_child():
        raise ConfigError(
            f"num_proc > 1 with a model on {device}: a worker cannot use CUDA. Use num_proc=1, or {instead}."
        )
    single_thread_in_child()
    return device


@contextlib.contextmanager
def loading(folder: str, *, otherwise: str) -> Iterator[None]:
    """Load a model inside without transformers' bars and logs; what fails is a `ModelError`.

    Args:
        folder (`str`): of the model.
        otherwise (`str`): what else may be passed, for the message.
    """
    try:
        with quiet_transformers(), in_proportion(Path(folder)):
            yield
    except HardNegError:
        raise
    except Exception as error:
        raise ModelError(
            f"The model at {folder} cannot be loaded: {type(error).__name__}: {error}. Give {otherwise}."
        ) from error


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Have transformers show no bars and log only errors, inside."""
    from transformers.utils import logging as transformers_logging

    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def load_model(folder: str, auto_class: str, device: str, *, otherwise: str) -> tuple[Any, Any]:
    """Load a model for inference in float32 and its tokenizer from a folder.

    Args:
        folder (`str`): of the model.
        auto_class (`str`): of transformers, such as `"AutoModel"`.
        device (`str`): where to put it; on CPU its linear layers are packed.
        otherwise (`str`): what else may be passed, for the message.

    Raises:
        ModelError: it cannot be loaded, or has no trained weights for a part of that class.
    """
    before_import("transformers.models.auto.modeling_auto", "Loading transformers, and a model …")
    import transformers

    with loading(folder, otherwise=otherwise):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="right", trust_remote_code=False)
        model, report = getattr(transformers, auto_class).from_pretrained(
            folder, output_loading_info=True, trust_remote_code=False
        )
    untrained = sorted(name for name in report["missing_keys"] if "position_ids" not in name)
    if auto_class != "AutoModel" and untrained:
        raise ModelError(
            f"The model at {folder} has no weights for {', '.join(untrained)}: they would be random. Give {otherwise}."
        )
    model = model.eval().float().to(device)
    if device == "cpu":
        from hf_hardneg.models.packed import pack

        pack(model, dict(tokenizer("a probe of a few words", return_tensors="pt")))
    return model, tokenizer


def in_order(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the values of all batches of `passes`, (n, d), in the order of the texts."""
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return np.concatenate([values for _, values in parts])[order]


def passes(
    run: Callable[[dict[str, Tensor]], Tensor],
    tokenizer: Any,
    tokens: Mapping[str, list[list[int]]],
    *,
    limit: int,
    device: str,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Run a model over texts batch by batch; return which texts, (b,), and their values, (b, ...) float32.

    Args:
        run (`Callable`): padded inputs on the device to (b, ...).
        tokenizer: pads on the right.
        tokens (`Mapping[str, list[list[int]]]`): n lists for each input of the model, `input_ids` among them.
        limit (`int`): the longest a text may be padded to.
        device (`str`): where the model is.
    """
    import torch

    parts: list[tuple[np.ndarray, np.ndarray]] = []

    def run_batch(batch: tuple[np.ndarray, int]) -> None:
        rows, length = batch
        chosen = {name: [lists[i] for i in rows] for name, lists in tokens.items()}
        padded = tokenizer.pad(chosen, padding="max_length", max_length=length)
        with torch.inference_mode():
            inputs = {name: torch.tensor(values, device=device) for name, values in padded.items()}
            parts.append((rows, run(inputs).float().cpu().numpy()))

    threads = torch.get_num_threads() if device == "cpu" else 1
    budget = BATCH_TOKENS["cpu" if device == "cpu" else "gpu"]
    batches = _buckets([len(ids) for ids in tokens["input_ids"]], limit, budget, threads)
    if threads == 1:
        for batch in batches:
            run_batch(batch)
    else:  # each batch on one thread: faster than all threads on each batch, and the same to the bit
        with torch_threads(threads) as pool:
            list(pool.map(run_batch, batches))
    return parts


def _buckets(lengths: list[int], limit: int, budget: int, threads: int) -> list[tuple[np.ndarray, int]]:
    """List rows to run together and the length to pad them to, longest first; all threads get some."""
    padded = np.minimum(-(-np.array(lengths, dtype=np.int64) // LENGTH_STEP) * LENGTH_STEP, max(limit, 1))
    budget = min(budget, -(-int(padded.sum()) // threads))
    batches = []
    for length in np.unique(padded)[::-1]:
        rows, size = np.flatnonzero(padded == length), max(1, budget // max(int(length), 1))
        batches += [(rows[start : start + size], int(length)) for start in range(0, len(rows), size)]
    return batches
