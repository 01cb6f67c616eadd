"""Scores survive in shards on disk under the scorer's digest, so that no pair is scored twice.

A shard is published by rename and named by the digest of its content; one that was altered or truncated is left out and
its pairs are scored again. Several processes may add shards to one store at the same time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.errors import StoreError, warn
from hf_hardneg.models.model_names import model_name
from hf_hardneg.models.scorers import PairScorer, ScoreKind
from hf_hardneg.runtime.progress import bar
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import writing
from hf_hardneg.store.leases import lease
from hf_hardneg.store.locks import Lock
from hf_hardneg.store.manifests import Manifest
from hf_hardneg.store.named_files import describe, is_intact, publish, shards
from hf_hardneg.store.stored_arrays import mapped_array
from hf_hardneg.text.keys import KEY

FLUSH_SECONDS = 10.0
LAYOUT = 3
FIRST_CHUNK = 64
LARGEST_CHUNK = 65536
ENTRY = np.dtype([("key", KEY), ("score", "<f4")])


def pair_keys(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """Return keys of (query, document) pairs, (n,) of 16 bytes: BLAKE2b of the document, keyed by the query."""
    prefix = functools.lru_cache(maxsize=1024)(lambda query: blake2b(query.encode(), digest_size=16).digest())
    return np.array(
        [
            blake2b(document.encode(), key=prefix(query), digest_size=16).digest()
            for query, document in zip(queries, documents, strict=True)
        ],
        dtype=KEY,
    )


@dataclass(frozen=True, kw_only=True)
class ScoreStore:
    """A folder of scores of one scorer.

    Args:
        folder (`Path`): where its shards lie.
        origin (`tuple[tuple[str, str], ...]`): what the scores were made with, to be read by people.
        model (`str`): what the scorer is called.
    """

    folder: Path
    origin: tuple[tuple[str, str], ...]
    model: str

    def get(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up the scores of pairs, (n,) float32, and say which are stored, (n,) bool.

        Args:
            keys (`np.ndarray`): (n,) keys of pairs.
        """
        table = _table(self.folder).refreshed()
        place, known = isin_sorted(keys, table["key"])
        scores = np.full(len(keys), np.nan, np.float32)
        scores[known] = table["score"][place[known]]
        return scores, known

    def add(self, keys: np.ndarray, scores: np.ndarray) -> None:
        """Publish the scores of some pairs, all of them or nothing.

        Args:
            keys (`np.ndarray`): (n,) distinct keys of pairs.
            scores (`np.ndarray`): (n,) float32.
        """
        entries = np.empty(len(keys), ENTRY)
        entries["key"], entries["score"] = keys, scores
        entries.sort(order="key")
        with writing(self.folder, needed=entries.nbytes), self._locked():
            publish(self.folder, "", entries)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the folder in existence, inside, and others from pruning it."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lease(self.folder)
        described = False
        with Lock(directories.lock_of(self.folder)):
            self.folder.mkdir(exist_ok=True)
            with contextlib.suppress(StoreError):
                described = directories.read_manifest(self.folder).kind == kinds.SCORES.name
            if not described:
                name, about = kinds.SCORES.name, {"model": self.model}
                describe(self.folder, Manifest(kind=name, parameters=dict(self.origin), files={}, about=about))
            yield


class _Table:
    """The entries that a process has read of a store, sorted by key; shards of others are read when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = folder, set[str]()
        self.entries = np.empty(0, ENTRY)

    def refreshed(self) -> np.ndarray:
        """Return all entries, (n,) of `ENTRY`, sorted by key."""
        paths = {path.stem: path for path in shards(self.folder)}
        if not self.seen <= paths.keys():
            self.seen, self.entries = set(), np.empty(0, ENTRY)
        new = {name: entries for name in paths.keys() - self.seen if (entries := _read(paths[name])) is not None}
        if new:
            entries = np.concatenate([self.entries, *new.values()])
            _, first = np.unique(entries["key"], return_index=True)
            self.entries, self.seen = entries[first], self.seen | new.keys()
        return self.entries


def _read(path: Path) -> np.ndarray | None:
    """Read the entries of a shard; return None, and remove the file, where it is not as it was written."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        if is_intact(path):
            return np.array(mapped_array(path, ENTRY))
    if not os.path.lexists(path):
        return None
    warn(f"{path} was altered or truncated: its pairs are scored again. Check the disk if this happens often.")
    with contextlib.suppress(OSError):
        path.unlink()
    return None


@functools.lru_cache(maxsize=4)
def _table(folder: Path) -> _Table:
    lease(folder)
    with contextlib.suppress(OSError):
        os.utime(folder / directories.MANIFEST)
    return _Table(folder)


@dataclass(frozen=True, kw_only=True)
class StoredScorer:
    """A scorer that scores each distinct pair once, ever: what is stored is looked up, what is missing is stored.

    Missing pairs are scored in the order of their length, longest first, in chunks of about `FLUSH_SECONDS`; a kill
    loses the chunk at work.

    Args:
        scorer (`PairScorer`): the model.
        store (`ScoreStore`): its scores.
    """

    scorer: PairScorer
    store: ScoreStore

    @property
    def digest(self) -> str:
        """The scorer's identity."""
        return self.scorer.digest

    @property
    def kind(self) -> ScoreKind:
        """The kind of the scorer's scores."""
        return self.scorer.kind

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Score (query, document) pairs, (n,) float32; NaN where the model gives none."""
        keys, first, place = np.unique(pair_keys(queries, documents), return_index=True, return_inverse=True)
        scores, known = self.store.get(keys)
        missing = np.flatnonzero(~known)
        if len(missing):
            size = [-(len(queries[row]) + len(documents[row])) for row in first[missing]]
            missing = missing[np.argsort(size, kind="stable")]
            with bar(total=len(keys), initial=int(known.sum()), desc="Scoring pairs", unit=" pairs") as progress:
                for chunk in self._chunks(missing):
                    rows = first[chunk]
                    scores[chunk] = self.scorer.score([queries[i] for i in rows], [documents[i] for i in rows])
                    self.store.add(keys[chunk], scores[chunk])
                    progress.update(len(chunk))
        return scores[place]

    @staticmethod
    def _chunks(missing: np.ndarray) -> Iterator[np.ndarray]:
        """Yield parts that take about `FLUSH_SECONDS` each, by the speed of the part before."""
        start, size = 0, FIRST_CHUNK
        while start < len(missing):
            began = time.perf_counter()
            yield missing[start : start + size]
            start += size
            rate = size / max(time.perf_counter() - began, 1e-6)
            size = int(np.clip(rate * FLUSH_SECONDS, FIRST_CHUNK, min(2 * size, LARGEST_CHUNK)))


def stored(scorer: PairScorer, cache_dir: Path) -> StoredScorer:
    """Keep the scores of a scorer in a cache.

    Args:
        scorer (`PairScorer`): the model; it is returned as it is if its scores are stored already.
        cache_dir (`Path`): the cache; `hf-hardneg cache ls` shows what it holds.
    """
    if isinstance(scorer, StoredScorer):
        return scorer
    parameters = {"scorer": scorer.digest, "kind": scorer.kind, "entry": str(ENTRY), "layout": LAYOUT}
    described = {name: str(value) for name, value in getattr(scorer, "settings", {}).items()}
    folder = directories.place(cache_dir, kinds.SCORES, parameters)
    store = ScoreStore(folder=folder, origin=tuple(sorted(described.items())), model=model_name(scorer).name)
    return StoredScorer(scorer=scorer, store=store)
