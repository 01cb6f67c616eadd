"""Locks between processes: one at a time builds a directory, and who waits says for whom.

A lock is a file that is there while somebody holds it, says who that is, and is locked by `flock`, which the system
gives up when its holder ends, in whatever way. Workers do not inherit it: what a fork copied is closed in the child at
once. Where a file system has no `flock`, that the file is there is the lock.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import functools
import json
import os
import socket
import stat
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from weakref import WeakSet, WeakValueDictionary

from hf_hardneg.errors import ConfigError, StoreError, warn

TIMEOUT = "HF_HARDNEG_LOCK_TIMEOUT"
"""Environment variable: seconds to wait for another process, after which an error says for which; by default as long
as it takes."""
FIRST, AGAIN = 3.0, 60.0
"""Seconds until a wait is told of, and told of again."""
POLL = 0.1
ENDED = 2.0
"""Seconds for which a lock must be seen in the name of a process that has ended before it is taken away."""
NO_FLOCK = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
HELD = {errno.EAGAIN, errno.EACCES}
LONGEST = 4096
UNNAMED = "a process that does not say its name"

guard = threading.RLock()
"""Held while a descriptor is opened and noted: no fork comes between."""
_not_for_children: set[int] = set()


def _after_fork() -> None:
    for descriptor in _not_for_children:
        os.close(descriptor)
    _not_for_children.clear()
    guard.release()


os.register_at_fork(before=guard.acquire, after_in_parent=guard.release, after_in_child=_after_fork)


class StillHeld(StoreError):
    """Another process held a lock for longer than was to be waited.

    Args:
        message (`str`): what was waited for.
        holder (`Holder`, *optional*): that process, where it says its name.
    """

    def __init__(self, message: str, holder: Holder | None = None) -> None:
        super().__init__(message)
        self.holder = holder


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a lock or has a directory open; `str()` names it.

    Args:
        pid (`int`): its number.
        host (`str`): where it runs.
        machine (`str`): the same boot of the same machine, or container, where its number means something.
        started (`str`): when it began, as the system counts; empty where it does not tell.
        program (`str`): what it runs.
    """

    pid: int
    host: str
    machine: str
    started: str
    program: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.program})"

    @classmethod
    def this(cls) -> Holder:
        """Describe this process."""
        pid, host = os.getpid(), socket.gethostname()
        program = os.path.basename(sys.argv[0] if sys.argv else "") or "python"
        return cls(pid=pid, host=host, machine=_machine(), started=_started(pid), program=program)

    @classmethod
    def read(cls, descriptor: int) -> Holder | None:
        """Read the holder that a file names; `None` where it names none."""
        with contextlib.suppress(ValueError, TypeError, KeyError, OSError, RecursionError):
            values = json.loads(os.pread(descriptor, LONGEST, 0).split(b"\n")[0])
            texts = {name: str(values[name])[:200] for name in ("host", "machine", "started", "program")}
            if type(values["pid"]) is int and values["pid"] > 0:
                return cls(pid=values["pid"], **texts)
        return None

    def line(self) -> bytes:
        """Return the line that `read` reads."""
        return json.dumps(asdict(self)).encode() + b"\n"

    def has_ended(self) -> bool:
        """Return whether it ran on this machine and does no more; `False` too where that cannot be told."""
        if self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return _started(self.pid) != self.started


def _started(pid: int) -> str:
    """Return when a process of this machine began; empty where it has ended, or the system does not tell."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]


@functools.cache
def _machine() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


class Lock:
    """A lock that one thread of one process holds at a time, until that process ends or nobody has this object.

    Args:
        path (`Path`): of the file, in a folder that all see.
        inherited (`bool`, defaults to `False`): whether what is forked from its holder holds it too.

    Example:
        >>> from pathlib import Path
        >>> from hf_hardneg.store.locks import Lock
        >>> with Lock(Path("cache/.thing.lock")):
        ...     pass  # others wait
    """

    def __init__(self, path: Path, *, inherited: bool = False) -> None:
        self.path, self.inherited = path, inherited
        self._descriptor, self._process = -1, 0

    @property
    def is_held(self) -> bool:
        """Return whether this process holds it through this object."""
        return self._descriptor >= 0 and self._process == os.getpid()

    def acquire(self, timeout: float | None = None) -> None:
        """Wait until this process holds it; where `is_held`, return at once.

        Args:
            timeout (`float`, *optional*): seconds; by default what the environment variable `TIMEOUT` says.

        Raises:
            StillHeld: naming the file and its holder.
            StoreError: the folder cannot be written.
        """
        allowed = _allowed() if timeout is None else timeout
        began, next_warning, ended = time.monotonic(), FIRST, None
        while not self.try_acquire():
            now, holder = time.monotonic() - began, holder_of(self.path)
            if holder is None or not holder.has_ended():
                ended = None
            elif ended is None or ended[0] != holder:
                ended = holder, now
            elif now - ended[1] >= ENDED:
                self.path.unlink(missing_ok=True)
            if now >= allowed:
                raise StillHeld(
                    f"{self.path} is held by {holder or UNNAMED}, after {now:.0f} s of "
                    f"waiting; {allowed:g} s are allowed. Let that process finish, end it, or set {TIMEOUT} to more.",
                    holder,
                )
            if now >= next_warning:
                _tell(self.path, holder, now)
                next_warning += AGAIN
            time.sleep(POLL)

    def try_acquire(self) -> bool:
        """Take it if that is possible at once; return whether this process has it now.

        Raises:
            StoreError: the folder cannot be written.
        """
        if self.is_held:
            return True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with guard:
                return self._tried()
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be locked: {error}. What is built is built under a lock in its own folder: give "
                "one that you may write (cache_dir=)."
            ) from error

    def _tried(self) -> bool:
        opened = _opened(self.path)
        if opened is None:
            return False
        descriptor, is_new = opened
        if not (_flocked(descriptor, is_new) and is_at(descriptor, self.path)):
            os.close(descriptor)
            return False
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            self.path.unlink()  # left behind by another user, who died: the next try makes a new one
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(OSError):
            os.write(descriptor, Holder.this().line())
        if not self.inherited:
            _not_for_children.add(descriptor)
        self._descriptor, self._process = descriptor, os.getpid()
        _held.add(self)
        return True

    def add(self, line: str) -> None:
        """Write a line into the file, after the line that names the holder."""
        os.write(self._descriptor, f"{line}\n".encode())

    @property
    def is_in_place(self) -> bool:
        """Return whether it is held, and its file still in its place."""
        return self.is_held and is_at(self._descriptor, self.path)

    def release(self) -> None:
        """Let others in; nothing happens where it is not held, as in a worker whose parent holds it."""
        if not self.is_held:
            return
        with guard:
            if self.is_in_place:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            _not_for_children.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            _held.discard(self)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


_held: WeakSet[Lock] = WeakSet()
_shared: WeakValueDictionary[Path, Lock] = WeakValueDictionary()


def shared(path: Path) -> Lock:
    """Return the one lock of a path that this whole process shares, for as long as anybody in it keeps the lock."""
    return _shared.setdefault(path, Lock(path))


@atexit.register
def _release_all() -> None:
    for lock in list(_held):
        lock.release()


def holder_of(path: Path) -> Holder | None:
    """Return who holds a lock, as its file says; `None` where it does not."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return Holder.read(descriptor)
    finally:
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether a path still names the file that a descriptor has open: it may have been removed meanwhile."""
    try:
        named = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), named)


def _opened(path: Path) -> tuple[int, bool] | None:
    """Open the file of a lock: its descriptor, and whether it is new; `None` where it vanished in this moment."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileExistsError):
        return os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    try:
        descriptor = os.open(path, flags | os.O_RDWR)
    except FileNotFoundError:
        return None
    except PermissionError:
        descriptor = os.open(path, flags | os.O_RDONLY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return descriptor, False


def _flocked(descriptor: int, is_new: bool) -> bool:
    """Try to lock the file of a lock; return whether this process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        if error.errno in NO_FLOCK:
            return is_new
        os.close(descriptor)
        raise
    return True


def _allowed() -> float:
    setting = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(setting or "inf")
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ConfigError(
            f"{TIMEOUT}={setting!r} is no time to wait; allowed are seconds, such as 600. Set or unset it."
        )
    return seconds


def _tell(path: Path, holder: Holder | None, seconds: float) -> None:
    who = "another thread of this process" if holder and holder.pid == os.getpid() else holder or UNNAMED
    warn(
        f"Waiting for {path}, which {who} has held for at least {seconds:.0f} s. This goes on when that process is "
        f"done or ends; {TIMEOUT} in the environment sets how many seconds to wait at most.",
        always=True,
    )
