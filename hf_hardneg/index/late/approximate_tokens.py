"""Approximate search by late interaction: encodings of one vector a text propose documents, exact MaxSim orders them.

How many are proposed is raised until, on a sample of queries, enough of the best by exact search are among them.
"""

from __future__ import annotations

import functools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hf_hardneg.arrays.grouping import spread
from hf_hardneg.arrays.token_rows import TokenRows
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.dense.approximate import DEPTH, MEASURED, SAMPLE, Measured, measured_of
from hf_hardneg.index.dense.dense_index import DenseIndex, build_dense
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.index.late.fixed_encodings import FixedEncodings
from hf_hardneg.index.late.token_index import TokenIndex
from hf_hardneg.store import directories, kinds

ENCODINGS = FixedEncodings()
TOKENS_OF_QUERIES = 32
FIRST, LAST = 2 * DEPTH, 64 * DEPTH
"""Proposed for each query at first and at most, where as many as `DEPTH` are wanted."""


@dataclass(frozen=True, kw_only=True)
class ApproximateTokenIndex(TokenIndex):
    """An exact index of token vectors with a dense index of encodings before it; pickles as paths.

    Args:
        encodings (`DenseIndex`): proposes documents.
        tuning (`Path`): the published effort and recall.
    """

    encodings: DenseIndex
    tuning: Path

    @property
    def identity(self) -> str:
        """The vectors, and the tuned index before them."""
        return f"{self.directory.name} {self.tuning.name}"

    @property
    def measured(self) -> Measured:
        """The effort, and the recall it reached on a sample."""
        return _opened(self.tuning)

    def search(self, queries: TokenRows, k: np.ndarray) -> Hits:
        """See `TokenIndex`; scores are exact, some of the best documents may be missing."""
        return _search(self, self.encodings, queries, k, self.measured.effort["proposed"])


def _search(index: TokenIndex, encodings: DenseIndex, queries: TokenRows, k: np.ndarray, proposed: int) -> Hits:
    """The best `k` (n,) of each query among those proposed: so many where `DEPTH` are wanted, more where k is more."""
    limits = np.where(queries.sizes > 0, k, 0)
    pools = np.where(limits > 0, -(-np.maximum(limits, DEPTH) * proposed // DEPTH), 0)
    vectors = encodings.queries(ENCODINGS.of(queries, are_queries=True), what="encodings of queries")
    pool = encodings.search(vectors, np.minimum(pools, len(index.documents.rows)))
    held = index.documents.rows.sizes[pool.doc] > 0
    query, docs = pool.query[held], pool.doc[held]
    return best_first(Hits(query, docs, index.score_rows(queries, query, docs)), limits)


def build_approximate_tokens(
    index: TokenIndex, corpus: Corpus, *, recall: float, sample: TokenRows, as_queries: bool
) -> ApproximateTokenIndex:
    """An approximate index over an exact one: built once, its effort raised until it finds what was asked for.

    Args:
        index (`TokenIndex`): the exact one.
        corpus (`Corpus`): its documents.
        recall (`float`): share of the 100 best documents to find, mean over the sample.
        sample (`TokenRows`): token vectors of queries; 512 are used.
        as_queries (`bool`): whether they are queries, not documents in their place.

    Raises:
        ConfigError: it does not reach the recall, or no text of the sample has a token.
    """
    digest = directories.digest_of({"tokens": index.directory.name, **ENCODINGS.parameters})
    blocks = ENCODINGS.blocks(index.documents.rows)
    encodings = build_dense(corpus, blocks, vectors_digest=digest, similarity="dot", vectors_from="encodings of tokens")
    held = np.flatnonzero(sample.sizes)
    if not len(held):
        raise ConfigError(
            "No query of the sample has a token vector, and one at least is needed to measure recall. Give sample= of "
            "texts that have some, or search='exact'."
        )
    chosen_rows = held[np.sort(np.random.default_rng(1).permutation(len(held))[:SAMPLE])]
    asked = sample[chosen_rows] if as_queries else _begun(sample, chosen_rows)
    setting = {"index": encodings.directory.name, "target": recall, "depth": DEPTH, "sample": _named(as_queries)}
    setting["vectors"] = directories.bytes_digest(np.ascontiguousarray(asked.vectors), asked.pointers)

    def tune(directory: Path) -> None:
        measured = _tuned(index, encodings, asked, recall, _named(as_queries))
        if measured.recall < recall:
            raise ConfigError(
                f"Encodings find {measured.recall:.4f} of the {measured.depth} best at most, less than "
                f"recall={recall}. Give search='exact', or a lower recall=; the index stays in the cache."
            )
        (directory / MEASURED).write_text(json.dumps(asdict(measured), indent=1))

    tuning = directories.obtain(index.directory.parent, kinds.RECALL, setting, tune)
    return ApproximateTokenIndex(directory=index.directory, encodings=encodings, tuning=tuning)


def _begun(rows: TokenRows, texts: np.ndarray) -> TokenRows:
    """The first tokens of some documents, as many as queries have."""
    sizes = np.minimum(rows.sizes[texts], TOKENS_OF_QUERIES)
    group, within = spread(sizes)
    return TokenRows(np.concatenate([[0], np.cumsum(sizes)]), rows.vectors[rows.pointers[texts][group] + within])


def _named(as_queries: bool) -> str:
    return "given" if as_queries else "documents"


def _tuned(index: TokenIndex, encodings: DenseIndex, asked: TokenRows, target: float, sample: str) -> Measured:
    """The least pool, in steps of one half, that reaches the target; else the largest."""
    documents = len(index.documents.rows)
    depth = min(DEPTH, int((index.documents.rows.sizes > 0).sum()))
    k, begun = np.full(len(asked), depth), time.perf_counter()
    least = TokenIndex.search(index, asked, k).score.reshape(len(asked), depth)[:, -1]
    told = {"target": target, "sample": sample, "exact_seconds": time.perf_counter() - begun}
    proposed = FIRST
    while True:
        search = functools.partial(_search, index, encodings, asked, k, proposed)
        measured = measured_of(search, least, depth, effort={"proposed": proposed}, **told)
        if measured.recall >= target or proposed >= min(LAST, documents):
            return measured
        proposed = min((3 * proposed + 1) // 2, max(LAST, FIRST))


@functools.lru_cache(maxsize=8)
def _opened(tuning: Path) -> Measured:
    directories.check(tuning)
    return Measured(**directories.read_object(tuning, MEASURED))
