"""The current weights of a model in training, as an encoder whose digest changes with them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel

from hf_hardneg.errors import ConfigError
from hf_hardneg.models.encoder import TransformersEncoder
from hf_hardneg.models.families import BARE, ENCODER, UNKNOWN, Family, check_family, family_of_folder, family_of_live
from hf_hardneg.models.live import saved
from hf_hardneg.models.model_files import ModelFiles, Pooling
from hf_hardneg.models.vector_models import VECTOR_MODELS, VectorModel
from hf_hardneg.retrievers.base import Takes
from hf_hardneg.runtime.arguments import AtLeastOne, check_fields
from hf_hardneg.store import kinds
from hf_hardneg.store.directories import check, parameters_of, refuse_unlisted

OPTIONS = ("pooling", "normalize", "query_prompt", "document_prompt", "max_length")
"""The fields of a `LiveModel` that are saved beside its weights."""


@dataclass(frozen=True, kw_only=True)
class LiveModel:
    """A transformers model in training, and how its token vectors become one vector of a text.

    Args:
        model (`PreTrainedModel`): as it is or as Accelerate prepared it.
        tokenizer (`PreTrainedTokenizerBase`): of the model.
        pooling (`str`, defaults to `"mean"`): see `encode.model_files.Pooling`.
        normalize (`bool`, defaults to `False`): whether vectors are scaled to unit length.
        query_prompt, document_prompt (`str`, defaults to `""`): prepended to texts.
        max_length (`int`, defaults to 512): tokens after which texts are cut.

    Raises:
        ConfigError: a model that cannot be saved, or another pooling.
    """

    model: Any
    tokenizer: Any
    pooling: Pooling = "mean"
    normalize: bool = False
    query_prompt: str = ""
    document_prompt: str = ""
    max_length: AtLeastOne = 512

    def __post_init__(self) -> None:
        check_fields(self)
        is_module = isinstance(self.model, torch.nn.Module)
        if not is_module or not hasattr(bare(self.model), "save_pretrained"):
            raise ConfigError(
                f"LiveModel got model={type(self.model).__name__}, which has no save_pretrained(); transformers models "
                "are allowed. Give the one inside it, or give the refresher a callable list[str] -> (n, d)."
            )
        if not callable(self.tokenizer) or not hasattr(self.tokenizer, "save_pretrained"):
            raise ConfigError(
                f"LiveModel got tokenizer={type(self.tokenizer).__name__}, which cannot be saved; tokenizers of "
                "transformers are allowed. Give the one of the model, AutoTokenizer.from_pretrained(name)."
            )

    def save(self, cache: Path) -> Path:
        """Save the weights of this moment, once under the cache, and return their folder.

        Raises:
            ModelError: this process holds a part of the weights only.
        """
        options = {name: getattr(self, name) for name in OPTIONS}
        return saved(bare(self.model), cache, kinds.ENCODER, tokenizer=self.tokenizer, options=options)


def snapshot(model: Any, cache: Path, *, takes: Takes = "dense") -> Any:
    """Make an encoder of the weights that a model has now.

    Args:
        model (`LiveModel`, `SentenceTransformer`, `str`, `Encoder` or callable): what is trained. A callable
            `list[str] -> (n, d)` must be picklable, or have a `digest` that changes whenever its vectors do.
        cache (`Path`): where weights are saved, so that every process can load them.
        takes (`str`, defaults to `"dense"`): which vectors it is to give.

    Raises:
        ConfigError: a bare torch module, which says neither how to tokenize nor how to pool.
    """
    check_encoder(model, takes=takes)
    if is_live(model):
        return saved_encoder(save_weights(model, cache), device_of(model))
    return VECTOR_MODELS[takes].load(model, cache_dir=cache)


def check_encoder(model: Any, *, takes: Takes = "dense") -> None:
    """Raise for a model that `snapshot` cannot read.

    Raises:
        ConfigError: something else than a model, a bare torch module, or a model of other vectors.
    """
    if is_live(model):
        family = ENCODER if isinstance(model, LiveModel) else family_of_live(bare(model)) or UNKNOWN
        check_family(family, VECTOR_MODELS[takes].slot, f"a {type(model).__name__}", live=True)
        return
    loaded = tuple(kind.protocol for kind in VECTOR_MODELS.values())
    is_named = isinstance(model, (str, os.PathLike, *loaded))
    if isinstance(model, torch.nn.Module) or not (is_named or callable(model)):
        raise ConfigError(
            f"encoder= got a {type(model).__name__}; allowed are a SentenceTransformer, LiveModel(model=, tokenizer=, "
            "pooling=), a folder or Hub id, or a callable list[str] -> (n, d). Wrap a module in LiveModel."
        )


def bare(model: Any) -> Any:
    """Take off a module what training wraps it in, such as DistributedDataParallel and `torch.compile`."""
    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    return inner if inner is model else bare(inner)


def is_live(model: Any) -> bool:
    """Say whether a model's weights can be saved and loaded elsewhere: a `LiveModel`, or a SentenceTransformer."""
    module = bare(model) if isinstance(model, torch.nn.Module) else model
    return isinstance(model, LiveModel) or family_of_live(module) not in (None, BARE)


def device_of(model: Any) -> str:
    """Return where a live model computes."""
    return str(bare(model.model if isinstance(model, LiveModel) else model).device)


def save_weights(model: Any, cache: Path) -> Path:
    """Save a live model's weights of this moment, once under the cache, and return their folder."""
    if isinstance(model, LiveModel):
        return model.save(cache)
    inner = bare(model)
    return _model_of(family_of_live(inner)).save(inner, cache)


def _model_of(family: Family | None) -> VectorModel:
    """What is done with a family of models; with any that has none of its own, what is done with dense ones."""
    others = (kind for kind in VECTOR_MODELS.values() if family is not None and family.slots == (kind.slot,))
    return next(others, VECTOR_MODELS["dense"])


def saved_encoder(folder: Path, device: str) -> Any:
    """Open the encoder that `save_weights` saved: read as any model's files where we know its modules.

    Raises:
        StoreError: the folder is missing, or its files are altered.
    """
    check(folder)
    refuse_unlisted(folder)
    parameters = parameters_of(folder)
    if not parameters.keys() >= set(OPTIONS):
        return _model_of(family_of_folder(folder / "model")).open_saved(folder, device)
    files = ModelFiles(folder=str(folder / "model"), **{name: parameters[name] for name in OPTIONS})
    return TransformersEncoder(files=files, digest=files.digest(), device=device)


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
