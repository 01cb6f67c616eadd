"""Sparse encoders: SPLADE run here, other modules of sentence-transformers run there, live models, callables.

The vector of a text does not depend on what else is encoded with it: SPLADE runs as `models/forward.py` says, and what
sentence-transformers runs on a CPU, such as inference-free models, it gets text by text.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from hf_hardneg.arrays.sparse_rows import SparseRows, sparse_rows
from hf_hardneg.errors import ConfigError, ModelError
from hf_hardneg.identity import identify
from hf_hardneg.models import model_files
from hf_hardneg.models.encoder import PROBES, Encoder, tokenized
from hf_hardneg.models.families import UNKNOWN, check_family, family_of_folder, family_of_live
from hf_hardneg.models.forward import check_device, device_here, in_order, load_model, passes
from hf_hardneg.models.functions import TextFunction
from hf_hardneg.models.live import check_same, same_modes, saved
from hf_hardneg.models.model_files import LIMITS, READ, ModelFiles, NotCovered, content_digests, read_json
from hf_hardneg.models.modules import AHEAD, KINDS, Kind, ModulesEncoder, forget_modules
from hf_hardneg.store import kinds
from hf_hardneg.store.directories import digest_of

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 128
"""Texts whose weights for the whole vocabulary are held together."""
FORMS = "a sentence-transformers SparseEncoder, a Hub id or path of one or of a masked language model, or a callable"
OTHERWISE = "a SparseEncoder, or a callable list[str] -> sparse rows"
FILL_MASK = {
    "transformer_task": "fill-mask",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    "module_output_name": "token_embeddings",
}
"""The settings of a masked language model that is run here; all may be left out."""
ACTIVATIONS, POOLINGS = ("relu", "log1p_relu"), ("max", "sum")


@runtime_checkable
class SparseTextEncoder(Protocol):
    """The interface to a model of sparse vectors, as retrieval uses it."""

    @property
    def digest(self) -> str:
        """Identity of everything that changes a vector: weights, pooling, prompts, lengths."""

    def encode_sparse(self, texts: Sequence[str], *, kind: Kind) -> SparseRows:
        """Encode n texts to sparse vectors."""


def load_sparse_encoder(encoder: Any, *, cache_dir: Path, device: str = "auto") -> SparseTextEncoder:
    """Make a sparse encoder of what a user passes. A path or Hub id is checked by its files; no model is loaded yet.

    Args:
        encoder (`str`, `Path`, `SparseEncoder`, `SparseTextEncoder` or `Callable`): the model; a callable maps texts to
            a scipy.sparse matrix, a sparse torch tensor, or a list with a {term: weight} for each text.
        cache_dir (`Path`): where a live model is saved once, so that workers can load it.
        device (`str`, defaults to `"auto"`): for a path or Hub id, such as `"cuda"`; a GPU if there is one.

    Raises:
        ModelError: there is no such model, or it describes something that is not supported.
        ConfigError: something else was passed, or an encoder of dense vectors.
    """
    if isinstance(encoder, SparseTextEncoder):
        return encoder
    if isinstance(encoder, Encoder) or hasattr(encoder, "encode_each_token"):
        raise ConfigError(
            f"encoder= got a {type(encoder).__name__}, whose vectors are dense; a sparse encoder is allowed, {FORMS}. "
            'Mine with "dense", or give one of those.'
        )
    check_device(device)
    if isinstance(encoder, str | os.PathLike):
        with model_files.described(os.fspath(encoder)):
            return _of_folder(os.fspath(encoder), device)
    if family_of_live(encoder) is not None:
        return open_saved_sparse(save_live_sparse(encoder, cache_dir, check=True), str(encoder.device))
    if callable(encoder):
        return SparseCallable(function=encoder, digest=identify(encoder, what="sparse encoder"))
    raise ConfigError(f"encoder= got a {type(encoder).__name__}; allowed are {FORMS}. Give one of those.")


def _of_folder(name: str, device: str) -> SparseTextEncoder:
    folder = model_files.model_folder(name, otherwise=OTHERWISE)
    check_family(family_of_folder(folder), "sparse", repr(name))
    return _opened(folder, device, repr(name))


def _opened(folder: Path, device: str, name: str, *, own_code: bool = False) -> SparseTextEncoder:
    cosine = _is_cosine(read_json(folder / "config_sentence_transformers.json", default={}), name)
    try:
        return SpladeEncoder.of(folder, device=device, cosine=cosine)
    except NotCovered:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise
    return SparseModulesEncoder.of(folder, device=device, own_code=own_code, cosine=cosine)


def _is_cosine(settings: dict[str, Any], name: str) -> bool:
    """Whether a model compares vectors by their cosine.

    Raises:
        ModelError: it compares them by a distance.
    """
    similarity = settings.get("similarity_fn_name") or "dot"
    if similarity not in ("dot", "cosine"):
        raise ModelError(
            f"encoder= got {name}, which compares vectors by {similarity!r}; 'dot' and 'cosine' are allowed. Save it "
            "with one of these as its similarity_fn_name, if it was trained so."
        )
    return bool(similarity == "cosine")


def save_live_sparse(model: Any, cache: Path, *, check: bool = False) -> Path:
    """Save a live SparseEncoder as it is now, once under a cache; return the folder that `open_saved_sparse` opens.

    Args:
        model (`SparseEncoder`): may be in training.
        cache (`Path`): where it is saved.
        check (`bool`, defaults to `False`): whether to compare vectors of the saved and the live model.

    Raises:
        ModelError: this process holds a part of the weights only, or what is saved gives other vectors.
        ConfigError: a model of another family.
    """
    check_family(family_of_live(model) or UNKNOWN, "sparse", f"a {type(model).__name__}", live=True)
    settings = {"similarity": str(model.similarity_fn_name), "most": model.max_active_dims}
    checking = functools.partial(_check_saved, model) if check else None
    return saved(model, cache, kinds.ENCODER, options=settings, check=checking)


def open_saved_sparse(folder: Path, device: str) -> SparseTextEncoder:
    """Open the encoder that `save_live_sparse` saved into a folder."""
    return _opened(folder / "model", device, "a SparseEncoder", own_code=True)


def _check_saved(model: Any, directory: Path) -> None:
    """Raise where a saved model gives other vectors than the live one; see `check_same`."""
    encoder: Any = open_saved_sparse(directory, str(model.device))
    for kind, encode in KINDS.items():
        with same_modes(model):
            live = getattr(model, encode)(PROBES, show_progress_bar=False, convert_to_sparse_tensor=False)
        matrix = live.float().cpu().numpy()
        if encoder.cosine:
            matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        opened = encoder.encode_sparse(PROBES, kind=kind).to_dense(matrix.shape[1])
        instead = "a callable list[str] -> sparse rows, such as a function that calls its encode()"
        check_same(model, matrix, opened, slot="encoder", results=f"vectors for a {kind}", instead=instead)
    unload_sparse()


@dataclass(frozen=True, kw_only=True)
class SpladeEncoder:
    """A masked language model of transformers with SPLADE's pooling (2109.10086), a term for each token it knows.

    The weight of a term is the largest, or the sum, over a text's tokens of `log(1 + max(0, logit))`.

    Args:
        files (`ModelFiles`): where it lies, its prompts and length.
        digest (`str`): of the files' content and of all settings; checked again when the weights are loaded.
        device (`str`, defaults to `"auto"`): where it runs; a GPU if there is one.
        pooling (`str`, defaults to `"max"`): or `"sum"`.
        activation (`str`, defaults to `"relu"`): or `"log1p_relu"`, which takes the logarithm twice.
        cosine (`bool`, defaults to `False`): whether vectors are scaled to unit length.
    """

    files: ModelFiles
    digest: str
    device: str = "auto"
    pooling: str = "max"
    activation: str = "relu"
    cosine: bool = False

    @classmethod
    def of(cls, folder: Path, *, device: str, cosine: bool) -> SpladeEncoder:
        """Make the encoder of a folder, whose files are read and no more.

        Raises:
            NotCovered: it has other modules or settings, which sentence-transformers runs.
        """
        modules, name = model_files.modules_of(folder), str(folder)
        names = [module["type"].rpartition(".")[2] for module in modules]
        foreign = any(not module["type"].startswith("sentence_transformers.") for module in modules)
        if foreign or names not in ([], ["Transformer", "SpladePooling"], ["MLMTransformer", "SpladePooling"]):
            raise model_files.not_covered(name, f"the modules {', '.join(names)}")
        weights = folder / modules[0]["path"] if modules else folder
        model_files.check_complete(weights, name)
        settings = read_json(folder / "config_sentence_transformers.json", default={})
        said = read_json(folder / modules[1]["path"] / "config.json", default={}) if modules else {}
        pooling, activation = said.get("pooling_strategy", "max"), said.get("activation_function", "relu")
        plain = model_files.is_plain(weights, FILL_MASK) and pooling in POOLINGS and activation in ACTIVATIONS
        if not plain or settings.get("max_active_dims") is not None or model_files.has_code(weights):
            raise model_files.not_covered(name, "settings or code of its own")
        files = model_files.plain_files(weights, settings)
        chosen = {"pooling": pooling, "activation": activation, "cosine": cosine}
        return cls(files=files, digest=_splade_digest(files, **chosen), device=device, **chosen)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that change a vector besides the weights, to be read by people."""
        kept = {name: value for name, value in asdict(self.files).items() if name in _OPTIONS}
        chosen = {"pooling": self.pooling, "activation": self.activation, "cosine": self.cosine}
        return {"folder": self.files.folder, **kept, **chosen}

    def encode_sparse(self, texts: Sequence[str], *, kind: Kind) -> SparseRows:
        """Encode texts to sparse vectors.

        Raises:
            DataError: a weight is not finite.
            ModelError: the model cannot be loaded, or its weights are no longer those the digest was made of.
            ConfigError: a GPU in a worker.
        """
        device = device_here(self.device, instead=AHEAD)
        model, tokenizer = _loaded(self, device)

        def run(inputs: dict[str, Tensor]) -> Tensor:
            return self._pooled(model(**inputs).logits, inputs["attention_mask"])

        parts = [sparse_rows([], what="sparse vectors")]
        for start in range(0, len(texts), AT_ONCE):
            tokens = tokenized(self.files, tokenizer, texts[start : start + AT_ONCE], kind=kind)
            ids = {"input_ids": tokens["input_ids"]}
            matrix = in_order(passes(run, tokenizer, ids, limit=self.files.max_length, device=device))
            parts.append(sparse_rows(SparseRows.of_dense(matrix), what="encoded texts", start=start))
        rows = SparseRows.joined(parts)
        return rows.of_unit_length() if self.cosine else rows

    def _pooled(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Pool the logits of tokens (n, length, terms) to the weights of terms (n, terms)."""
        weights = (logits * mask.unsqueeze(-1)).relu_()
        if self.pooling == "max":  # logarithms keep the order, so that those of the largest will do
            weights = weights.amax(1)
        weights = weights.log1p_()
        if self.activation == "log1p_relu":
            weights = weights.log1p_()
        return weights if self.pooling == "max" else weights.sum(1)


_OPTIONS = ("query_prompt", "document_prompt", "max_length", "lower_case")


def _splade_digest(files: ModelFiles, **chosen: Any) -> str:
    """The identity of a model with SPLADE's pooling: the content of its files, and all settings."""
    options = {name: getattr(files, name) for name in _OPTIONS}
    content = content_digests(files.folder, leave_out=(*READ, *LIMITS))
    return digest_of({"run": "splade", "files": content, "options": {**options, **chosen}})


@functools.lru_cache(maxsize=2)
def _loaded(encoder: SpladeEncoder, device: str) -> tuple[Any, Any]:
    chosen = {"pooling": encoder.pooling, "activation": encoder.activation, "cosine": encoder.cosine}
    if _splade_digest(encoder.files, **chosen) != encoder.digest:
        raise model_files.changed(encoder.files.folder)
    return load_model(encoder.files.folder, "AutoModelForMaskedLM", device, otherwise=OTHERWISE)


def unload_sparse() -> None:
    """Forget the models that this process has loaded here, so that their memory is free."""
    _loaded.cache_clear()
    forget_modules()


@dataclass(frozen=True, kw_only=True)
class SparseModulesEncoder(ModulesEncoder):
    """A sparse model of other modules, such as an inference-free one, run by sentence-transformers.

    Args:
        folder, digest, device, own_code: see `ModulesEncoder`.
        cosine (`bool`, defaults to `False`): whether vectors are scaled to unit length.
    """

    cosine: bool = False
    model_class: ClassVar[str] = "SparseEncoder"

    @property
    def said(self) -> dict[str, Any]:
        """See `ModulesEncoder`."""
        return {"cosine": self.cosine}

    def encode_sparse(self, texts: Sequence[str], *, kind: Kind) -> SparseRows:
        """Encode texts to sparse vectors, by `encode_query` or `encode_document`; each alone and by one thread on CPU.

        Raises:
            DataError: a weight is below zero, or not finite.
            ModelError, ConfigError: as `SpladeEncoder.encode_sparse`.
        """
        encoded = self.text_by_text(texts, kind, save_to_cpu=True)
        rows = SparseRows.joined([sparse_rows(each, what="encoded texts") for each in encoded])
        return rows.of_unit_length() if self.cosine else rows


class SparseCallable(TextFunction):
    """Any function from texts to sparse rows."""

    def encode_sparse(self, texts: Sequence[str], *, kind: Kind) -> SparseRows:
        """Encode texts to sparse vectors.

        Raises:
            DataError: the function returns something else than one sparse vector per text.
        """
        if not texts:
            return sparse_rows([], what="sparse vectors")
        what = "sparse vectors returned by the encoder"
        return sparse_rows(self.called(texts), what=what, count=len(texts))
