"""The current weights of a model in training, as an encoder whose digest changes with them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from transformers.utils import logging

from hf_hardneg.encode.encoder import Encoder, TransformersEncoder, load_encoder
from hf_hardneg.encode.live import save_model, weights_digest
from hf_hardneg.encode.model_files import ModelFiles, read_model_files
from hf_hardneg.errors import ConfigError, ModelError
from hf_hardneg.index.store import obtain


@dataclass(frozen=True, kw_only=True)
class LiveModel:
    """A transformers model in training, and how its token vectors become one vector of a text.

    Args:
        model (`PreTrainedModel`): as it is or as Accelerate prepared it.
        tokenizer (`PreTrainedTokenizerBase`): of the model.
        pooling (`str`, defaults to `"mean"`): see `encode.model_files.POOLINGS`.
        normalize (`bool`, defaults to `False`): whether vectors are scaled to unit length.
        query_prompt, document_prompt (`str`, defaults to `""`): prepended to texts.
        max_length (`int`, defaults to 512): tokens after which texts are cut.
    """

    model: Any
    tokenizer: Any
    pooling: str = "mean"
    normalize: bool = False
    query_prompt: str = ""
    document_prompt: str = ""
    max_length: int = 512

    def encoder(self, cache: Path) -> Encoder:
        """The model with its weights of this moment, saved once under the cache."""
        model = extract_model_from_parallel(self.model)
        names = ("pooling", "normalize", "query_prompt", "document_prompt", "max_length")
        options = {name: getattr(self, name) for name in names}

        def save(directory: Path) -> None:
            save_model(model, directory / "model")
            self.tokenizer.save_pretrained(directory / "model")

        folder = obtain(cache, "encoder", {"weights": weights_digest(model), **options}, save)
        files = ModelFiles(folder=str(folder / "model"), **options)
        return TransformersEncoder(files=files, digest=files.digest(), device=str(model.device))


def snapshot(model: Any, cache: Path) -> Encoder:
    """An encoder of the weights that a model has now.

    Args:
        model (`LiveModel`, `SentenceTransformer`, `str`, `Encoder` or callable): what is trained. A callable
            `list[str] -> (n, d)` must be picklable, or have a `digest` that changes whenever its vectors do.
        cache (`Path`): where weights are saved, so that every process can load them.

    Raises:
        ConfigError: a bare torch module, which says neither how to tokenize nor how to pool.
    """
    if isinstance(model, LiveModel):
        return model.encoder(cache)
    model = extract_model_from_parallel(model) if isinstance(model, torch.nn.Module) else model
    if hasattr(model, "encode_query") and hasattr(model, "state_dict"):
        return _of_sentence_transformer(model, cache)
    if isinstance(model, torch.nn.Module):
        raise ConfigError(
            f"encoder= got a {type(model).__name__}; allowed are a SentenceTransformer, LiveModel(model=, tokenizer=, "
            "pooling=), or a callable list[str] -> (n, d). Wrap it in LiveModel."
        )
    return load_encoder(model, cache_dir=cache)


def _of_sentence_transformer(model: Any, cache: Path) -> Encoder:
    """Its files, read as any model's, where we know its modules; else the model itself."""
    live = load_encoder(model, cache_dir=cache)
    with suppress(ModelError):
        files = read_model_files(str(live.folder / "model"))  # type: ignore[attr-defined]
        return TransformersEncoder(files=files, digest=files.digest(), device=str(model.device))
    return live


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of transformers on saving and loading a model: a refresh is no news."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def same_draws() -> Iterator[None]:
    """Leave the random states of Python, NumPy and torch as they were: what training draws next is unchanged."""
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002
