"""Strategies as JSON and as Python: names of known classes with their arguments. Nothing is evaluated or unpickled."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np

from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.filters import FILTERS
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.retrievers import RETRIEVERS
from hf_hardneg.samplers import SAMPLERS
from hf_hardneg.strategies import Strategy
from hf_hardneg.text.analysis import Analyzer

_PARTS: tuple[Any, ...] = (BM25Config, Analyzer, Strategy)
CLASSES: dict[str, Any] = {one.__name__: one for table in (RETRIEVERS, FILTERS, SAMPLERS) for one in table.values()} | {
    one.__name__: one for one in _PARTS
}
"""The only classes that are written and read."""
LEFT_OUT = {"Denoised": ("model", "device"), "Dense": ("sample", "device")}
"""Arguments that are no plain values, or name what lies on this machine: no recipe writes or chooses them."""
CUSTOM, FLOAT = "custom", "float"
MOST_PARTS, LONGEST_NUMBER = 100, 7
"""Classes in a strategy, and digits of a number in a FAISS factory string, that are rebuilt."""


def plain(value: Any) -> Any:
    """A value as JSON: known classes as `class` with all arguments, anything else as its name alone."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"class": FLOAT, "value": repr(float(value))}
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
    """What `plain` was given: known classes with plain arguments. It chooses no model, device or place.

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
    made, arguments = str(value.get("class")), {name: _rebuilt(one) for name, one in value.items() if name != "class"}
    if made == CUSTOM:
        raise ConfigError(
            f"The recipe names {arguments.get('name')!r}, which is not of hf_hardneg; only what is can be rebuilt. "
            "Import it, and mine with a Strategy that holds it."
        )
    if made != FLOAT and made not in CLASSES:
        raise unknown_name("class of a recipe", made, CLASSES)
    _check_chosen(made, arguments)
    try:
        return float(arguments["value"]) if made == FLOAT else CLASSES[made](**arguments)
    except ConfigError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"The recipe gives {made} arguments that it does not take ({error}). Install the version of hf_hardneg "
            "that the recipe names."
        ) from error


def _check_chosen(made: str, arguments: Mapping[str, Any]) -> None:
    """Raise for what only the user chooses: a model, a device, an index of any size."""
    taken = sorted(arguments.keys() & set(LEFT_OUT.get(made, ())))
    if taken:
        raise ConfigError(
            f"The recipe gives {made} the {' and '.join(taken)}; a recipe chooses strategies and numbers, never what "
            "is loaded, or where. Remove that, and give models as arguments of your own."
        )
    factory = str(arguments.get("factory", ""))
    if re.search(rf"\d{{{LONGEST_NUMBER + 1}}}", factory):
        raise ConfigError(
            f"The recipe asks for the index {factory[:80]!r}; numbers of at most {LONGEST_NUMBER} digits are allowed. "
            "Mine with a Strategy of your own."
        )


def expression(value: Any) -> str:
    """What `plain` returned as a Python expression, with the arguments that are not as by default."""
    if isinstance(value, list):
        return f"[{', '.join(map(expression, value))}]"
    if not isinstance(value, dict):
        return literal(value)
    if "class" not in value:
        return f"{{{', '.join(f'{literal(key)}: {expression(one)}' for key, one in value.items())}}}"
    name = str(value["class"])
    if name == FLOAT:
        return f"float({literal(value.get('value'))})"
    if name == CUSTOM or name not in CLASSES:
        return "..."
    defaults = {one.name: plain(_default(one)) for one in _arguments(name)}
    shown = {key: one for key, one in value.items() if key in defaults and one != defaults[key]}
    return f"{name}({', '.join(f'{key}={expression(one)}' for key, one in shown.items())})"


def literal(value: Any) -> str:
    """`repr`, of text with double quotes where it holds none."""
    shown = repr(value)
    return f'"{shown[1:-1]}"' if isinstance(value, str) and shown[0] == "'" and '"' not in shown else shown


def names(value: Any) -> Iterator[str]:
    """Every class that a plain value names, outermost first; of the user's own as `custom`."""
    if isinstance(value, dict):
        if isinstance(value.get("class"), str):
            yield value["class"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from names(one)


def _arguments(name: str) -> list[Field[Any]]:
    return [one for one in fields(CLASSES[name]) if one.init and one.name not in LEFT_OUT.get(name, ())]


def _default(argument: Field[Any]) -> Any:
    return argument.default_factory() if argument.default_factory is not MISSING else argument.default
