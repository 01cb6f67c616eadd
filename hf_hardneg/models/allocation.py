"""The memory of models that somebody else saved: no more than their files account for.

A configuration of some bytes can ask for a model of any size. Its parameters and buffers are counted as they are
registered, which is before they are filled, and loading ends once they are out of proportion to what the folder holds.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_hardneg.errors import ModelError
from hf_hardneg.models.model_files import read_json

ROOM, PER_BYTE = 64 << 20, 8
"""Bytes that any model may take, and those it may take for each byte of its files: 8 with 4-bit weights."""
PART = 16 << 10
"""Bytes that a parameter or buffer counts at least, for what Python keeps of it and of its module."""

MOST_PARTS, _COUNT = 10_000, re.compile(r"(layer|block|expert|label|head|stage)s?$")
"""How many layers a model can have, or heads, labels and so on, and how their numbers are called."""


def _check_counts(folder: Path) -> None:
    """Raise for numbers of parts of which a configuration makes lists, before any module is built."""
    for path in sorted(folder.rglob("config.json")):
        said: list[Any] = [read_json(path)]
        for value in said:
            for name, inner in value.items() if isinstance(value, dict) else ():
                said.append(inner)
                if isinstance(inner, int | float) and abs(inner) > MOST_PARTS and _COUNT.search(name):
                    raise ModelError(
                        f"{path} says {name[:60]}={str(inner)[:20]}; models have at most {MOST_PARTS:,}. Fetch the "
                        "model again, or give another."
                    )


@contextlib.contextmanager
def in_proportion(folder: Path) -> Iterator[None]:
    """Keep modules that this thread builds, inside, to a size that the files of a folder account for.

    Raises:
        ModelError: its configuration asks for far larger ones, or for numbers of parts that no model has.
    """
    from torch.nn.modules import module as modules

    _check_counts(folder)
    stored = sum(os.path.getsize(path) for path in folder.rglob("*") if os.path.exists(path))
    thread = threading.get_ident()
    counted: set[tuple[int, str]] = set()
    taken = 0

    def count(owner: Any, name: str, tensor: Any) -> None:
        nonlocal taken
        if tensor is None or threading.get_ident() != thread or (id(owner), name) in counted:
            return
        each = max(4, tensor.element_size()) if tensor.is_floating_point() else tensor.element_size()
        counted.add((id(owner), name))
        taken += max(PART, tensor.numel() * each)
        if taken > ROOM + PER_BYTE * stored:
            raise ModelError(
                f"The configuration of the model at {folder} asks for {taken:,} bytes of weights or more, where its "
                f"files have {stored:,}; a model is about as large as its files. Fetch it again, or give another."
            )

    handles = (
        modules.register_module_parameter_registration_hook(count),
        modules.register_module_buffer_registration_hook(count),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
