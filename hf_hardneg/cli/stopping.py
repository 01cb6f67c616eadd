"""Signals that end a command in good order, with a message in the place of a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

STOPPING = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
"""The signals, and what people call them."""
AGAIN = 0.05
"""Seconds after which a signal is sent again that came where errors are swallowed, such as in a `__del__`."""


@dataclass
class Stop:
    """The signal that stops a command, 0 until one does."""

    number: int = 0


class Stopped(KeyboardInterrupt):
    """The user, or the system, wants the command to end; `str()` names the signal."""


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Have signals of `STOPPING` raise `Stopped`, inside; after the first, another of the kind ends the process."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def raise_stopped(number: int, frame: FrameType | None) -> None:
        stop.number = number
        raise Stopped(STOPPING[signal.Signals(number)])

    def deliver_again(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Stopped):
            threading.Timer(AGAIN, os.kill, (os.getpid(), stop.number)).start()
        else:
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, deliver_again
    before = {number: signal.signal(number, raise_stopped) for number in STOPPING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if stop.number else handler)
        sys.unraisablehook = hook
