"""Encoders with other prompts than their model's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hf_hardneg.errors import ConfigError
from hf_hardneg.models.encoder import Encoder, TransformersEncoder
from hf_hardneg.models.model_files import model_folder, read_json
from hf_hardneg.models.modules import Kind, SentenceTransformerEncoder
from hf_hardneg.store.directories import digest_of


@dataclass(frozen=True, kw_only=True)
class Prompted:
    """An encoder whose texts get another prompt than by default.

    Args:
        encoder (`Encoder`): what encodes.
        query, document (`str`, *optional*): prepended to texts of that kind; by default what the encoder itself does.
        digest (`str`): of all three.
    """

    encoder: Encoder
    query: str | None
    document: str | None
    digest: str

    @property
    def device(self) -> str:
        """Where the encoder runs."""
        return str(getattr(self.encoder, "device", "cpu"))

    @property
    def settings(self) -> dict[str, Any]:
        """The encoder's, and the prompts."""
        prompts = {"query_prompt": self.query, "document_prompt": self.document}
        return {**getattr(self.encoder, "settings", {}), **{name: text for name, text in prompts.items() if text}}

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Encode texts to vectors, (n, d) float32."""
        prompt = self.query if kind == "query" else self.document
        if isinstance(self.encoder, SentenceTransformerEncoder):
            return self.encoder.encode(texts, kind=kind, prompt=prompt)
        return self.encoder.encode([(prompt or "") + text for text in texts], kind=kind)


def prompted(encoder: Encoder, *, query: str | None = None, document: str | None = None) -> Encoder:
    """Return an encoder with other prompts; where one is `None`, the model's own prompt for that kind stays.

    Args:
        encoder (`Encoder`): what encodes.
        query, document (`str`, *optional*): prepended to texts of that kind.
    """
    if isinstance(encoder, TransformersEncoder):
        files = encoder.files if query is None else replace(encoder.files, query_prompt=query)
        files = files if document is None else replace(files, document_prompt=document)
        return replace(encoder, files=files, digest=files.digest())
    digest = digest_of({"encoder": encoder.digest, "query": query, "document": document})
    return Prompted(encoder=encoder, query=query, document=document, digest=digest)


def prompt_of(model: Any, name: str) -> str:
    """Return the prompt of a model under a name.

    Args:
        model (`str`, `Path` or `SentenceTransformer`): a path or Hub id, or a live model.
        name (`str`): a key of its `prompts`.

    Raises:
        ConfigError: it has no such prompt.
    """
    prompts = getattr(model, "prompts", None)
    if isinstance(model, (str, os.PathLike)):
        folder = model_folder(os.fspath(model), otherwise="a SentenceTransformer")
        prompts = read_json(folder / "config_sentence_transformers.json", default={}).get("prompts")
    known = dict(prompts or {})
    if name not in known:
        raise ConfigError(
            f"The prompt {name!r} is not among those of the model, {', '.join(map(repr, known)) or 'which has none'}. "
            "Name one of them, or give the text of the prompt itself."
        )
    return str(known[name] or "")
