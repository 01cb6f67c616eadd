"""Models that live in this process: told apart by weights and settings, and saved once so that others can open them.

The settings are everything besides the weights that can change what a model returns. It does not matter what the
model's class will save: attributes set on a live object, such as a tokenizer's truncation side or a `forward` put in
another's place, count whether they are saved or not. Where it came from and where it runs do not.

`identity/foreign.py` describes models too, as parts of a user's code. It cannot serve here: identities stay the same
for a run, in which training changes weights, and a part that nothing identifies makes the whole another each time,
while here its class and attributes will do, since the saved model is compared with the live one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.errors import ModelError
from hf_hardneg.models.model_files import IGNORED, json_digest
from hf_hardneg.store.directories import bytes_digest, digest_of, file_digest, obtain
from hf_hardneg.store.disk import scratch
from hf_hardneg.store.kinds import Kind

TOLERANCE, TOLERANCE_OF_HALF = 1e-3, 3e-2
"""By how much of its largest value what a model returns may change when it is saved and opened."""
ELSEWHERE = {
    *("training", "model_card_data", "_model_card_vars", "_model_card_text", "warnings_issued", "is_hpu_graph_enabled"),
    *("_modules_placed", "_device_map", "_hf_hook", "_old_forward", "_is_hf_initialized", "_is_torch_compile"),
    *("_compiled_call_impl", "_compile_kwargs", *IGNORED),
}
"""Attributes that change no result; importing Lightning makes `torch.compile` write `_compile_kwargs`."""
WRITTEN = ("architectures", "dtype", "torch_dtype")
"""Settings that `save_pretrained` writes into the configuration of a live model."""
DEEPEST = 8
"""The description looks into so many objects within objects."""


def weights_digest(model: Any) -> str:
    """Return the hex digest of all weights and buffers of a torch module, read in float32, and of their types.

    Raises:
        ModelError: this process holds a part of them only.
    """
    if _is_part(model):
        raise ModelError(
            f"The weights of this {type(model).__name__} are spread over processes or devices, as FSDP, ZeRO-3, tensor "
            "parallelism and offloading do; whole ones can be read. Train it with DistributedDataParallel, or give a "
            "callable list[str] -> (n, d) that gathers them, with a digest that changes with the weights."
        )
    weights = blake2b(digest_size=16)
    for name, tensor in sorted({**dict(model.named_buffers()), **model.state_dict()}.items()):
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).tobytes())
    return weights.hexdigest()


def _is_part(model: Any) -> bool:
    """Say whether weights are kept elsewhere too: by FSDP, as a `DTensor`, by DeepSpeed, or on no device."""
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()) or any(
        hasattr(weight, "full_tensor") or hasattr(weight, "ds_id") or weight.is_meta for weight in model.parameters()
    )


def save_model(model: Any, directory: Path) -> None:
    """Save a model of transformers or sentence-transformers from this process, whatever its rank.

    In a process group newer transformers write on rank 0 alone. Here the process that holds the folder's lock writes,
    and that can be any.
    """
    parts = [part for part in model.modules() if hasattr(part, "should_save_on_this_rank")]
    for part in parts:
        part.should_save_on_this_rank = lambda is_main_process: is_main_process
    try:
        model.save_pretrained(str(directory))
    finally:
        for part in parts:
            del part.should_save_on_this_rank


def keep_settings(model: Any, directory: Path) -> None:
    """Add to the folder of a live model the settings that saving leaves out.

    These are how many values of its vectors are kept, in older versions of sentence-transformers, and the side at which
    texts are cut. A tokenizer's class may put its own normalizer in the place of the saved one, as BERT's does with
    another than its own; then the class is named that takes what is saved.

    Args:
        model: what was saved; a tokenizer too.
        directory (`Path`): where it was.
    """
    path = directory / "config_sentence_transformers.json"
    if getattr(model, "truncate_dim", None) is not None:
        _add(path, truncate_dim=model.truncate_dim)
    tokenizer = getattr(model, "tokenizer", model)
    path = next(directory.rglob("tokenizer_config.json"), directory)
    if path == directory or not hasattr(tokenizer, "backend_tokenizer"):
        return
    from transformers import AutoTokenizer

    try:
        opened = AutoTokenizer.from_pretrained(path.parent, trust_remote_code=False)
    except ValueError:  # code of its own saves what it needs
        return
    if opened.truncation_side != tokenizer.truncation_side:
        _add(path, truncation_side=tokenizer.truncation_side)
    if str(opened.backend_tokenizer.normalizer) != str(tokenizer.backend_tokenizer.normalizer):
        _add(path, tokenizer_class="PreTrainedTokenizerFast", model_input_names=list(tokenizer.model_input_names))


def _add(path: Path, **said: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | said, indent=2))


@contextmanager
def same_modes(model: Any) -> Iterator[None]:
    """Leave the modules of a model in training, or not, as they were: what encodes takes them out of it."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_same(model: Any, live: Any, opened: np.ndarray, *, slot: str, results: str, instead: str) -> None:
    """Raise where a saved and opened model does not return for some texts what the live one returns, up to rounding.

    Args:
        model: the live one; where its weights are halves, so is their rounding.
        live (array): what it returns, of any shape.
        opened (`np.ndarray`): what the opened one returns; of the same shape, if it is the same model.
        slot (`str`), results (`str`), instead (`str`): the argument that got it, what is returned, and what else may be
            passed, for the message.

    Raises:
        ModelError: they differ, as after a `forward` was put in another's place.
    """
    expected = np.asarray(live, np.float32)
    dtype = next((str(weight.dtype) for weight in model.parameters()), "torch.float32")
    most = (TOLERANCE if dtype == "torch.float32" else TOLERANCE_OF_HALF) * np.abs(expected).max()
    if expected.size != opened.size or not np.abs(expected.reshape(opened.shape) - opened).max() <= most:
        raise ModelError(
            f"{slot}= got a {type(model).__name__} that cannot be saved as it is: opened again, it gives other "
            f"{results}. A setting or method of the live object is in no file. Save it and pass the folder if that is "
            f"what you want, or pass {instead}."
        )


def live_identity(model: Any) -> dict[str, str]:
    """Return a live model's class, and digests of its weights and of all else that can change what it returns.

    Raises:
        ModelError: this process holds a part of the weights only.
    """
    identity = {"class": _kind(model), "weights": weights_digest(model)}
    modules = {name: [_kind(module), _described(_attributes(module))] for name, module in model.named_modules()}
    return {**identity, "settings": digest_of({"modules": modules})}


def _attributes(module: Any) -> dict[str, Any]:
    """Return the attributes of a module that are neither weights nor modules, and its hooks, where there are any."""
    hooks = {name: list(value.values()) for name, value in vars(module).items() if name.endswith("_hooks") and value}
    attributes = {name: value for name, value in vars(module).items() if name not in _internal() | ELSEWHERE}
    return {**attributes, **hooks}


@functools.cache
def _internal() -> frozenset[str]:
    """Return the names of what every torch module has, among them its weights and modules."""
    import torch

    return frozenset(vars(torch.nn.Module()))


def _kind(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _described(value: Any, depth: int = 0) -> Any:
    """Describe a value as plain JSON; what cannot change a result, such as a device, is null."""
    for test, describe in _describers():
        if test(value):
            return describe(value, depth)
    return [_kind(value), _described(vars(value), depth + 1) if hasattr(value, "__dict__") and depth < DEEPEST else ""]


def _describers() -> Iterator[tuple[Callable[[Any], bool], Callable[[Any, int], Any]]]:
    import torch

    yield lambda v: v is None or isinstance(v, (str, bool, int, float)), lambda v, _: v
    yield lambda v: isinstance(v, (torch.device, Path)), lambda v, _: None
    yield lambda v: isinstance(v, (torch.dtype, Enum, bytes, complex)), lambda v, _: str(v)
    yield lambda v: isinstance(v, torch.nn.Module), lambda v, _: _kind(v)
    yield lambda v: isinstance(v, (torch.Tensor, np.ndarray, np.generic)), lambda v, _: _array(v)
    yield lambda v: isinstance(v, Mapping), _mapping
    yield lambda v: isinstance(v, (list, tuple)), lambda v, depth: [_described(item, depth + 1) for item in v]
    yield (
        lambda v: isinstance(v, (set, frozenset)),
        lambda v, depth: sorted(json.dumps(_described(item, depth + 1), sort_keys=True) for item in v),
    )
    yield lambda v: hasattr(v, "save_pretrained") and hasattr(v, "to_dict"), _configuration
    yield lambda v: hasattr(v, "save_pretrained"), lambda v, _: _tokenizer(v)
    yield lambda v: hasattr(v, "to_str"), lambda v, _: bytes_digest(v.to_str().encode())
    yield callable, lambda v, _: _function(v)


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    return {str(name): _described(item, depth + 1) for name, item in value.items() if name not in IGNORED}


def _configuration(value: Any, depth: int) -> Any:
    """Return a configuration without what saving writes into it: class and type, which weights and modules tell."""
    settings = {name: item for name, item in value.to_dict().items() if name not in WRITTEN}
    return [_kind(value), _mapping(settings, depth)]


def _array(value: Any) -> list[str]:
    array = value.detach().cpu().float().numpy() if hasattr(value, "detach") else np.asarray(value)
    return [str(value.dtype), str(array.shape), bytes_digest(np.ascontiguousarray(array).tobytes())]


def _tokenizer(value: Any) -> list[Any]:
    """Describe what a tokenizer saves, and the sides and lengths that were set since."""
    with scratch() as folder:
        value.save_pretrained(folder)
        files = {
            path.name: json_digest(path) if path.suffix == ".json" else file_digest(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    sides = [getattr(value, name, None) for name in ("truncation_side", "padding_side", "model_max_length")]
    return [_kind(value), files, sides, str(getattr(value, "chat_template", None))]


def _function(value: Any) -> str:
    """Return the name of a function; a replaced one is found when the saved model is compared with the live one."""
    inner = getattr(value, "__func__", value)
    return f"{getattr(inner, '__module__', '')}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"


def saved(
    model: Any,
    cache: Path,
    kind: Kind,
    *,
    tokenizer: Any = None,
    options: Mapping[str, Any] | None = None,
    check: Callable[[Path], object] | None = None,
) -> Path:
    """Save a model as it is now, with the settings that saving leaves out; return the directory, with it in `model/`.

    Args:
        model: of transformers or sentence-transformers; may be in training.
        cache (`Path`): where it is saved, if it is not there yet.
        kind (`Kind`): of the directory.
        tokenizer (*optional*): saved beside a model that has none itself.
        options (`Mapping`, *optional*): settings of the user's, as plain JSON, that belong to the model's identity.
        check (`Callable[[Path], object]`, *optional*): raises where the model in a directory is not the live one.

    Raises:
        ModelError: this process holds a part of the weights only.
    """
    parameters = {**live_identity(model), **(options or {})}
    if tokenizer is not None:
        parameters["tokenizer"] = digest_of({"tokenizer": _tokenizer(tokenizer)})

    def save(directory: Path) -> None:
        save_model(model, directory / "model")
        if tokenizer is not None:
            tokenizer.save_pretrained(directory / "model")
        keep_settings(model if tokenizer is None else tokenizer, directory / "model")
        if check is not None:
            check(directory)

    return obtain(cache, kind, parameters, save, {"model": type(model).__name__})
