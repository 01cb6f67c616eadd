"""Generations of negatives on disk: numbered, immutable, published whole, and what a loader reads of the newest.

    DIRECTORY/
      CURRENT           which generation readers take; replaced atomically
      gen-000001/       the negatives of every row, as arrays; manifest.json says of which weights
      index-000001/     the dense index they were found in; of the newest generation only
      cache/            what refreshes share, such as the keys of the corpus

A writer publishes a generation and then switches `CURRENT` to it. Readers look at `CURRENT` before each batch, so they
see the new one in whatever process they run, and none ever sees half of one.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.batches import Batch, ragged
from hf_hardneg.errors import ColumnError, DataError, StoreError
from hf_hardneg.index import store
from hf_hardneg.index.dense import DenseIndex, Similarity, close_indexes
from hf_hardneg.negatives import HardNegatives
from hf_hardneg.padding import Chosen
from hf_hardneg.positives import isin_sorted, text_keys
from hf_hardneg.queries import Columns, Reader

NEGATIVE = np.dtype([("doc", np.int64), ("score", np.float32), ("rank", np.int32), ("source", np.int8)])
ADDED = {
    "negatives": pa.list_(pa.string()),
    "negative_ids": pa.list_(pa.string()),
    "negative_scores": pa.list_(pa.float32()),
    "negative_ranks": pa.list_(pa.int32()),
    "negative_sources": pa.list_(pa.string()),
    "positive_scores": pa.list_(pa.float32()),
}
"""The columns of mined data that a generation brings, besides `negative_generation`."""


@dataclass(frozen=True)
class Generations:
    """A directory of generations.

    Args:
        directory (`Path`): see above; all processes must see it.
    """

    directory: Path

    @property
    def current(self) -> int:
        """The generation that readers take; 0 where there is none yet."""
        try:
            return int(json.loads(self._pointer.read_text())["generation"])
        except FileNotFoundError:
            return 0

    def place(self, number: int) -> Path:
        """Where a generation is, or will be."""
        return self.directory / f"gen-{number:06d}"

    def holds(self, number: int, parameters: Mapping[str, Any]) -> bool:
        """Whether a generation is published and was made of just these parameters."""
        target = self.place(number)
        return target.exists() and store.read_manifest(target)["parameters"] == parameters

    def publish(self, number: int, parameters: Mapping[str, Any], build: Callable[[Path], object]) -> None:
        """Build and publish a generation; one of that number from an abandoned run is replaced. Older indexes go."""
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.place(number), ignore_errors=True)
        store.publish(self.place(number), "generation", parameters, build)
        for old in self.directory.glob("index-*"):
            if old != self._index(number):
                shutil.rmtree(old)

    def switch(self, number: int) -> None:
        """Have readers take a generation from their next batch on; 0 takes all away.

        Raises:
            StoreError: it is not there, or not whole.
        """
        if number:
            self.open(number)
            store.check(self.place(number))
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = self._pointer.with_name(".CURRENT.partial")
        partial.write_text(json.dumps({"generation": number}))
        store.sync(partial)
        os.replace(partial, self._pointer)
        store.sync(self.directory)

    def adopt_index(self, number: int, index: DenseIndex) -> None:
        """Move the index of a generation that is about to be published here."""
        shutil.rmtree(self._index(number), ignore_errors=True)
        close_indexes()
        os.rename(index.directory, self._index(number))

    def index(self, number: int, similarity: Similarity = "cosine") -> DenseIndex:
        """The dense index of the newest generation.

        Raises:
            StoreError: it is not there.
        """
        store.read_manifest(self._index(number))
        return DenseIndex(directory=self._index(number), similarity=similarity)

    def open(self, number: int) -> Generation:
        """A published generation, mapped.

        Raises:
            StoreError: it is not there, or not whole.
        """
        manifest = self.place(number) / store.MANIFEST
        if not manifest.exists():
            raise StoreError(
                f"{self.place(number)} does not exist, or is not whole. Give the directory= and the schedule of the "
                "run that made it; or start anew in an empty directory."
            )
        return _opened(self.place(number), manifest.stat().st_mtime_ns)

    def newest(self) -> Generation | None:
        """The generation that readers take, mapped; `None` before the first."""
        number = _read_pointer(self._pointer)
        return self.open(number) if number else None

    def _index(self, number: int) -> Path:
        return self.directory / f"index-{number:06d}"

    @property
    def _pointer(self) -> Path:
        return self.directory / "CURRENT"


def _read_pointer(path: Path) -> int:
    """The number in the pointer; the file is read only where it changed."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0
    return _pointer_of_version(path, stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=8)
def _pointer_of_version(path: Path, mtime_ns: int, inode: int) -> int:
    return int(json.loads(path.read_text())["generation"])


@functools.lru_cache(maxsize=2)
def _opened(directory: Path, mtime_ns: int) -> Generation:
    store.check(directory)
    report = json.loads((directory / "report.json").read_text())
    arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in directory.glob("*.npy")}
    return Generation(sources=tuple(report["sources"]), **arrays)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The negatives of n rows, m in all, as arrays.

    Args:
        made (`np.ndarray`): (n,) int32, the generation that a row's negatives are of; 0 where it has none yet.
        counts (`np.ndarray`): (n,) int64, how many negatives each row has.
        negatives (`np.ndarray`): (m,) of `NEGATIVE`; scores NaN where nothing was scored.
        listed_counts (`np.ndarray`): (n,) int64, how many positives each row lists.
        listed (`np.ndarray`): (p,) float32 scores of those; NaN where they have none.
        sources (`tuple[str, ...]`): what `source` counts.
    """

    made: np.ndarray
    counts: np.ndarray
    negatives: np.ndarray
    listed_counts: np.ndarray
    listed: np.ndarray
    sources: tuple[str, ...]

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where each row's negatives begin, (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @functools.cached_property
    def listed_starts(self) -> np.ndarray:
        """Where the positives of each row begin, (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.listed_counts)])

    @classmethod
    def of(cls, number: int, chosen: Chosen, listed: np.ndarray, listed_counts: np.ndarray) -> Generation:
        """What was chosen for a block of rows."""
        sources, source = np.unique(chosen.source.astype(str), return_inverse=True)
        negatives = np.empty(len(chosen.doc), NEGATIVE)
        for name, values in (("doc", chosen.doc), ("score", chosen.score), ("rank", chosen.rank), ("source", source)):
            negatives[name] = values
        made = np.full(len(chosen.counts), number, np.int32)
        return cls(
            made=made,
            counts=chosen.counts.astype(np.int64),
            negatives=negatives,
            listed_counts=listed_counts.astype(np.int64),
            listed=listed.astype(np.float32),
            sources=tuple(map(str, sources)),
        )

    @classmethod
    def empty(cls, rows: int) -> Generation:
        """No negatives for any row."""
        nothing = np.zeros(rows, np.int64)
        return cls(
            made=nothing.astype(np.int32),
            counts=nothing,
            negatives=np.zeros(0, NEGATIVE),
            listed_counts=nothing,
            listed=np.zeros(0, np.float32),
            sources=(),
        )

    @classmethod
    def joined(cls, parts: list[Generation]) -> Generation:
        """Several blocks of rows, one after the other."""
        sources = tuple(sorted({name for part in parts for name in part.sources}))
        negatives = np.concatenate([part.negatives for part in parts])
        numbers = [np.array([sources.index(name) for name in part.sources], np.int8) for part in parts]
        found = [number[part.negatives["source"]] for number, part in zip(numbers, parts, strict=True) if len(number)]
        negatives["source"] = np.concatenate([np.zeros(0, np.int8), *found])
        names = ("made", "counts", "listed_counts", "listed")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(negatives=negatives, sources=sources, **arrays)

    def rows(self, start: int, stop: int) -> Generation:
        """A block of its rows."""
        return Generation(
            made=self.made[start:stop],
            counts=self.counts[start:stop],
            negatives=self.negatives[self.starts[start] : self.starts[stop]],
            listed_counts=self.listed_counts[start:stop],
            listed=self.listed[self.listed_starts[start] : self.listed_starts[stop]],
            sources=self.sources,
        )

    def save(self, directory: Path) -> None:
        """Write its arrays, to be opened from a published generation."""
        for name in ("made", "counts", "negatives", "listed_counts", "listed"):
            np.save(directory / f"{name}.npy", np.ascontiguousarray(getattr(self, name)))

    def overlap(self, other: Generation) -> float:
        """Share of its negatives that another has for the same row, over the rows that both have; NaN for none."""
        both = (self.made > 0) & (other.made > 0)
        pairs = [set(zip(*one._pairs(both), strict=True)) for one in (self, other)]
        return len(pairs[0] & pairs[1]) / len(pairs[0]) if pairs[0] else float("nan")

    def _pairs(self, rows: np.ndarray) -> tuple[list[int], list[int]]:
        owner = np.repeat(np.arange(len(self.made)), self.counts)
        inside = rows[owner]
        return owner[inside].tolist(), self.negatives["doc"][inside].tolist()

    def columns(self, rows: np.ndarray, reader: Reader) -> dict[str, pa.Array]:
        """The columns of `ADDED` for some of its rows."""
        counts, places = self.counts[rows], _flat(self.starts, rows)
        found = self.negatives[places]
        listed = self.listed[_flat(self.listed_starts, rows)]
        sources = np.array([*self.sources, ""])[found["source"]]
        return {
            "negatives": ragged(reader.corpus.texts(found["doc"]), counts),
            "negative_ids": ragged(reader.corpus.ids(found["doc"]), counts),
            "negative_scores": ragged(pa.array(found["score"], mask=np.isnan(found["score"])), counts),
            "negative_ranks": ragged(pa.array(found["rank"]), counts),
            "negative_sources": ragged(pa.array(sources.tolist(), pa.string()), counts),
            "positive_scores": ragged(pa.array(listed, mask=np.isnan(listed)), self.listed_counts[rows]),
        }


def _flat(starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Positions of all entries of some rows, row by row."""
    parts = [np.arange(starts[row], starts[row + 1]) for row in rows]
    return np.concatenate([np.zeros(0, np.int64), *parts])


@dataclass(frozen=True, kw_only=True)
class RowKeys:
    """Which row of the pairs a row of a batch is, by what mining reads of it.

    Args:
        directory (`Path`): the published table.
        columns (`Columns`): names in the pairs.
    """

    directory: Path
    columns: Columns

    @classmethod
    def of(cls, pairs: Any, reader: Reader) -> RowKeys:
        """The table of some pairs, built once."""
        plain = pairs.with_format("arrow", columns=_read(pairs.column_names, reader.columns))
        tables = plain.iter(batch_size=1000)
        keys = np.concatenate(
            [_keys(dict(zip(t.column_names, t.columns, strict=True)), reader.columns) for t in tables]
        )

        def build(directory: Path) -> None:
            order = np.argsort(keys, kind="stable")
            np.save(directory / "order.npy", order)
            np.save(directory / "keys.npy", keys[order])

        parameters = {"rows": store.bytes_digest(keys.tobytes()), "count": len(keys)}
        return cls(directory=store.obtain(reader.corpus.cache, "rows", parameters, build), columns=reader.columns)

    def find(self, table: Mapping[str, pa.ChunkedArray]) -> np.ndarray:
        """Numbers of rows in the pairs, (n,) int64.

        Raises:
            DataError: one is none of the pairs.
        """
        order, keys = _mapped_keys(self.directory)
        position, found = isin_sorted(_keys(table, self.columns), keys)
        if not found.all():
            text = table[self.columns.query].take([int(np.flatnonzero(~found)[0])]).to_pylist()[0]
            raise DataError(
                f"{int((~found).sum())} rows are none of the pairs that are refreshed, such as the query "
                f"{str(text)[:60]!r}. Rows must have the columns {_read(list(table), self.columns)} as the pairs have "
                "them; remove columns after this callable, and use HardNegatives for other rows."
            )
        return order[position]


@functools.lru_cache(maxsize=4)
def _mapped_keys(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    store.check(directory)
    order, keys = (np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("order", "keys"))
    return order, keys


def _read(present: list[str], columns: Columns) -> list[str]:
    """The columns that mining reads, of those that are there."""
    wanted = (columns.query, columns.query_id, columns.positive, columns.positive_ids, columns.exclude_ids)
    return [name for name in (*wanted, columns.answer) if name is not None and name in present]


def _keys(table: Mapping[str, pa.ChunkedArray], columns: Columns) -> np.ndarray:
    values = [table[name].to_pylist() for name in _read(list(table), columns)]
    return text_keys(map(repr, zip(*values, strict=True)), "exact")


@dataclass(frozen=True, kw_only=True)
class GenerationNegatives:
    """Adds the newest negatives to a batch: pass it to `with_transform`, or to any other `datasets` verb.

    Before the first generation, and for rows that it does not cover yet, negatives are those of the warm start. It
    holds no model; it pickles as paths, and works in any worker of a `DataLoader`.

    It adds the columns of `ADDED`, and `negative_generation`: the number of the generation, 0 for the warm start.

    Args:
        generations (`Generations`): where they are.
        rows (`RowKeys`): the rows they are of.
        reader (`Reader`): the corpus.
        warm_start (`HardNegatives`, *optional*): mines where no generation has; by default rows bring `negatives`.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> loader = DataLoader(pairs.with_transform(refresher.negatives), batch_size=2, collate_fn=list)
        >>> next(iter(loader))[0]["negatives"]
        ['The sky of Mars is red by day and blue at sunset.', 'The sky is red at sunset because the light crosses ...']
    """

    generations: Generations
    rows: RowKeys
    reader: Reader
    warm_start: HardNegatives | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Its fields and the current generation, so that `Dataset.map` stores each generation's rows as its own."""
        return {**self.__dict__, "current": self.generations.current}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: value for name, value in state.items() if name != "current"})

    def __call__(self, batch: Any) -> Any:
        """The batch in the form it came, with negatives.

        Raises:
            DataError: a row is none of the pairs.
            ColumnError: no generation has it, there is no warm start, and it brings no `negatives`.
            StoreError: the files of the generation are altered or missing.
        """
        rows = Batch.of(batch, self.rows.columns.query)
        numbers = self.rows.find(rows.columns)
        newest = self.generations.newest()
        made = np.zeros(len(numbers), np.int32) if newest is None else newest.made[numbers]
        old, new = np.flatnonzero(made == 0), np.flatnonzero(made)
        parts = [self._warm(rows.columns, old)] if len(old) or not len(new) else []
        if newest is not None and len(new):
            parts.append(newest.columns(numbers[new], self.reader))
        order = pa.array(np.argsort(np.concatenate([old, new]), kind="stable"))
        added = {name: pa.concat_arrays([part[name] for part in parts]).take(order) for name in ADDED}
        positives = self.reader.positive_texts(rows.columns)
        if positives is not None:
            added[self.rows.columns.positive] = positives
        return rows.with_columns({**added, "negative_generation": pa.array(made)})

    def _warm(self, columns: Mapping[str, pa.ChunkedArray], rows: np.ndarray) -> dict[str, pa.Array]:
        table = pa.table(dict(columns)).take(pa.array(rows))
        if self.warm_start is not None:
            table = self.warm_start(table)
        if "negatives" not in table.column_names:
            raise ColumnError(
                f"No generation covers {len(rows)} rows yet, and they have no column 'negatives'; they have "
                f"{', '.join(map(repr, table.column_names))}. Give mined pairs, or warm_start='bm25'."
            )
        nothing = pa.nulls(len(rows))
        found = {name: table[name].combine_chunks() if name in table.column_names else nothing for name in ADDED}
        return {name: values.cast(ADDED[name]) for name, values in found.items()}
