"""What commands print: results on standard output, as text or JSON, and errors on the other, all of it escaped."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TextIO

from hf_hardneg.errors import shown

if TYPE_CHECKING:
    from hf_hardneg.reports.charts import Histogram

WIDEST = 100
"""Characters of a line beyond which a chart does not grow."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a command prints.

    Args:
        quiet (`bool`): whether results and errors are all it prints.
        as_json (`bool`): whether standard output is one JSON value, the result.
    """

    quiet: bool = False
    as_json: bool = False


manner: ContextVar[Manner] = ContextVar("manner", default=Manner())  # noqa: B039


def note(text: object = "") -> None:
    """Print what stands beside a result, for people."""
    if not (manner.get().quiet or manner.get().as_json):
        _print(str(text), sys.stdout)


def tell(text: object) -> None:
    """Print what people must read while a command runs, at once: beside a result that is JSON, on the other output."""
    stream = sys.stderr if manner.get().quiet or manner.get().as_json else sys.stdout
    _print(str(text), stream)
    stream.flush()


def chart(drawn: Histogram | None) -> str:
    """Draw a histogram in lines that this terminal shows, after an empty one; nothing where there is none."""
    if drawn is None:
        return ""
    lines = drawn.lines(width=min(shutil.get_terminal_size().columns, WIDEST))
    try:
        lines.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        lines = drawn.lines(width=min(shutil.get_terminal_size().columns, WIDEST), blocks="#")
    return f"\n\n{lines}"


def answer(value: object, text: object) -> None:
    """Print a result.

    Args:
        value (`object`): what JSON says of it: a dataclass, or plain values.
        text (`object`): what people read.
    """
    _print(written(value) if manner.get().as_json else str(text), sys.stdout)


def complain(text: str) -> None:
    """Print an error, or what a signal ended; where a terminal is, the word before the colon is red."""
    head, colon, rest = shown(text).partition(":")
    if colon and sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True, highlight=False, soft_wrap=True).print(Text.assemble((f"{head}:", "bold red"), rest))
    else:
        _print(text, sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    """Print text, which may quote others, so that a terminal shows it and obeys none of it."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(shown(text).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def written(value: object) -> str:
    """Write a value as JSON of ASCII, without characters that a terminal obeys."""
    return json.dumps(plain_of(value), indent=1, allow_nan=False).replace("\x7f", r"\u007f")


def plain_of(value: Any) -> Any:
    """Turn a value into what JSON holds: dataclasses by their fields, numbers that are none as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain_of(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain_of(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_of(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain_of(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
