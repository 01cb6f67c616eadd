"""A program that searches a Lucene index for the driver in `lucene.py`, run by whichever Python has pyserini.

Java does not outlive a fork, and pyserini needs packages of other versions, so it has a process of its own, which
imports nothing of this package. Questions and answers are lines of JSON; it ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

ID, CONTENTS, RAW = "id", "contents", "raw"
"""The fields of Anserini."""


class Index:
    """An index, opened with BM25 of `k1` and `b`; answers as Anserini does, with scores as Lucene computes them.

    Anserini's own searcher rounds scores to four digits, and lowers those that are equal.
    """

    def __init__(self, folder: str, k1: float, b: float, text: str) -> None:
        from pyserini.pyclass import autoclass, cast

        directory = autoclass("org.apache.lucene.store.FSDirectory").open(autoclass("java.nio.file.Paths").get(folder))
        self.reader = autoclass("org.apache.lucene.index.DirectoryReader").open(directory)
        searchers = autoclass("org.apache.lucene.search.IndexSearcher")
        searchers.setMaxClauseCount(2**31 - 1)
        self.searcher = searchers(cast("org.apache.lucene.index.IndexReader", self.reader))
        self.searcher.setSimilarity(autoclass("org.apache.lucene.search.similarities.BM25Similarity")(k1, b))
        self.stored = self.reader.storedFields()
        self.live = autoclass("org.apache.lucene.index.MultiBits").getLiveDocs(self.reader)
        self.analyzer = autoclass("io.anserini.index.IndexCollection").DEFAULT_ANALYZER
        self.words = autoclass("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self.term, self.term_query = (
            autoclass(f"org.apache.lucene.{name}") for name in ("index.Term", "search.TermQuery")
        )
        self.text, self.names = text, dict[int, str]()

    def describe(self) -> dict[str, Any]:
        """How many documents and places for documents it has, and whether their texts are stored."""
        first = next((place for place in range(self.reader.maxDoc()) if self._lives(place)), None)
        has_texts = first is not None and self._text(self.stored.document(first)) is not None
        return {"count": self.reader.numDocs(), "places": self.reader.maxDoc(), "has_texts": has_texts}

    def search(self, queries: list[str], k: int) -> list[tuple[list[str], list[float]]]:
        """Ids and scores of the best `k` of each query."""
        answers = []
        for query in map(self._query, queries):
            hits = self.searcher.search(query, k).scoreDocs
            answers.append(([self._name(hit.doc) for hit in hits], [hit.score for hit in hits]))
        return answers

    def score(self, queries: list[str], ids: list[list[str]]) -> list[list[float]]:
        """For each query the scores of some documents."""
        pairs = zip(map(self._query, queries), ids, strict=True)
        return [[self._score(query, self._place(name)) for name in names] for query, names in pairs]

    def fetch(self, ids: list[str]) -> list[str | None]:
        """Texts of documents."""
        return [self._text(self.stored.document(self._place(name))) for name in ids]

    def scan(self, start: int, stop: int) -> list[tuple[str, str | None]]:
        """Ids and texts of the documents in some places."""
        stored = [self.stored.document(place) for place in range(start, stop) if self._lives(place)]
        return [(document.get(ID), self._text(document)) for document in stored]

    def _query(self, text: str) -> Any:
        return self.words.buildQuery(CONTENTS, self.analyzer, text)

    def _score(self, query: Any, place: int) -> float:
        return self.searcher.explain(query, place).getValue().floatValue()

    def _lives(self, place: int) -> bool:
        return self.live is None or bool(self.live.get(place))

    def _name(self, place: int) -> str:
        if place not in self.names:
            self.names[place] = self.stored.document(place).get(ID)
        return self.names[place]

    def _place(self, name: str) -> int:
        hits = self.searcher.search(self.term_query(self.term(ID, name)), 1).scoreDocs
        if not hits:
            raise KeyError(name)
        return int(hits[0].doc)

    def _text(self, document: Any) -> str | None:
        """The stored field of that name, else the value of that name in the raw document, else all of it."""
        text, raw = document.get(self.text), document.get(RAW)
        if text is not None or raw is None:
            return text
        try:
            return str(json.loads(raw)[self.text])
        except (ValueError, KeyError, TypeError):
            return raw


def main() -> None:
    """Answer questions until no more come in."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder, k1, b, text = sys.argv[1:]
    index = Index(folder, float(k1), float(b), text)
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        answer: Callable[..., Any] = getattr(index, verb)
        try:
            told = {"answer": answer(*arguments)}
        except KeyError as unknown:
            told = {"unknown": unknown.args[0]}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
