"""Lucene indexes of Anserini and Pyserini, searched by words."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import DocumentStoreError, MissingExtraError
from hf_hardneg.retrievers.stores.document_store import ID, TEXT, Description, DocumentStore
from hf_hardneg.retrievers.stores.file_marks import content_mark
from hf_hardneg.retrievers.stores.lucene_process import LuceneProcess

PROGRAM = Path(__file__).with_name("lucene_worker.py")
PYTHON = "HF_HARDNEG_PYSERINI_PYTHON"
"""Names the Python that has pyserini, where that is another than this."""
BATCH, BLOCK = 64, 1024


@dataclass(frozen=True)
class Lucene(DocumentStore):
    """A folder that Anserini or Pyserini indexed, searched by BM25 of Lucene over Anserini's analyzer.

    Args:
        address (`str`): such as `"lucene:///folder/index"`.
        k1, b (`float`, default to 0.9 and 0.4, Anserini's): parameters of BM25.
        text (`str`, defaults to `"contents"`): the stored field of texts, or the key in the stored raw document.
    """

    _: KW_ONLY
    k1: float = 0.9
    b: float = 0.4
    text: str = "contents"
    scheme: ClassVar[str] = "lucene"
    extra: ClassVar[str] = "lucene"
    uses_vectors: ClassVar[bool] = False

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.place.path)

    def connect(self) -> LuceneProcess:
        """See `DocumentStore`.

        Raises:
            DocumentStoreError: there is no index.
            MissingExtraError: there is no pyserini.
        """
        self.commit()
        python = os.environ.get(PYTHON, sys.executable)
        if python == sys.executable and importlib.util.find_spec("pyserini") is None:
            raise MissingExtraError(
                f"{self.address} needs the package 'pyserini', which is not installed, and Java. Run "
                f"`pip install 'hf-hardneg[{self.extra}]'`, or set {PYTHON} to a Python of another environment that "
                "has it."
            )
        return LuceneProcess([python, "-c", PROGRAM.read_text(), str(self.path), f"{self.k1}", f"{self.b}", self.text])

    def describe(self) -> Description:
        """See `DocumentStore`."""
        mark = content_mark(self.commit())
        told = self._ask("describe")
        return Description(
            score_kind="bm25", count=told["count"], width=None, mark=mark, max_batch=BATCH, has_texts=told["has_texts"]
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `DocumentStore`; a query without a known word has no hits."""
        return [(ids, np.array(scores, np.float32)) for ids, scores in self._ask("search", list(queries), k)]

    def score(self, queries: Sequence[str], ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """See `DocumentStore`."""
        return [
            np.array(scores, np.float32) for scores in self._ask("score", list(queries), [list(each) for each in ids])
        ]

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `DocumentStore`; there are no vectors."""
        return pa.table({ID: pa.array(ids, pa.string()), TEXT: pa.array(self._ask("fetch", list(ids)), pa.string())})

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `DocumentStore`; there are no vectors."""
        for start in range(0, places := self._ask("describe")["places"], BLOCK):
            rows = self._ask("scan", start, min(start + BLOCK, places))
            columns = {name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate((ID, TEXT))}
            yield pa.RecordBatch.from_pydict(columns)

    def commit(self) -> Path:
        """The file of the newest commit, which names all others."""
        commits = [path for path in self.path.glob("segments_*") if path.is_file()]
        if not commits:
            raise self._error(f"{self.path} holds no Lucene index", "Give the path of a folder that Anserini wrote.")
        return max(commits, key=lambda path: (len(path.name), path.name))

    def _ask(self, verb: str, *arguments: Any) -> Any:
        try:
            told = self.client.ask(verb, *arguments)
        except DocumentStoreError as error:
            self.disconnect()
            raise self._error(str(error), "Look at Java, at pyserini, and at the version of the index.") from error
        if "unknown" in told:
            raise self._error(f"it holds no document {told['unknown']!r}", "Ask for ids that scan() gives.")
        return told["answer"]

    def _error(self, what: str, do: str) -> DocumentStoreError:
        return DocumentStoreError(f"{self.address}: {what}; an index that pyserini reads is allowed. {do}")
