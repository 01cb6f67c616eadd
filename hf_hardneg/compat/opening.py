"""The models of `mine_hard_negatives`, opened as this library runs them."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.errors import ConfigError, silenced
from hf_hardneg.identity import identify
from hf_hardneg.models.cross_encoder import gives_probabilities, load_cross_encoder
from hf_hardneg.models.encoder import CallableEncoder, load_encoder
from hf_hardneg.models.families import family_of_live
from hf_hardneg.models.model_files import model_folder, read_json
from hf_hardneg.models.modules import KINDS, Kind
from hf_hardneg.models.prompted import prompt_of, prompted
from hf_hardneg.retrievers import Reranked, Retriever
from hf_hardneg.store.directories import digest_of

CPU_PROCESSES = 4
"""What `use_multi_process=True` means without a GPU."""
DISTANCES = ("euclidean", "manhattan")


@dataclass(frozen=True)
class Prompts:
    """The prompts of queries and of documents, as texts and by name; a text goes before a name."""

    query: str | None
    query_name: str | None
    document: str | None
    document_name: str | None

    def texts(self, model: Any) -> dict[str, str | None]:
        """What is prepended to each kind of text, `None` where the model's own prompt is.

        Raises:
            ConfigError: the model has no prompt of that name.
        """
        pairs = {"query": (self.query, self.query_name), "document": (self.document, self.document_name)}
        return {
            kind: text if text is not None or name is None else prompt_of(model, name)
            for kind, (text, name) in pairs.items()
        }


@dataclass(frozen=True, kw_only=True)
class MethodsEncoder:
    """Any object with sentence-transformers' methods `encode_query` and `encode_document`.

    Args:
        model: the object; must be picklable to be used with `use_multi_process`.
        prompts (`dict[str, str | None]`): by kind of text.
        digest (`str`): of both.
    """

    model: Any
    prompts: dict[str, str | None]
    digest: str

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Encode texts to vectors, (n, d) float32."""
        options = {"normalize_embeddings": True, "convert_to_numpy": True, "show_progress_bar": False}
        prompt = {} if self.prompts[kind] is None else {"prompt": self.prompts[kind]}
        method = functools.partial(getattr(self.model, KINDS[kind]), **options, **prompt)
        return CallableEncoder(function=method, digest=self.digest).encode(texts, kind=kind)


def encoder_of(model: Any, prompts: Prompts, cache: Path) -> Any:
    """What `mine(encoder=)` takes for a model and prompts.

    Raises:
        ConfigError: it compares vectors by a distance, or has no prompt of a name.
        ModelError: it cannot be opened.
    """
    _check_similarity(model)
    texts = prompts.texts(model)
    if all(hasattr(model, method) for method in KINDS.values()) and family_of_live(model) is None:
        digest = digest_of({"model": identify(model, what="encoder"), **texts})
        return MethodsEncoder(model=model, prompts=texts, digest=digest)
    if not any(text is not None for text in texts.values()):
        return model
    with silenced():
        return prompted(load_encoder(model, cache_dir=cache), **texts)


def _check_similarity(model: Any) -> None:
    name = getattr(model, "similarity_fn_name", None)
    if isinstance(model, (str, os.PathLike)):
        folder = model_folder(os.fspath(model), otherwise="a SentenceTransformer, or a callable")
        name = read_json(folder / "config_sentence_transformers.json", default={}).get("similarity_fn_name")
    if str(name) in DISTANCES:
        raise ConfigError(
            f"The model compares vectors by {str(name)!r}, in whose units margins and scores would be; 'cosine' and "
            "'dot' are compared here. Set model.similarity_fn_name = 'cosine', and look at your thresholds."
        )


def reranked(retriever: Retriever, cross_encoder: Any, depth: int, cache: Path) -> Reranked:
    """The retriever in the order of a cross-encoder, whose scores are those that its `predict` returns."""
    scorer = load_cross_encoder(cross_encoder, cache_dir=cache)
    return Reranked(retriever, scorer, depth=depth, as_probabilities=gives_probabilities(cross_encoder))


def processes_of(use_multi_process: bool | Sequence[str]) -> int | None:
    """How many worker processes do what sentence-transformers' pool does; `None` for none.

    Raises:
        ConfigError: several GPUs, of which a process here uses one.
    """
    if use_multi_process is False:
        return None
    if use_multi_process is True:
        from torch import cuda

        devices = [f"cuda:{number}" for number in range(cuda.device_count())] or ["cpu"] * CPU_PROCESSES
    else:
        devices = [str(device) for device in use_multi_process]
    if all(device == "cpu" for device in devices):
        return len(devices) or None
    if len(devices) > 1:
        raise ConfigError(
            f"use_multi_process= stands for {', '.join(devices)}; here a process has one GPU, and processes of a "
            "launch share the encoding. Leave it out, and start the script with `torchrun --nproc-per-node "
            f"{len(devices)}`, or pass use_multi_process=['cpu', 'cpu']."
        )
    return None
