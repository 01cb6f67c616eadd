"""Arguments are checked against the annotation of their field or parameter, here alone.

`check_fields(self)` is the first line of a dataclass' `__post_init__`, `@checked` stands above a function. Numbers are
finite, whole numbers have at most 63 bits, no bool is a number, and `Annotated[float, Range(...)]` says which numbers
make sense; NumPy's scalars become Python's. Annotations of protocols, and of classes that are imported for type
checkers only, except of `datasets`, let everything pass: what reads such an argument checks it.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import math
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, fields
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.runtime.progress import before_import

P = ParamSpec("P")
R = TypeVar("R")
LARGEST = 2**63
LONGEST = 80
TABLES = ("Dataset", "DatasetDict", "IterableDataset")
"""What annotations name that is of `datasets`."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Which numbers make sense.

    Args:
        least, most (`float`, *optional*): bounds that are allowed.
        above, below (`float`, *optional*): bounds that are not.
        such_as (`float`, *optional*): what an error proposes where there is no default.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    such_as: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        words = {"of at least": self.least, "above": self.above, "up to": self.most, "below": self.below}
        return " and ".join(f"{word} {bound:,}" for word, bound in words.items() if bound is not None)


@dataclass(frozen=True)
class Filled:
    """Which texts can name something: neither blank, nor with what no file and no JSON can hold."""

    such_as: ClassVar[None] = None

    def __contains__(self, text: str) -> bool:
        return bool(text.strip()) and "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)

    def __str__(self) -> str:
        return "that is not blank and holds no NUL and no half of a surrogate pair"


AtLeastZero = Annotated[int, Range(least=0, such_as=0)]
AtLeastOne = Annotated[int, Range(least=1, such_as=1)]
ZeroOrMore = Annotated[float, Range(least=0, such_as=0.1)]
AboveZero = Annotated[float, Range(above=0, such_as=0.1)]
Share = Annotated[float, Range(least=0, most=1, such_as=0.5)]
ShareAboveZero = Annotated[float, Range(above=0, most=1, such_as=0.5)]
Seed = Annotated[int, Range(least=0, most=2**31 - 1, such_as=42)]
"""A seed of k-means takes 31 bits."""
Processes = Annotated[int, Range(least=0, most=4096, such_as=2)]
Negatives = Annotated[int, Range(least=1, most=1_000_000, such_as=4)]
IndexParts = Annotated[int, Range(least=1, most=1000, such_as=8)]
Name = Annotated[str, Filled()]
Folder = Name | os.PathLike[str]
ShareBelow = Annotated[float, Range(least=0, below=1, such_as=0.5)]
ShareBetween = Annotated[float, Range(above=0, below=1, such_as=0.5)]


class _Refused(Exception):
    """A value that an annotation does not allow."""


class _Names(dict[str, Any]):
    """The names of a module; a class that it imports for type checkers only stands for anything."""

    def __missing__(self, name: str) -> Any:
        if name in TABLES:
            before_import("datasets", "Loading datasets …")
            import datasets

            return getattr(datasets, name)
        return getattr(builtins, name, sys.modules.get(name, Any))


def check_fields(instance: Any, **initial: Any) -> None:
    """Raise for a field of a dataclass that is not what its annotation allows; NumPy's scalars become Python's.

    Args:
        instance (dataclass): all its fields are set.
        initial: the values of its `InitVar`s, by name.

    Raises:
        ConfigError: what was given, what is allowed, what to do.
        UnknownNameError: a value that is none of a few names.
    """
    cls: type = type(instance)
    kinds = _kinds_of_class(cls)
    for name, value in initial.items():
        fit(cls.__name__, name, value, kinds.get(name, object))
    for field in fields(instance):
        if field.init and field.name in kinds:
            value = fit(cls.__name__, field.name, getattr(instance, field.name), kinds[field.name], field.default)
            object.__setattr__(instance, field.name, value)


class Checked:
    """A dataclass derived from this raises for fields that are not what its annotations allow; see `check_fields`."""

    def __post_init__(self) -> None:
        check_fields(self)


def check_options(owner: str, receiver: type, options: Mapping[str, Any]) -> None:
    """Raise for options that `owner` hands on to the fields of a dataclass, where those would refuse them.

    Raises:
        ConfigError, UnknownNameError: as `check_fields` does.
    """
    kinds = _kinds_of_class(receiver)
    for name in options.keys() & kinds.keys():
        fit(owner, name, options[name], kinds[name], getattr(receiver, name, None))


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function raise for arguments that are not what their annotations allow; see `check_fields`.

    Keywords that it takes as `**options: Unpack[Options]` are checked too, and stand in its signature, where the module
    holds that `TypedDict`; unknown ones are left to it.
    """
    owner = function.__qualname__.removesuffix(".__init__").rpartition(".<locals>.")[2]

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        signature, kinds = _kinds_of_function(function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in kinds:
                bound.arguments[name] = fit(owner, name, value, kinds[name], signature.parameters[name].default)
        return function(*bound.args, **bound.kwargs)

    if function.__code__.co_flags & inspect.CO_VARKEYWORDS:
        setattr(run, "__signature__", _signature_of(function))  # noqa: B010
    return run


def fit(owner: str, name: str, value: Any, kind: Any, default: Any = None) -> Any:
    """Return a value as an annotation asks for it.

    Args:
        owner, name (`str`): the class or function, and its argument.
        value (`object`): what the user passed.
        kind (`object`): the annotation.
        default (`object`, *optional*): what the error proposes, where it is a number or name.

    Raises:
        ConfigError, UnknownNameError: the value is not allowed.
    """
    with contextlib.suppress(_Refused):
        return _fitted(value, kind)
    parts = [part for part in _members(kind) if part is not types.NoneType]
    if isinstance(value, str) and all(get_origin(part) is Literal for part in parts):
        raise unknown_name(name, value, [choice for part in parts for choice in get_args(part)])
    raise ConfigError(
        f"{owner}({name}={shown(value)}) of type {type(value).__name__}: allowed is {described(kind)}. "
        f"Give {_proposal(value, kind, default)}."
    )


def shown(value: object) -> str:
    """Return a value as an error shows it: on one line, and short."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def described(kind: Any) -> str:
    """Say in words what an annotation allows."""
    words: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "a string",
        types.NoneType: "None",
    }
    origin = get_origin(kind)
    if origin is Annotated:
        return f"{described(kind.__origin__)} {kind.__metadata__[0]}".strip()
    if len(parts := _members(kind)) > 1:
        return " or ".join(map(described, parts))
    if origin is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if origin is tuple and Ellipsis not in get_args(kind):
        return f"({', '.join(map(described, get_args(kind)))})"
    if origin in (Mapping, dict):
        sides = [described(part) for part in get_args(kind) if _is_checked(part)]
        return f"a mapping from {' to '.join(sides)}" if len(sides) == 2 else "a mapping"
    if origin in (Sequence, list, tuple):
        return f"a list, each {described(get_args(kind)[0])}" if _is_checked(get_args(kind)[0]) else "a list"
    if is_typeddict(kind):
        return f"a mapping from roles ({', '.join(_of_roles(kind))}) to names of columns"
    return words.get(kind, f"a {getattr(origin or kind, '__name__', str(kind))}")


def _proposal(value: Any, kind: Any, default: Any) -> str:
    """Say what to pass instead of a value."""
    if "Dataset" in described(kind):
        near = {
            "Dataset": "it in a list, [dataset]",
            "DatasetDict": "one split of it, such as splits['train']",
            "IterableDataset": "its rows, Dataset.from_list(list(stream)), or use stream.map(HardNegatives(corpus))",
        }
        return near.get(type(value).__name__, "one, such as Dataset.from_list(rows)")
    if isinstance(default, bool | int | float | str):
        return f"one of those, such as {default!r}"
    examples = [part.__metadata__[0].such_as for part in _members(kind) if get_origin(part) is Annotated]
    named = [f", such as {example!r}" for example in examples if example is not None]
    return "".join(["one of those", *named[:1]])


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _is_checked(kind: Any) -> bool:
    """Say whether an annotation says anything about values."""
    return kind is not Any and not getattr(kind, "_is_protocol", False) and not isinstance(kind, TypeVar)


def _fitted(value: Any, kind: Any) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        for part in parts:
            with contextlib.suppress(_Refused):
                return _fitted(value, part)
        raise _Refused
    if origin is Annotated:
        value = _fitted(value, kind.__origin__)
        return _kept(value, value in kind.__metadata__[0])
    if origin is Literal:
        return _kept(value, any(type(value) is type(choice) and value == choice for choice in parts))
    if kind in (int, float):
        return _number(value, kind)
    if kind is bool:
        is_bool = isinstance(value, bool) or _is_scalar(value, "b")
        return _kept(bool(value) if is_bool else value, is_bool)
    if origin in (Sequence, list, tuple):
        return _listed(value, parts)
    if origin in (Mapping, dict):
        return _mapped(value, parts)
    if is_typeddict(kind):
        return _with_roles(value, kind)
    for allowed in (kind, origin):
        if isinstance(allowed, type) and _is_checked(allowed):
            return _kept(value, isinstance(value, allowed))
    return _kept(value, value is not None or kind is not types.NoneType)


def _kept(value: Any, allowed: bool) -> Any:
    if not allowed:
        raise _Refused
    return value


def _is_scalar(value: Any, kinds: str) -> bool:
    """Say whether a value is a scalar of NumPy, which is not loaded to find out, of some kinds of `dtype.kind`."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in kinds


def _number(value: Any, kind: type) -> Any:
    if _is_scalar(value, "iuf"):
        value = value.item()
    if isinstance(value, int) and not isinstance(value, bool):
        return _kept(value, -LARGEST <= value < LARGEST)
    return _kept(value, kind is float and isinstance(value, float) and math.isfinite(value))


def _mapped(value: Any, kinds: tuple[Any, ...]) -> Any:
    """Check a mapping, and its keys and values where the annotation says what they are."""
    _kept(value, isinstance(value, Mapping))
    for kind, entries in zip(kinds, (value.keys(), value.values()), strict=True):
        for entry in entries if _is_checked(kind) else ():
            _fitted(entry, kind)
    return value


def _with_roles(value: Any, kind: Any) -> Any:
    """Check a mapping whose keys, and what each may hold, a `TypedDict` says.

    Raises:
        UnknownNameError: a key that it does not have.
        ConfigError: what is under a key, or keys and values in each other's place.
    """
    _kept(value, isinstance(value, Mapping))
    roles = _of_roles(kind)
    for role, held in value.items():
        if role not in roles and isinstance(held, str) and held in roles:
            raise ConfigError(
                f"{kind.__name__} {shown(dict(value))} has the role {held!r} as a value; roles are keys and columns "
                f"are values. Give {{{held!r}: {role!r}}}."
            )
        if role not in roles:
            raise unknown_name(f"role of {kind.__name__}", role, roles)
    return {role: fit(kind.__name__, role, held, roles[role]) for role, held in value.items()}


@functools.cache
def _of_roles(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _listed(value: Any, kinds: tuple[Any, ...]) -> Any:
    """Check a list, tuple, array or column, and the elements of lists and tuples."""
    no_list = isinstance(value, str | bytes | Mapping | type) or hasattr(value, "column_names")
    if no_list or not (hasattr(value, "__len__") and hasattr(value, "__iter__")):
        raise _Refused
    if not isinstance(value, list | tuple) or not kinds:
        return value
    if len(kinds) == 1 or kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value) if _is_checked(kinds[0]) else ()
    elif len(kinds) != len(value):
        raise _Refused
    elements = [_fitted(element, kind) for element, kind in zip(value, kinds, strict=False)]
    changed = any(new is not old for new, old in zip(elements, value, strict=False))
    return type(value)(elements) if changed else value


@functools.cache
def _kinds_of_class(cls: type) -> dict[str, Any]:
    """Return the annotation of each field that says something; classes of the user's are not evaluated."""
    kinds: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("hf_hardneg."):
            kinds |= _evaluated(inspect.get_annotations(base), base.__module__)
    return kinds


@functools.cache
def _kinds_of_function(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    signature, written, kinds = _signature_of(function), dict[str, str](), dict[str, Any]()
    for name, part in signature.parameters.items():
        if not isinstance(part.annotation, str):
            kinds |= {} if part.annotation is part.empty else {name: part.annotation}
        elif part.kind != part.VAR_KEYWORD:
            written[name] = f"tuple[{part.annotation}, ...]" if part.kind == part.VAR_POSITIONAL else part.annotation
    return signature, {**_evaluated(written, function.__module__), **kinds}


def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature, in which the names of a `TypedDict` stand in place of the keywords it unpacks."""
    signature = inspect.signature(function)
    *named, last = signature.parameters.values() or [None]
    unpacked = str(last and last.annotation).removeprefix("Unpack[").removesuffix("]")
    options = function.__globals__.get(unpacked)
    if last is None or not is_typeddict(options):
        return signature
    parts = [
        last.replace(name=name, kind=last.KEYWORD_ONLY, default=..., annotation=kind)
        for name, kind in _of_roles(options).items()
    ]
    return signature.replace(parameters=[*named, *parts])


def _evaluated(written: Mapping[str, Any], module: str) -> dict[str, Any]:
    names = _Names(vars(sys.modules[module]))
    texts = {name: text for name, text in written.items() if not text.startswith("ClassVar")}
    kinds = {name: eval(text, {}, names) for name, text in texts.items()}
    plain = {name: kind.type if isinstance(kind, InitVar) else kind for name, kind in kinds.items()}
    return {name: kind for name, kind in plain.items() if _is_checked(kind)}


def check_parts(parts: Sequence[object], what: str, method: str, such_as: str) -> None:
    """Raise for a part that is no instance with the method, such as a class or a name.

    Raises:
        ConfigError: naming the part.
    """
    for part in parts:
        is_class = isinstance(part, type)
        if is_class or not callable(getattr(part, method, None)):
            lacks = "it is a class" if is_class else f"it has no {method}()"
            raise ConfigError(f"{shown(part)} is not a {what}: {lacks}. Give instances such as {such_as}.")
