"""Public names that a package loads when they are first used; its stub, `__init__.pyi`, says where each lives."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make `__getattr__`, `__dir__` and `__all__` of a package from the imports in its stub.

    Type checkers and editors read the stub, Python this; the names stand there once.

    Args:
        package, file (`str`): `__name__` and `__file__` of the package.

    Example:
        >>> __getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # doctest: +SKIP
    """
    tree = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    modules = {alias.name: node.module for node in imports for alias in node.names}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(str(modules[name])), name)

    names = sorted(modules)
    return load, lambda: names, names
