"""Models of several or other modules than one Transformer, Pooling and Normalize, which sentence-transformers runs."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hf_hardneg.arrays.vectors import checked_vectors
from hf_hardneg.corpus.pictures import refuse_names
from hf_hardneg.errors import ModelError
from hf_hardneg.identity import identify
from hf_hardneg.models.each_kind import each_kind_apart
from hf_hardneg.models.forward import device_here, loading
from hf_hardneg.models.model_files import changed, has_code, module_digests, modules_within
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.process import torch_threads
from hf_hardneg.store.directories import digest_of

if TYPE_CHECKING:
    from typing_extensions import Self

Kind = Literal["query", "document"]
KINDS: dict[Kind, str] = {"query": "encode_query", "document": "encode_document"}
"""The method of sentence-transformers for each kind of text."""
AHEAD = "encode the queries first and pass columns={'query_vector': ...}"
OTHERWISE = "a complete model folder, a Hub id, a SentenceTransformer, or a callable list[str] -> (n, d)"
OURS = "sentence_transformers."
REPLACED = ("pylate.models.Dense.Dense",)
"""Modules in whose place sentence-transformers takes its own."""
AT_ONCE = 16
"""Texts that a thread encodes before another part is begun."""


def modules_digest(folder: str, *, own_code: bool = False) -> str:
    """Return the identity of a folder of sentence-transformers: all files of its modules, and code of the user's.

    Args:
        folder (`str`): of the model.
        own_code (`bool`, defaults to `False`): whether modules of the user's own are wanted.

    Raises:
        ModelError: it has modules of its own, and they are not wanted.
    """
    types = [str(module["type"]) for module in modules_within(Path(folder))]
    others = [name for name in types if not name.startswith(OURS) and name not in REPLACED]
    if (others or has_code(Path(folder))) and not own_code:
        raise ModelError(
            f"The model {folder!r} has code of its own ({', '.join(others) or 'auto_map'}), which is not run unasked. "
            f"Where you trust it, pass encoder=SentenceTransformer({folder!r}, trust_remote_code=True)."
        )
    code = {name: identify(cls, what="module") for name in others if (cls := _class(name))}
    return digest_of({"run": "sentence-transformers", "files": module_digests(folder), "code": code})


def _class(name: str) -> Any:
    """Import a class by its dotted name, if possible; a class in a file of the folder is among the files."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class ModulesEncoder:
    """A model that sentence-transformers runs; in any process it travels as a path.

    Args:
        folder (`str`): of the model.
        digest (`str`): of the content of its files; checked again when the weights are loaded.
        device (`str`, defaults to `"auto"`): where it runs; a GPU if there is one.
        own_code (`bool`, defaults to `False`): whether modules of the user's own are loaded, whose code runs.
    """

    folder: str
    digest: str
    device: str = "auto"
    own_code: bool = False
    model_class: ClassVar[str]

    @classmethod
    def of(cls, folder: Path, *, device: str, own_code: bool = False, **said: Any) -> Self:
        """Make the encoder of a folder, whose files are read and no more.

        Raises:
            ModelError: it has modules of its own, and `own_code` is not wanted.
        """
        encoder = cls(folder=str(folder), digest="", device=device, own_code=own_code, **said)
        return replace(encoder, digest=encoder._digest(modules_digest(str(folder), own_code=own_code)))

    @property
    def said(self) -> dict[str, Any]:
        """What changes a vector besides the modules, and where they are read."""
        return {}

    @property
    def settings(self) -> dict[str, Any]:
        """Where what changes a vector can be read."""
        return {"model": self.folder}

    def _digest(self, modules: str) -> str:
        return digest_of({"modules": modules, **self.said}) if self.said else modules

    def loaded(self, device: str) -> Any:
        """Load the model, whose files must still be those that the digest was made of."""
        modules = modules_digest(self.folder, own_code=self.own_code)
        if not self.own_code and self._digest(modules) != self.digest:
            raise changed(self.folder)
        return loaded_modules(self.folder, modules, device, self.own_code, self.model_class)

    def text_by_text(self, texts: Sequence[Any], kind: Kind, **options: Any) -> list[Any]:
        """Encode texts, each alone and by one thread on a CPU, so that no vector depends on its neighbours.

        Returns:
            What `encode_query` or `encode_document` returns for each part of the texts.
        """
        import torch

        refuse_names(f"The encoder {self.folder}", texts)
        device = device_here(self.device, instead=AHEAD)
        encode = getattr(self.loaded(device), KINDS[kind])
        options |= {"show_progress_bar": False, **({"batch_size": 1} if device == "cpu" else {})}
        parts = [list(texts[start : start + AT_ONCE]) for start in range(0, len(texts), AT_ONCE)]
        run = functools.partial(encode, **options)
        count = torch.get_num_threads() if device == "cpu" else 1
        if count == 1:
            return list(map(run, parts))
        with torch_threads(count) as pool:
            return list(pool.map(run, parts))


class SentenceTransformerEncoder(ModulesEncoder):
    """A model of several or other modules than one Transformer, Pooling and Normalize."""

    model_class: ClassVar[str] = "SentenceTransformer"

    def encode(self, texts: Sequence[str], *, kind: Kind, prompt: str | None = None) -> np.ndarray:
        """Encode texts to vectors, (n, d) float32, by `encode_query` or `encode_document`, which may take a prompt."""
        refuse_names(f"The encoder {self.folder}", texts)
        model = self.loaded(device_here(self.device, instead=AHEAD))
        if not texts:
            return np.zeros_like(self.encode([""], kind=kind)[:0])
        encode = getattr(model, KINDS[kind])
        vectors = encode(list(texts), prompt=prompt, show_progress_bar=False, convert_to_numpy=True)
        return checked_vectors(vectors, what="encoded texts")


class ImageEncoder(SentenceTransformerEncoder):
    """A model of images and texts, such as CLIP, with or without the files of sentence-transformers."""

    takes_images: ClassVar[bool] = True

    def encode(self, texts: Sequence[str], *, kind: Kind, prompt: str | None = None) -> np.ndarray:
        """Encode texts, and images as each a `Picture`, to vectors, (n, d) float32.

        On a CPU no vector depends on what else is encoded, to the last bit.
        """
        if not texts:
            return np.zeros_like(self.encode([""], kind=kind)[:0])
        options = {"prompt": prompt, "convert_to_numpy": True}

        def encode(contents: Sequence[Any]) -> np.ndarray:
            return np.concatenate(self.text_by_text(contents, kind, **options))

        return checked_vectors(each_kind_apart(texts, encode), what="encoded texts and images")


@functools.lru_cache(maxsize=2)
def loaded_modules(folder: str, digest: str, device: str, own_code: bool, model_class: str) -> Any:
    """The model in a folder, loaded once by sentence-transformers, of a class such as `"SparseEncoder"`.

    Raises:
        ModelError: it cannot be loaded, its files have another digest, or sentence-transformers is too old.
    """
    module = require("sentence_transformers", extra="sentence-transformers", needed_by=f"the model at {folder}")
    if not own_code and modules_digest(folder) != digest:
        raise changed(folder)
    if not hasattr(module, model_class):
        raise ModelError(
            f"The model {folder} is a {model_class}, which sentence-transformers {module.__version__} does not know; "
            "newer versions do. Install one: pip install -U sentence-transformers."
        )
    with loading(folder, otherwise=OTHERWISE):
        return getattr(module, model_class)(folder, device=device, trust_remote_code=own_code)


def forget_modules() -> None:
    """Forget the models that this process has loaded here, so that their memory is free."""
    loaded_modules.cache_clear()
