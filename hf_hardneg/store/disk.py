"""What is written to disks that may be full, closed or read-only: one error for all of it, and no byte lost unsaid.

`np.save`, `ndarray.tofile` and `faiss.write_index` to a path return in peace where the disk has no room for their last
bytes, and a file that is written through a mapping ends the process there. So arrays are written here.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hf_hardneg.errors import ConfigError, HardNegError, StoreError
from hf_hardneg.runtime.units import data_size

UNFINISHED = ".unfinished"
"""The end of the name of a folder whose work goes on after what stopped it."""
BLOCK = 1 << 20
LITTLE = 1 << 20
"""Bytes; a disk with less is the one that is full."""

NO_ROOM = {
    errno.ENOSPC: "it has no room left",
    errno.EDQUOT: "your quota is used up",
    errno.EFBIG: "a limit of sizes",
    errno.EIO: "Input/output error",
}
CLOSED = {
    errno.EACCES,
    errno.EISDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENODEV,
    errno.ESTALE,
}
WORDS = {
    **{os.strerror(number): number for number in (*NO_ROOM, errno.EROFS)},
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "readonly database": errno.EROFS,
    " requested and ": errno.ENOSPC,
    "PytorchStreamWriter failed writing": errno.ENOSPC,
    "iostream error": errno.ENOSPC,
}
"""What libraries say that raise errors without a number: SQLite, numpy, torch, and all that quote the system."""


@contextlib.contextmanager
def writing(
    folder: str | os.PathLike[str], *, needed: float | None = None, other: str = "cache_dir="
) -> Iterator[None]:
    """Turn what the disk refuses inside into a `StoreError` that says where, how much is free, and what to do.

    Args:
        folder (path): where is written; it need not exist yet.
        needed (`float`, *optional*): bytes, where they are known.
        other (`str`, defaults to `"cache_dir="`): the argument that names another place.

    Raises:
        StoreError: no room, a quota, a limit of sizes, a read-only or closed folder.
    """
    try:
        yield
    except HardNegError:
        raise
    except Exception as error:
        cause = _cause(error)
        if cause is None or not _concerns(cause, Path(folder)):
            raise
        raise StoreError(_said(cause, Path(folder), needed, other)) from error


class _Cause:
    """The reason why the system refused: its error number, and the file, where that is known."""

    def __init__(self, number: int, file: Path | None) -> None:
        self.number, self.file = number, file


def _cause(error: BaseException | None) -> _Cause | None:
    """Return the refusal of a disk behind an error, or `None` where it is about something else."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in NO_ROOM or number in CLOSED:
            name = getattr(error, "filename2", None) or getattr(error, "filename", None)
            return _Cause(number, Path(os.fsdecode(name)) if isinstance(name, str | bytes) else None)
        message = str(error)
        if number is None and (word := next((word for word in WORDS if word in message), None)):
            return _Cause(WORDS[word], None)
        error = error.__cause__ or error.__context__
    return None


def _concerns(cause: _Cause, folder: Path) -> bool:
    """Return whether a refusal concerns what was written, and not a file elsewhere, such as a closed model's."""
    if cause.number in NO_ROOM and cause.number != errno.EIO:
        return True
    if cause.file is None:
        return cause.number in (errno.EROFS, errno.EIO)
    inside, target = Path(os.path.abspath(cause.file)), Path(os.path.abspath(folder))
    return target == inside or target in inside.parents or inside in target.parents


def _said(cause: _Cause, folder: Path, needed: float | None, other: str) -> str:
    if cause.number in CLOSED:
        return (
            f"{cause.file or folder} cannot be written: {os.strerror(cause.number)}. Make it yours to write, or name "
            f"another place with {other}."
        )
    folder = _full(cause, folder)
    room = room_of(folder)
    wanted = "" if needed is None else f"{data_size(needed)} needed, "
    files = f"{wanted}{data_size(room)} free"
    if cause.number == errno.EFBIG:
        return (
            f"A file in {folder} is larger than may be written ({files}): the limit of sizes of this process (ulimit "
            f"-f) or of the file system. Raise it, or name another place with {other}; then run again."
        )
    return (
        f"{folder} cannot be written: {NO_ROOM[cause.number]} ({files}{_no_entries(folder)}). Make room there, or name "
        f"another place with {other}; then run again, which goes on from what is finished."
    )


def _full(cause: _Cause, folder: Path) -> Path:
    """Return which of the folders that a job writes to is on a full disk."""
    if cause.file is not None:
        return cause.file.parent
    places = [folder, *filter(Path.is_dir, (Path(tempfile.tempdir or folder), Path("/dev/shm")))]
    return next((place for place in places if room_of(place) < LITTLE or _no_entries(place)), folder)


def _no_entries(folder: Path) -> str:
    state = os.statvfs(nearest(folder)) if hasattr(os, "statvfs") else None
    used_up = state is not None and state.f_files and not state.f_favail
    return ", but it holds as many files as it can" if used_up else ""


def check_writable(path: str | os.PathLike[str], option: str) -> None:
    """Raise where nothing can be written at a path, before the work whose result is to go there.

    Args:
        path (path): a file or folder that need not exist yet, nor those above it.
        option (`str`): the argument that named it, such as `"--out"`.

    Raises:
        ConfigError: it is no path; or the nearest folder above it that exists is none, is closed to this user, or full.
    """
    target = Path(os.path.abspath(path))
    above = target.parent
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.with_name(f".{target.name}.partial").lstat()
        above = nearest(above)
        with tempfile.NamedTemporaryFile(dir=above, prefix=".hf_hardneg-") as trial:
            trial.write(b"is there room")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{option} {os.fspath(path)} cannot be written: {above} is no folder that you may write to "
            f"({getattr(error, 'strerror', None) or error}). Give another."
        ) from error


@contextlib.contextmanager
def scratch(prefix: str = "hf_hardneg-", place: Path | None = None) -> Iterator[Path]:
    """Give this process a folder of its own, in `place`, or outside the cache.

    Raises:
        StoreError: there is no room for it.
    """
    try:
        above, other = (tempfile.gettempdir(), "the variable TMPDIR") if place is None else (place, "cache_dir=")
    except FileNotFoundError as error:
        raise StoreError(f"{error.strerror}. Name a folder to write to with the variable TMPDIR.") from error
    with (
        writing(above, other=other),
        tempfile.TemporaryDirectory(prefix=prefix, dir=above, ignore_cleanup_errors=True) as folder,
    ):
        yield Path(folder)


def nearest(path: Path) -> Path:
    """Return the path itself, or the nearest folder above it that exists."""
    path = Path(os.path.abspath(path))
    return next(place for place in (path, *path.parents) if place.exists())


def room_of(folder: Path) -> int:
    """Return how many bytes may still be written to the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(nearest(folder)).free


def beside(path: Path) -> Path:
    """Return a free name beside a path, to write what shall be there.

    What a dead process left under such a name is removed, unless only another user may do that.
    """
    for number in itertools.count():
        partial = path.with_name(f".{path.name}.{number}.partial" if number else f".{path.name}.partial")
        _remove(partial)
        if not os.path.lexists(partial):
            break
    return partial


def _remove(path: Path) -> None:
    """Remove a file or a folder, as far as this user may."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def written(
    path: Path, *, needed: float | None = None, other: str = "cache_dir=", named: Callable[[Path], str] | None = None
) -> Iterator[Path]:
    """Give a free name beside a path, for a file or folder that takes its place at the end, synced; or nothing changes.

    Args:
        path (`Path`): what is written; folders above it are made. A folder that is there must be gone at the end.
        needed, other: see `writing`.
        named (`Callable[[Path], str]`, *optional*): returns the name in the place of the path's, with the digest of
            what was written. Then nothing is synced: what a crash of the machine cuts short has another digest.

    Raises:
        StoreError: the disk refuses it; what was written is taken away again.
    """
    with writing(path.parent, needed=needed, other=other):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = beside(path)
        try:
            yield partial
            if named is None:
                _put(partial, path)
            else:
                partial.replace(path.with_name(named(partial)))
        except BaseException:
            _remove(partial)
            raise


@contextlib.contextmanager
def continued(path: Path, *, other: str = "cache_dir=") -> Iterator[Path]:
    """Give the folder in which a folder is written that is not done at once, and takes its place at the end, synced.

    What stops the work leaves that folder, so that the work goes on from what lies in it. It is of this user.

    Args:
        path (`Path`): the folder that is written, which must not exist.
        other: see `writing`.

    Raises:
        StoreError: the disk refuses it.
    """
    with writing(path.parent, other=other):
        unfinished = _unfinished(path)
        unfinished.mkdir(parents=True, exist_ok=True)
        yield unfinished
        _put(unfinished, path)


def _unfinished(path: Path) -> Path:
    """Return the first name for the unfinished folder of a path under which nothing of another user lies."""
    for number in itertools.count():
        folder = path.with_name(f".{path.name}.{number}{UNFINISHED}" if number else f".{path.name}{UNFINISHED}")
        try:
            status = os.lstat(folder)
        except FileNotFoundError:
            break
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
            break
    return folder


def _put(partial: Path, path: Path) -> None:
    """Put what was written in its place, synced."""
    for part in [*partial.rglob("*"), partial]:
        sync(part)
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file, or the entries of a directory, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write what `np.save` writes, or raise.

    Raises:
        StoreError: the disk refuses it.
    """
    with writing(path.parent, needed=array.nbytes), path.open("wb") as stream:
        stream.writelines(npy(array))


def npy(array: np.ndarray) -> tuple[bytes, memoryview]:
    """Return the header and the items of an array in the format of `np.save`."""
    return _header(array.dtype, array.shape), items(array)


def items(array: np.ndarray) -> memoryview:
    """Return the bytes of the items of an array."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def reserved(path: Path, dtype: np.dtype[Any] | type, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Map a new array in a file, to be written anywhere, after its room on the disk is taken.

    Raises:
        StoreError: there is not as much room. Without taking it first, the system would end the process with SIGBUS
            at the first page that finds none.
    """
    size = int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
    with writing(path.parent, needed=size), path.open("wb") as stream:
        stream.write(_header(np.dtype(dtype), shape))
        stream.flush()
        _allocate(stream, stream.tell(), size)
    return np.lib.format.open_memmap(path, mode="r+")


def _allocate(stream: BinaryIO, start: int, size: int) -> None:
    """Take the room of a file: ask for it, and write zeros where the file system does not give it for asking."""
    if not size:
        return
    with contextlib.suppress(AttributeError):
        try:
            os.posix_fallocate(stream.fileno(), 0, start + size)
            if os.fstat(stream.fileno()).st_blocks * 512 >= start + size:
                return
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
    stream.seek(start)
    zeros = bytes(BLOCK)
    for place in range(0, size, BLOCK):
        stream.write(zeros[: min(BLOCK, size - place)])
