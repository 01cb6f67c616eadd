"""BM25 over a corpus: a bm25s index on disk, memory-mapped, searched by an exact kernel.

The index is built and saved by `bm25s`, which can open it too. The search is ours because mining needs what a top-k
call does not give: ties cut in corpus order, no documents that share no term, another depth for each query, scores of
chosen pairs, and threads that survive a fork.
"""

from __future__ import annotations

import functools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit

from hf_hardneg.corpus import Corpus
from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.index import store
from hf_hardneg.index.analysis import Analyzer, Tokenizer, tokenizer_digest, warn_if_broken
from hf_hardneg.index.hits import Hits
from hf_hardneg.process import threads
from hf_hardneg.progress import bar

Variant = Literal["lucene", "robertson", "atire"]
VARIANTS: tuple[Variant, ...] = ("lucene", "robertson", "atire")
PARAMETERS = "hf_hardneg.json"
BLOCK = 1 << 15


@dataclass(frozen=True, kw_only=True)
class BM25Config:
    """How BM25 weighs terms.

    Args:
        k1 (`float`, defaults to 1.5): term frequency saturation.
        b (`float`, defaults to 0.75): length normalisation, 0 to 1.
        variant (`str`, defaults to `"lucene"`): `"lucene"`, `"robertson"` or `"atire"` (bm25s, arXiv 2407.03618).
        tokenizer (`Callable[[str], list[str]]`): how texts become terms.
    """

    k1: float = 1.5
    b: float = 0.75
    variant: Variant = "lucene"
    tokenizer: Tokenizer = field(default_factory=Analyzer)

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise unknown_name("BM25 variant", self.variant, VARIANTS)
        if self.k1 < 0 or not 0 <= self.b <= 1:
            raise ConfigError(f"BM25 got k1={self.k1}, b={self.b}; k1 must be at least 0 and b between 0 and 1.")


def build_bm25(corpus: Corpus, config: BM25Config) -> Path:
    """The directory of the BM25 index of a corpus, built once.

    Raises:
        ConfigError: no document has a term.
    """

    def build(directory: Path) -> None:
        import bm25s

        vocabulary: dict[str, int] = {}
        tokens = _tokenize(corpus, config.tokenizer, vocabulary)
        if not vocabulary:
            raise ConfigError("No document has a term the tokenizer keeps; pass tokenizer= for this language.")
        index = bm25s.BM25(k1=config.k1, b=config.b, method=config.variant)
        index.index(bm25s.tokenization.Tokenized(ids=tokens, vocab=vocabulary), False, False)
        index.save(str(directory), show_progress=False)
        mean = float(np.mean([len(document) for document in tokens]))
        (directory / PARAMETERS).write_text(json.dumps({"mean_length": mean, "documents": len(tokens)}))

    parameters = {
        "corpus": corpus.digest,
        "k1": config.k1,
        "b": config.b,
        "variant": config.variant,
        "tokenizer": tokenizer_digest(config.tokenizer),
    }
    return store.obtain(corpus.cache, "bm25", parameters, build)


def _tokenize(corpus: Corpus, tokenizer: Tokenizer, vocabulary: dict[str, int]) -> list[list[int]]:
    tokens: list[list[int]] = []
    characters = 0
    with bar(total=len(corpus), desc="BM25 terms", unit=" texts") as progress:
        for texts in corpus.batches():
            for text in texts.to_pylist():
                tokens.append([vocabulary.setdefault(term, len(vocabulary)) for term in tokenizer(text)])
                characters += len(text) - text.count(" ")
            progress.update(len(texts))
    warn_if_broken(characters, sum(map(len, tokens)))
    return tokens


@dataclass(frozen=True, kw_only=True)
class BM25Index:
    """An opened-on-demand BM25 index; pickles as its path.

    Args:
        directory (`Path`): what `build_bm25` returned.
        config (`BM25Config`): how it was built.
    """

    directory: Path
    config: BM25Config

    def terms(self, texts: list[str]) -> list[np.ndarray]:
        """Known terms of each text, as ids in order; a repeated term is repeated."""
        vocabulary = _opened(self.directory).vocabulary
        return [
            np.array([vocabulary[t] for t in self.config.tokenizer(text) if t in vocabulary], dtype=np.int64)
            for text in texts
        ]

    def search(self, texts: list[str], k: np.ndarray) -> Hits:
        """The best documents of each query that share at least one term with it.

        Args:
            texts (`list[str]`): n queries.
            k (`np.ndarray`): (n,) int64, how many at most, for each query.
        """
        parts = _opened(self.directory)
        terms = self.terms(texts)
        pieces = np.array_split(np.arange(len(texts)), min(threads(), max(len(texts) // 16, 1)))

        def run(piece: np.ndarray) -> Hits:
            flat, pointers = _flatten([terms[i] for i in piece])
            return Hits(*_search(flat, pointers, k[piece], parts.data, parts.indices, parts.indptr, parts.documents))

        if len(pieces) == 1:
            found = [run(pieces[0])]
        else:
            with ThreadPoolExecutor(len(pieces)) as pool:
                found = list(pool.map(run, pieces))
        starts = [piece[0] if len(piece) else 0 for piece in pieces]
        queries = np.concatenate([hits.query + start for hits, start in zip(found, starts, strict=True)])
        return Hits(queries, np.concatenate([h.doc for h in found]), np.concatenate([h.score for h in found]))

    def score_rows(self, texts: list[str], query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32, equal to those `search` gives."""
        parts = _opened(self.directory)
        flat, pointers = _flatten(self.terms(texts))
        return _score_rows(flat, pointers, query, rows, parts.data, parts.indices, parts.indptr)

    def score_texts(self, texts: list[str], query: np.ndarray, documents: list[str]) -> np.ndarray:
        """Scores of chosen (query, text) pairs, (n,) float32, with the corpus' statistics."""
        parts = _opened(self.directory)
        terms = self.terms(texts)
        scores = np.zeros(len(documents), dtype=np.float32)
        for i, document in enumerate(documents):
            found = list(self.config.tokenizer(document))
            counts = np.bincount(self.terms([document])[0], minlength=len(parts.vocabulary))
            for term in terms[query[i]]:
                scores[i] += self._weight(parts, int(term), int(counts[term]), len(found))
        return scores

    def _weight(self, parts: Opened, term: int, frequency: int, length: int) -> np.float32:
        from bm25s import scoring

        if not frequency:
            return np.float32(0)
        variant, config = self.config.variant, self.config
        idf = scoring._select_idf_scorer(variant)(int(np.diff(parts.indptr[term : term + 2])[0]), parts.documents)
        tfc = scoring._select_tfc_scorer(variant)(
            np.array([frequency]), length, parts.mean_length, config.k1, config.b, 0.5
        )
        return np.float32(idf * tfc[0])


class Opened(NamedTuple):
    """The memory-mapped parts of an index: compressed columns of term weights, the vocabulary, its statistics."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    vocabulary: dict[str, int]
    documents: int
    mean_length: float


@functools.lru_cache(maxsize=4)
def _opened(directory: Path) -> Opened:
    store.check(directory)
    arrays = [
        np.load(directory / f"{name}.csc.index.npy", mmap_mode="r").view(np.ndarray)
        for name in ("data", "indices", "indptr")
    ]
    vocabulary: dict[str, int] = json.loads((directory / "vocab.index.json").read_text(encoding="utf-8"))
    parameters: dict[str, Any] = json.loads((directory / PARAMETERS).read_text())
    data, indices, indptr = arrays
    return Opened(data, indices, indptr, vocabulary, parameters["documents"], parameters["mean_length"])


def _flatten(terms: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    pointers = np.concatenate([[0], np.cumsum([len(one) for one in terms])]).astype(np.int64)
    return np.concatenate([np.zeros(0, np.int64), *terms]), pointers


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _worse(score_a, doc_a, score_b, doc_b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return score_a < score_b or (score_a == score_b and doc_a > doc_b)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sift_down(scores, docs, size):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Restore a heap whose root is the worst entry."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            return
        if child + 1 < size and _worse(scores[child + 1], docs[child + 1], scores[child], docs[child]):
            child += 1
        if not _worse(scores[child], docs[child], scores[place], docs[place]):
            return
        scores[place], scores[child] = scores[child], scores[place]
        docs[place], docs[child] = docs[child], docs[place]
        place = child


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _offer(scores, docs, size, k, score, doc):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Put a document on a heap of at most `k`, whose root is the worst; returns the heap's size."""
    if size < k:
        place = size
        scores[place], docs[place] = score, doc
        while place > 0:
            parent = (place - 1) >> 1
            if not _worse(scores[place], docs[place], scores[parent], docs[parent]):
                break
            scores[place], scores[parent] = scores[parent], scores[place]
            docs[place], docs[parent] = docs[parent], docs[place]
            place = parent
        return size + 1
    if k and _worse(scores[0], docs[0], score, doc):
        scores[0], docs[0] = score, doc
        _sift_down(scores, docs, size)
    return size


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _best_first(scores, docs, size):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Turn a heap whose root is the worst into a list with the best first."""
    for last in range(size - 1, 0, -1):
        scores[0], scores[last] = scores[last], scores[0]
        docs[0], docs[last] = docs[last], docs[0]
        _sift_down(scores, docs, last)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _search(flat, pointers, k, data, indices, indptr, documents):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Walk the postings of all terms of a query together, in blocks of documents that stay in the cache."""
    queries = len(pointers) - 1
    limits = np.minimum(k, documents)
    room = limits.sum()
    out_query, out_doc, out_score = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.float32)
    total, touched = np.zeros(BLOCK, np.float32), np.empty(BLOCK, np.int32)
    cursor = np.empty(max(1, np.max(pointers[1:] - pointers[:-1]) if queries else 1), np.int64)
    filled = 0
    for q in range(queries):
        terms = flat[pointers[q] : pointers[q + 1]]
        for t in range(len(terms)):
            cursor[t] = indptr[terms[t]]
        heap_scores, heap_docs, size = out_score[filled:], out_doc[filled:], 0
        for start in range(0, documents, BLOCK):
            count = 0
            for t in range(len(terms)):
                end, j = indptr[terms[t] + 1], cursor[t]
                while j < end and indices[j] < start + BLOCK:
                    local = indices[j] - start
                    if total[local] == 0:
                        touched[count] = local
                        count += 1
                    total[local] += data[j]
                    j += 1
                cursor[t] = j
            for i in range(count):
                local = touched[i]
                score = total[local]
                total[local] = 0
                if size < limits[q] or score >= heap_scores[0]:
                    size = _offer(heap_scores, heap_docs, size, limits[q], score, start + local)
        _best_first(heap_scores, heap_docs, size)
        out_query[filled : filled + size] = q
        filled += size
    return out_query[:filled], out_doc[:filled], out_score[:filled]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _score_rows(flat, pointers, query, rows, data, indices, indptr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    scores = np.zeros(len(rows), np.float32)
    for i in range(len(rows)):
        for position in range(pointers[query[i]], pointers[query[i] + 1]):
            term = flat[position]
            low, high = indptr[term], indptr[term + 1]
            place = low + np.searchsorted(indices[low:high], rows[i])
            if place < high and indices[place] == rows[i]:
                scores[i] += data[place]
    return scores
