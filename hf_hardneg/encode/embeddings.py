"""Vectors of a corpus that survive: numbered shards on disk, each published whole, reused after a kill.

Identical texts are encoded once. A shard's name carries the digest of its content, so what is reused is what was
written. The folder's name covers the texts and everything of the encoder that changes a vector.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hf_hardneg.corpus import Corpus
from hf_hardneg.encode.encoder import Encoder
from hf_hardneg.index import store
from hf_hardneg.positives import text_keys
from hf_hardneg.progress import bar

logger = logging.getLogger(__name__)

SHARD = 2048


def embedded(corpus: Corpus, encoder: Encoder) -> Iterator[np.ndarray]:
    """Vectors of all documents in row order, in blocks of up to `SHARD` rows, (n, d) float32.

    Shards that an earlier run finished are not encoded again.

    Args:
        corpus (`Corpus`): the documents.
        encoder (`Encoder`): the model.
    """
    first, place = _distinct(corpus)
    folder = _folder(corpus, encoder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(corpus, encoder, first, folder)
    for start in range(0, len(place), SHARD):
        rows = place[start : start + SHARD]
        block = np.empty((len(rows), shards[0].shape[1]), np.float32)
        for number in np.unique(rows // SHARD):
            here = rows // SHARD == number
            block[here] = shards[number][rows[here] % SHARD]
        yield block


def finished(corpus: Corpus, encoder: Encoder) -> int:
    """How many vectors earlier runs left behind, by the names of the shards alone; the last shard counts as full."""
    return SHARD * len(list(_folder(corpus, encoder).glob("*.npy")))


def _folder(corpus: Corpus, encoder: Encoder) -> Path:
    return corpus.cache / f"vectors-{store.digest_of({'corpus': corpus.digest, 'encoder': encoder.digest})}"


def _distinct(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Row of each distinct text, in order, and for each row the position of its text among those."""
    keys = np.concatenate([text_keys(texts.to_pylist(), "exact") for texts in corpus.batches()])
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return first[order], position[inverse]


def _shards(corpus: Corpus, encoder: Encoder, first: np.ndarray, folder: Path) -> list[np.ndarray]:
    shards, reused = [], 0
    with bar(total=len(first), desc="Encoding corpus", unit=" texts") as progress:
        for number, start in enumerate(range(0, len(first), SHARD)):
            rows = first[start : start + SHARD]
            path = _finished(folder, number)
            if path is None:
                path = _publish(folder, number, encoder.encode(corpus.texts(rows).to_pylist(), kind="document"))
            else:
                reused += len(rows)
            shards.append(np.load(path, mmap_mode="r", allow_pickle=False))
            progress.update(len(rows))
    if reused:
        logger.info("reused %d of %d vectors from %s", reused, len(first), folder)
    return shards


def _finished(folder: Path, number: int) -> Path | None:
    """The shard of that number, if it is on disk as it was written."""
    for path in folder.glob(f"{number:06d}-*.npy"):
        if path.stem.rpartition("-")[2] == store.file_digest(path):
            return path
        path.unlink()
    return None


def _publish(folder: Path, number: int, vectors: np.ndarray) -> Path:
    partial = folder / f".{number:06d}.partial"
    with partial.open("wb") as stream:
        np.save(stream, vectors, allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
    path = folder / f"{number:06d}-{store.file_digest(partial)}.npy"
    partial.rename(path)
    return path
