"""Tells objects of other libraries apart where their pickles hold too much or too little."""

from __future__ import annotations

import json
import sys
from typing import Any

_MODULE = (
    "_parameters _buffers _modules training _non_persistent_buffers_set _backward_pre_hooks _backward_hooks "
    "_is_full_backward_hook _forward_hooks _forward_hooks_with_kwargs _forward_hooks_always_called _forward_pre_hooks "
    "_forward_pre_hooks_with_kwargs _state_dict_hooks _state_dict_pre_hooks _load_state_dict_pre_hooks "
    "_load_state_dict_post_hooks _is_hf_initialized name_or_path warnings_issued model_card_data _model_card_text "
    "_model_card_vars _model_config config generation_config _version "
    "_similarity _similarity_pairwise _similarity_fn_name"
)
"""Attributes of a torch module that are looked at by themselves, or change nothing that it returns."""
_CONFIG = ("_name_or_path", "transformers_version", "_commit_hash", "_attn_implementation_autoset")
_TOKENIZER = (
    "model_max_length padding_side truncation_side model_input_names special_tokens_map chat_template do_lower_case "
    "clean_up_tokenization_spaces split_special_tokens"
)


def contents(thing: Any) -> dict[str, Any] | None:
    """Takes an object of torch, transformers, datasets or scikit-learn apart; `None` for any other."""
    if _is_a(thing, "torch", "Tensor"):
        return _tensor(thing)
    if _is_a(thing, "torch.nn", "Module"):
        return _module(thing)
    if _is_a(thing, "transformers", "PreTrainedTokenizerBase"):
        return _tokenizer(thing)
    if _is_a(thing, "datasets", "Dataset"):
        return {"fingerprint": thing._fingerprint}
    if _is_a(thing, "torch", "device") or _is_a(thing, "torch", "dtype"):
        return {"name": str(thing)}
    if _is_a(thing, "sklearn.base", "BaseEstimator"):
        return {name: value for name, value in sorted(vars(thing).items()) if name != "_stop_words_id"}
    return None


def _is_a(thing: Any, module: str, name: str) -> bool:
    """Whether a thing is of a class, which is not loaded for it."""
    if not any(name == base.__name__ for base in type(thing).__mro__) or module not in sys.modules:
        return False
    return isinstance(thing, getattr(sys.modules[module], name))


def _tensor(tensor: Any) -> dict[str, Any]:
    import torch

    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return {"type": str(tensor.dtype), "shape": tuple(tensor.shape), "values": values}


def _module(module: Any) -> dict[str, Any]:
    """Class by class: weights, settings, hooks. Where it was loaded from and what was logged are left out."""
    import torch.nn

    held = vars(module)
    left_out = _MODULE.split()
    state = {name: held[name] for name in sorted(held) if name not in left_out}
    for name in ("_parameters", "_buffers", "_modules"):
        state[name] = dict(held[name])
    for name in ("_forward_hooks", "_forward_pre_hooks"):
        state[name] = list(held[name].values())
    if isinstance(module, torch.nn.modules.dropout._DropoutNd | torch.nn.modules.batchnorm._NormBase):
        state["training"] = module.training
    if "_similarity_fn_name" in held:
        state["similarity"] = module.similarity_fn_name
    if hasattr(held.get("config"), "to_dict"):
        config = held["config"].to_dict()
        state["config"] = {name: config[name] for name in sorted(config, key=str) if name not in _CONFIG}
    elif "config" in held:
        state["config"] = held["config"]
    return state


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Its vocabulary and settings, but not how its last call cut and padded."""
    state = {name: getattr(tokenizer, name, None) for name in _TOKENIZER.split()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        attributes = {name: value for name, value in vars(tokenizer).items() if name not in ("cache", "name_or_path")}
        return {**state, "vocabulary": tokenizer.get_vocab(), "attributes": dict(sorted(attributes.items()))}
    return {**state, "backend": json.loads(backend.to_str()) | {"truncation": None, "padding": None}}
