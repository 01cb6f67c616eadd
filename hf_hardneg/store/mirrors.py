"""What workers on other machines map and do not see under its path: a copy at a URL, and one on each of their nodes.

A function that travels holds paths. Paths into the cache, and to mapped files of Arrow, are pickled as names in the
cache; what they name is copied to the URL, once, and on each node from there into the node's own cache, once, under a
lock. All of it is named by digests of its content, so what is there need not be copied again.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dill

from hf_hardneg.errors import StoreError
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import writing, written
from hf_hardneg.store.locks import Lock
from hf_hardneg.store.manifests import MANIFEST

ROWS = "rows.arrow"


@dataclass(frozen=True)
class Mirror:
    """A place that all machines reach.

    Args:
        url (`str`): of a folder, as fsspec reads it: `s3://bucket/folder`, `gs://…`, `hdfs://…`, `file:///shared`.
        root (`str`): the cache of the process that has the work done.
    """

    url: str
    root: str

    def name_of(self, value: str | Path) -> str | None:
        """Name what a text or path stands for, relative to the cache; `None` where it need not be mirrored.

        Raises:
            StoreError: it could not be copied to the URL.
        """
        path = os.fspath(value)
        if path == self.root or path.startswith(f"{self.root}{os.sep}"):
            relative = os.path.relpath(path, self.root)
        elif path.endswith(".arrow") and os.path.isabs(path) and os.path.isfile(path):
            relative = self._taken_in(Path(path))
        else:
            return None
        name = relative.split(os.sep)[0]
        if (Path(self.root) / name / MANIFEST).exists():
            self._upload(name)
        return relative

    def _taken_in(self, file: Path) -> str:
        """Put a file of Arrow that lies elsewhere into the cache."""
        parameters = {"file": directories.file_digest(file)}
        directory = directories.obtain(
            Path(self.root), kinds.CORPUS, parameters, lambda folder: shutil.copyfile(file, folder / ROWS)
        )
        return f"{directory.name}{os.sep}{ROWS}"

    def _upload(self, name: str) -> None:
        """Copy a published directory to the URL, its manifest last, unless it is there."""
        source = Path(self.root) / name
        with self._reaching(name) as system:
            if not system.exists(f"{self.folder}/{name}/{MANIFEST}"):
                for file in [*directories.read_manifest(source).files, MANIFEST]:
                    system.makedirs(os.path.dirname(f"{self.folder}/{name}/{file}"), exist_ok=True)
                    system.put_file(str(source / file), f"{self.folder}/{name}/{file}")

    def here(self, relative: str) -> Path:
        """Return where on this node lies what `name_of` named; what the URL has of it is copied first.

        Raises:
            StoreError: it could not be copied.
        """
        root = directories.cache_root()
        name = relative.split(os.sep)[0]
        target = root / name
        with self._reaching(name) as system:
            if name != os.curdir and not target.exists() and system.exists(f"{self.folder}/{name}/{MANIFEST}"):
                with writing(root, other="the variable HF_DATASETS_CACHE"):
                    root.mkdir(parents=True, exist_ok=True)
                    with Lock(directories.lock_of(target)):
                        if not target.exists():
                            self._download(system, target)
        return root / relative

    def _download(self, system: Any, target: Path) -> None:
        """Copy a directory from the URL, with the times that its manifest knows."""
        with written(target) as partial:
            partial.mkdir()
            system.get_file(f"{self.folder}/{target.name}/{MANIFEST}", str(partial / MANIFEST))
            for file, recorded in directories.read_manifest(partial).files.items():
                place = partial / file
                place.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(f"{self.folder}/{target.name}/{file}", str(place))
                os.utime(place, ns=(recorded.mtime_ns, recorded.mtime_ns))

    @property
    def folder(self) -> str:
        """The URL as its file system writes paths."""
        import fsspec

        return str(fsspec.core.url_to_fs(self.url)[1]).rstrip("/")

    @contextlib.contextmanager
    def _reaching(self, name: str) -> Any:
        """Open the file system of the URL; what fails names this node, the URL and what was wanted of it."""
        import fsspec

        try:
            yield fsspec.core.url_to_fs(self.url)[0]
        except (OSError, ImportError, ValueError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"The node {platform.node()} cannot copy {name} by way of shared={self.url!r} "
                f"({type(error).__name__}: {error}). All nodes must reach that URL, with rights and the package of "
                "fsspec for it; or leave shared= out and put cache_dir= and the corpus where all see them."
            ) from error


class _Packer(dill.Pickler):  # type: ignore[misc]
    """Pickles paths as names in a mirror."""

    def __init__(self, file: Any, mirror: Mirror) -> None:
        super().__init__(file, recurse=False)
        self.mirror = mirror

    def persistent_id(self, value: Any) -> Any:
        """See `pickle.Pickler`."""
        if type(value) is not str and not isinstance(value, Path):
            return None
        name = self.mirror.name_of(value)
        return None if name is None else (type(value) is str, name)


class _Unpacker(dill.Unpickler):  # type: ignore[misc]
    """Reads names in a mirror as paths of this node."""

    def __init__(self, file: Any, mirror: Mirror) -> None:
        super().__init__(file)
        self.mirror = mirror

    def persistent_load(self, pid: Any) -> Any:
        """See `pickle.Unpickler`."""
        is_text, name = pid
        path = self.mirror.here(name)
        return str(path) if is_text else path


def packed(function: Callable[..., Any], mirror: Mirror | None) -> bytes:
    """Pickle a function that is to travel; see `Mirror`."""
    if mirror is None:
        return dill.dumps(function)
    file = io.BytesIO()
    _Packer(file, mirror).dump(function)
    return file.getvalue()


def unpacked(content: bytes, mirror: Mirror | None) -> Any:
    """Read what `packed` pickled."""
    return dill.loads(content) if mirror is None else _Unpacker(io.BytesIO(content), mirror).load()
