"""The one gate for packages that are not base dependencies."""

from __future__ import annotations

import importlib
from types import ModuleType

from hf_hardneg.errors import MissingExtraError


def require(module: str, *, extra: str, needed_by: str) -> ModuleType:
    """Import a module, or raise an error with the pip line that installs it.

    Args:
        module (`str`): the name to import, such as `"faiss"`.
        extra (`str`): the extra of this package that brings it; alternatives are separated by `|`.
        needed_by (`str`): the feature that asks for it, for the message.

    Raises:
        MissingExtraError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        lines = " or ".join(f"`pip install 'hf-hardneg[{name}]'`" for name in extra.split("|"))
        raise MissingExtraError(
            f"{needed_by} needs the package {module!r}, which is not installed. Run {lines}."
        ) from error
