"""An index of token vectors on disk: float16, with 8-bit codes beside them, searched exactly."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.arrays.token_rows import TokenRows
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.errors import ConfigError, DataError, warn
from hf_hardneg.index.dense.exact import open_codes, save_codes
from hf_hardneg.index.hits import Hits
from hf_hardneg.index.late.maxsim import Documents, maxsims, nearest_by_maxsim
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import reserved, save_array
from hf_hardneg.store.stored_arrays import Schema, Stored

LAYOUT = 1
ENDS, VECTORS = "ends", "vectors"
SCHEMA = Schema.of(
    {ENDS: Stored(np.int64, "documents+1", bounds="tokens"), VECTORS: Stored(np.float16, "tokens width")}, private=True
)


def build_tokens(corpus: Corpus, blocks: Iterable[TokenRows], *, digest: str, vectors_from: str = "") -> TokenIndex:
    """The index of the token vectors of a corpus, built once; memory holds a block.

    Args:
        corpus (`Corpus`): the documents.
        blocks (`Iterable[TokenRows]`): their vectors in row order; read twice, and only if it must be built.
        digest (`str`): what the vectors depend on: the encoder's digest, or that of a column.
        vectors_from (`str`, *optional*): the name of their model or column, for `hf-hardneg cache ls`.

    Raises:
        ConfigError: no document has a token.
        DataError: vectors are of several widths, or not as many as documents.
    """
    parameters = {"corpus": corpus.digest, "vectors": digest, "layout": LAYOUT}

    def build(directory: Path) -> None:
        _write(directory, blocks, len(corpus))

    about = {**corpus.about, "model": vectors_from}
    return TokenIndex(directory=directories.obtain(corpus.cache, kinds.TOKENS, parameters, build, about))


def _write(directory: Path, blocks: Iterable[TokenRows], documents: int) -> None:
    sizes, widths = [np.zeros(0, np.int64)], set[int]()
    for block in blocks:
        sizes.append(block.sizes)
        widths |= {block.width} if len(block.vectors) else set()
    counts = np.concatenate(sizes)
    if len(counts) != documents:
        raise DataError(f"There are token vectors of {len(counts):,} texts for {documents:,} documents. Give all.")
    if not widths:
        raise ConfigError("No document has a token vector: nothing can be found. Look at the model.")
    if len(widths) > 1:
        raise DataError(f"The token vectors are {min(widths)} and {max(widths)} wide. Encode all with one model.")
    if empty := np.flatnonzero(counts == 0).tolist():
        warn(
            f"{len(empty):,} of the documents have no token vector, in rows {', '.join(map(str, empty[:5]))}: late "
            "interaction never finds them. Look at those texts (empty ones?) and at the model."
        )
    ends = np.concatenate([[0], np.cumsum(counts)])
    save_array(directory / f"{ENDS}.npy", ends)
    stored, place = reserved(directory / f"{VECTORS}.npy", np.float16, (int(ends[-1]), widths.pop())), 0
    for block in blocks:
        stored[place : place + len(block.vectors)] = block.vectors
        place += len(block.vectors)
    stored.flush()
    save_codes(directory, stored)


@dataclass(frozen=True, kw_only=True)
class TokenIndex:
    """An opened-on-demand index of token vectors; pickles as its path.

    Args:
        directory (`Path`): what `build_tokens` built.
    """

    directory: Path

    @property
    def identity(self) -> str:
        """Names what hits depend on, besides the queries."""
        return self.directory.name

    @property
    def measured(self) -> Any:
        """The recall of an approximate search, `approximate.Measured`; `None` where it is exact."""

    @property
    def width(self) -> int:
        """Width of the vectors."""
        return self.documents.rows.width

    @property
    def documents(self) -> Documents:
        """The token vectors, memory-mapped."""
        return _opened(self.directory)

    def search(self, queries: TokenRows, k: np.ndarray) -> Hits:
        """The best documents of each query by MaxSim, at most `k` (n,) each."""
        return nearest_by_maxsim(queries, self.documents, k)

    def score_rows(self, queries: TokenRows, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of chosen (query, corpus row) pairs, (n,) float32, equal to those `search` gives."""
        return maxsims(queries, self.documents, query, rows)

    def vectors(self, rows: np.ndarray) -> TokenRows:
        """The token vectors of some documents."""
        return self.documents.rows[rows]


@functools.lru_cache(maxsize=4)
def _opened(directory: Path) -> Documents:
    arrays, codes = SCHEMA.opened(directory), open_codes(directory)
    if codes.codes.shape != arrays[VECTORS].shape:
        raise directories.altered(directory, "codes.npy", f"it is not of the vectors in {VECTORS}.npy")
    return Documents(TokenRows(arrays[ENDS], arrays[VECTORS]), codes)
