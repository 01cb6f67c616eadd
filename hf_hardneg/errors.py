"""The errors of the library, one tree.

    HardNegError
    ├── ConfigError        (ValueError)   an argument that cannot work
    │   ├── UnknownNameError (KeyError)   a name that no table holds
    │   └── CostError                     a job that costs more than was agreed to
    ├── ColumnError        (ValueError)   a column that is missing or of the wrong type
    ├── DataError          (ValueError)   rows, ids or vectors that cannot be used
    ├── StoreError         (ValueError)   files on disk that are missing, altered or foreign
    ├── ModelError         (ValueError)   a model that cannot be loaded or is not supported
    ├── WorkerError        (RuntimeError) a worker process that died
    ├── RanksError         (RuntimeError) processes of one launch that are gone, or disagree
    ├── EndpointError      (OSError)      a model endpoint that does not answer, or answers no
    ├── HubError           (OSError)      a Hub repository that cannot be reached, read or written
    └── MissingExtraError  (ImportError)  an optional package that is not installed

Every message has three parts: what was given, what is allowed, what to do.

What is probably a mistake, but may be meant, is a `HardNegWarning` instead. Python shows it by default, once for each
place that calls the library; `warnings.filterwarnings("ignore", category=HardNegWarning)` hides all of them, `"error"`
raises them. Log lines are for detail that nobody must act on.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

LONGEST_NAME = 200
"""Characters of a name that nobody knows, in an error."""
_PACKAGE = __name__.partition(".")[0]
_silent: ContextVar[bool] = ContextVar("hf_hardneg_silent", default=False)


class HardNegError(Exception):
    """Base class of every error raised on purpose by `hf_hardneg`; `str()` escapes control characters in it."""

    def __str__(self) -> str:
        return shown(super().__str__())


class ConfigError(HardNegError, ValueError):
    """An argument, or a combination of arguments, that cannot work."""


class UnknownNameError(ConfigError, KeyError):
    """A strategy, filter, sampler, retriever or layout that no table holds."""

    def __str__(self) -> str:
        return shown(str(self.args[0]))


class CostError(ConfigError):
    """A job whose plan is above the budget; `confirm_cost=True` runs it."""


class ColumnError(HardNegError, ValueError):
    """A column that is missing or holds another type than the job needs."""


class DataError(HardNegError, ValueError):
    """Rows, ids or vectors that cannot be used as they are."""


class StoreError(HardNegError, ValueError):
    """Files of an index that are missing, truncated, altered, or belong to something else."""


class DocumentStoreError(HardNegError, OSError):
    """A vector database, search engine or index file that cannot be reached, refuses, or changed while it was used."""


class ModelError(HardNegError, ValueError):
    """A model that cannot be loaded, or describes something that is not supported."""


class WorkerError(HardNegError, RuntimeError):
    """A worker process that was killed, or ended, before it was done."""


class RanksError(HardNegError, RuntimeError):
    """Processes of one launch that are gone, or that disagree."""


class EndpointError(HardNegError, OSError):
    """A model endpoint that is down, too slow, overloaded, or refuses every request."""


class HubError(HardNegError, OSError):
    """A repository of the Hub that cannot be reached, read or written."""


class MissingExtraError(HardNegError, ImportError):
    """An optional package that the requested feature needs and that is not installed."""


class HardNegWarning(UserWarning):
    """Something that is probably a mistake; the message says what was found and what to do."""


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Show no `HardNegWarning` inside, where all was warned of already, or is tried on a part of the data."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def warn(message: str, *, always: bool = False) -> None:
    """Show a `HardNegWarning` under the line outside this package that led to it.

    Args:
        message (`str`): what was found and what to do, in sentences.
        always (`bool`, defaults to `False`): whether also within `silenced()`.
    """
    if _silent.get() and not always:
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith(f"{_PACKAGE}."):
        frame, level = frame.f_back, level + 1
    warnings.warn(shown(message), HardNegWarning, stacklevel=level)


def check_keywords(function: str, keywords: Iterable[str], known: Iterable[str]) -> None:
    """Raise for a keyword that a function does not take.

    Args:
        function (`str`): its name, such as `"mine()"`.
        keywords, known (`Iterable[str]`): what the user passed, and what it takes.

    Raises:
        UnknownNameError: naming the keyword, all known ones and the nearest one.
    """
    known = set(known)
    for name in keywords:
        if name not in known:
            raise unknown_name(f"argument of {function}", name, known)


def unknown_name(what: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return an error that quotes an unknown name, all known names and the nearest one.

    Args:
        what (`str`): the family, such as `"strategy"`.
        name (`str`): the unknown name.
        known (`Iterable[str]`): the names of the family.
    """
    names, quoted = sorted(known), str(name)[:LONGEST_NAME]
    near = difflib.get_close_matches(quoted.lower(), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"Unknown {what} {quoted!r}; known are {', '.join(names)}.{hint}")


_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Control characters but tabs and ends of lines, marks that turn the direction of text, what is invisible or breaks a
line besides, and half surrogates. Joiners stay: scripts and emoji are spelled with them."""


def shown(text: str) -> str:
    r"""Return a text with an escape in the place of each character that a terminal would obey or not show.

    Everything from outside goes through here before it is printed: rows, cards, names of files and ids, replies, and
    what errors and warnings quote of them.

    Example:
        >>> from hf_hardneg.errors import shown
        >>> shown("a name\x1b[2J\r")
        'a name\\x1b[2J\\r'
    """
    return _UNSEEN.sub(lambda unseen: unseen.group().encode("unicode_escape").decode("ascii"), text)
