"""Encoders: transformers models with sentence-transformers files beside them, live models, callables.

The vector of a text does not depend on what else is encoded with it (`models/forward.py`), so mined rows do not change
with the batch size of `Dataset.map`.

Opening an encoder reads its files and no more; torch is imported and the model loaded when the first text is encoded.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np

from hf_hardneg.arrays.vectors import checked_vectors
from hf_hardneg.corpus.pictures import probe_images, refuse_names
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.identity import identify
from hf_hardneg.models import model_files
from hf_hardneg.models.each_kind import each_kind_apart
from hf_hardneg.models.families import (
    IMAGES,
    MULTI_VECTOR,
    SPARSE_ENCODER,
    TEXT_ENCODERS_OF_PAIRS,
    UNKNOWN,
    Family,
    check_family,
    family_of_folder,
    family_of_live,
    refuse,
)
from hf_hardneg.models.forward import check_device, device_here, in_order, load_model, passes
from hf_hardneg.models.functions import TextFunction
from hf_hardneg.models.live import check_same, same_modes, saved
from hf_hardneg.models.model_files import (
    ModelFiles,
    NotCovered,
    Precision,
    not_covered,
    read_json,
    read_model_files,
    tell_prompts,
)
from hf_hardneg.models.modules import (
    AHEAD,
    KINDS,
    OTHERWISE,
    ImageEncoder,
    Kind,
    SentenceTransformerEncoder,
    forget_modules,
)
from hf_hardneg.store import kinds

if TYPE_CHECKING:
    from torch import Tensor

PROBES = [
    "Basalt is dark rock from lava.",
    "",
    "ÉTÉ in 東京: 3.5 % [MASK]",
    " ".join(f"word{n} Rock" for n in range(300)),
]
"""Texts that show another case, language, prompt, side or length."""


@runtime_checkable
class Encoder(Protocol):
    """The interface to a model, as retrieval uses it."""

    @property
    def digest(self) -> str:
        """Identity of everything that changes a vector: weights, pooling, prompts, lengths."""

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Encode texts to vectors, (n, d) float32."""


def load_encoder(encoder: Any, *, cache_dir: Path, device: str = "auto", precision: Precision = "float32") -> Encoder:
    """Make an encoder of what a user passes. A path or Hub id is checked by its files; no model is loaded yet.

    Args:
        encoder (`str`, `Path`, `SentenceTransformer`, `Callable[[list[str]], array (n, d)]` or `Encoder`): the model.
        cache_dir (`Path`): where a live model is saved once, so that workers can load it.
        device (`str`, defaults to `"auto"`): for a path or Hub id, such as `"cuda"`; a GPU if there is one.
        precision (`str`, defaults to `"float32"`): for a path or Hub id on a GPU, `"float16"` or `"bfloat16"`.

    Raises:
        ModelError: there is no such model, or it describes something that is not supported.
        ConfigError: something else was passed, or a late-interaction model.
    """
    if isinstance(encoder, Encoder):
        return encoder
    for family, method in ((SPARSE_ENCODER, "encode_sparse"), (MULTI_VECTOR, "encode_each_token")):
        if hasattr(encoder, method):
            refuse(family, "encoder", f"a {type(encoder).__name__}", live=True)
    check_device(device)
    if isinstance(encoder, (str, os.PathLike)):
        with model_files.described(os.fspath(encoder)):
            return _of_folder(os.fspath(encoder), device, precision)
    if family_of_live(encoder) is not None:
        tell_prompts(vars(encoder), f"that encoder= got, a {type(encoder).__name__},")
        return open_saved(save_live(encoder, cache_dir, check=True), str(encoder.device))
    if callable(encoder):
        return CallableEncoder(function=encoder, digest=identify(encoder, what="encoder"))
    raise ConfigError(
        f"encoder= got a {type(encoder).__name__}; allowed are a Hub id, a local path, a SentenceTransformer, "
        "or a callable list[str] -> (n, d)."
    )


def _of_folder(name: str, device: str, precision: Precision) -> Encoder:
    folder = model_files.model_folder(name, otherwise="a SentenceTransformer, or a callable")
    family = family_of_folder(folder)
    check_family(family, "encoder", repr(name))
    tell_prompts(read_json(folder / "config_sentence_transformers.json", default={}), repr(name))
    try:
        if family is IMAGES:
            raise not_covered(name, "a part for images")
        files = replace(read_model_files(str(folder)), precision=precision)
    except NotCovered:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise
        if precision != "float32":
            raise ConfigError(
                f"precision={precision!r} is for models of one Transformer, Pooling and Normalize; {name!r} has other "
                "modules and is run by sentence-transformers. Leave precision= out."
            ) from None
        return _run_by_modules(family).of(folder, device=device)
    return TransformersEncoder(files=files, digest=files.digest(), device=device)


def _run_by_modules(family: Family) -> type[SentenceTransformerEncoder]:
    """Return the class for a model that sentence-transformers runs."""
    return ImageEncoder if family is IMAGES else SentenceTransformerEncoder


def save_live(model: Any, cache: Path, *, check: bool = False) -> Path:
    """Save a live SentenceTransformer as it is now, once under a cache; return the folder, which `open_saved` opens.

    Args:
        model (`SentenceTransformer`): may be in training.
        cache (`Path`): where it is saved.
        check (`bool`, defaults to `False`): whether to compare vectors of the saved and the live model.

    Raises:
        ModelError: this process holds a part of the weights only, or what is saved gives other vectors.
        ConfigError: a model of another family.
    """
    check_family(family_of_live(model) or UNKNOWN, "encoder", f"a {type(model).__name__}", live=True)
    return saved(model, cache, kinds.ENCODER, check=functools.partial(_check_saved, model) if check else None)


def open_saved(folder: Path, device: str) -> Encoder:
    """Open the encoder that `save_live` saved into a folder: run here where its modules are covered."""
    model = folder / "model"
    try:
        files = replace(read_model_files(str(model)), precision=_precision(model, device))
    except NotCovered:
        return _run_by_modules(family_of_folder(model)).of(model, device=device, own_code=True)
    return TransformersEncoder(files=files, digest=files.digest(), device=device)


def _precision(model: Path, device: str) -> Precision:
    """Return the precision in which a model was saved, where a GPU computes in it."""
    dtype = read_json(model / "config.json", default={}).get("dtype", "float32")
    return dtype if dtype in get_args(Precision) and device.startswith("cuda") else "float32"


def _check_saved(model: Any, directory: Path) -> None:
    """Raise where a saved model gives other vectors than the live one; see `check_same`."""
    encoder = open_saved(directory, str(model.device))
    instead = "a callable list[str] -> (n, d), such as a function that calls its encode()"
    for kind, encode in KINDS.items():
        with same_modes(model):
            live = getattr(model, encode)(PROBES, show_progress_bar=False, convert_to_numpy=True)
        opened = encoder.encode(PROBES, kind=kind)
        check_same(model, live, opened, slot="encoder", results=f"vectors for a {kind}", instead=instead)
        if isinstance(encoder, ImageEncoder):
            images = probe_images()
            with same_modes(model):
                live = getattr(model, encode)([image.opened() for image in images], show_progress_bar=False)
            opened = encoder.encode(images, kind=kind)
            check_same(model, live, opened, slot="encoder", results="vectors for an image", instead=instead)
    unload_models()


class TokenVectors(NamedTuple):
    """A text token by token, without the special tokens that a model puts around it.

    Args:
        pooled (`np.ndarray`): (d,) float32, the vector of the whole text, of unit length.
        ids (`np.ndarray`): (n,) of its tokens.
        vectors (`np.ndarray`): (n, d) float16, of its tokens, of unit length.
    """

    pooled: np.ndarray
    ids: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True, kw_only=True)
class TransformersEncoder:
    """A transformers model with the pooling its sentence-transformers files describe.

    Args:
        files (`ModelFiles`): where it lies and what its files say.
        digest (`str`): of the files' content; checked again when the weights are loaded.
        device (`str`, defaults to `"auto"`): `"cpu"`, `"cuda"` or `"mps"`; a GPU if there is one.
    """

    files: ModelFiles
    digest: str
    device: str = "auto"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that change a vector besides the weights, to be read by people."""
        return {field.name: getattr(self.files, field.name) for field in fields(self.files)}

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Encode texts to vectors, (n, d) float32.

        Raises:
            DataError: a vector is not finite.
            ModelError: the model cannot be loaded, or its weights are no longer those the digest was made of.
            ConfigError: half precision on a CPU, or a GPU in a worker.
        """
        refuse_names(f"The encoder {self.files.folder}", texts)
        if not texts:
            model, _, _ = self._opened()
            return np.zeros((0, model.config.hidden_size), np.float32)[:, : self.files.truncate_dim]
        tokens = self.tokenized(texts, kind=kind)
        vectors = in_order(self._passes(tokens, self.files.pool))[:, : self.files.truncate_dim]
        return checked_vectors(np.ascontiguousarray(vectors), what="encoded texts")

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind) -> list[TokenVectors]:
        """Encode texts token by token, to one `TokenVectors` for each text.

        Raises:
            ModelError, ConfigError: as `encode`.
        """
        from torch import cat
        from torch.nn.functional import normalize

        def all_of(hidden: Tensor, mask: Tensor) -> Tensor:
            return normalize(cat([self.files.pool(hidden, mask)[:, None], hidden], 1), dim=-1)

        if not texts:
            return []
        tokens = self.tokenized(texts, kind=kind)
        encoded: dict[int, TokenVectors] = {}
        for rows, values in self._passes(tokens, all_of):
            for row, pooled, vectors in zip(rows.tolist(), values[:, 0], values[:, 1:], strict=True):
                plain = np.flatnonzero(np.array(tokens["special_tokens_mask"][row]) == 0)
                ids = np.array(tokens["input_ids"][row], np.int64)[plain]
                encoded[row] = TokenVectors(pooled.copy(), ids, vectors[plain].astype(np.float16))
        return [encoded[row] for row in range(len(texts))]

    def tokenized(self, texts: Sequence[str], *, kind: Kind) -> dict[str, list[list[int]]]:
        """Cut texts into tokens, to the model's length: `input_ids` and `special_tokens_mask`, a list for each text."""
        return tokenized(self.files, self._opened()[1], texts, kind=kind)

    def vocabulary_size(self) -> int:
        """Return how many tokens the model knows; every id is smaller."""
        return len(self._opened()[1])

    def _opened(self) -> tuple[Any, Any, str]:
        """Return the model, its tokenizer and the device."""
        device = device_here(self.device, instead=AHEAD)
        return *_loaded(self.files, self.digest, device), device

    def _passes(
        self, tokens: dict[str, list[list[int]]], output: Callable[[Tensor, Tensor], Tensor]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Run `passes`, with `output` of the last hidden states, (b, length, d), and the mask, (b, length)."""
        model, tokenizer, device = self._opened()
        half = _half_precision(self.files.precision, device)

        def run(inputs: dict[str, Tensor]) -> Tensor:
            with half:
                return output(model(**inputs).last_hidden_state, inputs["attention_mask"])

        ids = {"input_ids": tokens["input_ids"]}
        return passes(run, tokenizer, ids, limit=self.files.max_length, device=device)


def tokenized(files: ModelFiles, tokenizer: Any, texts: Sequence[str], *, kind: Kind) -> dict[str, list[list[int]]]:
    """Cut texts into tokens as a model's files say: `input_ids` and `special_tokens_mask`, a list for each text."""
    prompt = files.query_prompt if kind == "query" else files.document_prompt
    lower = str.lower if files.lower_case else str
    prepared = [lower((prompt + text).strip()) for text in texts]
    options = {"truncation": True, "max_length": files.max_length, "return_special_tokens_mask": True}
    tokens = tokenizer(prepared, **options)
    return {name: tokens[name] for name in ("input_ids", "special_tokens_mask")}


def _half_precision(precision: Precision, device: str) -> AbstractContextManager[Any]:
    if precision == "float32":
        return nullcontext()
    if not device.startswith("cuda"):
        raise ConfigError(f'precision="{precision}" on {device}: only a GPU computes in half. Use precision="float32".')
    import torch

    return torch.autocast("cuda", dtype=getattr(torch, precision))


def unload_models() -> None:
    """Forget the models that this process has loaded, so that their memory is free."""
    _loaded.cache_clear()
    forget_modules()


@functools.lru_cache(maxsize=2)
def _loaded(files: ModelFiles, digest: str, device: str) -> tuple[Any, Any]:
    if files.digest() != digest:
        raise model_files.changed(files.folder)
    half = read_json(Path(files.folder) / "config.json").get("model_type") in TEXT_ENCODERS_OF_PAIRS
    return load_model(files.folder, "AutoModelForTextEncoding" if half else "AutoModel", device, otherwise=OTHERWISE)


class CallableEncoder(TextFunction):
    """Any function from texts to vectors, (n, d), or from images of PIL; it gets texts alone or images alone."""

    takes_images: ClassVar[bool] = True

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Encode texts to vectors, (n, d) float32.

        Raises:
            DataError: the function returns something else than one finite vector per text.
        """
        return each_kind_apart(texts, self._vectors)

    def _vectors(self, contents: Sequence[Any]) -> np.ndarray:
        """Vectors of texts alone, or of images alone."""
        try:
            returned = self.called(contents)
        except Exception as error:
            if isinstance(contents[0], str):
                raise
            raise ConfigError(
                f"encoder= got a callable that failed on images ({type(error).__name__}: {error}); it is called with "
                "lists of images of PIL where queries or documents are images. Give one that takes those."
            ) from error
        matrix = checked_vectors(returned, what="vectors returned by the encoder")
        if len(matrix) != len(contents):
            raise DataError(
                f"The encoder returned {len(matrix)} vectors for {len(contents)} texts; return one per text, in order."
            )
        return matrix
