"""What lies in the cache, and taking it out again: published directories, shards of vectors, remains of dead builds."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_hardneg.errors import StoreError, shown, unknown_name
from hf_hardneg.runtime.units import data_size, duration
from hf_hardneg.store.directories import lock_of, read_manifest
from hf_hardneg.store.disk import UNFINISHED
from hf_hardneg.store.kinds import KINDS
from hf_hardneg.store.leases import users
from hf_hardneg.store.locks import UNNAMED, Lock, holder_of
from hf_hardneg.store.manifests import MANIFEST

PARTIAL = ".partial"
SHARDED = {kind.name for kind in KINDS.values() if kind.sharded}
"""Kinds whose manifest comes after their first file."""
DAY = 86400.0
SHOWN_VALUE, SHOWN_WORDS = 24, 80
_NAME = re.compile(r"\.?(?P<kind>[a-z0-9]+)-[0-9a-f]{32}(?P<partial>(\.[0-9]+)?\.(partial|unfinished))?")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One directory of the cache; `str()` renders a line for people.

    Args:
        path (`Path`): the directory.
        kind (`str`): such as `"bm25"`; `"partial"` for what a build that died, or is running, left behind, and
            `"unfinished"` for what such a build goes on from.
        size (`int`): bytes of its files.
        used (`float`): when it was last built or reused, in seconds since the epoch.
        about (`str`): what it is of, in words, such as `"corpus: scifact, 5,183 documents"`.
        built_from (`str`): the parameters it depends on, shortened.
        used_by (`str`, defaults to `""`): a process that has it open, or builds it, where `prune` met one.
    """

    path: Path
    kind: str
    size: int
    used: float
    about: str
    built_from: str
    used_by: str = ""

    def __str__(self) -> str:
        age = f"{duration(max(time.time() - self.used, 0))} ago"
        return f"{self.kind:<13} {data_size(self.size):>8}  {age:<16}  {self.about}"

    @property
    def verbose(self) -> str:
        """Render a line with the name of the directory and the parameters it depends on."""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.used))
        return f"{self.kind:<13} {data_size(self.size):>8}  {when}  {self.path.name}  {self.about}; {self.built_from}"


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """The result of `prune`; `str()` renders it.

    Args:
        removed (`tuple[Entry, ...]`): taken out.
        in_use (`tuple[Entry, ...]`): asked for, and left because other processes build them or have them open.
        dry_run (`bool`): whether `removed` only would have been.
    """

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]
    dry_run: bool

    def __str__(self) -> str:
        freed = data_size(sum(entry.size for entry in self.removed))
        verb = "would free" if self.dry_run else "freed"
        lines = [*map(str, self.removed), *(f"{entry}  in use by {entry.used_by}, kept" for entry in self.in_use)]
        return "\n".join([*lines, f"{verb} {freed} in {len(self.removed)} directories"])


def inventory(root: Path) -> list[Entry]:
    """Return every entry of a cache, the one used longest ago first.

    Args:
        root (`Path`): the cache; may not exist. Jobs may write to it meanwhile.
    """
    entries = []
    for path in _folders(root):
        with contextlib.suppress(FileNotFoundError):  # a job or another prune was quicker
            entries.append(entry_of(path))
    return sorted(entries, key=lambda entry: (entry.used, entry.path))


def _folders(root: Path) -> list[Path]:
    """Return the directories that this library wrote: the cache may lie in a folder that holds other things."""
    try:
        folders = sorted(Path(item.path) for item in os.scandir(root) if item.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{root} cannot be read as a cache: {error}. Give the cache_dir= of your runs.") from error
    named = [(path, name) for path in folders if (name := _NAME.fullmatch(path.name))]
    return [
        path for path, name in named if name["partial"] or name["kind"] in SHARDED or os.path.lexists(path / MANIFEST)
    ]


def entry_of(path: Path) -> Entry:
    """Return the entry of a directory.

    Raises:
        FileNotFoundError: it is gone.
    """
    statuses = _statuses(path)
    kind, about, built_from = path.name.partition("-")[0], "", ""
    used = max((status.st_mtime for status in statuses.values()), default=path.stat().st_mtime)
    if path.name.startswith("."):
        kind, about = _of_build(path.name)
    elif path / MANIFEST in statuses or kind not in SHARDED:
        used = statuses[path / MANIFEST].st_mtime if path / MANIFEST in statuses else used
        about, built_from = _described(path)
    size = sum(status.st_size for status in statuses.values())
    return Entry(path=path, kind=kind, size=size, used=used, about=about, built_from=built_from)


def _of_build(name: str) -> tuple[str, str]:
    """Return the kind of a directory that is not published, and what it is."""
    kind = name.removeprefix(".").partition("-")[0]
    if name.endswith(UNFINISHED):
        return UNFINISHED[1:], f"parts of {kind}, from which the same job goes on"
    return PARTIAL[1:], f"an unfinished build of {kind}"


def _statuses(path: Path) -> dict[Path, os.stat_result]:
    """Return the files under a directory, links not followed; a file that vanishes or may not be seen is left out."""
    statuses = {}
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                statuses[Path(folder, name)] = os.lstat(os.path.join(folder, name))
    return statuses


def _described(path: Path) -> tuple[str, str]:
    """Return in words what a directory holds, and the parameters it depends on, shortened."""
    try:
        manifest = read_manifest(path)
    except StoreError as error:
        return f"damaged: {error}", ""
    about = "; ".join(f"{_short(name)}: {_short(words, SHOWN_WORDS)}" for name, words in sorted(manifest.about.items()))
    parameters = sorted(manifest.parameters.items())
    return about, ", ".join(f"{_short(name)}={_short(value)}" for name, value in parameters)


def _short(value: Any, most: int = SHOWN_VALUE) -> str:
    """Shorten a value of a manifest to a part of a line."""
    return shown(str(value)[:most]).replace("\n", " ").replace("\t", " ")


def prune(
    root: Path,
    *,
    older_than: float | None = None,
    kinds: Sequence[str] = (),
    everything: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Remove the entries of a cache that meet all conditions, and always the remains of dead builds.

    What another process builds, or has opened since it began, stays. What only this process has opened goes: it keeps
    what it has mapped, on POSIX systems. Lock files that killed processes left behind go too.

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
    tried = [replace(entry, used_by=_took_out(entry, dry_run=dry_run)) for entry in chosen]
    if not dry_run:
        _take_out_locks(root)
    removed = tuple(entry for entry in tried if not entry.used_by)
    return Pruned(removed=removed, in_use=tuple(entry for entry in tried if entry.used_by), dry_run=dry_run)


def _took_out(entry: Entry, *, dry_run: bool) -> str:
    """Remove an entry, unless another process builds it or has it open; then return the name of that process.

    It is renamed before one looks for the last time, so that nobody finds half a directory, and who has seen it whole
    has said so before.
    """
    name = re.sub(rf"(\.[0-9]+)?({re.escape(PARTIAL)}|{re.escape(UNFINISHED)})$", "", entry.path.name.removeprefix("."))
    target = entry.path.with_name(name)
    hidden = target.with_name(f".{name}{PARTIAL}") if entry.path == target else entry.path
    lock = Lock(lock_of(target))
    if not lock.try_acquire():
        return str(holder_of(lock.path) or UNNAMED)
    try:
        user = _user(entry)
        if user or dry_run:
            return user
        if entry.path != hidden:
            shutil.rmtree(hidden, ignore_errors=True)
            target.rename(hidden)
            user = _user(entry)
            if user:
                hidden.rename(target)
                return user
        shutil.rmtree(hidden)
    except FileNotFoundError:  # another prune was quicker
        pass
    finally:
        lock.release()
    return ""


def _user(entry: Entry) -> str:
    return users(entry.path.parent).get(entry.path.name, "")


def _take_out_locks(root: Path) -> None:
    """Remove the files of locks that nobody holds, which a killed process leaves behind."""
    for path in root.glob(".*.lock"):
        with contextlib.suppress(StoreError):
            lock = Lock(path)
            lock.try_acquire()
            lock.release()
