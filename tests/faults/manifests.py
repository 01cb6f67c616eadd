"""Manifests, headers and pointers that are not what this library writes: each is refused by name, or means the same."""

from __future__ import annotations

import json
import os
import shutil
import string
from pathlib import Path

import numpy as np

from hf_hardneg.errors import HardNegError
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.inventory import inventory, prune
from hf_hardneg.store.manifests import Manifest
from hf_hardneg.store.stored_arrays import Schema, Stored
from hf_hardneg.store.verification import verify_cache
from hf_hardneg.training.generations import Generations
from tests.faults.campaign import Row

PARAMETERS = {"corpus": "0" * 32, "k1": 1.5, "names": ["a", "b"]}
VALUES = np.arange(12).reshape(3, 4)
SCHEMA = Schema.of({"values": Stored(np.int64, "rows width", least=0)})


def odd_value(random: np.random.Generator) -> object:
    """A JSON value that has no place in a manifest, or has it elsewhere."""
    values = [
        *(None, True, False, -1, 0, 1, 1.5, float("nan"), float("inf"), 10**30, -(10**40), "", "x", "0" * 32),
        *("../outside", "/outside", "a/../../b", "a\\b", "a\0b", "\ud800", "a\nb", ".", "..", "x" * 5000, "é" * 300),
        *([], {}, [[]], {"size": 1}, [1, 2, 3], {"a": {"b": {"c": []}}}, list(range(1000))),
    ]
    return values[random.integers(len(values))]


def changed(value: object, random: np.random.Generator) -> object:
    """A JSON value with one part replaced, left out, added or renamed."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.2:
        return odd_value(random)
    if isinstance(value, list):
        place = int(random.integers(len(value)))
        return [*value[:place], changed(value[place], random), *value[place + 1 :]]
    name = sorted(value)[random.integers(len(value))]
    kind = random.integers(4)
    if kind == 0:
        return {key: held for key, held in value.items() if key != name}
    if kind == 1:
        return {(str(odd_value(random)) if key == name else key): held for key, held in value.items()}
    if kind == 2:
        return {**value, str(odd_value(random)): odd_value(random)}
    return {**value, name: changed(value[name], random)}


def odd_bytes(content: bytes, random: np.random.Generator) -> bytes:
    """Bytes that are no longer the JSON they were, or only just."""
    place = int(random.integers(len(content)))
    replaced = bytearray(content)
    replaced[place] = random.integers(256)
    deep = b"[" * 20_000
    choices = (
        *(content[:place], bytes(replaced), b"", b"\0" * len(content), b"\xef\xbb\xbf" + content, b" " * (5 << 20)),
        *(deep + b"]" * 20_000, deep, b'{"format": 1}', b"[]", b"null", b"1" * 10_000, random.bytes(1000), content * 2),
        content.replace(b"1", b"1" * 400, 1),
        content[:-1] + b', "files": {}}',
    )
    return choices[random.integers(len(choices))]


def replace_by_something_else(path: Path, random: np.random.Generator) -> None:
    """Put a folder, a link, a pipe or nothing in the place of a file."""
    moved = path.with_name("moved")
    path.rename(moved)
    kind = random.integers(5)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(moved)
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.symlink_to(path.with_name("nowhere"))
    if kind != 1:
        moved.unlink()


def odd_manifest(path: Path, random: np.random.Generator) -> None:
    """Make a manifest another, by its values, by its bytes, or by what stands in its place."""
    content = path.read_bytes()
    kind = random.random()
    if kind < 0.6:
        said = json.loads(content)
        for _ in range(random.integers(1, 4)):
            said = changed(said, random)
        path.write_text(json.dumps(said))
    elif kind < 0.9:
        path.write_bytes(odd_bytes(content, random))
    else:
        replace_by_something_else(path, random)


def _build(directory: Path) -> None:
    np.save(directory / "values.npy", VALUES)
    (directory / "inner").mkdir()
    (directory / "inner" / "text").write_text("what was written")


def _odd_manifests(random: np.random.Generator, folder: Path) -> str | None:
    target = directories.obtain(folder, kinds.KEYS, PARAMETERS, _build)
    odd_manifest(target / directories.MANIFEST, random)
    try:
        directories.obtain(folder, kinds.KEYS, PARAMETERS, _build)
        if not np.array_equal(SCHEMA.opened(target)["values"], VALUES):
            return "other values were read"
        directories.parameters_of(target), directories.refuse_unlisted(target)
    except HardNegError:
        pass
    entries = inventory(folder)
    printed = "".join(map(str, [*entries, *(entry.verbose for entry in entries), *verify_cache(folder)]))
    if not printed.isprintable():
        return f"control characters were shown: {printed!r}"
    prune(folder, everything=True, dry_run=True)
    return None


def _odd_headers(random: np.random.Generator, folder: Path) -> str | None:
    """The manifest fits, so that the header alone can tell."""

    def build(directory: Path) -> None:
        np.save(directory / "values.npy", VALUES)
        content = bytearray((directory / "values.npy").read_bytes())
        for _ in range(random.integers(1, 4)):
            if random.random() < 0.5 and content:
                content[random.integers(min(len(content), 128))] = random.choice(list(string.printable.encode()))
            else:
                del content[random.integers(len(content) + 1) :]
                content += random.bytes(int(random.integers(200)))
        (directory / "values.npy").write_bytes(content)

    target = directories.obtain(folder, kinds.KEYS, PARAMETERS, build)
    try:
        values = SCHEMA.opened(target)["values"]
    except HardNegError:
        return None
    return None if values.size * 8 <= (target / "values.npy").stat().st_size else "an array is larger than its file"


def _odd_pointers(random: np.random.Generator, folder: Path) -> str | None:
    generations = Generations(folder)
    pointer = folder / "CURRENT"
    (folder / "gen-000001").mkdir()
    pointer.write_text('{"generation": 1}')
    kind = random.random()
    if kind < 0.5:
        pointer.write_text(json.dumps(changed({"generation": 1}, random)))
    elif kind < 0.8:
        pointer.write_bytes(odd_bytes(pointer.read_bytes(), random))
    else:
        replace_by_something_else(pointer, random)
    try:
        current = generations.current
    except HardNegError:
        return None
    is_said = pointer.is_file() and json.loads(pointer.read_bytes())["generation"] == current
    return None if is_said else f"generation {current} serves, and CURRENT does not say so"


def _odd_manifests_of_shards(random: np.random.Generator, folder: Path) -> str | None:
    """Folders that name no files: their manifest says what they are, and nothing depends on it."""
    for kind in ("scores", "vectors", "replies"):
        directory = folder / f"{kind}-{'0' * 32}"
        directory.mkdir()
        (directory / directories.MANIFEST).write_text(Manifest(kind=kind, parameters=PARAMETERS, files={}).to_json())
    healthy = [entry.about for entry in inventory(folder)]
    if any("damaged" in one for one in healthy):
        return f"healthy folders are called damaged: {healthy}"
    chosen = folder / f"{('scores', 'vectors', 'replies')[random.integers(3)]}-{'0' * 32}"
    odd_manifest(chosen / directories.MANIFEST, random)
    if len(inventory(folder)) < 2 or len(prune(folder, everything=True).removed) < 2:
        return "one bad manifest hides the others"
    shutil.rmtree(folder, ignore_errors=True)
    return None


ROWS = [
    Row("odd manifests", 1000, _odd_manifests),
    Row("odd manifests of folders of shards", 200, _odd_manifests_of_shards),
    Row("odd headers of arrays", 600, _odd_headers),
    Row("odd pointers to a generation", 400, _odd_pointers),
]
