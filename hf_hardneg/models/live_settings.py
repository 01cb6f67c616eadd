"""The settings of a live model: everything besides its weights that can change what it returns.

It does not matter what the model's class will save: attributes set on a live object, such as a tokenizer's truncation
side or a `forward` put in another's place, count whether they are saved or not. Where it came from and where it runs do
not.

`identity/foreign.py` describes models too, as parts of a user's code. It cannot serve here: identities stay the same
for a run, in which training changes weights, and a part that nothing identifies makes the whole another each time,
while here its class and attributes will do, since the saved model is compared with the live one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.models.live import weights_digest
from hf_hardneg.models.model_files import IGNORED, json_digest
from hf_hardneg.store.directories import bytes_digest, digest_of, file_digest
from hf_hardneg.store.disk import scratch

ELSEWHERE = {
    *("training", "model_card_data", "_model_card_vars", "_model_card_text", "warnings_issued", "is_hpu_graph_enabled"),
    *(
        "_modules_placed",
        "_device_map",
        "_hf_hook",
        "_old_forward",
        "_is_hf_initialized",
        "_is_torch_compile",
        "_compiled_call_impl",
        "_compile_kwargs",
        *IGNORED,
    ),
}
"""Attributes that change no result; importing Lightning makes `torch.compile` write `_compile_kwargs`."""
WRITTEN = ("architectures", "dtype", "torch_dtype")
"""Settings that `save_pretrained` writes into the configuration of a live model."""
DEEPEST = 8
"""The description looks into so many objects within objects."""


def live_identity(model: Any) -> dict[str, str]:
    """Return a live model's class, and digests of its weights and of all else that can change what it returns.

    Raises:
        ModelError: this process holds a part of the weights only.
    """
    return {"class": _kind(model), "weights": weights_digest(model), "settings": live_settings(model)}


def live_settings(model: Any) -> str:
    """Return the hex digest of the classes, configurations, tokenizers and other attributes of all modules."""
    modules = {name: [_kind(module), _described(_attributes(module))] for name, module in model.named_modules()}
    return digest_of({"modules": modules})


def tokenizer_settings(tokenizer: Any) -> str:
    """Return the hex digest of what a tokenizer saves, and of the sides and lengths that were set since."""
    return digest_of({"tokenizer": _tokenizer(tokenizer)})


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
