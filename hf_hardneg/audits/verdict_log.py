"""The file of verdicts: a line for each, added and synced before anybody is told that it is kept."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.store.disk import check_writable, sync, writing
from hf_hardneg.store.locks import Lock, holder_of
from hf_hardneg.text.hashes import normalized_keys, pair_keys

LONGEST_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class HumanVerdict:
    """What a person said of a (query, document) pair, as a line of the file.

    Args:
        query_id, corpus_id, score: as in qrels: ids as text, the text of the query where it has none; 1 for relevant,
            0 for not, `None` where the verdict was taken back.
        query, document (`str`): their texts, by which the pair is known: as a reader sees them.
        row, place (`int`): where it stood in the mined data.
        drawn (`bool`): whether it was drawn for the random sample.
        undo (`bool`): whether this takes back the one before.
        at (`str`): when, in UTC.
    """

    query_id: str
    corpus_id: str | None
    score: int | None
    query: str
    document: str
    row: int
    place: int
    drawn: bool = False
    undo: bool = False
    at: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    def line(self) -> bytes:
        """Return the line that `read` reads."""
        values = asdict(self)
        renamed = {"query-id": values.pop("query_id"), "corpus-id": values.pop("corpus_id")}
        return json.dumps({**renamed, **values}).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> HumanVerdict:
        """Read a line; `ValueError`, `TypeError` or `KeyError` where it is none."""
        values = json.loads(line)
        verdict = cls(query_id=values.pop("query-id"), corpus_id=values.pop("corpus-id"), **values)
        texts = (verdict.query_id, verdict.query, verdict.document, verdict.at)
        if not all(isinstance(text, str) for text in texts) or verdict.score not in (0, 1, None):
            raise ValueError("its values are not of a verdict")
        return verdict


def read_verdicts(path: Path) -> list[HumanVerdict]:
    """Read the verdicts of a file in their order; none where there is no file.

    A last line without its end was never told to be kept, as when the power failed while it was written, and is left
    out.

    Raises:
        DataError: another line is no verdict, or the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Give a file that a review wrote.") from error
    return [_read(line, number, path) for number, line in enumerate(content.split(b"\n")[:-1], start=1)]


def _read(line: bytes, number: int, path: Path) -> HumanVerdict:
    try:
        return HumanVerdict.read(line)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"Line {number} of {path} is no verdict ({error}): {line[:LONGEST_SHOWN]!r}. Every line must be one that a "
            "review wrote; take that line out, or give another file."
        ) from error


def keys_of_pairs(queries: list[str], documents: list[str]) -> np.ndarray:
    """Key (query, document) pairs of texts as a reader sees them, (n,) uint64."""
    first, second = (pa.array(texts, pa.large_string()) for texts in (queries, documents))
    return pair_keys(normalized_keys(first), normalized_keys(second))


class VerdictLog:
    """Adds verdicts to a file, which no other process may do at the same time, and knows the last of each pair.

    Args:
        path (`Path`): the file; it is made with the first verdict.

    Raises:
        ConfigError: another process adds to it.
        DataError: it holds something else.
        StoreError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        check_writable(path, "verdicts=")
        self.path, self._file = path, -1
        self.last: dict[int, HumanVerdict] = {}
        self._before: list[tuple[int, HumanVerdict, HumanVerdict | None]] = []
        self._lock = Lock(path.with_name(f".{path.name}.lock"))
        if not self._lock.try_acquire():
            raise ConfigError(
                f"The verdicts {path} are being written by {holder_of(self._lock.path) or 'another process'}; a file "
                "has one review at a time. End that one, or give another file."
            )
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        verdicts = read_verdicts(self.path)
        keys = keys_of_pairs([each.query for each in verdicts], [each.document for each in verdicts])
        for key, verdict in zip(keys.tolist(), verdicts, strict=True):
            self._note(key, verdict)
        with writing(self.path.parent, other="verdicts="):
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._end = self.path.read_bytes().rfind(b"\n") + 1
            os.ftruncate(self._file, self._end)
            sync(self.path.parent)

    def _note(self, key: int, verdict: HumanVerdict) -> None:
        if verdict.undo:
            if self._before and self._before[-1][0] == key:
                self._before.pop()
        else:
            self._before.append((key, verdict, self.last.get(key)))
        if verdict.score is None:
            self.last.pop(key, None)
        else:
            self.last[key] = verdict

    def score(self, key: int) -> int | None:
        """Return what was last said of a pair: 1, 0, or `None`."""
        return self.last[key].score if key in self.last else None

    def add(self, key: int, verdict: HumanVerdict) -> None:
        """Add a verdict; once this returns, it is on the disk.

        Raises:
            StoreError: the disk refuses it; nothing of it is left in the file then.
        """
        line = verdict.line()
        with writing(self.path.parent, needed=len(line), other="verdicts="):
            try:
                if os.write(self._file, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
        self._end += len(line)
        self._note(key, verdict)

    def undo(self) -> HumanVerdict | None:
        """Take back the last verdict that stands, by a line of its own, and return it; `None` where none is left."""
        if not self._before:
            return None
        key, verdict, before = self._before[-1]
        values = {**asdict(verdict), "score": before and before.score, "undo": True}
        values.pop("at")
        self.add(key, HumanVerdict(**values))
        return verdict

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs are judged, and how many of these are relevant."""
        scores = [verdict.score for verdict in self.last.values()]
        return {"judged": len(scores), "relevant": sum(score == 1 for score in scores)}

    def close(self) -> None:
        """Let other processes add to the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._lock.release()
