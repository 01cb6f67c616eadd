"""Builds a BM25 index from a stream of text batches; its postings equal what `bm25s` writes, file by file.

The first pass counts the terms of each document, part by part. The second weighs them and sorts them by term
straight into memory-mapped files. Memory holds the vocabulary, one batch of texts and the counts of one part.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.bm25.counting import CountedCorpus, counted
from hf_hardneg.index.bm25.kernel import RANKS
from hf_hardneg.index.bm25.vocabulary import save_vocabulary
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.store.disk import reserved, save_array
from hf_hardneg.store.stored_arrays import Schema, Stored

WEIGHTS, ROWS, STARTS = (f"{name}.csc.index.npy" for name in ("data", "indices", "indptr"))
LARGEST, COMMON, BITS, BEFORE = (f"{name}.npy" for name in ("largest", "common", "bits", "before"))
ARRAYS = (WEIGHTS, ROWS, STARTS, LARGEST, COMMON, BITS, BEFORE)
"""Files of the postings, in the order of the fields of `Postings`."""

SCHEMA = Schema.of(
    {
        WEIGHTS.removesuffix(".npy"): Stored(np.float32, "postings", least=0),
        ROWS.removesuffix(".npy"): Stored(np.int32, "postings"),
        STARTS.removesuffix(".npy"): Stored(np.int64, "terms+1", bounds="postings"),
        LARGEST.removesuffix(".npy"): Stored(np.float32, f"terms {len(RANKS)}", least=0),
        COMMON.removesuffix(".npy"): Stored(np.int32, "common", least=0, below="terms"),
        BITS.removesuffix(".npy"): Stored(np.uint64, "common words"),
        BEFORE.removesuffix(".npy"): Stored(np.int32, "common words"),
    }
)
"""What `consistency.inconsistency` looks at besides are rows and bitmaps."""

STATISTICS = "hf_hardneg.json"
CHUNK = 1 << 20
"""Counts weighed at a time."""

SHARE = 64
"""A term that at least one of so many documents has gets a bitmap, which is then no larger than its postings."""


def write_index(directory: Path, corpus: Corpus, config: BM25Config) -> list[str]:
    """Write the files of an index into a directory, and return their names.

    Args:
        directory (`Path`): where to; parts that an earlier build counted may lie in it.
        corpus (`Corpus`): the documents.
        config (`BM25Config`): how to weigh them.

    Raises:
        ConfigError: no document has a term.
    """
    whole, documents = counted(directory, corpus, config.tokenizer), len(corpus)
    check_terms(whole.terms)
    statistics = Statistics(documents, whole.tokens / documents, whole.having)
    names = save_postings(directory, whole, config, statistics)
    names += save_vocabulary(directory, whole.terms)
    (directory / STATISTICS).write_text(json.dumps({"mean_length": statistics.mean_length, "documents": documents}))
    return [*names, STATISTICS]


class Statistics(NamedTuple):
    """What weights depend on of a corpus: documents, their mean number of terms, how many `having` (terms,) each."""

    documents: int
    mean_length: float
    having: np.ndarray


def check_terms(terms: Sequence[Any]) -> None:
    """Raise where a corpus has no terms.

    Raises:
        ConfigError: no document has a term.
    """
    if not len(terms):
        raise ConfigError("No document has a term the tokenizer keeps; pass tokenizer= for this language.")


def save_postings(
    directory: Path, part: CountedCorpus, config: BM25Config, whole: Statistics, prefix: str = "", first: int = 0
) -> list[str]:
    """Write the postings of consecutive documents, and return the names of the files.

    Args:
        directory (`Path`): where to.
        part (`CountedCorpus`): the documents.
        config (`BM25Config`): how to weigh them.
        whole (`Statistics`): of the corpus that they are of, for the terms of the part.
        prefix (`str`, *optional*): what the names of the files begin with.
        first (`int`, defaults to 0): the row of the first document, which is 0 in the postings.
    """
    idf = config.idf(whole.having, whole.documents)

    def blocks() -> Iterator[PostingBlock]:
        for file in part.counts():
            for counts in (file[start : start + CHUNK] for start in range(0, len(file), CHUNK)):
                term, frequency, length = (counts[name] for name in ("term", "frequency", "length"))
                weights = config.weights(idf[term], frequency, length, whole.mean_length)
                yield PostingBlock(term, counts["row"] - np.int32(first), weights)

    common = np.flatnonzero(whole.having * SHARE >= whole.documents).astype(np.int32)
    return write_postings(directory, blocks(), part.having, common, part.documents, prefix)


class PostingBlock(NamedTuple):
    """Postings in any order of terms, ascending by row: `terms` (n,), `rows` (n,), `weights` (n,) float32."""

    terms: np.ndarray
    rows: np.ndarray
    weights: np.ndarray


def write_postings(
    directory: Path,
    blocks: Iterable[PostingBlock],
    having: np.ndarray,
    common: np.ndarray,
    documents: int,
    prefix: str = "",
) -> list[str]:
    """Sort postings by term straight into memory-mapped files, and return the names of those.

    Args:
        directory (`Path`): where to.
        blocks (`Iterable[PostingBlock]`): all postings, rows ascending.
        having (`np.ndarray`): (terms,) how many documents have each.
        common (`np.ndarray`): int32, the terms that get a bitmap, ascending.
        documents (`int`): how many there are.
        prefix (`str`, *optional*): what the names of the files begin with.
    """
    starts = np.concatenate([[0], np.cumsum(having)])
    postings = int(starts[-1])
    save_array(directory / f"{prefix}{STARTS}", starts)
    weights = reserved(directory / f"{prefix}{WEIGHTS}", np.float32, (postings,))
    rows = reserved(directory / f"{prefix}{ROWS}", np.int32, (postings,))
    heads = starts[:-1].copy()
    for block in blocks:
        _place(block.terms, block.rows, block.weights, heads, weights, rows)
    save_array(directory / f"{prefix}{LARGEST}", _largest(weights, starts, np.array(RANKS)))
    _save_bitmaps(directory, prefix, rows, starts, common, documents)
    return [f"{prefix}{name}" for name in ARRAYS]


@njit(cache=True, nogil=True)
def _place(terms, documents, values, heads, weights, rows):
    """Append postings to their terms; `heads` (V,) is where the next of each term goes."""
    for i in range(len(terms)):
        place = heads[terms[i]]
        weights[place], rows[place] = values[i], documents[i]
        heads[terms[i]] = place + 1


@njit(cache=True, nogil=True)
def _largest(weights, starts, ranks):
    """Each term's weights at the given ranks from the top, (V, len(ranks)) float32, 0 where it has fewer."""
    largest = np.zeros((len(starts) - 1, len(ranks)), np.float32)
    for term in range(len(largest)):
        ascending = np.sort(weights[starts[term] : starts[term + 1]])
        for i in range(len(ranks)):
            if ranks[i] <= len(ascending):
                largest[term, i] = ascending[-ranks[i]]
    return largest


def _save_bitmaps(
    directory: Path, prefix: str, rows: np.ndarray, starts: np.ndarray, common: np.ndarray, documents: int
) -> None:
    words = -(-documents // 64)
    save_array(directory / f"{prefix}{COMMON}", common)
    bits = reserved(directory / f"{prefix}{BITS}", np.uint64, (len(common), words))
    before = reserved(directory / f"{prefix}{BEFORE}", np.int32, (len(common), words))
    for bitmap, counts, term in zip(bits, before, common, strict=True):
        _fill_bitmap(rows[starts[term] : starts[term + 1]], bitmap, counts)


@njit(cache=True, nogil=True)
def _fill_bitmap(rows, bits, before):
    place = 0
    for word in range(len(bits)):
        before[word] = place
        while place < len(rows) and rows[place] >> 6 == word:
            bits[word] |= np.uint64(1) << np.uint64(rows[place] & 63)
            place += 1
