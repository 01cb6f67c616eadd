"""Models by the vectors they give: one for each text, weighted terms, one for each token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_hardneg.models.embeddings import CorpusVectors
from hf_hardneg.models.encoder import Encoder, load_encoder, open_saved, save_live, unload_models
from hf_hardneg.models.families import Slot
from hf_hardneg.models.sparse_encoder import (
    SparseTextEncoder,
    load_sparse_encoder,
    open_saved_sparse,
    save_live_sparse,
    unload_sparse,
)
from hf_hardneg.models.sparse_vectors import CorpusSparseVectors
from hf_hardneg.models.token_encoder import (
    TokenEncoder,
    load_token_encoder,
    open_saved_tokens,
    save_live_tokens,
    unload_tokens,
)
from hf_hardneg.models.token_vectors import CorpusTokenVectors


@dataclass(frozen=True, kw_only=True)
class VectorModel:
    """What is done with a kind of model.

    Args:
        slot (`str`): the argument that takes it, see `models/families.py`.
        protocol (`type`): what it is once it is loaded.
        method (`str`): what that calls its encoding.
        load (`Callable`): makes it of what a user passes.
        save (`Callable`): saves a live one once under a folder, and returns the folder.
        open_saved (`Callable`): opens it again, on a device.
        unload (`Callable`): forgets the loaded ones.
        of_corpus (`type`): the vectors of a corpus by it.
    """

    slot: Slot
    protocol: Any
    method: str
    load: Callable[..., Any]
    save: Callable[[Any, Path], Path]
    open_saved: Callable[[Path, str], Any]
    unload: Callable[[], None]
    of_corpus: type[CorpusVectors]


VECTOR_MODELS = {
    "dense": VectorModel(
        slot="encoder",
        protocol=Encoder,
        method="encode",
        load=load_encoder,
        save=save_live,
        open_saved=open_saved,
        unload=unload_models,
        of_corpus=CorpusVectors,
    ),
    "sparse": VectorModel(
        slot="sparse",
        protocol=SparseTextEncoder,
        method="encode_sparse",
        load=load_sparse_encoder,
        save=save_live_sparse,
        open_saved=open_saved_sparse,
        unload=unload_sparse,
        of_corpus=CorpusSparseVectors,
    ),
    "tokens": VectorModel(
        slot="tokens",
        protocol=TokenEncoder,
        method="encode_each_token",
        load=load_token_encoder,
        save=save_live_tokens,
        open_saved=open_saved_tokens,
        unload=unload_tokens,
        of_corpus=CorpusTokenVectors,
    ),
}
"""By what a retriever says that it `takes`."""


def encoding_of(encoder: Any) -> Any:
    """The method of a loaded model that encodes texts."""
    methods = (model.method for model in VECTOR_MODELS.values())
    return next(getattr(encoder, method) for method in methods if hasattr(encoder, method))
