"""Vectors of a corpus that survive: shards on disk, reused after a kill, encoded by all ranks of a launch.

Identical texts are encoded once. The folder's name covers the texts and everything of the encoder that changes a
vector. A shard's name carries the digest of its content, so what is reused is what was written; a manifest says what
the vectors are.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.vectors import checked_vectors
from hf_hardneg.corpus.batches import matrix
from hf_hardneg.corpus.documents import Corpus, contents_of
from hf_hardneg.errors import ConfigError, StoreError
from hf_hardneg.identity import UNIDENTIFIED
from hf_hardneg.models.model_names import model_name
from hf_hardneg.runtime.progress import bar
from hf_hardneg.runtime.ranks import launched_ranks
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import writing
from hf_hardneg.store.elsewhere import map_elsewhere, workers_elsewhere
from hf_hardneg.store.leases import lease
from hf_hardneg.store.locks import Lock
from hf_hardneg.store.manifests import Manifest
from hf_hardneg.store.named_files import NAME, describe, is_intact, publish, shards, take_over
from hf_hardneg.store.stored_arrays import mapped_array
from hf_hardneg.text.keys import text_keys

logger = logging.getLogger(__name__)

SHARD = 512
HALF_ABOVE = 2_000_000_000


class CorpusVectors:
    """Vectors of all documents in row order, in blocks of up to `SHARD` rows, (n, d) float32, encoded when first read.

    Where there are several ranks, all must enter it as a context, at the same time: rank 0 decides by reading it that
    the vectors are needed, and shard i is encoded by rank i modulo their number. Shards that an earlier run finished
    are not encoded again. Above `HALF_ABOVE` bytes of float32 they are stored as float16.

    Args:
        corpus (`Corpus`): the documents; all ranks must see one cache folder.
        encoder (`Encoder`): the model.
        half_above (`int`, *optional*): another number of bytes than `HALF_ABOVE`.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from hf_hardneg.corpus.documents import open_corpus
        >>> from hf_hardneg.models.embeddings import CorpusVectors
        >>> from hf_hardneg.models.encoder import load_encoder
        >>> encoder = load_encoder("sentence-transformers/all-MiniLM-L6-v2", cache_dir=Path("cache"))
        >>> with CorpusVectors(open_corpus(corpus), encoder) as blocks:
        ...     matrix = np.concatenate(list(blocks))
        >>> len(matrix)
        13
    """

    kind: ClassVar[kinds.Kind] = kinds.VECTORS

    def __init__(self, corpus: Corpus, encoder: Any, half_above: int | None = None) -> None:
        self.corpus, self.encoder, self.ranks = corpus, encoder, launched_ranks()
        self.half_above = HALF_ABOVE if half_above is None else half_above
        if self.ranks.world > 1 and encoder.digest.startswith(UNIDENTIFIED):
            raise ConfigError(
                f"The encoder cannot be identified, and {self.ranks.world} ranks find each other's vectors by its "
                "identity. Give it an attribute `digest`, the same string on all ranks, or encode in one process."
            )
        self._asked = False

    def __enter__(self) -> CorpusVectors:
        if self.ranks.rank > 0 and self.ranks.decided():
            self._encode()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self.ranks.rank == 0 and not self._asked and error is None:
            self.ranks.decided(False)

    def __iter__(self) -> Iterator[Any]:
        if self.ranks.rank == 0 and not self._asked:
            self._asked = self.ranks.decided(True)
            self._encode()
        place = self._texts.place
        for start in range(0, len(place), SHARD):
            yield self._shards.gather(place[start : start + SHARD])

    @property
    def content(self) -> dict[str, Any]:
        """What the vectors depend on, as plain values."""
        return {"texts": self._texts.digest, "encoder": self.encoder.digest, "shard": SHARD, "half": self.half_above}

    def encode_share(self, share: Callable[[int], range]) -> list[Path]:
        """Encode what is missing of a share of the shards, and return the files of that share, in order.

        Args:
            share (`Callable[[int], range]`): which of so many shards.
        """
        shards = self._shards
        numbers = share(len(shards))
        with self._folder(f".share-{numbers.start}-{numbers.stop}.lock"):
            self._encode_missing(numbers)
        if numbers:
            self._describe()
        paths = shards.paths()
        return [paths[number] for number in numbers]

    def take_over(self, paths: Iterable[Path]) -> None:
        """Put shards that were encoded elsewhere among those that are here."""
        with self._folder(".taken-over.lock"):
            take_over(self._shards.folder, paths)

    @contextlib.contextmanager
    def _folder(self, lock: str) -> Iterator[None]:
        """Write shards inside, under a lock of that name in their folder."""
        folder = self._shards.folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lease(folder)
            with Lock(folder / lock):
                yield

    def finished(self) -> int:
        """Return how many vectors earlier runs left, by the names of the shards alone; the last counts as full."""
        return SHARD * len(self._shards.paths())

    @functools.cached_property
    def _texts(self) -> _Texts:
        return _distinct(self.corpus)

    @functools.cached_property
    def _shards(self) -> Shards:
        folder = directories.place(self.corpus.cache, self.kind, self.content)
        return Shards(folder=folder, count=len(self._texts.first), size=SHARD, half_above=self.half_above)

    def _encode(self) -> None:
        """Encode the missing ones of this rank's shards, and wait for the other ranks."""
        ranks = self.ranks
        with self._folder(f".rank-{ranks.rank}-of-{ranks.world}.lock"):
            self._encode_missing(range(ranks.rank, len(self._shards), ranks.world))
        if ranks.rank == 0:
            self._describe()
        ranks.wait()

    def _describe(self) -> None:
        settings = getattr(self.encoder, "settings", {})
        origin = {"texts": self._texts.digest, "encoder": self.encoder.digest, "settings": settings}
        self._shards.describe(origin, {**self.corpus.about, "model": model_name(self.encoder).name})

    def _encode_missing(self, share: range) -> None:
        shards, first = self._shards, self._texts.first
        intact = shards.keep_intact(share)
        sizes = {number: len(first[shards.positions(number)]) for number in share}
        total, reused = sum(sizes.values()), sum(sizes[number] for number in intact)
        if reused:
            logger.info("reused %d of %d vectors from %s", reused, total, shards.folder)
        with bar(total=total, initial=reused, desc="Encoding corpus", unit=" texts") as progress:
            for number, vectors in self._encoded([number for number in share if number not in intact]):
                shards.publish(number, vectors)
                logger.debug("rank %d encoded shard %d", self.ranks.rank, number)
                progress.update(sizes[number])

    def _encoded(self, numbers: list[int]) -> Iterator[tuple[int, Any]]:
        """Yield the vectors of some shards, on the workers of an engine in any order."""
        rows = (self._texts.first[self._shards.positions(number)] for number in numbers)
        tables = (self.corpus.contents_table(each) for each in rows)
        if workers_elsewhere():
            encode = functools.partial(self._table, self.encoder)
            for place, table in map_elsewhere(encode, tables, desc="Encoding corpus"):
                yield numbers[place], self._of_table(table)
        else:
            for number, each in zip(numbers, tables, strict=True):
                yield number, self._encode_texts(self.encoder, contents_of(each))

    @staticmethod
    def _encode_texts(encoder: Any, texts: list[str]) -> Any:
        """Encode documents."""
        return encoder.encode(texts, kind="document")

    @classmethod
    def _table(cls, encoder: Any, texts: pa.Table) -> pa.Table:
        """Encode the documents in a table of their contents, to a table of vectors."""
        vectors = np.ascontiguousarray(cls._encode_texts(encoder, contents_of(texts)), np.float32)
        return pa.table({"vector": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), vectors.shape[1])})

    @staticmethod
    def _of_table(table: pa.Table) -> Any:
        """The vectors in such a table."""
        return matrix(table["vector"])


class _Texts(NamedTuple):
    """The row of each distinct text in order, for each row the place of its text among them, and their digest."""

    first: np.ndarray
    place: np.ndarray
    digest: str


def _distinct(corpus: Corpus) -> _Texts:
    keys = np.concatenate([text_keys(texts.to_pylist(), "exact") for texts in corpus.batches()])
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return _Texts(first[order], position[inverse], directories.bytes_digest(keys[first[order]].tobytes()))


@dataclass(frozen=True, kw_only=True)
class Shards:
    """A folder of shards.

    Args:
        folder (`Path`): where they lie.
        count (`int`): vectors in all.
        size (`int`): vectors in each shard but the last.
        half_above (`int`): bytes of all vectors in float32 above which they are stored as float16.
    """

    folder: Path
    count: int
    size: int
    half_above: int
    kind: ClassVar[kinds.Kind] = kinds.VECTORS

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def positions(self, number: int) -> slice:
        """Say which of the vectors the shard of that number holds."""
        return slice(number * self.size, min((number + 1) * self.size, self.count))

    def paths(self) -> dict[int, Path]:
        """List the shards that are on disk, by number."""
        numbered = ((NAME.fullmatch(path.name), path) for path in shards(self.folder))
        return {int(named["number"][:-1]): path for named, path in numbered if named and named["number"]}

    def keep_intact(self, share: Iterable[int]) -> set[int]:
        """Return the shards of a share that are on disk as they were written, and remove altered ones."""
        paths, wanted = self.paths(), set(share)
        present = {number: path for number, path in paths.items() if number in wanted}
        altered = {number for number, path in present.items() if not self._is_whole(number, path)}
        for number in altered:
            present[number].unlink()
        return present.keys() - altered

    def _is_whole(self, number: int, path: Path) -> bool:
        positions = self.positions(number)
        try:
            return is_intact(path) and self._held(path) == positions.stop - positions.start
        except (OSError, ValueError):
            return False

    def _held(self, path: Path) -> int:
        """How many vectors are in a shard."""
        return len(_mapped(path))

    def publish(self, number: int, vectors: Any) -> None:
        """Write a shard, all of it or nothing.

        Args:
            number (`int`): its number.
            vectors (`np.ndarray`): (n, d) float32.

        Raises:
            DataError: float16 is stored, and a value is beyond its range.
        """
        if self.count * vectors.shape[1] * 4 > self.half_above:
            with np.errstate(over="ignore"):
                vectors = vectors.astype(np.float16)
            checked_vectors(vectors, what="vectors stored as float16", start=self.positions(number).start)
        publish(self.folder, f"{number:06d}-", vectors)

    def describe(self, origin: Mapping[str, Any], about: Mapping[str, str]) -> None:
        """Write the manifest, once any shard is there: where the vectors come from, and how they are stored."""
        layout = {"count": self.count, "shard": self.size, **self._layout(next(iter(self.paths().values())))}
        parameters = {**origin, **layout}
        describe(self.folder, Manifest(kind=self.kind.name, parameters=parameters, files={}, about=about))

    def _layout(self, path: Path) -> dict[str, Any]:
        """How the vectors in a shard are stored."""
        first = _mapped(path)
        return {"width": first.shape[1], "dtype": str(first.dtype)}

    def needed(self, positions: np.ndarray) -> dict[int, Path]:
        """The shards of the vectors at some positions, by number.

        Raises:
            StoreError: one is missing.
        """
        paths = self.paths()
        numbers = np.unique(positions // self.size).tolist()
        if missing := [number for number in numbers if number not in paths]:
            raise StoreError(
                f"Shard {missing[0]} of the vectors in {self.folder} is missing here. All processes must see one "
                "cache_dir= (on several nodes: a shared file system); run again to encode what is missing."
            )
        return {number: paths[number] for number in numbers}

    def gather(self, positions: np.ndarray) -> Any:
        """Read the vectors at some positions, (n, d) float32.

        Raises:
            StoreError: a shard is missing.
        """
        parts = {number: _mapped(path) for number, path in self.needed(positions).items()}
        block = np.empty((len(positions), next(iter(parts.values())).shape[1]), np.float32)
        for number, vectors in parts.items():
            here = positions // self.size == number
            block[here] = vectors[positions[here] % self.size]
        return block


def _mapped(path: Path) -> np.ndarray:
    """Return the vectors of a shard, (n, d) float32 or float16."""
    try:
        return mapped_array(path, np.float32)
    except ValueError:
        return mapped_array(path, np.float16)
