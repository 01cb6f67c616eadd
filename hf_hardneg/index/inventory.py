"""What lies in the cache, and taking it out again: published directories, shards of vectors, remains of dead builds."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_hardneg.costs import data_size
from hf_hardneg.errors import StoreError, unknown_name
from hf_hardneg.index.manifests import MANIFEST
from hf_hardneg.index.store import read_manifest

PARTIAL = ".partial"
SHARDS = "vectors"
SHARDED = (SHARDS, "scores")
"""Kinds whose files name their digests; their manifest comes after the first."""
DAY = 86400.0
SHOWN_VALUE = 24
_NAME = re.compile(r"\.?(?P<kind>[a-z0-9]+)-[0-9a-f]{32}(?P<partial>(\.[0-9]+)?\.partial)?")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One directory of the cache; `str()` renders a line.

    Args:
        path (`Path`): the directory.
        kind (`str`): such as `"bm25"`; `"partial"` for what a build that died, or is running, left behind.
        size (`int`): bytes of its files.
        used (`float`): when it was last built or reused, in seconds since the epoch.
        built_from (`str`): the parameters it depends on, shortened.
    """

    path: Path
    kind: str
    size: int
    used: float
    built_from: str

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.used))
        return f"{self.kind:<10} {data_size(self.size):>8}  {when}  {self.path.name}  {self.built_from}"


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What `prune` did; `str()` renders it.

    Args:
        removed (`tuple[Entry, ...]`): taken out.
        in_use (`tuple[Entry, ...]`): asked for, and left because a build holds their lock.
        dry_run (`bool`): whether `removed` only would have been.
    """

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]
    dry_run: bool

    def __str__(self) -> str:
        freed = data_size(sum(entry.size for entry in self.removed))
        verb = "would free" if self.dry_run else "freed"
        lines = [*map(str, self.removed), *(f"{entry}  in use, kept" for entry in self.in_use)]
        return "\n".join([*lines, f"{verb} {freed} in {len(self.removed)} directories"])


def inventory(root: Path) -> list[Entry]:
    """Every entry of a cache, the one used longest ago first.

    Args:
        root (`Path`): the cache; may not exist. Jobs may write to it meanwhile.
    """
    entries = []
    for path in _folders(root):
        with contextlib.suppress(FileNotFoundError):  # a job or another prune was quicker
            entries.append(entry_of(path))
    return sorted(entries, key=lambda entry: (entry.used, entry.path))


def _folders(root: Path) -> list[Path]:
    """The directories that were made by this library: the cache may lie in a folder that holds other things."""
    try:
        folders = sorted(Path(one.path) for one in os.scandir(root) if one.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{root} cannot be read as a cache: {error}. Give the cache_dir= of your runs.") from error
    return [path for path in folders if _is_ours(path)]


def _is_ours(path: Path) -> bool:
    named = _NAME.fullmatch(path.name)
    return named is not None and bool(named["partial"] or named["kind"] in SHARDED or os.path.lexists(path / MANIFEST))


def entry_of(path: Path) -> Entry:
    """The entry of a directory.

    Raises:
        FileNotFoundError: it is gone.
    """
    statuses = _statuses(path)
    kind, built_from = path.name.partition("-")[0], ""
    used = max((status.st_mtime for status in statuses.values()), default=path.stat().st_mtime)
    if path.name.startswith("."):
        kind, built_from = "partial", f"an unfinished build of {kind.removeprefix('.')}"
    elif path / MANIFEST in statuses or kind not in SHARDED:
        used = statuses[path / MANIFEST].st_mtime if path / MANIFEST in statuses else used
        built_from = _described(path)
    size = sum(status.st_size for status in statuses.values())
    return Entry(path=path, kind=kind, size=size, used=used, built_from=built_from)


def _statuses(path: Path) -> dict[Path, os.stat_result]:
    """The files under a directory, links not followed; those that vanish or may not be seen are left out."""
    statuses = {}
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                statuses[Path(folder, name)] = os.lstat(os.path.join(folder, name))
    return statuses


def _described(path: Path) -> str:
    try:
        parameters = read_manifest(path).parameters
    except StoreError as error:
        return f"damaged: {error}"
    return ", ".join(f"{_shown(name)}={_shown(value)}" for name, value in sorted(parameters.items()))


def _shown(value: Any) -> str:
    """A value of a manifest, shortened, without characters that move a terminal's cursor."""
    return "".join(one if one.isprintable() else " " for one in str(value)[:SHOWN_VALUE])


def prune(
    root: Path,
    *,
    older_than: float | None = None,
    kinds: Sequence[str] = (),
    everything: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Take entries out of a cache: those that meet all conditions given, and always the remains of dead builds.

    An entry whose lock a build holds stays. A process that has an index open keeps its mapped files on POSIX systems.

    Args:
        root (`Path`): the cache.
        older_than (`float`, *optional*): days since the last use, at least.
        kinds (`Sequence[str]`): only of these kinds; all by default.
        everything (`bool`): whether to take all entries when no other condition is given.
        dry_run (`bool`): whether only to tell.

    Raises:
        UnknownNameError: the cache has nothing of such a kind.
    """
    entries = inventory(root)
    present = {entry.kind for entry in entries}
    for kind in kinds:
        if kind not in present:
            raise unknown_name("kind", kind, present)
    conditions = everything or older_than is not None or bool(kinds)
    oldest = time.time() - (older_than or 0.0) * DAY
    chosen = [
        entry
        for entry in entries
        if entry.kind == "partial" or (conditions and entry.used <= oldest and (not kinds or entry.kind in kinds))
    ]
    removed: list[Entry] = []
    in_use: list[Entry] = []
    for entry in chosen:
        with _locked(entry) as free:
            (removed if free else in_use).append(entry)
            if free and not dry_run:
                _remove(entry.path)
    return Pruned(removed=tuple(removed), in_use=tuple(in_use), dry_run=dry_run)


@contextlib.contextmanager
def _locked(entry: Entry) -> Iterator[bool]:
    """Whether no build is at work on an entry; none can start on it inside."""
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as held:
        try:
            for path in _locks(entry):
                held.enter_context(FileLock(path, timeout=0))
        except Timeout:
            yield False
            return
        yield True


def _locks(entry: Entry) -> Iterable[Path]:
    """Locks under which an entry is written; shards of vectors are written while a dense index is built."""
    if entry.kind == SHARDS:
        return sorted(entry.path.parent.glob(".dense-*.lock"))
    name = re.sub(rf"(\.[0-9]+)?{re.escape(PARTIAL)}$", "", entry.path.name.removeprefix("."))
    return [entry.path.with_name(f".{name}.lock")]


def _remove(path: Path) -> None:
    """Rename first, so that nobody finds half a directory."""
    hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}{PARTIAL}")
    if hidden != path:
        shutil.rmtree(hidden, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):  # another prune was quicker
            path.rename(hidden)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(hidden)
