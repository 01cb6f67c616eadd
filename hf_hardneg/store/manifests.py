"""`manifest.json`: what a published directory holds and what it was built from, read and written in one place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_hardneg.store.regular_files import json_of

FORMAT = 1
MANIFEST = "manifest.json"
LARGEST = 1 << 22
"""Bytes of a manifest; real ones have a few thousand."""
MOST_FILES = 10_000
LONGEST_WORDS = 200
"""Characters of what a manifest says of a corpus, a model or pairs."""

_KIND = re.compile(r"[a-z0-9]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The size, time and checksum of a file, as a manifest records them.

    Args:
        size (`int`): bytes.
        mtime_ns (`int`): when it was written, in nanoseconds since the epoch.
        blake2b (`str`): hex digest (32 characters) of its content.
    """

    size: int
    mtime_ns: int
    blake2b: str

    @classmethod
    def of(cls, value: Any) -> Recorded:
        """Read the JSON value of a file; a `ValueError` names what is wrong."""
        if not isinstance(value, dict) or set(value) != {"size", "mtime_ns", "blake2b"}:
            raise ValueError("a file's entry has other fields than size, mtime_ns and blake2b")
        for name in ("size", "mtime_ns"):
            if type(value[name]) is not int or not (0 if name == "size" else -(1 << 63)) <= value[name] < 1 << 63:
                raise ValueError(f"the {name} of a file is no whole number of 64 bits")
        if not isinstance(value["blake2b"], str) or not _DIGEST.fullmatch(value["blake2b"]):
            raise ValueError("the blake2b of a file is no digest of 32 hex digits")
        return cls(**value)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record of what a published directory holds.

    Args:
        kind (`str`): such as `"bm25"`.
        parameters (`Mapping`): everything its content depends on, as plain JSON values.
        files (`Mapping[str, Recorded]`): its data files by their path in it; empty where files name their own digests.
        about (`Mapping[str, str]`): what it is of, in words for people, such as `{"corpus": "5,183 documents"}`.
    """

    kind: str
    parameters: Mapping[str, Any]
    files: Mapping[str, Recorded]
    about: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text of `manifest.json`."""
        files = {name: asdict(recorded) for name, recorded in self.files.items()}
        about = {name: words[:LONGEST_WORDS] for name, words in self.about.items()}
        values = {"format": FORMAT, "kind": self.kind, "parameters": dict(self.parameters), "files": files}
        return json.dumps({**values, "about": about}, indent=1, sort_keys=True, ensure_ascii=False)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            OSError: it is not there, or no regular file.
            ValueError: it is no manifest; the message says what is wrong with it.
        """
        try:
            values = json_of(path, LARGEST)
        except ValueError as error:
            raise ValueError(f"it is not readable JSON ({error}): it was truncated or altered") from error
        if not isinstance(values, dict):
            raise ValueError("it holds no JSON object")
        if type(values.get("format")) is not int or values["format"] != FORMAT:
            raise ValueError(f"it has format {_short(values.get('format'))}; this version reads {FORMAT}")
        kind, parameters, files = (values.get(name) for name in ("kind", "parameters", "files"))
        about = values.get("about", {})
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise ValueError(f"its kind is {_short(kind)}, no name of letters and digits")
        if not isinstance(parameters, dict):
            raise ValueError("its parameters are no JSON object")
        if not isinstance(files, dict) or len(files) > MOST_FILES:
            raise ValueError(f"its files are no JSON object of at most {MOST_FILES:,} entries")
        if not isinstance(about, dict) or not all(isinstance(words, str) for words in about.values()):
            raise ValueError("its words about what it is of are no JSON object of texts")
        for name in files:
            _check_name(name)
        recorded = {name: Recorded.of(values) for name, values in files.items()}
        return cls(kind=kind, parameters=parameters, files=recorded, about=about)


def _check_name(name: str) -> None:
    """Raise unless a file of that name lies in the directory, on every system."""
    parts = name.split("/")
    if not name.isprintable() or set(name) & set('\\:*?"<>|') or name == MANIFEST:
        raise ValueError(f"it lists a file of the name {_short(name)}")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts) or len(parts) > 16:
        raise ValueError(f"it lists a file of the name {_short(name)}, which is no place in its directory")


def _short(value: Any) -> str:
    text = ascii(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
