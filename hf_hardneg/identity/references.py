"""Finds what code refers to: the globals it reads, the attributes it reads of anything, the modules it imports."""

from __future__ import annotations

import dis
import functools
import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import resolve_name
from types import CodeType, ModuleType
from typing import Any

LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR")
BY_ANY_NAME = ("globals", "eval", "exec")
"""Builtins by which code reads globals that it does not name."""


@dataclass(frozen=True)
class References:
    """The references of a piece of code and of all code nested in it.

    Args:
        names (`tuple[str, ...]`): globals that are read, in order of their names.
        attributes (`frozenset[str]`): names of attributes that are read, of whatever.
        whole (`frozenset[str]`): globals and free variables of which more is done than to read named attributes.
        imports (`tuple[tuple[str, int, tuple[str, ...]], ...]`): name, level and names taken of each import in it.
    """

    names: tuple[str, ...]
    attributes: frozenset[str]
    whole: frozenset[str]
    imports: tuple[tuple[str, int, tuple[str, ...]], ...]

    @property
    def by_any_name(self) -> bool:
        """Whether it may read any global of its module."""
        return not set(BY_ANY_NAME).isdisjoint(self.names)


@functools.lru_cache(maxsize=4096)
def references(code: CodeType) -> References:
    """Collects the references of code and of the code nested in it."""
    names, attributes, whole = set[str](), set[str](), set[str]()
    imports = list[tuple[str, int, tuple[str, ...]]]()
    for part in nested(code):
        steps = list(dis.get_instructions(part))
        for place, step in enumerate(steps):
            following = steps[place + 1].opname if place + 1 < len(steps) else ""
            if step.opname in LOADS:
                names.add(step.argval)
            if step.opname in LOADS or step.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
                whole.update({step.argval} if following not in ATTRIBUTES else ())
            elif step.opname in ATTRIBUTES:
                attributes.add(step.argval)
            elif step.opname == "IMPORT_NAME":
                level, taken = (steps[place - back].argval if place >= back else None for back in (2, 1))
                imports.append((step.argval, level or 0, tuple(taken or ())))
    return References(tuple(sorted(names)), frozenset(attributes), frozenset(whole), tuple(imports))


def nested(code: CodeType) -> Iterator[CodeType]:
    """The code itself and all code in its constants, outermost first."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def imported(name: str, level: int, taken: Iterable[str], namespace: Mapping[str, Any]) -> ModuleType | None:
    """Finds the module that an import inside a function loads, with its submodules that are taken; or `None`."""
    package = namespace.get("__package__") or str(namespace.get("__name__", "")).rpartition(".")[0]
    module = _loaded(resolve_name("." * level + name, package) if level and package else name)
    if module is not None:
        for part in taken:
            if not hasattr(module, part):
                _loaded(f"{module.__name__}.{part}")
    return module


def _loaded(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception:  # whatever the module raises, so would the call
        return None
