"""A document store as an index over a corpus: over-fetched, checked, turned into rows, and in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import position_in_group
from hf_hardneg.arrays.vectors import checked_vectors
from hf_hardneg.corpus.batches import matrix
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import CorpusKeys
from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.index.dense.approximate import Measured
from hf_hardneg.index.dense.dense_index import TIE_SLACK, normalized, score_vectors
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.retrievers.base import rows_of
from hf_hardneg.retrievers.stores.collection import FOUND, VECTOR, Collection, Description
from hf_hardneg.retrievers.stores.kept_vectors import kept_vectors
from hf_hardneg.store import directories

STORED = "store"
"""How the identity of a document store begins."""
ROUNDING = 2e-6
"""By how much equal scores differ between the store's arithmetic and ours."""
CHUNK = 256
"""Queries asked at once, where the store takes so many."""
DIGITS = 19
"""Of whole numbers that 63 bits do not hold."""
FETCHED = 1000
"""Documents whose vectors are asked for at once."""


@dataclass(frozen=True, kw_only=True)
class StoreIndex:
    """A collection, as it was when it was opened, whose documents a corpus has; pickles as paths and addresses.

    It is asked as `DenseIndex` is. Each call asks the store whether the collection is still the same, so that no hits
    of two states are mixed.

    Args:
        collection (`Collection`): answers.
        state (`Description`): what it was when it was opened.
        corpus (`Corpus`), keys (`CorpusKeys`): the documents, and their rows by their ids.
        by_row (`bool`, defaults to `False`): whether the collection calls documents by their rows in the corpus.
        measured (`Measured`, *optional*): effort and recall of an approximate search.
    """

    collection: Collection
    state: Description
    corpus: Corpus
    keys: CorpusKeys
    by_row: bool = False
    measured: Measured | None = None

    @property
    def is_in_part(self) -> bool:
        """Whether the corpus has what queries find alone, and not all documents."""
        return getattr(self.collection, "reads", "") == FOUND

    @property
    def similarity(self) -> Any:
        """`"cosine"`, `"dot"`, `"l2"` (negative squared distance), or `"bm25"`."""
        return self.state.score_kind

    @property
    def identity(self) -> str:
        """Names what hits depend on besides the queries, without saying where the store is."""
        asked = (self.collection.settings, self.state.score_kind, self.state.count, self.state.mark)
        effort = f" effort {self.effort}" if self.effort is not None else ""
        return f"{STORED}-{directories.bytes_digest(json.dumps(asked).encode())[:24]}{effort}"

    @property
    def effort(self) -> int | None:
        """How hard an approximate search tries."""
        return None if self.measured is None else self.measured.effort["effort"]

    @property
    def factory(self) -> str:
        """The kind of store."""
        return self.collection.scheme

    @property
    def transforms(self) -> tuple[Any, ...]:
        """See `DenseIndex`; none."""
        return ()

    @property
    def width(self) -> int:
        """Dimension of the vectors."""
        return self.state.width or 0

    @property
    def query_width(self) -> int:
        """See `DenseIndex`."""
        return self.width

    def check_unchanged(self) -> None:
        """Raise for a collection that is not as it was opened.

        Raises:
            DocumentStoreError: it changed.
        """
        now = self.collection.patiently(self.collection.describe)
        if now != self.state:
            changes = [
                f"its {name} was {was} and is {getattr(now, name)}"
                for name, was in asdict(self.state).items()
                if was != getattr(now, name)
            ]
            raise DocumentStoreError(
                f"{self.collection.address} changed while it was mined: {'; '.join(changes)}. Rows of one job are of "
                "one state. Let what writes to it end, and mine again: what is stored of the old state is not used."
            )

    def queries(self, vectors: Any, *, what: str = "query vectors") -> np.ndarray:
        """Checked vectors, of length one where the similarity is cosine; (n, d) float32."""
        checked = checked_vectors(vectors, what=what, width=self.width)
        return normalized(checked) if self.similarity == "cosine" else checked

    def search(self, queries: np.ndarray | Sequence[str], k: np.ndarray) -> Hits:
        """The best documents of each query, best first, ties in corpus order.

        Args:
            queries (`np.ndarray` or `Sequence[str]`): vectors (n, d), as returned by `queries`, or texts.
            k (`np.ndarray`): (n,) int64, how many, for each query.

        Raises:
            DocumentStoreError: the store gives fewer than it has, unknown ids, or changed.
            ConfigError: more are asked for than it gives for one query.
        """
        k = np.minimum(k, self.state.count)
        parts = [Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
        self.check_unchanged()
        for query, ids, scores in self._chunks(queries, k):
            parts.append(self._levelled(Hits(query, self.rows(ids), scores)))
        self.check_unchanged()
        return best_first(Hits(*(np.concatenate(part) for part in zip(*parts, strict=True))), k)

    def _levelled(self, hits: Hits) -> Hits:
        """Hits in which documents of one text have one score, where no more than rounding tells theirs apart.

        Their vectors are equal, and yet stores score them by different last bits, so that chance would order them.
        """
        texts = np.unique(self.keys.of_rows(hits.doc), return_inverse=True)[1]
        order = np.lexsort((-hits.score, texts, hits.query))
        query, text, score = hits.query[order], texts[order], hits.score[order]
        is_next = (np.diff(query) == 0) & (np.diff(text) == 0)
        is_next &= -np.diff(score) <= ROUNDING * np.maximum(np.abs(score[1:]), 1)
        first = np.maximum.accumulate(np.where(np.r_[True, ~is_next][: len(order)], np.arange(len(order)), 0))
        levelled = np.empty_like(score)
        levelled[order] = score[first]
        return hits._replace(score=levelled)

    def ids(self, queries: np.ndarray | Sequence[str], k: np.ndarray) -> list[str]:
        """What the collection calls the best documents of queries, and some that are nearly as good; see `search`."""
        chunks = self._chunks(queries, np.minimum(k, self.state.count))
        return [name for _, names, _ in chunks for name in names]

    def _chunks(self, queries: Any, k: np.ndarray) -> Iterator[tuple[np.ndarray, list[str], np.ndarray]]:
        """The query (m,), id and score (m,) of the `k` (n,) best documents of each query, and of a few more.

        Queries are asked beside others that ask for more. Where the corpus has what queries find, those more are left
        out: which they are depends on the others.
        """
        order = np.argsort(k, kind="stable")
        order = order[k[order] > 0]
        size = min(self.state.max_batch or CHUNK, CHUNK)
        for start in range(0, len(order), size):
            asked = order[start : start + size]
            query, ids, scores = self._asked(queries, asked, int(k[asked].max()))
            if self.is_in_part:
                best = np.lexsort((-scores, query))
                best = best[position_in_group(query[best]) < k[query[best]] + TIE_SLACK]
                query, ids, scores = query[best], [ids[place] for place in best], scores[best]
            yield query, ids, scores

    def _asked(self, queries: Any, asked: np.ndarray, k: int) -> tuple[np.ndarray, list[str], np.ndarray]:
        """The query (m,), id and score (m,) of the `k` best documents of some queries, and of a few more."""
        most = self.state.max_k or self.state.count
        if k > most:
            raise ConfigError(
                f"{self.collection.address} gives at most {most:,} documents for one query, and {k:,} are needed with "
                "the known positives among them. Ask for a smaller depth, or raise the limit of the store."
            )
        wanted = min(k + TIE_SLACK, most, self.state.count)
        part = rows_of(queries, asked)
        answers = self.collection.patiently(lambda: self.collection.search(part, wanted, self.effort))
        self._check_answers(answers, asked, wanted)
        query = np.repeat(asked, [len(ids) for ids, _ in answers])
        scores = np.concatenate([np.asarray(scores, np.float32) for _, scores in answers])
        return query, [name for ids, _ in answers for name in ids], scores

    def _check_answers(self, answers: Sequence[Any], asked: np.ndarray, wanted: int) -> None:
        where = self.collection.address
        if len(answers) != len(asked):
            raise DocumentStoreError(
                f"{where} answered {len(answers)} of {len(asked)} queries; each needs its answer. Look at the store."
            )
        fewest = min(len(ids) for ids, _ in answers)
        if self.state.width is not None and fewest < wanted:
            raise DocumentStoreError(
                f"{where} gave {fewest} of the {wanted} nearest documents for a query and holds {self.state.count:,}; "
                "all that are asked for are needed, or ranks would be wrong. Raise the effort of its index, or have it "
                "search exactly."
            )
        if twice := [ids for ids, _ in answers if len(set(ids)) < len(ids)]:
            name = next(name for name in twice[0] if twice[0].count(name) > 1)
            raise DocumentStoreError(
                f"{where} gave the document {name!r} several times for a query; each document is there once. Name what "
                "tells its entries apart with ?id= in the address, or take out the repeats."
            )
        if not all(np.isfinite(scores).all() for _, scores in answers):
            raise DocumentStoreError(
                f"{where} gave scores that are no numbers, as for documents with NaN or zero vectors. Look at those."
            )

    def rows(self, ids: list[str]) -> np.ndarray:
        """The corpus row of each id, (n,) int64.

        Raises:
            DocumentStoreError: the corpus has no such document.
        """
        rows = self.row_numbers(ids) if self.by_row else self.keys.row_of_ids(ids)
        if (rows < 0).any():
            missing = ids[int(np.argmin(rows))]
            if self.is_in_part:
                raise DocumentStoreError(
                    f"{self.collection.address} gave {missing!r}, which no query found before; documents are read for "
                    "queries of one job, as deep as its strategy asks. Where many of them repeat or are known "
                    "positives, read all, without ?reads=found."
                )
            raise DocumentStoreError(
                f"{self.collection.address} gave the document {missing!r}, which the corpus does not have under that "
                "id; both must name documents alike. Give the corpus that the store was filled from, name its column "
                "of ids with columns={'id': ...}, or the store's with ?id= in its address."
            )
        return rows

    def row_numbers(self, ids: list[str]) -> np.ndarray:
        """The rows (n,) int64 that ids are the numbers of; -1 for what is none."""
        rows = np.array([int(name) if name.isdecimal() and len(name) < DIGITS else -1 for name in ids], np.int64)
        return np.where(rows < len(self.corpus), rows, -1)

    def names(self, rows: np.ndarray) -> list[str]:
        """What the collection calls documents in rows of the corpus."""
        return rows.astype(str).tolist() if self.by_row else self.corpus.ids(rows).to_pylist()

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of chosen corpus rows, (n, d) float32, as queries are compared with them."""
        unique, inverse = np.unique(rows, return_inverse=True)
        parts = [np.zeros((0, self.width), np.float32), *(part for _, part in self._blocks(unique))]
        return np.concatenate(parts)[inverse]

    def _blocks(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Vectors of different corpus rows, block by block, each with the place of its first row."""
        kept = kept_vectors((self.identity, self.corpus.digest, self.by_row), len(self.corpus), self.width)
        for start in range(0, len(rows), kept.room):
            yield start, kept.of(rows[start : start + kept.room], self._fetched)

    def _fetched(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of corpus rows, (n, d) float32, as the store gives them now."""
        parts = []
        for start in range(0, len(rows), FETCHED):
            ids = self.names(rows[start : start + FETCHED])
            parts.append(self.vectors_of(self._answer(ids)))
        self.check_unchanged()
        return np.concatenate(parts)

    def _answer(self, ids: list[str]) -> pa.Table:
        return self.collection.patiently(lambda: self.collection.fetch(ids, vectors=True))

    def vectors_of(self, table: pa.Table | pa.RecordBatch) -> np.ndarray:
        """The vectors in what the store gives, (n, d) float32."""
        column = pa.chunked_array([column]) if isinstance(column := table.column(VECTOR), pa.Array) else column
        return self.queries(matrix(column), what=f"vectors in {self.collection.address}")

    def score_rows(self, vectors: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32, by vectors that the store gives."""
        unique, inverse = np.unique(rows, return_inverse=True)
        scores = np.empty(len(rows), np.float32)
        for start, documents in self._blocks(unique):
            inside = np.flatnonzero((inverse >= start) & (inverse < start + len(documents)))
            places = inverse[inside] - start
            scores[inside] = score_vectors(self.similarity, vectors, documents, query[inside], places)
        return scores

    def score_words(self, queries: Sequence[str], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32, as the store scores words."""
        order, scores = np.argsort(query, kind="stable"), np.empty(len(rows), np.float32)
        asked = np.unique(query)
        parts = np.split(order, np.searchsorted(query[order], asked[1:])) if len(asked) else []
        size = min(self.state.max_batch or CHUNK, CHUNK)
        for start in range(0, len(asked), size):
            texts, chosen = [queries[at] for at in asked[start : start + size]], parts[start : start + size]
            ids = [self.names(rows[part]) for part in chosen]
            answers = self.collection.patiently(lambda: self.collection.score(texts, ids))  # noqa: B023
            for part, answer in zip(chosen, answers, strict=True):
                scores[part] = answer
        return scores

    def score_vectors(self, vectors: np.ndarray, query: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, vector) pairs, (n,) float32; `documents` is (n, d)."""
        return score_vectors(self.similarity, vectors, documents, query, np.arange(len(query)))
