"""Late-interaction models, which give a vector for each token: by sentence-transformers, and callables.

The vectors of a text do not depend on what else is encoded with it: on a CPU sentence-transformers gets it text by
text. It reads the checkpoints of PyLate and of Stanford's ColBERT too.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from hf_hardneg.arrays.token_rows import TokenRows, token_rows
from hf_hardneg.errors import ConfigError
from hf_hardneg.identity import identify
from hf_hardneg.models import model_files
from hf_hardneg.models.encoder import PROBES, Encoder
from hf_hardneg.models.families import UNKNOWN, check_family, family_of_folder, family_of_live
from hf_hardneg.models.forward import check_device
from hf_hardneg.models.functions import TextFunction
from hf_hardneg.models.live import check_same, same_modes, saved
from hf_hardneg.models.model_files import read_json
from hf_hardneg.models.modules import KINDS, Kind, ModulesEncoder, forget_modules
from hf_hardneg.runtime.optional import require
from hf_hardneg.store import kinds
from hf_hardneg.store.directories import digest_of

FORMS = "a sentence-transformers MultiVectorEncoder, a Hub id or path of one, or a callable"
OTHERWISE = "a MultiVectorEncoder, or a callable list[str] -> a matrix (tokens, d) for each text"
MEAN = "meanmaxsim"
"""The similarity that divides MaxSim by how many tokens the query has."""


@runtime_checkable
class TokenEncoder(Protocol):
    """The interface to a late-interaction model, as retrieval uses it."""

    @property
    def digest(self) -> str:
        """Identity of everything that changes a vector: weights, prompts, lengths, tokens left out."""

    def encode_each_token(self, texts: Sequence[str], *, kind: Kind) -> TokenRows:
        """Encode n texts to a vector for each token."""


def load_token_encoder(encoder: Any, *, cache_dir: Path, device: str = "auto") -> TokenEncoder:
    """Make an encoder of what a user passes. A path or Hub id is checked by its files; no model is loaded yet.

    Args:
        encoder (`str`, `Path`, `MultiVectorEncoder`, `TokenEncoder` or `Callable`): the model; a callable maps texts to
            a matrix (tokens, d) for each text.
        cache_dir (`Path`): where a live model is saved once, so that workers can load it.
        device (`str`, defaults to `"auto"`): for a path or Hub id, such as `"cuda"`; a GPU if there is one.

    Raises:
        ModelError: there is no such model, or it describes something that is not supported.
        ConfigError: something else was passed, or a model of other vectors.
    """
    if isinstance(encoder, TokenEncoder):
        return encoder
    if isinstance(encoder, Encoder) or hasattr(encoder, "encode_sparse"):
        raise ConfigError(
            f"encoder= got a {type(encoder).__name__}, which has no vector for each token; {FORMS} is allowed. Mine "
            'with "dense" or "splade", or give one of those.'
        )
    check_device(device)
    if isinstance(encoder, str | os.PathLike):
        name = os.fspath(encoder)
        with model_files.described(name):
            folder = model_files.model_folder(name, otherwise=OTHERWISE)
            check_family(family_of_folder(folder), "tokens", repr(name))
            return _opened(folder, device)
    if family_of_live(encoder) is not None:
        return open_saved_tokens(save_live_tokens(encoder, cache_dir, check=True), str(encoder.device))
    if callable(encoder):
        return TokenCallable(function=encoder, digest=identify(encoder, what="late-interaction encoder"))
    raise ConfigError(f"encoder= got a {type(encoder).__name__}; allowed are {FORMS}. Give one of those.")


def _opened(folder: Path, device: str, *, own_code: bool = False) -> TokenModulesEncoder:
    settings = read_json(folder / "config_sentence_transformers.json", default={})
    mean = str(settings.get("similarity_fn_name") or "").lower() == MEAN
    return TokenModulesEncoder.of(folder, device=device, own_code=own_code, mean=mean)


def save_live_tokens(model: Any, cache: Path, *, check: bool = False) -> Path:
    """Save a live MultiVectorEncoder as it is now, once under a cache; return the folder for `open_saved_tokens`.

    Args:
        model (`MultiVectorEncoder`): may be in training.
        cache (`Path`): where it is saved.
        check (`bool`, defaults to `False`): whether to compare vectors of the saved and the live model.

    Raises:
        ModelError: this process holds a part of the weights only, or what is saved gives other vectors.
        ConfigError: a model of another family.
    """
    check_family(family_of_live(model) or UNKNOWN, "tokens", f"a {type(model).__name__}", live=True)
    checking = functools.partial(_check_saved, model) if check else None
    settings = {"similarity": str(getattr(model, "similarity_fn_name", ""))}
    return saved(model, cache, kinds.ENCODER, options=settings, check=checking)


def open_saved_tokens(folder: Path, device: str) -> TokenEncoder:
    """Open the encoder that `save_live_tokens` saved into a folder."""
    return _opened(folder / "model", device, own_code=True)


def _check_saved(model: Any, directory: Path) -> None:
    """Raise where a saved model gives other vectors than the live one; see `check_same`."""
    encoder: Any = replace(_opened(directory / "model", str(model.device), own_code=True), mean=False)
    instead = f"{OTHERWISE}, such as a function that calls its encode()"
    for kind, encode in KINDS.items():
        with same_modes(model):
            parts = getattr(model, encode)(PROBES, show_progress_bar=False, convert_to_numpy=True)
        live, opened = token_rows(parts, what="vectors").vectors, encoder.encode_each_token(PROBES, kind=kind).vectors
        check_same(model, live, opened, slot="encoder", results=f"vectors for a {kind}", instead=instead)
    unload_tokens()


def unload_tokens() -> None:
    """Forget the models that this process has loaded here, so that their memory is free."""
    forget_modules()


@dataclass(frozen=True, kw_only=True)
class TokenModulesEncoder(ModulesEncoder):
    """A late-interaction model that sentence-transformers runs.

    Args:
        folder, digest, device, own_code: see `ModulesEncoder`.
        mean (`bool`, defaults to `False`): whether scores are divided by how many tokens the query has.
    """

    mean: bool = False
    model_class: ClassVar[str] = "MultiVectorEncoder"

    @property
    def said(self) -> dict[str, Any]:
        """See `ModulesEncoder`."""
        return {"run": "tokens", "mean": self.mean}

    def encode_each_token(self, texts: Sequence[str], *, kind: Kind) -> TokenRows:
        """Encode texts to a vector for each token, by `encode_query` or `encode_document`; float32.

        Raises:
            DataError: a value is not finite.
            ModelError: the model cannot be loaded, or its weights are no longer those the digest was made of.
            ConfigError: a GPU in a worker.
        """
        encoded = self.text_by_text(texts, kind, convert_to_numpy=True)
        rows = token_rows([matrix for part in encoded for matrix in part], what="encoded texts")
        return _averaging(rows) if self.mean and kind == "query" else rows


def _averaging(rows: TokenRows) -> TokenRows:
    """Each vector divided by how many its text has, so that MaxSim is a mean over them."""
    counts = np.repeat(rows.sizes, rows.sizes)[:, None].astype(np.float32)
    return TokenRows(rows.pointers, rows.vectors / counts)


class TokenCallable(TextFunction):
    """Any function from texts to a matrix (tokens, d) for each."""

    def encode_each_token(self, texts: Sequence[str], *, kind: Kind) -> TokenRows:
        """Encode texts to a vector for each token.

        Raises:
            DataError: the function returns something else than one matrix per text.
        """
        if not texts:
            return token_rows([], what="token vectors")
        return token_rows(self.called(texts), what="token vectors returned by the encoder", count=len(texts))


@dataclass(frozen=True, kw_only=True)
class PooledTokens:
    """A late-interaction model, of whose documents similar tokens become one vector, by sentence-transformers.

    Args:
        encoder (`TokenEncoder`): the model.
        factor (`int`): how many tokens become one, in the mean.
    """

    encoder: TokenEncoder
    factor: int

    @property
    def digest(self) -> str:
        """See `TokenEncoder`."""
        return digest_of({"encoder": self.encoder.digest, "pooled by": self.factor})

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that change a vector besides the weights, to be read by people."""
        return {**getattr(self.encoder, "settings", {}), "pool_factor": self.factor}

    def encode_each_token(self, texts: Sequence[str], *, kind: Kind) -> TokenRows:
        """Encode texts to a vector for each token of queries, and for `factor` tokens of documents together."""
        rows = self.encoder.encode_each_token(texts, kind=kind)
        if kind == "query":
            return rows
        import torch

        require("sentence_transformers", extra="sentence-transformers", needed_by="LateInteraction(pool_factor=)")
        from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

        pooling: Any = HierarchicalTokenPooling(pool_factor=self.factor)
        held = np.flatnonzero(rows.sizes)
        matrices: list[Any] = [None] * len(rows)
        for row in held:
            tokens = torch.from_numpy(rows.vectors[rows.pointers[row] : rows.pointers[row + 1]])
            matrices[row] = pooling.pool([tokens])[0]
        return token_rows(matrices, what="pooled vectors", width=rows.width)
