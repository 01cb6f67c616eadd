"""Where code comes from: an installed distribution, the standard library, or the user."""

from __future__ import annotations

import functools
import os
import platform
import sys
import sysconfig
from importlib import metadata, util
from pathlib import PurePath
from typing import Any

OWN = __name__.partition(".")[0]
_INSTALLED = ("site-packages", "dist-packages")


def installed(module: str | None) -> str | None:
    """The distribution of a module and its version, such as `"numpy 2.4.0"`; `None` for code of the user's own.

    Args:
        module (`str`, *optional*): its dotted name. What has none is built into Python.
    """
    if not isinstance(module, str):
        return _python()
    top = module.partition(".")[0]
    if top == "__main__" or top == "__mp_main__":
        return None
    file = getattr(sys.modules.get(module), "__file__", None) or getattr(sys.modules.get(top), "__file__", None)
    return _installed(top, file)


@functools.lru_cache(maxsize=4096)
def _installed(top: str, file: str | None) -> str | None:
    if top == OWN:
        return f"{OWN} {sys.modules[OWN].__version__}"
    if top in sys.stdlib_module_names:
        return _python()
    file = file or _place(top)
    if file is None or not (set(PurePath(file).parts) & set(_INSTALLED)):
        return None if file is None or not _in_standard_library(file) else _python()
    try:
        return f"{top} {metadata.version(top)}"
    except metadata.PackageNotFoundError:
        names = sorted(set(_distributions().get(top, ())))
        return " ".join(f"{name} {metadata.version(name)}" for name in names) or None


def _python() -> str:
    return "python " + ".".join(platform.python_version_tuple()[:2])


def _in_standard_library(file: str) -> bool:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    return any(os.path.commonpath([folder, file]) == folder for folder in folders if os.path.isabs(file))


def _place(top: str) -> str | None:
    """Where a module that is not loaded yet lies; nothing is imported."""
    try:
        spec = util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    return spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), None)


_distributions = functools.cache(metadata.packages_distributions)


def qualified_name(thing: Any) -> str:
    """The name of a class or function within its module, such as `"Path.exists"`."""
    return str(getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or type(thing).__qualname__)
