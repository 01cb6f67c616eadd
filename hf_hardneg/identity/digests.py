"""Digests of values and of code by what they are and refer to, never by where they lie or what they are called.

`Digester` walks from a thing to all that its code can read. What a person or a program could tell apart gets another
digest; what only differs in file, line, process, hash seed or the order of a set does not. Dictionaries keep their
order, which code can read; attributes do not.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import itertools
import logging
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.identity import foreign
from hf_hardneg.identity.origins import installed, qualified_name
from hf_hardneg.identity.references import References, imported, references

PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range, type(...), type(NotImplemented))
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
CACHES = (logging.Logger, weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet, *_LOCKS)
"""What changes no result, whatever it holds."""
OF_PYTHON = frozenset(
    """
    __name__ __file__ __cached__ __path__ __spec__ __loader__ __package__ __builtins__ __module__ __qualname__
    __dict__ __weakref__ __doc__ __annotations__ __annotate__ __annotate_func__ __annotations_cache__
    __conditional_annotations__ __firstlineno__ __static_attributes__ __abstractmethods__ _abc_impl __parameters__
    __orig_bases__ __protocol_attrs__ __non_callable_proto_members__ __dataclass_params__ __match_args__ __signature__
    __pydantic_core_schema__ __pydantic_validator__ __pydantic_serializer__ __pydantic_custom_init__
    __pydantic_parent_namespace__ __pydantic_complete__
    """.split()  # noqa: SIM905
)
"""Names in modules and classes that are set by their place, or made of what is looked at anyhow."""


class Unidentified(Exception):
    """Something of which nothing tells whether it is the same; the first argument describes it, the second names it."""

    def of(self, name: str) -> Unidentified:
        """Names it as code does, unless code nested deeper has named it before."""
        return self if len(self.args) > 1 else Unidentified(*self.args, name)

    def __str__(self) -> str:
        return self.args[0] if len(self.args) == 1 else f"`{self.args[1]}`, {self.args[0]}"


class Digester:
    """Digests of 16 bytes. What was looked at once is not again, so a new one sees what has changed since."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._open: dict[int, int] = {}

    def of(self, thing: Any) -> bytes:
        """The digest of anything.

        Raises:
            Unidentified: nothing tells what it, or something it refers to, is.
        """
        if type(thing) in PLAIN:
            return _joined(type(thing).__name__, _text(thing))
        if id(thing) in self._known:
            return self._known[id(thing)][1]
        with self._inside(thing) as cycle:
            if cycle:
                return cycle
            digest = self._of(thing)
        self._known[id(thing)] = thing, digest
        return digest

    @contextlib.contextmanager
    def _inside(self, thing: Any) -> Iterator[bytes]:
        """Inside, the thing is being looked at: nothing, or where it is, if it was so already."""
        if id(thing) in self._open:
            yield _joined("cycle", str(self._open[id(thing)]).encode())
            return
        self._open[id(thing)] = len(self._open)
        try:
            yield b""
        finally:
            del self._open[id(thing)]

    def _of(self, thing: Any) -> bytes:
        named = own_digest(thing)
        if named is not None:
            return _joined("digest", named.encode())
        look = _BY_TYPE.get(type(thing))
        look = look or next((look for family, look in _BY_FAMILY if isinstance(thing, family)), None)
        if look is not None:
            return look(self, thing)
        contents = foreign.contents(thing)
        if contents is not None:
            return _joined("foreign", self.of(type(thing)), self.items("contents", contents))
        return self._instance(thing)

    def all(self, kind: str, things: Iterable[Any]) -> bytes:
        """The digest of several things in their order."""
        things = list(things)
        types_there = set(map(type, things))
        if types_there <= set(PLAIN):
            return _joined(f"{kind} of plain", repr(things).encode(errors="surrogatepass"))
        return _joined(kind, *map(self.of, things))

    def items(self, kind: str, named: Mapping[Any, Any]) -> bytes:
        """The digest of names and values, in the order of the mapping."""
        return _joined(kind, self.all("keys", named.keys()), self.all("values", named.values()))

    def names(self, kind: str, named: Mapping[str, Any]) -> bytes:
        """The digest of names and values in the order of the names."""
        return self.items(kind, {name: named[name] for name in sorted(named, key=str)})

    def unordered(self, kind: str, things: Iterable[Any]) -> bytes:
        """The digest of several things in whatever order."""
        return _joined(kind, *sorted(map(self.of, things)))

    def _function(self, function: types.FunctionType) -> bytes:
        function = getattr(function, "_torchdynamo_orig_callable", function)
        closed = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        source = installed(function.__globals__.get("__name__", "__main__"))
        if source is not None and _found_by_name(function):
            return _joined("function", source.encode(), qualified_name(function).encode())
        parts = [self.all("defaults", function.__defaults__ or ()), self.names("kw", function.__kwdefaults__ or {})]
        if source is not None:
            name = getattr(function.__code__, "co_qualname", function.__code__.co_name)
            cells = [self.of(_contents(cell)) for cell in closed.values()]
            return _joined("function", source.encode(), name.encode(), *parts, *cells)
        refers = references(function.__code__)
        attributes = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
        parts += [self.code(function.__code__), self.names("attributes", attributes)]
        for name, cell in closed.items():
            parts.append(self._referred(name, _contents(cell), refers))
        parts.append(self._globals(refers, function.__globals__))
        return _joined("function", *parts)

    def code(self, code: types.CodeType) -> bytes:
        """The digest of bytecode: what it does, without where it stands and what it is called."""
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        table = getattr(code, "co_exceptiontable", b"")
        return _joined("code", code.co_code, table, repr((counts, names)).encode(), self.all("consts", code.co_consts))

    def _globals(self, refers: References, namespace: dict[str, Any]) -> bytes:
        """The digest of what code reads of its module, and of the modules that it imports."""
        wanted = [name for name in refers.names if name in namespace and name not in OF_PYTHON]
        if refers.by_any_name:
            wanted = sorted(name for name in namespace if name not in OF_PYTHON)
        parts = [_joined(name, self._referred(name, namespace[name], refers)) for name in wanted]
        for name, level, taken in refers.imports:
            source = None if level else installed(name)
            if source is not None:
                parts.append(_joined("import", source.encode()))
                continue
            module = imported(name, level, taken, namespace)
            followed = refers if not taken else References((), refers.attributes | set(taken), frozenset(), ())
            parts.append(_joined("absent") if module is None else self._read_of(module, followed))
            if module is not None and not taken and "." in name:
                root = imported(name.partition(".")[0], 0, (), namespace)
                parts.append(self._read_of(root, refers))
        return _joined("globals", *parts)

    def _referred(self, name: str, value: Any, refers: References) -> bytes:
        """The digest of what code reads of a global or free variable."""
        try:
            if isinstance(value, types.ModuleType) and name not in refers.whole:
                return self._read_of(value, refers)
            return self.of(value)
        except Unidentified as error:
            raise error.of(name) from error

    def _read_of(self, module: Any, refers: References) -> bytes:
        """The digest of the attributes of a module that code names, also of modules in it."""
        source = _source(module)
        if source is not None:
            return _joined("module", source.encode())
        with self._inside(module) as seen:
            return seen or self._attributes(vars(module), refers)

    def _attributes(self, namespace: dict[str, Any], refers: References) -> bytes:
        names = (refers.attributes & namespace.keys() - OF_PYTHON) | ({"__getattr__"} & namespace.keys())
        reads = {name: self._referred(name, namespace[name], refers) for name in sorted(names)}
        return self.items("read", reads)

    def _module(self, module: types.ModuleType) -> bytes:
        source = _source(module)
        if source is not None:
            return _joined("module", source.encode())
        return self.names("namespace", {name: value for name, value in vars(module).items() if name not in OF_PYTHON})

    def _kind(self, cls: type) -> bytes:
        name = qualified_name(cls).encode()
        if (source := installed(cls.__module__)) is not None:
            return _joined("installed", source.encode(), str(cls.__module__).encode(), name)
        parts = [self.of(type(cls))] if type(cls) is not type else []
        for base in cls.__mro__:
            source = installed(base.__module__)
            if source is not None:
                parts.append(_joined("base", source.encode(), qualified_name(base).encode()))
                continue
            namespace = {name: value for name, value in vars(base).items() if _defines(name, value)}
            parts.append(_joined(base.__name__, self.names("class", namespace), _written_docstring(base)))
        return _joined("class", *parts)

    def _instance(self, thing: Any) -> bytes:
        """The digest of an object by its class and what it would be pickled as."""
        cls = type(thing)
        wrapped = _wrapped(thing)
        if wrapped is not None:
            return _joined("wrapper", self.of(cls), self.of(wrapped))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reduce = copyreg.dispatch_table.get(cls)
                reduced = thing.__reduce_ex__(4) if reduce is None else reduce(thing)
        except Exception as error:
            raise Unidentified(_described(thing)) from error
        if isinstance(reduced, str):
            return _joined("name", self.of(cls), _origin(thing).encode(), reduced.encode())
        make, arguments, state, items, pairs = (*reduced, None, None, None, None)[:5]
        if isinstance(state, dict) and state.keys() <= getattr(thing, "__dict__", {}).keys():
            state = {name: state[name] for name in sorted(state, key=str) if not _cached(cls, name)} or None
        parts = [self.of(cls), self.of(make), self.all("arguments", arguments), self.of(state)]
        parts.append(self.all("items", items or ()))
        parts.append(self.all("pairs", itertools.chain.from_iterable(pairs or ())))
        return _joined("instance", *parts)

    def _method(self, method: types.MethodType) -> bytes:
        return _joined("method", self.of(method.__self__), self.of(method.__func__))

    def _builtin(self, function: Any) -> bytes:
        """The digest of a function written in C, by its name and what it is bound to."""
        owner = getattr(function, "__self__", None)
        name = qualified_name(function).encode()
        if owner is not None and not isinstance(owner, types.ModuleType):
            return _joined("bound", self.of(owner), name)
        if isinstance(holder := getattr(function, "__objclass__", None), type):
            return _joined("descriptor", self.of(holder), name)
        return _joined("builtin", _origin(function).encode(), name)

    def _wrapper(self, wrapper: Any) -> bytes:
        parts = (getattr(wrapper, name, None) for name in ("__func__", "fget", "fset", "fdel", "func", "__wrapped__"))
        return _joined(type(wrapper).__name__, *(self.of(part) for part in parts if part is not None))

    def _partial(self, partial: Any) -> bytes:
        parts = (self.of(partial.func), self.all("arguments", partial.args), self.items("keywords", partial.keywords))
        return _joined("partial", *parts, self.names("attributes", getattr(partial, "__dict__", {})))

    def _array(self, array: np.ndarray) -> bytes:
        if array.dtype.hasobject:
            return _joined("objects", repr(array.shape).encode(), self.all("values", array.ravel().tolist()))
        head = repr((array.dtype.descr, array.shape)).encode()
        flat = np.ascontiguousarray(array).view(np.ndarray).reshape(-1)
        return _joined("array", head, flat.view(np.uint8) if array.dtype.itemsize else b"")

    def _field(self, field: Field[Any]) -> bytes:
        """The digest of a dataclass field."""
        parts = (field.default, field.default_factory, field.init, field.kw_only, field.metadata)
        return self.all("field", parts)

    def _ufunc(self, ufunc: np.ufunc) -> bytes:
        if getattr(np, ufunc.__name__, None) is not ufunc and installed(getattr(ufunc, "__module__", "")) is None:
            raise Unidentified(_described(ufunc))
        return _joined("ufunc", ufunc.__name__.encode(), str(installed("numpy")).encode())


_Look = Callable[[Digester, Any], bytes]
_BUILTIN = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_WRAPPER = (staticmethod, classmethod, property, functools.cached_property, type(functools.lru_cache(len)))
_BY_TYPE: dict[type, _Look] = {
    list: lambda digester, thing: digester.all("list", thing),
    tuple: lambda digester, thing: digester.all("tuple", thing),
    set: lambda digester, thing: digester.unordered("set", thing),
    frozenset: lambda digester, thing: digester.unordered("frozenset", thing),
    dict: lambda digester, thing: digester.items("dict", thing),
    types.MappingProxyType: lambda digester, thing: digester.items("dict", thing),
    types.CodeType: Digester.code,
    types.FunctionType: Digester._function,
    types.MethodType: Digester._method,
    functools.partial: Digester._partial,
    np.ndarray: Digester._array,
    np.memmap: Digester._array,
    np.ufunc: Digester._ufunc,
    Field: Digester._field,
    **dict.fromkeys(_BUILTIN, Digester._builtin),
    **dict.fromkeys(_WRAPPER, Digester._wrapper),
}
"""How things of exactly a type are looked at; a subclass has more to it."""
_BY_FAMILY: tuple[tuple[Any, _Look], ...] = (
    (types.ModuleType, Digester._module),
    (type, Digester._kind),
    (CACHES, lambda digester, thing: digester.of(type(thing))),
    (weakref.ref, lambda digester, thing: digester.of(thing())),
)


def _joined(kind: str, *parts: Any) -> bytes:
    digest = blake2b(kind.encode(), digest_size=16)
    for part in parts:
        digest.update(memoryview(part).nbytes.to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _text(thing: Any) -> bytes:
    return repr(thing).encode(errors="surrogatepass")


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return Ellipsis


def own_digest(thing: Any) -> str | None:
    """The `digest` that somebody gave to a thing."""
    if isinstance(thing, type | types.ModuleType):
        return None
    try:
        digest = getattr(thing, "digest", None)
    except Exception:  # a property of the user's own
        return None
    return digest if isinstance(digest, str) else None


def _source(module: types.ModuleType) -> str | None:
    return installed(getattr(module, "__name__", None))


def _found_by_name(function: Any) -> bool:
    """Whether a function is what the module that it was written in has under its name."""
    place: Any = sys.modules.get(function.__globals__["__name__"])
    for part in qualified_name(function).split("."):
        place = getattr(place, part, None)
    return place is function


def _defines(name: str, value: Any) -> bool:
    """Whether an entry of a class was written by whoever wrote the class."""
    return name not in OF_PYTHON and not (name == "__init__" and getattr(value, "__module__", "typing") == "typing")


def _written_docstring(cls: type) -> bytes:
    text = cls.__dict__.get("__doc__") or ""
    return b"" if not isinstance(text, str) or text.startswith(f"{cls.__name__}(") else _text(text)


def _cached(cls: type, name: str) -> bool:
    """Whether an attribute holds what a property computed from the others."""
    return any(isinstance(vars(base).get(name), functools.cached_property) for base in cls.__mro__)


def _wrapped(thing: Any) -> Any:
    """The function that a decorator of an installed package made an object of."""
    if installed(type(thing).__module__) is None:
        return None
    held = getattr(thing, "__dict__", {})
    return held.get("py_func") or held.get("__wrapped__")


def _origin(thing: Any) -> str:
    """Identifies the module of an object that is known by its name: by a version, else by a compiled file's content."""
    module = getattr(thing, "__module__", None)
    source = installed(module)
    if source is not None:
        return source
    path = getattr(sys.modules.get(str(module)), "__file__", None)
    if path is None:
        raise Unidentified(_described(thing))
    return "" if path.endswith(".py") else blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()


def _described(thing: Any) -> str:
    name = f"{type(thing).__module__}.{type(thing).__qualname__}".removeprefix("builtins.")
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"
