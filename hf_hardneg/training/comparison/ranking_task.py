"""Queries whose answers are known, and the documents among which a trained model must find them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from hf_hardneg.corpus.documents import image_columns
from hf_hardneg.corpus.ids import named_columns
from hf_hardneg.corpus.pictures import refuse_pictures
from hf_hardneg.corpus.queries import Queries, Reader
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import DataError, warn
from hf_hardneg.metrics.ranking import Judged, measures
from hf_hardneg.text.keys import text_keys
from hf_hardneg.training.similarity import Similarity, all_scores

if TYPE_CHECKING:
    from datasets import Dataset

CUT = 10
PARTS = 3
"""Parts of the queries, of which each round holds one out."""
BLOCK = 256


class Example(NamedTuple):
    """What a training sees of a row and one of its positives.

    Args:
        row (`int`): the row of the pairs.
        query (`int`): which distinct query it has.
        text (`str`): the query, as the row has it.
        positive (`str`): a document of the corpus.
        identity (`str`, *optional*): the query's id, where rows have ids.
    """

    row: int
    query: int
    text: str
    positive: str
    identity: str | None


@dataclass(frozen=True, kw_only=True)
class RankingTask:
    """Distinct queries with known answers, and the documents that are ranked for them.

    Args:
        reader (`Reader`): what read the pairs, and knows the corpus.
        read (`Queries`): the rows of the pairs.
        first (`np.ndarray`): (q,) int64, the first row of each distinct query.
        query (`np.ndarray`): (rows,) int64, the distinct query of each row.
        pool (`np.ndarray`): (n,) int64, ascending rows of the corpus that are ranked.
        listed (`np.ndarray`): (m, 2) int64, ascending: a row, and a document of the corpus that it has as a positive.
        relevant_query, relevant (`np.ndarray`): (j,) int64, pairs of a query and the place of its answer in the pool.
        itself (`np.ndarray`): (q,) int64, the place of the document that repeats the query; -1 where none does.
    """

    reader: Reader
    read: Queries
    first: np.ndarray
    query: np.ndarray
    pool: np.ndarray
    listed: np.ndarray
    relevant_query: np.ndarray
    relevant: np.ndarray
    itself: np.ndarray

    @classmethod
    def of(cls, pairs: Dataset, reader: Reader, *, documents: int) -> RankingTask:
        """Read some pairs; of the corpus, all answers and an even spread of the other documents are ranked.

        Args:
            pairs (`Dataset`): the rows.
            reader (`Reader`): of these pairs, with all known positives.
            documents (`int`): about how many to rank.

        Raises:
            DataError: no query has a positive in the corpus.
            ConfigError: queries or documents are images.
        """
        if reader.corpus.images is not None or image_columns(pairs, [reader.columns.query]):
            raise refuse_pictures("compare()")
        names = reader.columns.read(pairs.column_names)
        table = named_columns(pairs.with_format("arrow", columns=names)[:])
        read, listed = reader.read(table), reader.listed_positives(table)
        _, first, query = np.unique(_keys(reader, read.texts), return_index=True, return_inverse=True)
        groups = reader.keys.groups()[0]
        inside = read.positives.row >= 0
        answers = groups[read.positives.row[inside]]
        others = np.setdiff1d(np.flatnonzero(groups == np.arange(len(groups))), answers)
        spread = others[:: max(1, -(-len(others) // max(documents - len(np.unique(answers)), 1)))]
        pool = np.union1d(answers, spread)
        pairs_of = np.unique(np.stack([query[read.positives.query[inside]], np.searchsorted(pool, answers)]), axis=1)
        copies = reader.keys.row_of_keys(_keys(reader, [read.texts[row] for row in first]))
        copies = np.where(copies >= 0, groups[copies], -1)
        place = np.minimum(np.searchsorted(pool, copies), len(pool) - 1)
        task = cls(
            reader=reader,
            read=read,
            first=first,
            query=query,
            pool=pool,
            listed=np.unique(np.stack([listed.query, listed.row], axis=1)[listed.row >= 0], axis=0),
            relevant_query=pairs_of[0],
            relevant=pairs_of[1],
            itself=np.where(pool[place] == copies, place, -1),
        )
        task._check()
        return task

    def _check(self) -> None:
        lacking = len(self.first) - len(np.unique(self.relevant_query))
        if lacking == len(self.first):
            raise DataError(
                f"None of {len(self.first):,} queries has a positive in the corpus, and a comparison ranks the "
                "documents of the corpus. Give the corpus that the positives belong to."
            )
        if lacking:
            warn(
                f"{lacking:,} of {len(self.first):,} queries have no positive in the corpus: they are neither trained "
                "on nor ranked for. Give the corpus that their positives belong to, or ignore this."
            )

    @functools.cached_property
    def answered(self) -> np.ndarray:
        """Which queries have an answer in the pool, (q,) bool."""
        return np.bincount(self.relevant_query, minlength=len(self.first)) > 0

    @functools.cached_property
    def part(self) -> np.ndarray:
        """The part that each query belongs to, (q,) int64, below `PARTS`: as many each, by draws that texts decide."""
        part = np.empty(len(self.first), np.int64)
        part[np.argsort(keyed_uniforms(0, "parts", "", self.queries))] = np.arange(len(part)) % PARTS
        return part

    @functools.cached_property
    def shared(self) -> np.ndarray:
        """Which queries have an answer that a query of another part has too, (q,) bool: it is trained on."""
        parts_of = np.zeros((len(self.pool), PARTS), bool)
        parts_of[self.relevant, self.part[self.relevant_query]] = True
        several = parts_of.sum(axis=1)[self.relevant] > 1
        return np.bincount(self.relevant_query[several], minlength=len(self.first)) > 0

    @property
    def queries(self) -> list[str]:
        """The text of each distinct query."""
        return [self.read.texts[row] for row in self.first]

    @functools.cached_property
    def documents(self) -> list[str]:
        """The text of each ranked document."""
        return list(self.reader.corpus.texts(self.pool).to_pylist())

    @functools.cached_property
    def examples(self) -> list[Example]:
        """Every positive in the corpus that a row lists, in the order of the rows."""
        has_ids = self.read.identity is not self.read.texts
        texts = self.reader.corpus.texts(self.listed[:, 1]).to_pylist()
        return [
            Example(row, int(self.query[row]), self.read.texts[row], text, self.read.identity[row] if has_ids else None)
            for row, text in zip(self.listed[:, 0].tolist(), texts, strict=True)
        ]

    def rows_of_texts(self, texts: list[str]) -> np.ndarray:
        """Find documents of the corpus by their texts, (n,) int64."""
        return self.reader.keys.row_of_keys(_keys(self.reader, texts))

    def ndcg(
        self, queries: np.ndarray, documents: np.ndarray, chosen: np.ndarray, similarity: Similarity
    ) -> np.ndarray:
        """Measure nDCG@10 of some queries, (m,) float64; a document that repeats a query is not ranked for it.

        Args:
            queries (`np.ndarray`): (m, d) vectors of the chosen queries.
            documents (`np.ndarray`): (n, d) vectors of the pool.
            chosen (`np.ndarray`): (m,) int64, distinct ones of the queries.
            similarity (`str`): how vectors are compared.
        """
        places, against = [], torch.from_numpy(np.ascontiguousarray(documents))
        for start in range(0, len(chosen), BLOCK):
            part = slice(start, start + BLOCK)
            scores = all_scores(torch.from_numpy(np.ascontiguousarray(queries[part])), against, similarity)
            copies = self.itself[chosen[part]]
            scores[np.flatnonzero(copies >= 0), copies[copies >= 0]] = -torch.inf
            places.append(scores.topk(min(CUT, len(self.pool)), dim=1).indices.numpy())
        ranked = np.concatenate(places)
        renumbered = np.full(len(self.first), -1)
        renumbered[chosen] = np.arange(len(chosen))
        asked = renumbered[self.relevant_query] >= 0
        owner, wanted = renumbered[self.relevant_query[asked]], self.relevant[asked]
        order = np.lexsort((wanted, owner))
        owner, wanted = owner[order], wanted[order]
        query, rank = np.nonzero(
            np.isin(ranked + np.arange(len(chosen))[:, None] * len(self.pool), owner * len(self.pool) + wanted)
        )
        judged = Judged(len(chosen), query, rank, np.ones(len(query)), owner, np.ones(len(owner)))
        return measures(judged, [CUT])[f"ndcg@{CUT}"]


def _keys(reader: Reader, texts: list[str]) -> np.ndarray:
    return text_keys(texts, reader.keys.dedupe)
