"""Versions of what decides rows."""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata

import hf_hardneg

PACKAGES = ("datasets", "numpy", "torch", "transformers", "bm25s", "faiss-cpu", "faiss-gpu", "sentence-transformers")


@functools.cache
def installed() -> dict[str, str]:
    """Versions of this library, Python, and those of `PACKAGES` that are here."""
    found = {"hf_hardneg": hf_hardneg.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def joined(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """All versions of each package, such as `"0.1.0, 0.2.0"` where parts of the work were done by different ones."""
    found: dict[str, dict[str, None]] = {}
    for versions in parts:
        for package, version in versions.items():
            found.setdefault(package, {})[version] = None
    return {package: ", ".join(versions) for package, versions in found.items()}
