"""Parts of a job that shards write, each whole or not at all, and what must hold before they are joined.

A part is a published directory `part-00003-of-00064/`, whose manifest says of which job it is. What began is noted
beside it until it is done, so that a part that is missing can be told from one that failed.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hf_hardneg.errors import ConfigError, DataError, StoreError
from hf_hardneg.runtime.progress import show
from hf_hardneg.store import directories
from hf_hardneg.store.disk import writing, written
from hf_hardneg.store.kinds import PART
from hf_hardneg.store.locks import Holder, Lock
from hf_hardneg.store.manifests import LARGEST
from hf_hardneg.store.regular_files import json_of
from hf_hardneg.text.masking import masked

ABOUT = "part.json"
"""The file of a part that says how it is computed again."""
LISTED = 20
"""Shards that an error names with their commands; of more it says how many."""
MOST_SHARDS = 99_999
_PART = re.compile(r"part-(?P<number>[0-9]{5})-of-(?P<of>[0-9]{5})")
_NOTE = re.compile(rf"{_PART.pattern}\.note\.json")
IN_PLACE = "{shard}"
"""What stands for the shard in the words of a command."""
IN_CALL = "{overwrite}"
"""What stands for the argument that replaces a part, in the words of a call of Python."""


class Shard(NamedTuple):
    """The shard `number` of `of`, counted from 1."""

    number: int
    of: int

    @classmethod
    def of_words(cls, words: Any) -> Shard:
        """Read `"3/64"` or `(3, 64)`.

        Raises:
            ConfigError: it is no shard.
        """
        numbers: Any = words.split("/") if isinstance(words, str) else words
        with contextlib.suppress(ValueError, TypeError):
            number, of = numbers
            number, of = (int(each) if isinstance(each, str) and each.isdecimal() else each for each in (number, of))
            if type(number) is int and type(of) is int and 1 <= number <= of <= MOST_SHARDS:
                return cls(number, of)
        raise ConfigError(
            f"shard={words!r} is no shard; allowed are 1/N to N/N, counted from 1, with N up to {MOST_SHARDS:,}. Give "
            "such as --shard 3/64, or shard=(3, 64); where a scheduler counts from 0, add 1."
        )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """The name of its part."""
        return f"part-{self.number:05d}-of-{self.of:05d}"

    def share(self, count: int) -> range:
        """Say which of `count` things in order are of this shard."""
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part that lies in a folder.

    Args:
        directory (`Path`): where.
        shard (`Shard`): which.
        made_from (`Mapping`): what it depends on, as plain values, each under a word for people.
        again (`tuple[str, ...]`): the words of the command that computed it.
    """

    directory: Path
    shard: Shard
    made_from: Mapping[str, Any]
    again: tuple[str, ...]

    @classmethod
    def read(cls, directory: Path) -> Part:
        """Read what a part says of itself; its files are not looked at.

        Raises:
            StoreError: it is not what `publish` writes.
        """
        parameters = directories.read_manifest(directory).parameters
        made_from, words = parameters.get("made from"), directories.read_object(directory, ABOUT).get("again")
        if not isinstance(made_from, dict) or not isinstance(words, list):
            raise directories.altered(directory, directories.MANIFEST, "it does not say of which job it is")
        try:
            shard = Shard.of_words(tuple(parameters["shard"]))
        except (KeyError, TypeError, ConfigError) as error:
            raise directories.altered(directory, directories.MANIFEST, "it names no shard") from error
        return cls(directory=directory, shard=shard, made_from=made_from, again=tuple(map(str, words)))


def publish(
    folder: Path,
    shard: Shard,
    job: Callable[[], Mapping[str, Any]],
    build: Callable[[Path], Mapping[str, Any]],
    again: Sequence[str],
    *,
    overwrite: bool,
) -> Path:
    """Write the part of a shard, whole or not at all; one that is there and of this job stays.

    Args:
        folder (`Path`): where parts lie.
        shard (`Shard`): which.
        job (`Callable`): opens the job, and returns what its parts depend on, see `Part.made_from`.
        build (`Callable`): writes the files of the part into a directory, and returns what is known of them.
        again (`Sequence[str]`): the words of the command, `IN_PLACE` for the shard.
        overwrite (`bool`): whether the part of another job is replaced.

    Raises:
        ConfigError: the part of another job is there.
        StoreError: the disk refuses it.
    """
    target = folder / shard.name
    with Lock(directories.lock_of(target)):
        parameters = json.loads(json.dumps({"shard": shard, "made from": job()}))
        if target.exists():
            if _is_whole(target, parameters):
                show(f"{target} is there already, whole and of this job; nothing was computed.")
                return target
            if not overwrite:
                raise ConfigError(
                    f"{target} is of another job, or damaged; a part of this very job would be kept. Give another "
                    "--out, or --overwrite to replace it."
                )

        def write(directory: Path) -> None:
            about = {"again": [masked(word) for word in again], **build(directory)}
            (directory / ABOUT).write_text(json.dumps(about), encoding="utf-8")
            if target.exists():
                shutil.rmtree(target)

        directories.publish(target, PART, parameters, write)
    return target


def _is_whole(target: Path, parameters: Mapping[str, Any]) -> bool:
    try:
        with directories.verifying():
            return directories.check(target).parameters == parameters
    except StoreError:
        return False


@contextlib.contextmanager
def noted(folder: Path, shard: Shard, again: Sequence[str]) -> Iterator[None]:
    """Note beside where a part will lie that it was begun, or how it failed, until what is inside is done.

    Args:
        folder, shard, again: see `publish`.

    Raises:
        StoreError: nothing can be written there.
    """
    with writing(folder, other="--out"):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{shard.name}.note.json"
    began = {"again": [masked(word) for word in again], "began": str(Holder.this())}

    def note(**more: str) -> None:
        with written(path, other="--out") as partial:
            partial.write_text(json.dumps({**began, **more}), encoding="utf-8")

    note()
    try:
        yield
    except Exception as error:
        with contextlib.suppress(StoreError):
            note(failed=masked(f"{type(error).__name__}: {str(error)[:500]}"))
        raise
    path.unlink(missing_ok=True)


def collected(folders: Sequence[Path]) -> list[Part]:
    """Read the parts of a job in order, once all are there, whole and of one job.

    Args:
        folders (`Sequence[Path]`): where they lie.

    Raises:
        DataError: naming each shard that is missing, failed, stands twice, is of another job or damaged, with the
            command that computes it again.
    """
    listed = [path for folder in folders for path in _listed(folder)]
    parts, wrong = [], dict[str, str]()
    for path in (path for path in listed if _PART.fullmatch(path.name)):
        try:
            parts.append(Part.read(path))
            directories.check(path)
        except StoreError as error:
            wrong[path.name] = f"is damaged: {error}"
    if not parts and not wrong:
        raise DataError(
            f"{', '.join(map(str, folders))} holds no part of any shard; it should hold folders such as "
            f"{Shard(1, 64).name}. Name the folder that the shards were given as --out."
        )
    notes = {path.name.partition(".")[0]: path for path in listed if _NOTE.fullmatch(path.name)}
    problems = list(_problems(parts, wrong, notes))
    if problems:
        more = f"\n  and {len(problems) - LISTED:,} more" if len(problems) > LISTED else ""
        raise DataError(
            f"{', '.join(map(str, folders))} cannot be merged:\n  "
            + "\n  ".join(problems[:LISTED])
            + f"{more}\nOne part of each shard, all of one job, can be. Do what stands beside each, which concerns no "
            "other shard, and merge again."
        )
    return sorted(parts, key=lambda part: part.shard)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"{folder} is no folder that can be read ({error.strerror}). Name the folder that the shards were given as "
            "--out."
        ) from error


def _problems(parts: Sequence[Part], wrong: Mapping[str, str], notes: Mapping[str, Path]) -> Iterator[str]:
    """Say what is wrong with each shard, in order, and what to do."""
    of, reference = _most_common(parts, wrong)
    again = reference.again if reference else next(iter(map(_again_of, notes.values())), ())
    lie = dict[int, list[Part]]()
    for part in parts:
        if part.shard.of == of:
            lie.setdefault(part.shard.number, []).append(part)
        else:
            yield f"{part.directory} is of {part.shard.of:,} shards, others are of {of:,}: remove it"
    for number in range(1, of + 1):
        shard, here = Shard(number, of), lie.get(number, [])
        if shard.name in wrong:
            yield f"shard {shard} {wrong[shard.name]} {_run(again, shard, replace=True)}"
        elif not here:
            yield f"shard {shard} {_missing(notes.get(shard.name))}. {_run(again, shard)}"
        elif len(here) > 1:
            yield (
                f"shard {shard} stands {len(here)} times, in {' and '.join(str(each.directory) for each in here)}: "
                + ("remove all but one")
            )
        elif reference and (others := differing(here[0].made_from, reference.made_from)):
            yield f"shard {shard} differs from {reference.shard} in {', '.join(others)}. " + _run(
                again, shard, replace=True
            )


def _most_common(parts: Sequence[Part], wrong: Mapping[str, str]) -> tuple[int, Part | None]:
    """Find of how many shards most parts are, and one of the job that most of those belong to."""
    counts = Counter(part.shard.of for part in parts)
    counts.update(int(match["of"]) for match in map(_PART.fullmatch, wrong) if match)
    of = counts.most_common(1)[0][0]
    keys = {part.directory: json.dumps(part.made_from, sort_keys=True) for part in parts if part.shard.of == of}
    if not keys:
        return of, None
    job = Counter(keys.values()).most_common(1)[0][0]
    return of, next(part for part in parts if keys.get(part.directory) == job)


def differing(values: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Return in what two parts differ, by the words of `Part.made_from`."""
    return [name for name in {**values, **others} if values.get(name) != others.get(name)]


def _missing(note: Path | None) -> str:
    """Say what became of a shard that has no part."""
    said = _read_note(note)
    if "failed" in said:
        return f"failed: {said['failed']}"
    return f"was begun by {said['began']} and is not done, or was stopped" if "began" in said else "is missing"


def _again_of(note: Path) -> tuple[str, ...]:
    words = _read_note(note).get("again")
    return tuple(map(str, words)) if isinstance(words, list) else ()


def _read_note(note: Path | None) -> dict[str, Any]:
    if note is not None:
        with contextlib.suppress(OSError, ValueError):
            said = json_of(note, LARGEST)
            return said if isinstance(said, dict) else {}
    return {}


def _run(again: Sequence[str], shard: Shard, *, replace: bool = False) -> str:
    """Say which command computes a shard again."""
    words = [word.replace(IN_PLACE, str(shard)) for word in again]
    text = " ".join(words)
    if IN_CALL in text:
        text = text.replace(IN_CALL, ", overwrite=True" if replace else "")
    elif replace:
        text += " --overwrite"
    return f"Run it again: {text}" if words else "Run it again."
