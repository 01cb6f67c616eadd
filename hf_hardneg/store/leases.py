"""What processes have open in a cache, so that `prune` leaves it: a file of each process, which lists directories.

It is locked as long as the process lives, or one that was forked from it. Where no file can be written nothing is said,
and nothing can be pruned either.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from hf_hardneg.errors import StoreError
from hf_hardneg.store.locks import UNNAMED, Holder, Lock, guard, holder_of

FILES = ".in-use-"
AT_MOST = 16
"""Caches that a process says it uses, the last ones: each takes a descriptor."""
LONGEST = 1 << 20
_NAME = re.compile(r"[a-z0-9]+-[0-9a-f]{32}")


@dataclass
class _Lease:
    """The file of this process in a cache, and the directories that it lists."""

    lock: Lock
    names: set[str] = field(default_factory=set)

    def add(self, names: set[str]) -> None:
        for name in names - self.names:
            self.lock.add(name)
        self.names |= names


_leases: dict[Path, _Lease] = {}


def lease(directory: Path) -> None:
    """Say that this process uses a directory of a cache, until it ends, and what is forked from it too.

    To be called before one looks whether the directory is there: what is there afterwards stays.
    """
    root = directory.parent
    if _NAME.fullmatch(directory.name) is None or not root.is_dir():
        return
    with guard, contextlib.suppress(OSError, StoreError):
        held, names = _leases.pop(root, None), {directory.name}
        if held is None or not held.lock.is_in_place:
            names |= held.names if held is not None and held.lock.is_held else set()
            held = _begun(root)
        _leases[root] = held
        held.add(names)
        for old in list(_leases)[:-AT_MOST]:
            _leases.pop(old).lock.release()


def _begun(root: Path) -> _Lease:
    users(root)
    while True:
        lock = Lock(root / f"{FILES}{os.getpid()}-{secrets.token_hex(4)}", inherited=True)
        if lock.try_acquire():
            return _Lease(lock)


def users(root: Path) -> dict[str, str]:
    """Return the directories of a cache that other processes use, by name, with the name of a process that does.

    Files of processes that have ended are taken away.
    """
    used: dict[str, str] = {}
    for path in root.glob(f"{FILES}*"):
        holder = holder_of(path)
        if holder == Holder.this() or _is_left(path):
            continue
        with contextlib.suppress(OSError), path.open(errors="replace") as stream:
            _, *names = stream.read(LONGEST).split("\n")
            used |= dict.fromkeys(names, str(holder or UNNAMED))
    return used


def _is_left(path: Path) -> bool:
    """Return whether the process that wrote this file has ended; then remove the file."""
    lock = Lock(path)
    try:
        left = lock.try_acquire()
    except StoreError:
        return False
    lock.release()
    return left
