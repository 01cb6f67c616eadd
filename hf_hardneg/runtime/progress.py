"""The progress of a step: a line that changes where a terminal is, and a line every minute where a log is written.

`datasets`' own switches apply, and only rank 0 shows it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from hf_hardneg.runtime.units import duration

LOGGED = 60.0
"""Seconds between lines where no terminal is."""
LINE = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{unit}, {rate_fmt}, {remaining} left"
_shown: ContextVar[bool | None] = ContextVar("hf_hardneg_progress", default=None)
_steps: list[Progress] = []


@dataclass
class Progress:
    """How far a step is, as `standing` tells it.

    Args:
        desc (`str`): what it does.
        total (`int`, *optional*): units in all.
        initial (`int`): units that an earlier run left.
        unit (`str`): of what it counts, such as `" rows"`.
        line (`object`, *optional*): the bar of `tqdm` that shows it; without one it is logged.
        is_hidden (`bool`): whether nothing is shown.
    """

    desc: str
    total: int | None = None
    initial: int = 0
    unit: str = " rows"
    line: Any = None
    is_hidden: bool = False
    n: int = field(init=False)
    began: float = field(init=False)
    told: float = field(init=False)

    def __post_init__(self) -> None:
        self.n = self.initial
        self.began = self.told = time.monotonic()

    def update(self, count: int = 1) -> None:
        """Count units that are done."""
        self.n += count
        now = time.monotonic()
        if self.line is not None:
            self.line.update(count)
        elif not self.is_hidden and now - self.told >= LOGGED:
            self.told = now
            print(self.described(now), file=sys.stderr, flush=True)  # noqa: T201

    def described(self, now: float) -> str:
        """Say in words how far it is, how fast, and how long it will still take."""
        rate = (self.n - self.initial) / max(now - self.began, 1e-9)
        left = f", {duration((self.total - self.n) / rate)} left" if self.total and rate else ""
        return f"{self}, {rate:,.1f}{self.unit}/s{left}"

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total else ""
        return f"{self.desc}: {self.n:,}{of}{self.unit}"

    def __enter__(self) -> Progress:
        _steps.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            _steps.remove(self)
        if self.line is not None:
            self.line.close()
        elif not self.is_hidden and self.told > self.began:
            print(self.described(time.monotonic()), file=sys.stderr, flush=True)  # noqa: T201


def bar(*, desc: str, total: int | None = None, initial: int = 0, unit: str = " rows") -> Progress:
    """Show the progress of a step, inside a `with`; silent on every rank but the first.

    Args:
        desc (`str`): what it does.
        total (`int`, *optional*): units in all.
        initial (`int`, defaults to 0): units that an earlier run left.
        unit (`str`, defaults to `" rows"`): of what `update` counts.
    """
    step = Progress(desc=desc, total=total, initial=initial, unit=unit, is_hidden=not _is_shown())
    if not step.is_hidden and (sys.stderr.isatty() or "ipykernel" in sys.modules):
        from tqdm.auto import tqdm

        looks = {"bar_format": LINE if total else None, "unit_scale": True, "dynamic_ncols": True}
        step.line = tqdm(desc=desc, total=total, initial=initial, unit=unit, **looks)
    return step


def _is_shown() -> bool:
    shown = _shown.get()
    return not _rank() and (not _are_off() if shown is None else shown)


def _are_off() -> bool:
    """Whether the bars of `datasets` are off; it is not imported for that, which takes a second."""
    if "datasets" not in sys.modules:
        return os.environ.get("HF_DATASETS_DISABLE_PROGRESS_BARS", "").upper() in ("1", "ON", "YES", "TRUE")
    from datasets.utils import are_progress_bars_disabled

    return are_progress_bars_disabled()


@contextlib.contextmanager
def alone(*, hidden: bool = False) -> Iterator[None]:
    """Show no bars but what `bar` opens, inside, and none at all where they are `hidden`."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    token, were_shown = _shown.set(_is_shown() and not hidden), not are_progress_bars_disabled()
    if were_shown:
        disable_progress_bars()
    try:
        yield
    finally:
        _shown.reset(token)
        if were_shown:
            enable_progress_bars()


def standing() -> str:
    """Say how far the step was that a signal stopped; empty where none was at work."""
    return str(_steps[-1]) if _steps else ""


def show(text: str) -> None:
    """Write a text where the bars go, unless they are switched off, also by TQDM_DISABLE, or this is not rank 0."""
    if _is_shown() and not os.environ.get("TQDM_DISABLE"):
        from tqdm.auto import tqdm

        tqdm.write(text, file=sys.stderr)


def before_import(module: str, text: str) -> None:
    """Show a text before a module is imported that takes seconds, where it is not yet; workers say nothing."""
    if module in sys.modules:
        return
    from multiprocessing import parent_process

    if parent_process() is None:
        show(text)


def _rank() -> int:
    return int(os.environ.get("RANK", "0") or 0)
