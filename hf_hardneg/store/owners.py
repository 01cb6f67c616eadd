"""Whose files a cache holds: labs share caches, and what another user published is read, and said."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hf_hardneg.errors import StoreError, warn

TRUSTED = "HF_HARDNEG_TRUST_OWNERS"
"""The environment variable that names, with commas between, the users whose files are read without a word. Where it is
set, what others published is refused; where it is not, it is read, and whose they are is said once in a process."""

_said: set[int] = set()


def check_owners(directory: Path, owners: Iterable[int]) -> None:
    """Say whose a published directory is, where it is another user's.

    Args:
        directory (`Path`): the directory.
        owners (`Iterable[int]`): user ids of the owners of its files.

    Raises:
        StoreError: one is not among those that `HF_HARDNEG_TRUST_OWNERS` names.
    """
    if not hasattr(os, "geteuid"):
        return
    for owner in sorted(set(owners) - {os.geteuid()}):
        trusted, name = os.environ.get(TRUSTED), _name(owner)
        if trusted is not None and not {name, str(owner)} & {user.strip() for user in trusted.split(",")}:
            raise StoreError(
                f"{directory} was published by the user {name}, and {TRUSTED}={trusted!r} does not name them. Add the "
                "name if you trust what they put into the cache, or give a cache_dir= of your own."
            )
        if trusted is None and owner not in _said:
            _said.add(owner)
            warn(
                f"{directory} was published by the user {name}, and is read: a cache is as trustworthy as those who "
                f"can write it. Set {TRUSTED}={name} to read theirs without a word and nobody else's, or to nothing to "
                "read only your own."
            )


def _name(owner: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(owner).pw_name
    except (ImportError, KeyError):
        return str(owner)
