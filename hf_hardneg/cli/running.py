"""A run of the command line: exit statuses, errors without a traceback, and signals that say what is kept."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hf_hardneg.cli.stopping import stoppable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    It is 0; 1 where a check found something; 2 after an error; and 128 and the number of the signal after one that
    stopped it, 130 after Ctrl-C.

    Args:
        arguments (`Sequence[str]`, *optional*): by default what this process was started with.
    """
    with stoppable() as stop, _plain_warnings():
        try:
            from hf_hardneg.cli.application import run

            status = run(sys.argv[1:] if arguments is None else list(arguments))
        except BaseException as error:
            if not stop.number:
                return _failed(error)
            status = 0
    return 128 + stop.number if stop.number else status


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings of this library as errors are printed, without the line of Python that led to them."""
    shown = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        from hf_hardneg.cli.terminal import complain
        from hf_hardneg.errors import HardNegWarning

        if issubclass(category, HardNegWarning):
            complain(f"warning: {message}")
        else:
            shown(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def _failed(error: BaseException) -> int:
    """Print an error of this library, and raise any other again."""
    from hf_hardneg.cli.terminal import complain
    from hf_hardneg.errors import HardNegError

    if not isinstance(error, HardNegError):
        raise error
    complain(f"error: {error}")
    return 2
