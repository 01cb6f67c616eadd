"""Replies on disk, by what was asked of whom: a rerun asks nothing again, and a killed run keeps what it had.

Each reply is a transaction of its own that does not wait for the disk: a killed process loses none, a power cut may. A
write-ahead log would be as fast, and breaks on the file systems that several machines share.

Each carries a digest of what was asked and answered; one that does not fit is asked again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_hardneg.errors import StoreError, warn
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import writing
from hf_hardneg.store.regular_files import NotRegular, opened

FILE = "replies.sqlite"
TABLE = "answers (key TEXT PRIMARY KEY, text BLOB NOT NULL, digest TEXT NOT NULL)"
AT_ONCE = 500
WAIT = 60.0


@dataclass(frozen=True, kw_only=True)
class Replies:
    """The replies of one generator, in one SQLite file that several processes may write.

    Args:
        directory (`Path`): where the file lies.
    """

    directory: Path

    @classmethod
    def of(cls, root: Path, identity: Mapping[str, Any]) -> Replies:
        """Open the replies of a generator in a cache."""
        return cls(directory=directories.obtain(root, kinds.REPLIES, dict(identity), lambda directory: None))

    @contextlib.contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Connect to the file; each reply is written by itself.

        Raises:
            StoreError: the file cannot be read or written.
        """
        path = self.directory / FILE
        try:
            if os.path.lexists(path):
                opened(path).close()
            connecting = contextlib.closing(sqlite3.connect(path, timeout=WAIT, isolation_level=None))
            with writing(self.directory), connecting as connection:
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute(f"CREATE TABLE IF NOT EXISTS {TABLE}")
                yield connection
        except (sqlite3.Error, NotRegular) as error:
            raise StoreError(
                f"{path} cannot be used: {error}. Delete the file; its replies will be asked again."
            ) from error


def known(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, str]:
    """Look up the replies stored under some keys, and leave out what was altered since."""
    replies: dict[str, str] = {}
    altered = 0
    for start in range(0, len(keys), AT_ONCE):
        part = keys[start : start + AT_ONCE]
        marks = ",".join("?" * len(part))
        for key, text, digest in connection.execute(f"SELECT * FROM answers WHERE key IN ({marks})", part):
            if _is_stored(key, text, digest):
                replies[key] = text.decode(errors="surrogatepass")
            else:
                altered += 1
    if altered:
        warn(f"{altered} stored replies were altered: they are asked again. Check the disk if this happens often.")
    return replies


def keep(connection: sqlite3.Connection, key: str, text: str) -> None:
    """Store a reply, as it came: a hostile one may hold half a surrogate pair."""
    content = text.encode(errors="surrogatepass")
    connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, content, _digest(key, content)))


def altered_replies(directory: Path) -> int:
    """Count the replies in a published directory that are not what was stored.

    Raises:
        StoreError: its file cannot be read.
    """
    with Replies(directory=directory).opened() as connection:
        rows = connection.execute("SELECT * FROM answers")
        return sum(not _is_stored(*row) for row in rows)


def _is_stored(key: object, text: object, digest: object) -> bool:
    return isinstance(key, str) and isinstance(text, bytes) and digest == _digest(key, text)


def _digest(key: str, text: bytes) -> str:
    return directories.bytes_digest(key.encode(errors="surrogatepass") + b"\0" + text)
