"""Files of text, plain or compressed, and what their names say of them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import zstandard

COMPRESSED = (".gz", ".zst")


def opened_text(path: Path) -> Any:
    """Open a file of text to read it, unpacked."""
    openers: dict[str, Any] = {".gz": gzip.open, ".zst": zstandard.open}
    return openers.get(path.suffix, open)(path, "rt", encoding="utf-8-sig", newline="")


def suffix_of(path: Path) -> str:
    """Return the suffix that tells what a file holds: `.jsonl` of `train.jsonl.gz`, in lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in COMPRESSED), "")


def words_of(path: Path) -> list[str]:
    """Return the words of a file's name before its suffix: `qrels`, `dev`, `small` of `qrels.dev.small.tsv`."""
    name = path.name.lower()
    for suffix in (*COMPRESSED, suffix_of(path)):
        name = name.removesuffix(suffix)
    return [word for word in name.replace("-", ".").replace("_", ".").split(".") if word]
