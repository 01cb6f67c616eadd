"""A live model is saved once under a cache, so that workers and later processes can open it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hf_hardneg.models.live import keep_settings, save_model
from hf_hardneg.models.live_settings import live_identity, tokenizer_settings
from hf_hardneg.store.directories import obtain
from hf_hardneg.store.kinds import Kind


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
        parameters["tokenizer"] = tokenizer_settings(tokenizer)

    def save(directory: Path) -> None:
        save_model(model, directory / "model")
        if tokenizer is not None:
            tokenizer.save_pretrained(directory / "model")
        keep_settings(model if tokenizer is None else tokenizer, directory / "model")
        if check is not None:
            check(directory)

    return obtain(cache, kind, parameters, save, {"model": type(model).__name__})
