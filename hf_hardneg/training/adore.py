"""ADORE (arXiv 2104.08051): frozen document vectors, searched with the query encoder of each step.

Nothing is mined beforehand and no document is encoded again; a step pays for one search of the mapped index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_hardneg.arrays.grouping import position_in_group
from hf_hardneg.corpus.batches import Batch
from hf_hardneg.corpus.queries import Queries, Reader
from hf_hardneg.errors import ConfigError
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.index.dense.dense_index import DenseIndex
from hf_hardneg.pipeline.exclusion import ALLOWED, judged
from hf_hardneg.retrievers import dense_index
from hf_hardneg.runtime.arguments import AtLeastOne, Checked, checked


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """The documents that a step retrieved for its B queries, at most n for each, in the order of their scores.

    Args:
        documents (`Tensor`): (B, n, d) frozen vectors; zeros where the row is filled up.
        relevant (`Tensor`): (B, n) bool, known positives.
        mask (`Tensor`): (B, n) bool, False where the row is filled up.
        rows (`np.ndarray`): (B, n) int64 rows of the corpus; -1 where the row is filled up.
    """

    documents: Tensor
    relevant: Tensor
    mask: Tensor
    rows: np.ndarray


@dataclass(frozen=True, kw_only=True)
class StepRetrieval(Checked):
    """Searches a fixed index with the queries of a training step.

    Each text comes out once, the query's own text not at all. Where no known positive is among the nearest, its
    positives in the corpus come last.

    Args:
        index (`DenseIndex`): of frozen document vectors.
        reader (`Reader`): knows the positives of every query.
        neg_topk (`int`, defaults to 200): documents for each query.

    Example:
        >>> miner = HardNegatives(corpus, "dense", encoder=model, known_positives=[pairs])
        >>> retrieve = StepRetrieval.of(miner)
        >>> batch = pairs[:2]
        >>> queries = encode(batch["query"])  # (B, d), with gradient
        >>> hits = retrieve(queries, batch)
        >>> loss = lambda_loss(queries, hits.documents, hits.relevant, mask=hits.mask, metric_cut=200)
        >>> hits.documents.shape
        torch.Size([2, 13, 32])
    """

    index: DenseIndex
    reader: Reader
    neg_topk: AtLeastOne = 200

    @classmethod
    @checked
    def of(cls, miner: HardNegatives, *, neg_topk: AtLeastOne = 200) -> StepRetrieval:
        """Take over the index and the known positives of a miner.

        Raises:
            ConfigError: the miner has no dense index.
        """
        index = dense_index(miner.retrieval.searcher)
        if index is None:
            raise ConfigError(
                f"StepRetrieval.of() got {miner!r}, which has no vectors; only a miner with a dense retriever has. "
                "Give HardNegatives(corpus, 'dense', encoder=, known_positives=[pairs])."
            )
        if index.transforms:
            raise ConfigError(
                f"StepRetrieval.of() got {miner!r}, whose index keeps transformed vectors; a loss would compare "
                "them with queries that are not. Give an index without L2norm, PCA, OPQ or the like before it."
            )
        return cls(index=index, reader=miner.retrieval.reader, neg_topk=neg_topk)

    @checked
    def __call__(self, queries: Tensor, batch: Any) -> Retrieved:
        """Search the nearest documents of a batch.

        Args:
            queries (`Tensor`): (B, d), as the loss compares them; searched as they are now.
            batch (`Mapping` of columns): its rows of pairs.
        """
        read = self.reader.read(Batch.of(batch, self.reader.columns.query).columns)
        vectors = self.index.queries(queries.detach().float().cpu().numpy())
        query, doc, relevant = self._labelled(read, vectors)
        return self._padded(len(read), query, doc, relevant, queries)

    def _labelled(self, read: Queries, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return query, corpus row and label of each document, by query, best first."""
        size, (groups, _) = len(self.reader.corpus), self.reader.keys.groups()
        inside = read.positives.row >= 0
        known = np.unique(read.positives.query[inside] * size + groups[read.positives.row[inside]])
        excluded = np.bincount(read.excluded_query, minlength=len(read))
        hits = self.index.search(vectors, np.minimum(self.neg_topk + excluded, size))
        code = hits.query * size + groups[hits.doc]
        relevant = np.isin(code, known)
        first = np.zeros(len(code), bool)
        first[np.unique(code, return_index=True)[1]] = True
        keep = first & (relevant | (judged(read, hits, self.reader.keys) == ALLOWED))
        query, doc, relevant = hits.query[keep], hits.doc[keep], relevant[keep]
        top = position_in_group(query) < self.neg_topk
        query, doc, relevant = query[top], doc[top], relevant[top]
        missing = known[~np.isin(known // size, query[relevant])]
        order = np.argsort(np.concatenate([query, missing // size]), kind="stable")
        query, doc = np.concatenate([query, missing // size])[order], np.concatenate([doc, missing % size])[order]
        return query, doc, np.concatenate([relevant, np.ones(len(missing), bool)])[order]

    def _padded(self, size: int, query: np.ndarray, doc: np.ndarray, relevant: np.ndarray, like: Tensor) -> Retrieved:
        counts = np.bincount(query, minlength=size)
        place = position_in_group(query)
        rows = np.full((size, int(counts.max())), -1, np.int64)
        labels = np.zeros(rows.shape, bool)
        rows[query, place], labels[query, place] = doc, relevant
        documents = np.zeros((*rows.shape, self.index.width), np.float32)
        documents[query, place] = self.index.vectors(doc)
        return Retrieved(
            documents=torch.from_numpy(documents).to(like.device, like.dtype),
            relevant=torch.from_numpy(labels).to(like.device),
            mask=torch.from_numpy(rows >= 0).to(like.device),
            rows=rows,
        )
