"""Disks that are full: real ones where the machine lets one be mounted, and a limit of sizes where it does not.

Every kind of work that writes is run on a disk that has room for a random part of it. It must end with a `StoreError`
that says where and how much is free, leave nothing behind that takes room, and give what an undisturbed run gives as
soon as there is room. The work runs in a child: what is written through a mapping would end the process.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np
from datasets import Dataset, disable_progress_bars

from hf_hardneg import HardNegatives, Strategy, mine, to_format
from hf_hardneg.errors import HardNegWarning, StoreError
from hf_hardneg.formats import save_format
from hf_hardneg.formats.inputs import load_saved, load_table
from hf_hardneg.formats.outputs import save
from hf_hardneg.index.dense.dense_index import FILE, save_flat_codes, write_flat
from hf_hardneg.models.score_store import stored
from hf_hardneg.retrievers import BM25, Dense
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.replies import Replies, keep, known
from tests.faults.campaign import Row

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000
RECURSIVE_PRIVATE, REMOUNT, BIND, READ_ONLY = 0x4000 | 0x40000, 0x20, 0x1000, 0x1
PAGE = 4096
SECONDS = 120.0
ROOM = "size=256m"

Work = Callable[[Path], object]


@functools.cache
def data() -> tuple[Dataset, Dataset]:
    """Pairs, and a corpus whose index takes some hundred kilobytes."""
    random = np.random.default_rng(0)
    words = np.array([f"term{number}" for number in range(2000)])
    texts = [" ".join(random.choice(words, 25)) for _ in range(800)]
    corpus = Dataset.from_dict({"_id": [f"d{number}" for number in range(800)], "text": texts})
    chosen = range(0, 800, 4)
    queries = [" ".join(texts[row].split()[:6]) for row in chosen]
    ids = [[f"d{row}"] for row in chosen]
    columns = {"query": queries, "positive": [texts[row] for row in chosen], "positive_ids": ids}
    return Dataset.from_dict(columns), corpus


@functools.cache
def _vector(word: str) -> np.ndarray:
    seed = int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "big")
    return np.random.default_rng(seed).normal(size=64).astype(np.float32)


def encode(texts: list[str]) -> np.ndarray:
    """Sums of word vectors."""
    return np.array([np.sum([_vector(word) for word in text.split()], axis=0) for text in texts])


encode.digest = "sums of words"  # type: ignore[attr-defined]


class Lengths:
    """A scorer of pairs that looks at their lengths."""

    digest, kind = "lengths", "ce_logit"

    def score(self, queries: list[str], documents: list[str]) -> np.ndarray:
        """Scores, (n,) float32."""
        return np.float32([len(query) / len(document) for query, document in zip(queries, documents, strict=True)])


def _negatives(strategy: Strategy) -> Work:
    def work(cache: Path) -> object:
        pairs, corpus = data()
        encoder = encode if strategy.uses_vectors else None
        miner = HardNegatives(corpus, strategy, encoder=encoder, cache_dir=str(cache))
        return miner(pairs[:40])["negative_ids"]

    return work


def _codes(cache: Path) -> object:
    """8-bit codes, which are the larger part of what is written here."""
    vectors = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)

    def build(directory: Path) -> None:
        write_flat(directory / FILE, iter([vectors]), "cosine")
        save_flat_codes(directory)
        (directory / FILE).unlink()

    directory = directories.obtain(cache, kinds.DENSE, {}, build)
    return [directories.file_digest(path) for path in sorted(directory.glob("*.npy"))]


def _mined(cache: Path) -> object:
    pairs, corpus = data()
    return mine(pairs, corpus, Strategy([BM25(30)]), cache_dir=str(cache))[:]


def _scores(cache: Path) -> object:
    pairs, _ = data()
    queries = [query for query in pairs["query"][:] for _ in range(10)]
    documents = [f"{text} {number}" for text in pairs["positive"][:] for number in range(10)]
    return stored(Lengths(), cache).score(queries, documents).tolist()


def _generation(cache: Path) -> object:
    from hf_hardneg.training import Schedule
    from tests.training.world import live_model, refresher

    made = refresher(cache / "run", live_model())
    made.at(10, Schedule(every=10))
    assert made.generations.current == 1
    return made.pairs.with_transform(made.negatives)[:]


def _replies(cache: Path) -> object:
    names = [f"key {number}" for number in range(300)]
    with Replies.of(cache, {"generator": "words"}).opened() as connection:
        there = known(connection, names)
        for name in names:
            if name not in there:
                keep(connection, name, f"a reply to {name}, " * 20)
        return known(connection, names)


@functools.cache
def _exported() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        pairs, corpus = data()
        mined = mine(pairs, corpus, Strategy([BM25(30)]), cache_dir=folder)
        mined = Dataset.from_dict(mined[:], features=mined.features)
        return {name: to_format(mined, name) for name in ("list", "flagembedding", "colbert", "contrastors")}


def _export(folder: Path) -> object:
    files = []
    for name, rows in _exported().items():
        if name == "list":
            save(rows, str(folder / name))
        else:
            files += save_format(rows, name, folder / name)
    return [load_saved(str(folder / "list"))[:], *(path.read_bytes()[10:] for path in files)]


@functools.cache
def _table() -> tempfile.TemporaryDirectory[str]:
    """A folder with the corpus as rows.csv."""
    folder = tempfile.TemporaryDirectory()
    data()[1].to_csv(str(Path(folder.name) / "rows.csv"))
    return folder


def _reading(folder: Path) -> object:
    """The Arrow files that `datasets` makes of a table."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = folder / "datasets"
    return load_table(str(Path(_table().name) / "rows.csv"))[:]


WORKS: dict[str, Work] = {
    "BM25": _negatives(Strategy([BM25(30)])),
    "dense": _negatives(Strategy([Dense(30)])),
    "approximate": _negatives(Strategy([Dense(30, factory="IVF8,Flat", recall=0.5)])),
    "codes": _codes,
    "stored rows": _mined,
    "scores": _scores,
    "generation": _generation,
    "replies": _replies,
    "export": _export,
    "tables read": _reading,
}


def _vectors() -> None:
    """What every child would import again."""
    importlib.import_module("faiss")
    importlib.import_module("tests.training.world")


PREPARED: dict[str, Callable[[], object]] = {
    "export": _exported,
    "tables read": _table,
    **dict.fromkeys(("dense", "approximate", "codes", "generation"), _vectors),
}
"""What work needs that is no part of it."""


def said_in_child(work: Callable[[], str], seconds: float = SECONDS) -> str:
    """What some work says that runs in a forked child, or how the child ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            disable_progress_bars()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HardNegWarning)
                said = work()
        except BaseException as error:
            said = f"the trial itself: {type(error).__name__}: {error}"
        os.write(writing, said.encode(errors="replace")[:60_000])
        os._exit(0)
    os.close(writing)
    parts, until = [], time.monotonic() + seconds
    try:
        while select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
            parts.append(os.read(reading, 1 << 16))
            if not parts[-1]:
                _, status = os.waitpid(child, 0)
                ended = os.waitstatus_to_exitcode(status)
                return b"".join(parts).decode() if ended == 0 else f"died of {signal.Signals(-ended).name}"
    finally:
        os.close(reading)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"no end after {seconds:.0f} s"


def fingerprint(result: object) -> str:
    return blake2b(repr(result).encode(), digest_size=16).hexdigest()


@functools.cache
def undisturbed(name: str) -> tuple[str, int, int]:
    """What work gives where there is room, the bytes it leaves there, and those of its largest file."""
    PREPARED.get(name, data)()
    with tempfile.TemporaryDirectory() as folder:
        said = said_in_child(lambda: fingerprint(WORKS[name](Path(folder))), 5 * SECONDS)
        sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    if len(said) != 32:
        raise RuntimeError(f"{name} does not run at all: {said}")
    return said, sum(sizes), max(sizes)


def outcome(name: str, folder: Path, make_room: Callable[[], None]) -> str:
    """What went wrong when work met a disk without room, and then one with room; nothing where all went well."""
    work, expected = WORKS[name], undisturbed(name)[0]
    try:
        result = work(folder)
    except StoreError as error:
        if " free" not in str(error) or "again" not in str(error):
            return f"the error does not say how much is free, or what to do: {error}"
    except BaseException as error:
        return f"raised {type(error).__name__}: {error}"
    else:
        if fingerprint(result) != expected:
            return "another result than that of an undisturbed run, and no error"
    left = [str(path) for path in folder.rglob(".*.partial")]
    if left:
        return f"left behind {left}"
    make_room()
    try:
        result = work(folder)
    except BaseException as error:
        return f"with room again: {type(error).__name__}: {error}"
    return "" if fingerprint(result) == expected else "another result than that of an undisturbed run"


def on_full_disk(name: str, size: int, folder: Path, mounted: Callable[[Path, int], Callable[[], None]]) -> str | None:
    """Run work on a disk of its own with so much room, then with enough."""
    undisturbed(name)

    def run() -> str:
        unshare()
        return outcome(name, folder, mounted(folder, size))

    return said_in_child(run) or None


def unshare() -> None:
    """Give this process mounts of its own, which end with it."""
    system = ctypes.CDLL(None, use_errno=True)
    is_root, user, group = os.geteuid() == 0, os.geteuid(), os.getegid()
    _checked(system.unshare(NEW_MOUNTS if is_root else NEW_MOUNTS | NEW_USER))
    if not is_root:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    mount(None, "/", None, RECURSIVE_PRIVATE, None)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    """The system call."""
    system = ctypes.CDLL(None, use_errno=True)
    texts = [text and text.encode() for text in (source, target, kind, options)]
    _checked(system.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def in_memory(folder: Path, size: int) -> Callable[[], None]:
    """A tmpfs of that size at a folder; returns what makes it large."""
    mount("none", str(folder), "tmpfs", 0, f"size={max(size, PAGE)}")
    return lambda: mount(None, str(folder), None, REMOUNT, ROOM)


def in_a_file(folder: Path, size: int) -> Callable[[], None]:
    """An ext4 file system with that much room in a loop-mounted file; returns what makes room."""
    image, ballast = folder.with_name(f"{folder.name}.ext4"), folder / "ballast"
    with image.open("wb") as stream:
        stream.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    with ballast.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(PAGE, shutil.disk_usage(folder).free - size - (1 << 16)))
    return ballast.unlink


@functools.cache
def no_mounts() -> str | None:
    """Why this machine lets nobody mount a disk of memory."""
    with tempfile.TemporaryDirectory() as folder:
        said = said_in_child(lambda: (unshare(), in_memory(Path(folder), PAGE), "")[-1])
    return f"mounting: {said}" if said else None


@functools.cache
def no_loops() -> str | None:
    """Why this machine lets nobody mount a file."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        return "needs root and mkfs.ext4"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "disk"
        place.mkdir()
        said = said_in_child(lambda: (unshare(), in_a_file(place, 1 << 20), "")[-1])
    return f"mounting: {said}" if said else None


def _full(name: str, mounted: Callable[[Path, int], Callable[[], None]] = in_memory) -> Callable[..., str | None]:
    def trial(random: np.random.Generator, folder: Path) -> str | None:
        place = folder / "disk"
        place.mkdir()
        size = int(random.integers(1, 1.2 * undisturbed(name)[1] / PAGE + 2)) * PAGE
        said = on_full_disk(name, size, place, mounted)
        return said and f"{name}, room for {size:,} bytes: {said}"

    return trial


def _any_on_ext4(random: np.random.Generator, folder: Path) -> str | None:
    return _full(str(random.choice(list(WORKS))), in_a_file)(random, folder)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Inside, writing a file beyond so many bytes fails, as it does on a full disk; needs no rights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _limited(name: str) -> Callable[[np.random.Generator, Path], str | None]:
    def trial(random: np.random.Generator, folder: Path) -> str | None:
        size = int(random.integers(1, undisturbed(name)[2]))

        def run() -> str:
            limit = no_file_above(size)
            limit.__enter__()
            return outcome(name, folder, lambda: limit.__exit__(None, None, None))

        said = said_in_child(run)
        return f"{name}, files up to {size:,} bytes: {said}" if said else None

    return trial


ROWS = [
    *(Row(f"full disk: {name}", 20, _full(name), no_mounts) for name in WORKS),
    Row("full disk, ext4", 20, _any_on_ext4, no_loops),
    *(Row(f"files that may not grow: {name}", 10, _limited(name)) for name in WORKS),
]
