"""Published files that are edited, rot, vanish or get company: refused, or the result is the same, and nothing ends."""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hf_hardneg import mine
from hf_hardneg.errors import HardNegError, HardNegWarning
from hf_hardneg.models.score_store import stored
from hf_hardneg.store import directories
from hf_hardneg.store.replies import Replies, keep, known
from hf_hardneg.store.verification import verify_cache
from tests.faults.campaign import Row
from tests.worlds import SMALL, needed, world

STRATEGIES = ("bm25", "dense", "hybrid")
SECONDS = 60
STEPS = ("candidates-*", "negatives-*")
"""Stored results; without them an index is searched again."""


def _mined(cache: Path, strategy: str, **options: object) -> list[list[str]]:
    pairs, corpus = world(4)
    options = {**needed(SMALL[strategy]), "cache_dir": str(cache), **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mine(pairs, corpus, SMALL[strategy], **options)["negative_ids"][:]


@functools.cache
def _origin(strategy: str) -> tuple[tempfile.TemporaryDirectory[str], list[list[str]]]:
    """A whole cache, and what is mined with it."""
    folder = tempfile.TemporaryDirectory()
    return folder, _mined(Path(folder.name), strategy)


def _copy(random: np.random.Generator, folder: Path) -> tuple[Path, str, list[list[str]]]:
    """A copy of a whole cache, as a rule without the stored steps; its strategy, and what is mined with it."""
    strategy = STRATEGIES[random.integers(len(STRATEGIES))]
    origin, expected = _origin(strategy)
    cache = folder / "cache"
    shutil.copytree(origin.name, cache)
    if random.random() < 0.7:
        for pattern in STEPS:
            for path in cache.glob(pattern):
                shutil.rmtree(path)
    return cache, strategy, expected


def _chosen(random: np.random.Generator, cache: Path) -> Path:
    """A published file, of each directory as likely."""
    published = sorted(
        path.parent for path in cache.glob("*/manifest.json") if directories.read_manifest(path.parent).files
    )
    directory = published[random.integers(len(published))]
    return directory / str(random.choice(sorted(directories.read_manifest(directory).files)))


def edited(content: bytes, random: np.random.Generator, *, keep_size: bool) -> bytes:
    """Bytes with some of them changed; by default also fewer or more of them."""
    changed = bytearray(content)
    place = int(random.integers(max(len(content), 1)))
    kind = random.integers(5 if keep_size else 8)
    if kind == 0 and content:
        changed[place] ^= 1 << int(random.integers(8))
    elif kind == 1:
        changed[place : place + 64] = random.bytes(len(changed[place : place + 64]))
    elif kind == 2:
        changed[place:] = bytes(len(changed) - place)
    elif kind == 3:
        changed[place : place + 8] = b"\xff" * len(changed[place : place + 8])
    elif kind == 4:
        changed = bytearray(np.roll(np.frombuffer(content, np.uint8), place).tobytes())
    elif kind == 5:
        del changed[place:]
    elif kind == 6:
        changed += random.bytes(1 + place)
    else:
        changed = bytearray()
    return bytes(changed)


def _equal_or_refused(mined: Callable[[], object], expected: object, what: str) -> str | None:
    try:
        return None if mined() == expected else f"other rows after {what}"
    except HardNegError:
        return None
    except Exception as error:
        return f"{type(error).__name__} after {what}: {error}"


def _edits(random: np.random.Generator, folder: Path) -> str | None:
    cache, strategy, expected = _copy(random, folder)
    path = _chosen(random, cache)
    path.write_bytes(edited(path.read_bytes(), random, keep_size=False))
    return _equal_or_refused(lambda: _mined(cache, strategy), expected, f"an edit of {path.relative_to(cache)}")


def _rotten(path: Path, random: np.random.Generator) -> bool:
    """Change a file under its size and time; whether it is another now."""
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(edited(content, random, keep_size=True))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return path.read_bytes() != content


def _rot_under_verify(random: np.random.Generator, folder: Path) -> str | None:
    cache, strategy, expected = _copy(random, folder)
    path = _chosen(random, cache)
    is_other = _rotten(path, random)
    where = path.relative_to(cache)
    if is_other != any(one.damage and one.entry.path == path.parent for one in verify_cache(cache)):
        return f"cache verify did not tell whether {where} was altered"
    return _equal_or_refused(lambda: _mined(cache, strategy, verify=True), expected, f"rot of {where}")


def _run_without_checksums(cache: Path, strategy: str) -> None:
    """Mine as if every file were too large for its checksum to be compared; end with 3 after a raw error."""
    directories.SMALL = directories.LARGE = 0
    try:
        _mined(cache, strategy)
    except HardNegError:
        pass
    except Exception:
        os._exit(3)
    os._exit(0)


def _rot_of_large_files(random: np.random.Generator, folder: Path) -> str | None:
    cache, strategy, _ = _copy(random, folder)
    path = _chosen(random, cache)
    _rotten(path, random)
    child = multiprocessing.get_context("fork").Process(target=_run_without_checksums, args=(cache, strategy))
    child.start()
    child.join(SECONDS)
    if child.exitcode is None:
        child.kill()
        child.join()
        return f"mining hangs after rot of {path.relative_to(cache)}"
    if child.exitcode:
        return f"mining ended with {child.exitcode} after rot of {path.relative_to(cache)}"
    return None


def _unlisted_files(random: np.random.Generator, folder: Path) -> str | None:
    cache, strategy, expected = _copy(random, folder)
    for _ in range(random.integers(1, 6)):
        path = _chosen(random, cache)
        name = str(
            random.choice([f"extra-{path.name}", f"{path.stem}-1{path.suffix}", f"part-1{path.stem[-57:]}.arrow"])
        )
        shutil.copy(path, path.with_name(name))
    return _equal_or_refused(lambda: _mined(cache, strategy), expected, "files that no manifest lists")


def _links(random: np.random.Generator, folder: Path) -> str | None:
    cache, strategy, expected = _copy(random, folder)
    path = _chosen(random, cache)
    (folder / "elsewhere").mkdir()
    moved = path.rename(folder / "elsewhere" / path.name)
    path.symlink_to(moved)
    try:
        directories.check(path.parent)
    except HardNegError:
        return _equal_or_refused(lambda: _mined(cache, strategy), expected, f"a link at {path.relative_to(cache)}")
    return f"the link at {path.relative_to(cache)} was followed"


class _Lengths:
    """A scorer whose scores are lengths."""

    kind, digest = "ce_logit", "lengths"

    def score(self, queries: list[str], documents: list[str]) -> np.ndarray:
        return np.array(
            [len(query) - len(document) for query, document in zip(queries, documents, strict=True)], np.float32
        )


def _damaged_scores(random: np.random.Generator, folder: Path) -> str | None:
    queries, documents = (["x" * int(size) for size in random.integers(1, 40, 100)] for _ in range(2))
    expected = stored(_Lengths(), folder).score(queries, documents)
    shards = sorted(folder.glob("scores-*/*.npy"))
    path = shards[random.integers(len(shards))]
    path.write_bytes(edited(path.read_bytes(), random, keep_size=False))
    moved = folder / "moved"
    moved.mkdir()
    path.parent.rename(moved / path.parent.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HardNegWarning)
        again = stored(_Lengths(), moved).score(queries, documents)
    return None if np.array_equal(again, expected) else "other scores were read"


def _damaged_replies(random: np.random.Generator, folder: Path) -> str | None:
    replies = Replies.of(folder, {"model": "none"})
    said = {f"key {number}": "reply " * number for number in range(200)}
    with replies.opened() as connection:
        for key, text in said.items():
            keep(connection, key, text)
    path = replies.directory / "replies.sqlite"
    path.write_bytes(edited(path.read_bytes(), random, keep_size=bool(random.integers(2))))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HardNegWarning)
            with replies.opened() as connection:
                found = known(connection, list(said))
    except HardNegError:
        return None
    return None if found.items() <= said.items() else "another reply was read"


ROWS = [
    Row("edits of published files", 200, _edits),
    Row("rot of published files, under verify", 200, _rot_under_verify),
    Row("rot of published files, taken for large ones", 200, _rot_of_large_files),
    Row("files that no manifest lists", 60, _unlisted_files),
    Row("links in the place of published files", 60, _links),
    Row("damaged shards of scores", 100, _damaged_scores),
    Row("damaged replies", 100, _damaged_replies),
]
