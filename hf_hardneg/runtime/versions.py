"""The versions of the packages that decide which rows come out."""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata

import hf_hardneg

PACKAGES = ("datasets", "numpy", "torch", "transformers", "bm25s", "faiss-cpu", "faiss-gpu", "sentence-transformers")


@functools.cache
def installed() -> dict[str, str]:
    """Return the versions of this library, of Python, and of the `PACKAGES` that are installed."""
    versions = {"hf_hardneg": hf_hardneg.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def joined(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Join the versions of each package, as in `"0.1.0, 0.2.0"`, where different ones did parts of the work."""
    joint: dict[str, dict[str, None]] = {}
    for versions in parts:
        for package, version in versions.items():
            joint.setdefault(package, {}).update(dict.fromkeys(version.split(", ")))
    return {package: ", ".join(versions) for package, versions in joint.items()}
