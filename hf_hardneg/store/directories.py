"""Directories on disk that are built once, published whole, and checked before use.

A directory `<kind>-<digest>/` holds data files and `manifest.json`, which records what it was built from and the size,
time and checksum of each file. It is built in a temporary sibling, synced, and renamed into place under a file lock:
a killed build leaves nothing that is later taken for an index, and a second process waits and reuses.

What is read is what was published: readers take the files that `check` found in the manifest, never what a folder
happens to hold.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import shlex
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hf_hardneg.errors import StoreError
from hf_hardneg.store.disk import continued, writing, written
from hf_hardneg.store.kinds import Kind, check_kind
from hf_hardneg.store.leases import lease
from hf_hardneg.store.locks import Lock
from hf_hardneg.store.manifests import LARGEST, Manifest, Recorded
from hf_hardneg.store.manifests import MANIFEST as MANIFEST
from hf_hardneg.store.owners import check_owners
from hf_hardneg.store.regular_files import json_of

logger = logging.getLogger(__name__)

SMALL, LARGE = 1 << 20, 1 << 30
"""Bytes of a file whose checksum takes a millisecond, and a second."""

_NAME = re.compile(r"\b[a-z0-9]+-[0-9a-f]{32}\b")

_may_build: ContextVar[bool] = ContextVar("_may_build", default=True)
_verified: ContextVar[set[Path] | None] = ContextVar("_verified", default=None)


class NotPublished(StoreError):
    """Nothing is published under those parameters, and building is not wanted here."""


@contextlib.contextmanager
def without_building() -> Iterator[None]:
    """Have `obtain` open what is published, and raise `NotPublished` where it would build, inside this context."""
    token = _may_build.set(False)
    try:
        yield
    finally:
        _may_build.reset(token)


@contextlib.contextmanager
def verifying(wanted: bool = True) -> Iterator[None]:
    """Have `check` read all content, once for each directory, inside this context; `False` changes nothing."""
    before = _verified.get()
    token = _verified.set(set() if wanted and before is None else before)
    try:
        yield
    finally:
        _verified.reset(token)


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return where indexes live: `cache_dir`, or `hf_hardneg` under the datasets cache.

    The path is absolute, since miners travel as paths to processes that may work in another folder; `~` is the home.

    Raises:
        StoreError: a file is there, or the path is relative to a folder that is gone.
    """
    if cache_dir is None:
        from datasets import config

        return Path(os.path.abspath(config.HF_DATASETS_CACHE)) / "hf_hardneg"
    try:
        root = Path(os.path.abspath(os.path.expanduser(cache_dir)))
    except FileNotFoundError as error:
        raise StoreError(
            f"cache_dir={os.fspath(cache_dir)!r} is relative, and the working folder is gone. Give an absolute path."
        ) from error
    if root.is_file():
        raise StoreError(f"cache_dir={os.fspath(cache_dir)!r} is a file; indexes are kept in a folder. Give one.")
    return root


def digest_of(parameters: Mapping[str, Any]) -> str:
    """Return the hex digest (32 characters) of plain parameters, independent of their order."""
    text = json.dumps(parameters, sort_keys=True, ensure_ascii=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def place(root: Path, kind: Kind, parameters: Mapping[str, Any]) -> Path:
    """Return where `obtain` puts what is built from some parameters.

    Raises:
        UnknownNameError: the kind is not in the table.
    """
    check_kind(kind)
    return root / _name(kind.name, parameters)


def _name(kind: str, parameters: Mapping[str, Any]) -> str:
    return f"{kind}-{digest_of(parameters)}"


def exists(root: Path, kind: Kind, parameters: Mapping[str, Any]) -> bool:
    """Return whether `obtain` would find something; nothing is built to find out, and nothing is checked."""
    return place(root, kind, parameters).exists()


def lock_of(directory: Path) -> Path:
    """Return the file of the lock under which a directory is written, or taken away."""
    return directory.with_name(f".{directory.name}.lock")


def obtain(
    root: Path,
    kind: Kind,
    parameters: Mapping[str, Any],
    build: Callable[[Path], object],
    about: Mapping[str, str] | None = None,
    *,
    goes_on: bool = False,
) -> Path:
    """Return the checked directory of `kind` for `parameters`, which is built first if it does not exist.

    Args:
        root (`Path`): the cache.
        kind (`Kind`): of the table in `store/kinds.py`.
        parameters (`Mapping`): everything the content depends on, as plain JSON values.
        build (`Callable[[Path], object]`): writes the data files into the given empty directory.
        about (`Mapping[str, str]`, *optional*): what it is of, in words that `hf-hardneg cache ls` shows, such as
            `{"corpus": "5,183 documents"}`. What directories that `parameters` name are of is added.
        goes_on (`bool`, defaults to `False`): whether `build` goes on from what it left in the directory when it was
            stopped. It then returns the names of the files that count.

    Raises:
        StoreError: the directory exists and its files are missing, truncated or altered.
        NotPublished: it does not exist, `without_building()`.
        UnknownNameError: the kind is not in the table.
    """
    target = place(root, kind, parameters)
    lease(target)
    if target.exists():
        return _reused(target, parameters)
    if not _may_build.get():
        raise NotPublished(f"{target} does not exist, and here only what exists is opened. Build it first.")
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        with Lock(lock_of(target)):
            lease(target)
            if target.exists():
                return _reused(target, parameters)
            whole = {**_inherited(root, parameters), **(about or {})}
            publish(target, kind, parameters, build, whole, goes_on=goes_on)
    return target


def _inherited(root: Path, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return in words what the directories hold that are named in some parameters."""
    about: dict[str, str] = {}
    for name in _NAME.findall(json.dumps(parameters)):
        with contextlib.suppress(StoreError):
            about |= read_manifest(root / name).about
    return about


def _reused(target: Path, parameters: Mapping[str, Any]) -> Path:
    if check(target).parameters != parameters:
        raise StoreError(f"{target} was built for another corpus, encoder or setting. {rebuild(target)}")
    logger.info("reusing %s", target)
    with contextlib.suppress(OSError):
        os.utime(target / MANIFEST)
    return target


def publish(
    target: Path,
    kind: Kind,
    parameters: Mapping[str, Any],
    build: Callable[[Path], object],
    about: Mapping[str, str] | None = None,
    *,
    goes_on: bool = False,
) -> None:
    """Build a directory in a sibling and rename it into place, whole and synced, or leave nothing that counts.

    Args:
        target (`Path`): must not exist.
        kind, parameters, build, about, goes_on: as for `obtain`, whose lock is not taken here.

    Raises:
        StoreError: the disk is full or closed; what was written is taken away again.
    """
    with (continued if goes_on else written)(target) as partial:
        partial.mkdir(exist_ok=goes_on)
        counted: Any = build(partial)
        if goes_on:
            _leave_only(partial, counted)
        paths = [path for path in sorted(partial.rglob("*")) if path.is_file()]
        files = {str(path.relative_to(partial)): _describe(path) for path in paths}
        manifest = Manifest(kind=kind.name, parameters=parameters, files=files, about=about or {})
        (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def _leave_only(directory: Path, names: Collection[str]) -> None:
    """Remove what stopped builds left beside the files that count."""
    for path in directory.iterdir():
        if path.name not in names:
            path.unlink(missing_ok=True)


def _describe(path: Path) -> Recorded:
    status = path.stat()
    return Recorded(size=status.st_size, mtime_ns=status.st_mtime_ns, blake2b=file_digest(path))


def file_digest(path: Path) -> str:
    """Return the hex BLAKE2b digest (32 characters) of a file's content."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def bytes_digest(*parts: Any) -> str:
    """Return the hex BLAKE2b digest (32 characters) of buffers, one after the other."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(memoryview(part))
    return digest.hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a published directory.

    Raises:
        StoreError: there is none, or it is not what this library writes.
    """
    path = directory / MANIFEST
    with _reading(path, directory):
        try:
            return Manifest.read(path)
        except ValueError as error:
            raise StoreError(f"{path} is no manifest: {error}. {rebuild(directory)}") from error


@contextlib.contextmanager
def _reading(path: Path, directory: Path) -> Iterator[None]:
    """Read a file of a published directory inside; what fails is a `StoreError`."""
    try:
        yield
    except FileNotFoundError as error:
        if not directory.exists():
            raise StoreError(
                f"{directory} is not there on the node {platform.node()}: the cache was cleaned, or the miner was made "
                "on another machine, and miners travel as paths. Construct it again here, which builds what is "
                "missing, or put cache_dir= where all nodes see it under that path; under an engine, shared= may name "
                "a URL that they reach."
            ) from error
        raise StoreError(f"{path} is missing. {rebuild(directory)}") from error
    except PermissionError as error:
        raise StoreError(
            f"{path} may not be read by this user ({error}). Have its owner open it to you, or give another cache_dir= "
            f"than {directory.parent}."
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}. {rebuild(directory)}") from error


def check(directory: Path, *, foreign: bool = False) -> Manifest:
    """Raise if a file of a published directory is missing, truncated, altered or foreign; return its manifest.

    Files must be regular ones, of the size that was recorded. The checksum of their content is compared for files of up
    to `SMALL` bytes, for larger ones whose time is not the recorded one, as after an edit or a copy, and for all inside
    `verifying`. So content of a large file that changed under its old size and time is found by verifying alone.

    Args:
        directory (`Path`): what was published.
        foreign (`bool`, defaults to `False`): whether software reads it that follows what it finds in a file without
            looking; then files of up to `LARGE` bytes count as small.

    Raises:
        StoreError: naming the file and how to rebuild.
    """
    lease(directory)
    manifest, verified = read_manifest(directory), _verified.get()
    everything, most = verified is not None and directory not in verified, LARGE if foreign else SMALL
    statuses = {name: _status(directory, name) for name in (MANIFEST, *manifest.files)}
    check_owners(directory, {status.st_uid for status in statuses.values()})
    for name, recorded in manifest.files.items():
        path, status = directory / name, statuses[name]
        if status.st_size != recorded.size:
            size = f"{status.st_size:,} bytes where {recorded.size:,} were written"
            raise StoreError(f"{path} is truncated or altered: {size}. {rebuild(directory)}")
        is_read = everything or recorded.size <= most or status.st_mtime_ns != recorded.mtime_ns
        with _reading(path, directory):
            if is_read and file_digest(path) != recorded.blake2b:
                raise altered(directory, name, "its checksum is not the recorded one")
    if verified is not None:
        verified.add(directory)
    return manifest


def parameters_of(directory: Path) -> Mapping[str, Any]:
    """Return the parameters that a published directory was built from, whose digest its name must be.

    Raises:
        StoreError: its manifest is not what was published under that name.
    """
    manifest = read_manifest(directory)
    if directory.name != _name(manifest.kind, manifest.parameters):
        raise StoreError(f"{directory / MANIFEST} is of something else, or was altered. {rebuild(directory)}")
    return manifest.parameters


def read_object(directory: Path, name: str) -> dict[str, Any]:
    """Read the JSON object in a small file of a published directory.

    Raises:
        StoreError: it holds something else.
    """
    if name not in read_manifest(directory).files:
        raise altered(directory, MANIFEST, f"it does not list {name}")
    try:
        values = json_of(directory / name, LARGEST)
    except (OSError, ValueError) as error:
        raise altered(directory, name, str(error)) from error
    if not isinstance(values, dict):
        raise altered(directory, name, "it holds no JSON object")
    return values


def altered(directory: Path, name: str, why: str) -> StoreError:
    """Return the error for a file of a published directory that does not hold what was written."""
    return StoreError(f"{directory / name} was altered: {why}. {rebuild(directory)}")


def refuse_unlisted(directory: Path) -> None:
    """Raise if a published directory holds files that its manifest does not list.

    This is for directories that other software opens as a folder, such as a model's.

    Raises:
        StoreError: naming one.
    """
    listed = {MANIFEST, *read_manifest(directory).files}
    for folder, folders, names in os.walk(directory):
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]:
            path = Path(folder, name)
            if str(path.relative_to(directory).as_posix()) not in listed:
                raise StoreError(
                    f"{path} was not published: the manifest of its directory does not list it, and who loads the "
                    f"folder would read it. Remove that file. {rebuild(directory)}"
                )


def _status(directory: Path, name: str) -> os.stat_result:
    """Return the status of a listed file, which must be a regular one, in folders that are no links."""
    path = directory / name
    with _reading(path, directory):
        for folder in path.relative_to(directory).parents:
            if folder != Path() and not stat.S_ISDIR(os.lstat(directory / folder).st_mode):
                raise NotADirectoryError("it is not in a folder of its directory")
        status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} is a link, a folder or a device, not the file that was written. {rebuild(directory)}")
    return status


def rebuild(directory: Path) -> str:
    """Say what to do about a damaged directory."""
    return f"Delete the directory to rebuild it on the next run: rm -r {shlex.quote(str(directory))}"
