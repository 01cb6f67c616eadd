"""The process in which Lucene searches, as the process that asks it sees it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
import weakref
from collections.abc import Sequence
from typing import IO, Any, cast

from hf_hardneg.errors import DocumentStoreError

STARTING, ANSWERING = 120.0, 60.0
"""Seconds until it must have answered: the first question, while Java and pyserini load, and others."""
READ = 1 << 16


class LuceneProcess:
    """A running `lucene_worker.py`; ends when this object is forgotten, or the process that holds it ends.

    Args:
        command (`Sequence[str]`): a Python, and what it runs.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.said = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said)
        self.questions, self.answers = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        self.pid, self.seconds = process.pid, STARTING
        weakref.finalize(self, _end, process, self.said, os.getpid())

    def ask(self, verb: str, *arguments: Any) -> dict[str, Any]:
        """The answer to a question.

        Raises:
            DocumentStoreError: the process ended, or did not answer in time; its last words are quoted.
        """
        question = json.dumps([verb, arguments]).encode() + b"\n"
        try:
            self.questions.write(question)
            self.questions.flush()
        except OSError as error:
            raise self._silent("ended") from error
        answer = json.loads(self._line(time.monotonic() + self.seconds))
        self.seconds = ANSWERING
        return answer

    def _line(self, until: float) -> bytes:
        line, stream = b"", self.answers.fileno()
        while not line.endswith(b"\n"):
            if not select.select([stream], [], [], max(until - time.monotonic(), 0))[0]:
                raise self._silent(f"did not answer within {self.seconds:.0f} s")
            part = os.read(stream, READ)
            if not part:
                raise self._silent("ended")
            line += part
        return line

    def _silent(self, what: str) -> DocumentStoreError:
        self.said.seek(0)
        words = [line for line in self.said.read().decode(errors="replace").splitlines() if line.strip()]
        return DocumentStoreError(f"the process in which Lucene searches {what}; it said last: {' '.join(words[-1:])}")


def _end(process: subprocess.Popen[bytes], said: IO[bytes], parent: int) -> None:
    """End a process, unless this one was forked from the one that started it."""
    if os.getpid() == parent:
        process.kill()
        process.communicate()
    said.close()
