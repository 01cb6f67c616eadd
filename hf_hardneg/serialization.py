"""Strategies as JSON and as Python: names of known classes with their arguments. Nothing is evaluated or unpickled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

from hf_hardneg.denoising import CrossEncoderDenoiser
from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.filters import FILTERS
from hf_hardneg.index.analysis import Analyzer
from hf_hardneg.index.bm25_weights import BM25Config
from hf_hardneg.retrievers import RETRIEVERS
from hf_hardneg.samplers import SAMPLERS
from hf_hardneg.strategies import Strategy

_PARTS: tuple[Any, ...] = (CrossEncoderDenoiser, BM25Config, Analyzer, Strategy)
CLASSES: dict[str, Any] = {one.__name__: one for table in (RETRIEVERS, FILTERS, SAMPLERS) for one in table.values()} | {
    one.__name__: one for one in _PARTS
}
"""The only classes that are written and read."""
LEFT_OUT = {"CrossEncoderDenoiser": ("model", "device"), "Dense": ("sample",)}
"""Arguments that are no plain values, or name what lies on this machine."""
CUSTOM = "custom"


def plain(value: Any) -> Any:
    """A value as JSON: known classes as `class` with all arguments, anything else as its name alone."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"class": "float", "value": repr(float(value))}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Sequence):
        return [plain(one) for one in value]
    name = type(value).__name__
    if CLASSES.get(name) is not type(value):
        return {"class": CUSTOM, "name": getattr(value, "__qualname__", type(value).__qualname__)}
    return {"class": name, **{one.name: plain(getattr(value, one.name)) for one in _arguments(name)}}


def rebuilt(value: Any) -> Any:
    """What `plain` was given.

    Raises:
        ConfigError: a class of the user's own, or arguments that no known class takes.
        UnknownNameError: a class that is not in `CLASSES`.
    """
    if isinstance(value, list):
        return tuple(map(rebuilt, value))
    if not isinstance(value, dict):
        return value
    arguments = {name: rebuilt(one) for name, one in value.items() if name != "class"}
    made = value.get("class")
    if made == "float":
        return float(arguments["value"])
    if made == CUSTOM:
        raise ConfigError(
            f"The recipe names {arguments.get('name')!r}, which is not of hf_hardneg; only what is can be rebuilt. "
            "Import it, and mine with a Strategy that holds it."
        )
    if made not in CLASSES:
        raise unknown_name("class of a recipe", str(made), CLASSES)
    try:
        return CLASSES[made](**arguments)
    except TypeError as error:
        raise ConfigError(
            f"The recipe gives {made} arguments that it does not take ({error}). Install the version of hf_hardneg "
            "that the recipe names."
        ) from error


def expression(value: Any) -> str:
    """What `plain` returned as a Python expression, with the arguments that are not as by default."""
    if isinstance(value, list):
        return f"[{', '.join(map(expression, value))}]"
    if not isinstance(value, dict):
        return repr(value)
    name = value.get("class")
    if name == "float":
        return f"float({value['value']!r})"
    if name == CUSTOM or name not in CLASSES:
        return "..."
    defaults = {one.name: plain(_default(one)) for one in _arguments(name)}
    shown = {key: one for key, one in value.items() if key in defaults and one != defaults[key]}
    return f"{name}({', '.join(f'{key}={expression(one)}' for key, one in shown.items())})"


def names(value: Any) -> Iterator[str]:
    """Every class that a plain value names, outermost first; of the user's own as `custom`."""
    if isinstance(value, dict):
        if "class" in value:
            yield value["class"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from names(one)


def _arguments(name: str) -> list[Field[Any]]:
    return [one for one in fields(CLASSES[name]) if one.init and one.name not in LEFT_OUT.get(name, ())]


def _default(argument: Field[Any]) -> Any:
    return argument.default_factory() if argument.default_factory is not MISSING else argument.default
