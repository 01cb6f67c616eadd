"""Replies on disk, by what was asked of whom: a rerun asks nothing again, and a killed run keeps what it had.

Each reply is a transaction of its own that does not wait for the disk: a killed process loses none, a power cut may. A
write-ahead log would be as fast, and breaks on the file systems that several machines share.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_hardneg.disk import writing
from hf_hardneg.errors import StoreError
from hf_hardneg.index import store

FILE = "replies.sqlite"
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
        """The replies of a generator in a cache."""
        return cls(directory=store.obtain(root, "replies", dict(identity), lambda directory: None))

    @contextlib.contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """A connection that writes each reply by itself.

        Raises:
            StoreError: the file cannot be read or written.
        """
        path = self.directory / FILE
        try:
            connecting = contextlib.closing(sqlite3.connect(path, timeout=WAIT, isolation_level=None))
            with writing(self.directory), connecting as connection:
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text BLOB NOT NULL)")
                yield connection
        except sqlite3.Error as error:
            raise StoreError(
                f"{path} cannot be used: {error}. Delete the file; its replies will be asked again."
            ) from error


def known(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, str]:
    """The replies stored under some keys."""
    found: dict[str, str] = {}
    for start in range(0, len(keys), AT_ONCE):
        part = keys[start : start + AT_ONCE]
        marks = ",".join("?" * len(part))
        rows = connection.execute(f"SELECT key, text FROM replies WHERE key IN ({marks})", part)
        found |= {key: bytes(text).decode(errors="surrogatepass") for key, text in rows}
    return found


def keep(connection: sqlite3.Connection, key: str, text: str) -> None:
    """Store a reply, as it came: a hostile one may hold half a surrogate pair."""
    connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, text.encode(errors="surrogatepass")))
