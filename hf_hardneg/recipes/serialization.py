"""Strategies are written as JSON and as Python: names of known classes with their arguments.

Nothing is evaluated or unpickled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.filters import FILTERS
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.retrievers import RETRIEVERS
from hf_hardneg.retrievers.stores.drivers import DRIVERS
from hf_hardneg.samplers import SAMPLERS
from hf_hardneg.strategies import Strategy
from hf_hardneg.text.analysis import Analyzer

_PARTS: tuple[Any, ...] = (BM25Config, Analyzer, Strategy)
CLASSES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (*RETRIEVERS.values(), *DRIVERS.values(), *FILTERS.values(), *SAMPLERS.values(), *_PARTS)
}
"""The only classes that are written and read."""
STORES = {driver.__name__: driver for driver in DRIVERS.values()}
LEFT_OUT = {
    **{
        "Denoised": ("model", "device"),
        "Dense": ("sample", "device"),
        "Reranked": ("model",),
        "Sparse": ("encoder",),
        "LateInteraction": ("encoder", "sample"),
    },
    **{name: tuple({part.name for part in fields(driver)} - {"depth", "recall"}) for name, driver in STORES.items()},
}
"""Arguments that are no plain values, or name what lies on this machine: no recipe writes or chooses them."""
CUSTOM, FLOAT, MODEL = "custom", "float", "model"
MOST_PARTS, LONGEST_NUMBER = 100, 7
"""Classes in a strategy, and digits of a number in a FAISS factory string, that are rebuilt."""


def plain(value: Any, models: Mapping[int, Mapping[str, Any]] | None = None) -> Any:
    """Turn a value into JSON: known classes into `class` and all arguments, any other object into its name alone.

    Args:
        value: what is turned.
        models (`Mapping`, *optional*): by the `id` of parts that name an encoder, what is written of that.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"class": FLOAT, "value": repr(float(value))}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(inner, models) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return [plain(inner, models) for inner in value]
    name = type(value).__name__
    if CLASSES.get(name) is not type(value):
        return {"class": CUSTOM, "name": getattr(value, "__qualname__", type(value).__qualname__)}
    arguments = {argument: plain(getattr(value, argument), models) for argument in _arguments(name)}
    if models and id(value) in models:
        arguments["encoder"] = {"class": MODEL, **models[id(value)]}
    return {"class": name, **arguments}


def rebuilt(value: Any) -> Any:
    """Turn what `plain` returned back into known classes with plain arguments. It chooses no model, device or place.

    Raises:
        ConfigError: a class of the user's own, arguments that no known class takes or that a recipe does not choose,
            or more of them than a strategy has.
        UnknownNameError: a class that is not in `CLASSES`.
    """
    if (count := sum(1 for _ in names(value))) > MOST_PARTS:
        raise ConfigError(
            f"The recipe has {count:,} parts; {MOST_PARTS} are allowed. Mine with a Strategy of your own."
        )
    return _rebuilt(value)


def _rebuilt(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_rebuilt, value))
    if not isinstance(value, dict):
        return value
    kind = str(value.get("class"))
    if kind == MODEL:
        raise ConfigError(
            f"The recipe names the encoder {str(value.get('name'))[:200]!r} of one part, digest "
            f"{str(value.get('digest'))[:200]!r}, and chooses no model. Where you trust that model, mine with a "
            "Strategy of your own that holds it, such as Sparse(encoder=...) or LateInteraction(encoder=...)."
        )
    arguments = {name: _rebuilt(inner) for name, inner in value.items() if name != "class"}
    if kind == CUSTOM:
        raise ConfigError(
            f"The recipe names {arguments.get('name')!r}, which is not of hf_hardneg; only what is can be rebuilt. "
            "Import it, and mine with a Strategy that holds it."
        )
    if kind != FLOAT and kind not in CLASSES:
        raise unknown_name("class of a recipe", kind, CLASSES)
    _check_chosen(kind, arguments)
    if kind in STORES:
        raise ConfigError(
            f"The recipe searched a document store, {kind}(...), and says nowhere where that is; only who has it can "
            f'search it again. Mine with a Strategy that holds yours, such as {kind}("{STORES[kind].scheme}://…").'
        )
    try:
        return float(arguments["value"]) if kind == FLOAT else CLASSES[kind](**arguments)
    except ConfigError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"The recipe gives {kind} arguments that it does not take ({error}). Install the version of hf_hardneg "
            "that the recipe names."
        ) from error


def _check_chosen(kind: str, arguments: Mapping[str, Any]) -> None:
    """Raise where a recipe chooses what only the user does: a model, a device, an index of any size."""
    taken = sorted(arguments.keys() & set(LEFT_OUT.get(kind, ())))
    if taken:
        raise ConfigError(
            f"The recipe gives {kind} the {' and '.join(taken)}; a recipe chooses strategies and numbers, never what "
            "is loaded, or where. Remove that, and give models as arguments of your own."
        )
    factory = str(arguments.get("factory", ""))
    if re.search(rf"\d{{{LONGEST_NUMBER + 1}}}", factory):
        raise ConfigError(
            f"The recipe asks for the index {factory[:80]!r}; numbers of at most {LONGEST_NUMBER} digits are allowed. "
            "Mine with a Strategy of your own."
        )


def expression(value: Any) -> str:
    """Write what `plain` returned as a Python expression, with the arguments that differ from their defaults."""
    if isinstance(value, list):
        return f"[{', '.join(map(expression, value))}]"
    if not isinstance(value, dict):
        return literal(value)
    if "class" not in value:
        return f"{{{', '.join(f'{literal(key)}: {expression(inner)}' for key, inner in value.items())}}}"
    name = str(value["class"])
    if name == FLOAT:
        return f"float({literal(value.get('value'))})"
    if name == MODEL:
        return model_expression(value)
    if name == CUSTOM or name not in CLASSES:
        return "..."
    defaults = {argument: plain(default) for argument, default in _arguments(name).items()}
    unsaid = ["..."] if name in STORES else []
    shown = {
        key: inner
        for key, inner in value.items()
        if (key in defaults and inner != defaults[key]) or next(names(inner), None) == MODEL
    }
    return f"{name}({', '.join([*unsaid, *(f'{key}={expression(inner)}' for key, inner in shown.items())])})"


def model_expression(model: Mapping[str, Any]) -> str:
    """Write what loads a model: of one from the Hub its commit, dots for what only a running process holds."""
    called = literal(model.get("name"))
    if model.get("kind") == "hub" and model.get("revision"):
        return f"snapshot_download({called}, revision={literal(model['revision'])})"
    return "..." if model.get("kind") == "live" else called


def models_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield what a plain value says of the models that its parts name."""
    if isinstance(value, dict) and value.get("class") == MODEL:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from models_in(inner)


def literal(value: Any) -> str:
    """Write a value by `repr`, text in double quotes where it holds none."""
    shown = repr(value)
    return f'"{shown[1:-1]}"' if isinstance(value, str) and shown[0] == "'" and '"' not in shown else shown


def names(value: Any) -> Iterator[str]:
    """Name every class in a plain value, outermost first; one of the user's own is called `custom`."""
    if isinstance(value, dict):
        if isinstance(value.get("class"), str):
            yield value["class"]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from names(inner)


def _arguments(name: str) -> dict[str, Any]:
    """The default of each argument of a class that recipes write."""
    return {
        argument.name: argument.default if argument.default_factory is MISSING else argument.default_factory()
        for argument in fields(CLASSES[name])
        if argument.init and argument.name not in LEFT_OUT.get(name, ())
    }
