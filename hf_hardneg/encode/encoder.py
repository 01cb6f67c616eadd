"""Encoders: transformers models with sentence-transformers files beside them, live models, callables.

The vector of a text does not depend on what else is encoded with it: texts are padded to a length that is a function of
their own token count (the next multiple of 8), and on CPU each batch is run by one thread, which makes the result the
same to the last bit for any batch size, order and thread count. Mined rows therefore do not change with the batch size
of `Dataset.map`.

Opening an encoder reads its files and no more; torch is imported and the model loaded when the first text is encoded.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from hf_hardneg.encode.model_files import ModelFiles, Precision, read_model_files
from hf_hardneg.errors import ConfigError, DataError, ModelError
from hf_hardneg.index.dense import checked_vectors
from hf_hardneg.index.store import digest_of, obtain
from hf_hardneg.optional import require
from hf_hardneg.process import in_child, single_thread_in_child, torch_threads

logger = logging.getLogger(__name__)

Kind = Literal["query", "document"]
LENGTH_STEP = 8
BATCH_TOKENS = {"cpu": 1024, "gpu": 65536}


@runtime_checkable
class Encoder(Protocol):
    """What retrieval asks of a model."""

    @property
    def digest(self) -> str:
        """Identity of everything that changes a vector: weights, pooling, prompts, lengths."""

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Vectors of texts, (n, d) float32."""


def load_encoder(encoder: Any, *, cache_dir: Path, device: str = "auto", precision: Precision = "float32") -> Encoder:
    """The encoder behind what a user passes. A path or Hub id is checked by its files; no model is loaded yet.

    Args:
        encoder (`str`, `Path`, `SentenceTransformer`, `Callable[[list[str]], array (n, d)]` or `Encoder`): the model.
        cache_dir (`Path`): where a live model is saved once, so that workers can load it.
        device (`str`, defaults to `"auto"`): for a path or Hub id, such as `"cuda"`; a GPU if there is one.
        precision (`str`, defaults to `"float32"`): for a path or Hub id on a GPU, `"float16"` or `"bfloat16"`.

    Raises:
        ModelError: there is no such model, or it describes something that is not supported.
        ConfigError: something else was passed.
    """
    if isinstance(encoder, Encoder):
        return encoder
    if isinstance(encoder, (str, os.PathLike)):
        files = replace(read_model_files(os.fspath(encoder)), precision=precision)
        return TransformersEncoder(files=files, digest=files.digest(), device=device)
    if hasattr(encoder, "state_dict") and hasattr(encoder, "encode_query"):
        return _from_live_model(encoder, cache_dir)
    if callable(encoder):
        return CallableEncoder(function=encoder, digest=_callable_digest(encoder))
    raise ConfigError(
        f"encoder= got a {type(encoder).__name__}; allowed are a Hub id, a local path, a SentenceTransformer, "
        "or a callable list[str] -> (n, d)."
    )


def resolved_device(device: str) -> str:
    """The device that `"auto"` means here; any other is returned as it is."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def refuse_cuda_in_worker(device: str) -> None:
    """Raise where a forked worker would touch CUDA.

    Raises:
        ConfigError: this process is a worker and the device is a GPU.
    """
    if device.startswith("cuda") and in_child():
        raise ConfigError(
            f"num_proc > 1 with an encoder on {device}: a worker cannot use CUDA. "
            "Use num_proc=1, or encode the queries first and pass query_vector_column=."
        )


@dataclass(frozen=True, kw_only=True)
class TransformersEncoder:
    """A transformers model with the pooling its sentence-transformers files describe.

    Args:
        files (`ModelFiles`): where it lies and what its files say.
        digest (`str`): of the files' content; checked again when the weights are loaded.
        device (`str`, defaults to `"auto"`): `"cpu"`, `"cuda"` or `"mps"`; a GPU if there is one.
        batch_tokens (`int`, *optional*): padded tokens per forward pass; does not change the vectors on CPU.
    """

    files: ModelFiles
    digest: str
    device: str = "auto"
    batch_tokens: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What changes a vector besides the weights, to be read by people."""
        return {field.name: getattr(self.files, field.name) for field in fields(self.files)}

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Vectors of texts, (n, d) float32.

        Raises:
            DataError: a vector is not finite.
            ModelError: the model cannot be loaded, or its weights are no longer those the digest was made of.
            ConfigError: half precision on a CPU, or a GPU in a worker.
        """
        import torch

        device = resolved_device(self.device)
        refuse_cuda_in_worker(device)
        single_thread_in_child()
        half = _half_precision(self.files.precision, device)
        model, tokenizer = _loaded(self.files, self.digest, device)
        vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        if not texts:
            return vectors
        prompt = self.files.query_prompt if kind == "query" else self.files.document_prompt
        lower = str.lower if self.files.lower_case else str
        tokens = tokenizer(
            [lower((prompt + text).strip()) for text in texts], truncation=True, max_length=self.files.max_length
        )["input_ids"]

        def run(batch: tuple[np.ndarray, int]) -> None:
            rows, length = batch
            padded = tokenizer.pad({"input_ids": [tokens[i] for i in rows]}, padding="max_length", max_length=length)
            inputs = {name: torch.tensor(padded[name], device=device) for name in ("input_ids", "attention_mask")}
            with torch.inference_mode(), half:
                hidden = model(**inputs).last_hidden_state
                vectors[rows] = self.files.pool(hidden, inputs["attention_mask"]).float().cpu().numpy()

        threads = torch.get_num_threads() if device == "cpu" else 1
        budget = self.batch_tokens or BATCH_TOKENS["cpu" if device == "cpu" else "gpu"]
        batches = _buckets([len(ids) for ids in tokens], self.files.max_length, budget, threads)
        _run_all(run, batches, threads)
        return checked_vectors(vectors, what="encoded texts")


def _half_precision(precision: Precision, device: str) -> AbstractContextManager[Any]:
    if precision == "float32":
        return nullcontext()
    if not device.startswith("cuda"):
        raise ConfigError(f'precision="{precision}" on {device}: only a GPU computes in half. Use precision="float32".')
    import torch

    return torch.autocast("cuda", dtype=getattr(torch, precision))


def _buckets(lengths: list[int], limit: int, budget: int, threads: int) -> list[tuple[np.ndarray, int]]:
    """Rows to run together, and the length to pad them to, longest first; small enough to occupy all threads."""
    padded = np.minimum(-(-np.array(lengths, dtype=np.int64) // LENGTH_STEP) * LENGTH_STEP, max(limit, 1))
    budget = min(budget, -(-int(padded.sum()) // threads))
    batches = []
    for length in np.unique(padded)[::-1]:
        rows, size = np.flatnonzero(padded == length), max(1, budget // max(int(length), 1))
        batches += [(rows[start : start + size], int(length)) for start in range(0, len(rows), size)]
    return batches


def _run_all(run: Callable[[Any], None], batches: list[Any], threads: int) -> None:
    """Run batches on all threads, each batch on one: faster than all threads on each batch, and the same to the bit."""
    if threads == 1:
        for batch in batches:
            run(batch)
        return
    with torch_threads(threads) as pool:
        list(pool.map(run, batches))


def unload_models() -> None:
    """Forget the models that this process has loaded, so that their memory is free."""
    _loaded.cache_clear()
    _live_model.cache_clear()


@functools.lru_cache(maxsize=2)
def _loaded(files: ModelFiles, digest: str, device: str) -> tuple[Any, Any]:
    if files.digest() != digest:
        raise ModelError(
            f"The model at {files.folder} changed since it was chosen: its files have another digest. "
            "Construct the miner again to use the new weights."
        )
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.folder, padding_side="right")
        model = AutoModel.from_pretrained(files.folder).eval().to(device)
    except Exception as error:
        raise ModelError(
            f"The model at {files.folder} cannot be loaded: {type(error).__name__}: {error}. "
            "Give a complete model folder, a Hub id, a SentenceTransformer, or a callable list[str] -> (n, d)."
        ) from error
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    if device == "cpu":
        from hf_hardneg.encode.packed import pack

        pack(model, dict(tokenizer("a probe of a few words", return_tensors="pt")))
    return model, tokenizer


@dataclass(frozen=True, kw_only=True)
class SentenceTransformerEncoder:
    """A live SentenceTransformer, saved once so that workers can load it.

    Args:
        folder (`Path`): where it was saved.
        digest (`str`): of its weights and configuration.
        device (`str`): where the live model was.
    """

    folder: Path
    digest: str
    device: str

    @property
    def settings(self) -> dict[str, Any]:
        """Where what changes a vector can be read."""
        return {"model": str(self.folder)}

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Vectors of texts, (n, d) float32, by `encode_query` or `encode_document`."""
        refuse_cuda_in_worker(self.device)
        single_thread_in_child()
        model = _live_model(self.folder, self.device)
        encode = model.encode_query if kind == "query" else model.encode_document
        vectors = encode(list(texts), show_progress_bar=False, convert_to_numpy=True)
        return checked_vectors(vectors, what="encoded texts")


@functools.lru_cache(maxsize=2)
def _live_model(folder: Path, device: str) -> Any:
    module = require("sentence_transformers", extra="sentence-transformers", needed_by="a SentenceTransformer encoder")
    return module.SentenceTransformer(str(folder / "model"), device=device)


def weights_digest(model: Any) -> str:
    """Hex digest of the weights of a live torch model, by their names."""
    weights = blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode())
        weights.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).tobytes())
    return weights.hexdigest()


def _from_live_model(model: Any, cache_dir: Path) -> SentenceTransformerEncoder:
    parameters = {
        "weights": weights_digest(model),
        "modules": [f"{name}: {module}" for name, module in model.named_children()],
        "prompts": {**model.prompts, "default": model.default_prompt_name},
        "max_length": model.max_seq_length,
    }
    folder = obtain(cache_dir, "encoder", parameters, lambda path: model.save(str(path / "model")))
    return SentenceTransformerEncoder(folder=folder, digest=digest_of(parameters), device=str(model.device))


@dataclass(frozen=True, kw_only=True)
class CallableEncoder:
    """Any function from texts to vectors; queries and documents are encoded alike.

    Args:
        function (`Callable[[list[str]], array (n, d)]`): must be picklable to be used with `num_proc`.
        digest (`str`): its identity.
    """

    function: Callable[[list[str]], Any]
    digest: str

    @property
    def settings(self) -> dict[str, Any]:
        """The function's name."""
        return {"function": getattr(self.function, "__qualname__", type(self.function).__qualname__)}

    def encode(self, texts: Sequence[str], *, kind: Kind) -> np.ndarray:
        """Vectors of texts, (n, d) float32.

        Raises:
            DataError: the function returns something else than one finite vector per text.
        """
        single_thread_in_child()
        vectors = self.function(list(texts))
        if hasattr(vectors, "detach"):
            vectors = vectors.detach().cpu().numpy()
        matrix = checked_vectors(vectors, what="vectors returned by the encoder")
        if len(matrix) != len(texts):
            raise DataError(
                f"The encoder returned {len(matrix)} vectors for {len(texts)} texts; return one per text, in order."
            )
        return matrix


def _callable_digest(function: Any) -> str:
    if isinstance(getattr(function, "digest", None), str):
        return str(function.digest)
    from datasets.fingerprint import Hasher

    try:
        return Hasher.hash(function)
    except Exception as error:
        raise ConfigError(
            f"The encoder {function!r} cannot be pickled, so nothing identifies its vectors: {error}. "
            "Give it a `digest` attribute, a string that changes whenever its vectors do."
        ) from error
