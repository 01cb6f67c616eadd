"""Identities of things, the same for the length of a run."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from hf_hardneg.errors import warn
from hf_hardneg.identity.digests import Digester, Unidentified, own_digest
from hf_hardneg.identity.origins import installed, qualified_name

UNIDENTIFIED = "unidentified-"
"""How identities begin that nothing else will ever have."""

_Seen = dict[int, tuple[Any, str]]
_run: ContextVar[_Seen | None] = ContextVar("_run", default=None)
_BECAME: dict[str, str] = {}
"""Digests of what runs did to the state of things, and which identities those had before."""


def identify(thing: Any, *, what: str) -> str:
    """Identity of a function or another object; equal for what gives equal results, in any process, from any folder.

    It is the `digest` attribute of a thing that has one. Else it covers code, defaults, closures, the globals and
    modules of the user that the code names, classes and the state of objects; of installed packages the version. A
    name that code puts together while it runs, a file that it reads and a server that it asks are not looked at.

    Args:
        thing: such as a callable.
        what (`str`): its role, such as `"encoder"`, for the warning.

    Returns:
        32 characters, or `UNIDENTIFIED` and more, another time others, where it holds what nothing identifies.
    """
    seen = _run.get()
    if seen is not None and id(thing) in seen:
        return seen[id(thing)][1]
    identity = _identity(thing, what)
    if seen is not None:
        seen[id(thing)] = thing, identity
    return identity


def is_of_user(kind: type) -> bool:
    """Whether a class is the user's own, not of an installed package."""
    return installed(kind.__module__) is None


@contextlib.contextmanager
def one_run() -> Iterator[None]:
    """Inside, identities stay as they are first asked for; what calls do to a thing by then is no change of it later.

    So a model that a function loads at its first call, a counter or a memory of results do not cost a second run
    its stored results, while a value that the user sets between two runs does.
    """
    if _run.get() is not None:
        yield
        return
    seen: _Seen = {}
    token = _run.set(seen)
    try:
        yield
    finally:
        _run.reset(token)
        for thing, identity in seen.values():
            _learn(thing, identity)


def _learn(thing: Any, identity: str) -> None:
    with contextlib.suppress(Exception):
        if own_digest(thing) is not None:
            return
        after = Digester().of(thing).hex()
        if not identity.startswith(UNIDENTIFIED) and after != identity:
            _BECAME.setdefault(after, identity)


def _identity(thing: Any, what: str) -> str:
    named = own_digest(thing)
    if named is not None:
        return named
    try:
        digest = Digester().of(thing).hex()
    except Exception as error:  # whatever an object of the user's does when it is looked at
        cause = str(error) if isinstance(error, Unidentified) else f"what raises {type(error).__name__} when looked at"
        warn(
            f"The {what} {qualified_name(thing)} refers to {cause}, and nothing tells whether that is the same as the "
            "last time: its results are computed anew in each run. Give it an attribute `digest`, a string that "
            "changes whenever its results do, to have them reused."
        )
        return UNIDENTIFIED + secrets.token_hex(16)
    return _BECAME.get(digest, digest)
