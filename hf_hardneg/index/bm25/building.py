"""Builds a BM25 index from a stream of text batches; its postings equal what `bm25s` writes, file by file.

The first pass counts the terms of each document and spills the counts to a file. The second weighs them and sorts them
by term straight into memory-mapped files. Memory holds the vocabulary, one batch of texts and one of counts.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from hf_hardneg.errors import ConfigError
from hf_hardneg.index.bm25.kernel import RANKS
from hf_hardneg.index.bm25.vocabulary import save_vocabulary
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.runtime.progress import bar
from hf_hardneg.store.disk import items, reserved, save_array
from hf_hardneg.store.stored_arrays import Schema, Stored
from hf_hardneg.text.analysis import Tokenizer, warn_if_another_language, warn_if_broken

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
COUNT = np.dtype([("term", np.int32), ("row", np.int32), ("frequency", np.int32), ("length", np.int32)])
CHUNK = 1 << 20
"""Counts weighed at a time."""

SHARE = 64
"""A term that at least one of so many documents has gets a bitmap, which is then no larger than its postings."""


class Counted(NamedTuple):
    """The first pass's result: the terms in order of their ids, how many documents have each, two totals."""

    terms: list[str]
    having: np.ndarray
    documents: int
    tokens: int


def write_index(directory: Path, batches: Iterable[pa.Array], documents: int, config: BM25Config) -> None:
    """Write the files of an index into an empty directory.

    Args:
        directory (`Path`): where to.
        batches (`Iterable[pa.Array]`): all texts in row order.
        documents (`int`): how many there are.
        config (`BM25Config`): how to weigh them.

    Raises:
        ConfigError: no document has a term.
    """
    spill = directory / "counts.partial"
    counted = _count(spill, batches, documents, config.tokenizer)
    if not counted.terms:
        raise ConfigError("No document has a term the tokenizer keeps; pass tokenizer= for this language.")
    starts = np.concatenate([[0], np.cumsum(counted.having)])
    postings = int(starts[-1])
    save_array(directory / STARTS, starts)
    weights = reserved(directory / WEIGHTS, np.float32, (postings,))
    rows = reserved(directory / ROWS, np.int32, (postings,))
    idf, mean, heads = config.idf(counted.having, documents), counted.tokens / documents, starts[:-1].copy()
    with spill.open("rb") as stream:
        while len(counts := np.fromfile(stream, COUNT, CHUNK)):
            values = config.weights(idf[counts["term"]], counts["frequency"], counts["length"], mean)
            _place(counts["term"], counts["row"], values, heads, weights, rows)
    spill.unlink()
    save_array(directory / LARGEST, _largest(weights, starts, np.array(RANKS)))
    _save_bitmaps(directory, rows, starts, documents)
    save_vocabulary(directory, counted.terms)
    (directory / STATISTICS).write_text(json.dumps({"mean_length": mean, "documents": documents}))


def _count(spill: Path, batches: Iterable[pa.Array], documents: int, tokenizer: Tokenizer) -> Counted:
    vocabulary: dict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__  # type: ignore[attr-defined]
    having = np.zeros(0, np.int64)
    characters = tokens = row = 0
    with spill.open("wb") as stream, bar(total=documents, desc="BM25 terms", unit=" texts") as progress:
        for texts in batches:
            ids, lengths = array("i"), array("i")
            read = texts.to_pylist()
            if row == 0:
                warn_if_another_language(tokenizer, read)
            for text in read:
                terms = tokenizer(text)
                ids.extend(map(vocabulary.__getitem__, terms))
                lengths.append(len(terms))
                characters += len(text) - text.count(" ")
            counts = _counts(np.array(ids), np.array(lengths), row)
            stream.write(items(counts))
            more = np.bincount(counts["term"], minlength=len(vocabulary))
            more[: len(having)] += having
            having, row, tokens = more, row + len(texts), tokens + len(ids)
            progress.update(len(texts))
    warn_if_broken(characters, tokens)
    return Counted(list(vocabulary), having, documents, tokens)


def _counts(ids: np.ndarray, lengths: np.ndarray, first_row: int) -> np.ndarray:
    """How often each document has each of its terms, (n,) of `COUNT`, sorted by row."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    pairs, frequency = np.unique(owner << 32 | ids, return_counts=True)
    counts = np.empty(len(pairs), COUNT)
    owner = pairs >> 32
    counts["term"], counts["row"] = pairs & 0xFFFFFFFF, owner + first_row
    counts["frequency"], counts["length"] = frequency, lengths[owner]
    return counts


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


def _save_bitmaps(directory: Path, rows: np.ndarray, starts: np.ndarray, documents: int) -> None:
    common = np.flatnonzero(np.diff(starts) * SHARE >= documents).astype(np.int32)
    words = -(-documents // 64)
    save_array(directory / COMMON, common)
    bits = np.zeros((len(common), words), np.uint64)
    before = np.zeros((len(common), words), np.int32)
    for bitmap, counts, term in zip(bits, before, common, strict=True):
        _fill_bitmap(rows[starts[term] : starts[term + 1]], bitmap, counts)
    save_array(directory / BITS, bits)
    save_array(directory / BEFORE, before)


@njit(cache=True, nogil=True)
def _fill_bitmap(rows, bits, before):
    place = 0
    for word in range(len(bits)):
        before[word] = place
        while place < len(rows) and rows[place] >> 6 == word:
            bits[word] |= np.uint64(1) << np.uint64(rows[place] & 63)
            place += 1
