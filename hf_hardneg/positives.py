"""Who must never be a negative: text keys, and the table of every known positive of every query.

Two texts are the same document when their keys are equal: Unicode NFKC, case-folded, white space collapsed, compared by
a 128-bit BLAKE2b digest. Both tables are memory-mapped, so a worker holds a path.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from hf_hardneg.corpus import Corpus
from hf_hardneg.errors import DataError
from hf_hardneg.ids import ROW_NUMBER
from hf_hardneg.index import store

Dedupe = Literal["normalized", "exact", "off"]
DEDUPE: tuple[Dedupe, ...] = ("normalized", "exact", "off")
KEY = np.dtype("S16")
LAYOUT = 2


def text_keys(texts: Iterable[str], dedupe: Dedupe) -> np.ndarray:
    """Keys of texts, (n,) of 16 bytes each; equal keys mean the same document.

    Args:
        texts (`Iterable[str]`): the texts.
        dedupe (`str`): `"normalized"` compares what a reader sees; `"exact"` and `"off"` compare the characters.
    """
    seen = map(normalized, texts) if dedupe == "normalized" else texts
    return np.array([blake2b(text.encode(), digest_size=16).digest() for text in seen], dtype=KEY)


def normalized(text: str) -> str:
    """What of a text a reader sees: Unicode NFKC, case-folded, white space collapsed."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().split())


def isin_sorted(keys: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of each key in a sorted table, and whether it is there; both (n,)."""
    position = np.minimum(np.searchsorted(table, keys), max(len(table) - 1, 0))
    return position, (table[position] == keys) if len(table) else np.zeros(len(keys), bool)


@dataclass(frozen=True, kw_only=True)
class CorpusKeys:
    """Text keys and ids of a corpus, looked up without reading a text.

    Args:
        directory (`Path`): the published tables.
        dedupe (`str`): how keys were made.
    """

    directory: Path
    dedupe: Dedupe

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Keys of corpus rows, (n,) of 16 bytes."""
        return mapped(self.directory, "keys")[rows]

    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """For each corpus row the first row with the same key, (n,) int64, and whether others share that, (n,) bool."""
        return mapped(self.directory, "groups"), mapped(self.directory, "shared")

    def copies(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every corpus row with the key of one of some rows: whose it is, ascending, and the row; equally long."""
        table, keys = mapped(self.directory, "sorted_keys"), self.of_rows(rows)
        first = np.searchsorted(table, keys)
        counts = np.searchsorted(table, keys, side="right") - first
        owner = np.repeat(np.arange(len(rows)), counts)
        inside = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return owner, mapped(self.directory, "by_key")[first[owner] + inside]

    def row_of_keys(self, keys: np.ndarray) -> np.ndarray:
        """First corpus row with each key, (n,) int64; -1 where the text is not in the corpus."""
        order = mapped(self.directory, "by_key")
        table = mapped(self.directory, "sorted_keys")
        position, found = isin_sorted(keys, table)
        return np.where(found, order[position], -1)

    def rows_of_ids(self, ids: list[str], column: str) -> np.ndarray:
        """Corpus row of each id in a column of the pairs, (n,) int64.

        Raises:
            DataError: an id is not in the corpus.
        """
        table = mapped(self.directory, "sorted_ids")
        position, found = isin_sorted(text_keys(ids, "exact"), table)
        if not found.all():
            missing = list(dict.fromkeys(ids[i] for i in np.flatnonzero(~found)))
            raise DataError(
                f"{len(missing)} ids of the column {column!r} are not in the corpus, such as "
                f"{', '.join(map(repr, missing[:3]))}. "
                "Give the corpus those ids belong to, name its id column with id_column=, or drop those rows."
            )
        return mapped(self.directory, "by_id")[position]


def corpus_keys(corpus: Corpus, dedupe: Dedupe) -> CorpusKeys:
    """The key tables of a corpus, built once.

    Raises:
        DataError: two documents have the same id.
    """

    def build(directory: Path) -> None:
        keys = np.concatenate([text_keys(texts.to_pylist(), dedupe) for texts in corpus.batches()])
        ids = text_keys(corpus.ids(np.arange(len(corpus))).to_pylist(), "exact")
        for name, values in (("key", keys), ("id", ids)):
            order = np.argsort(values, kind="stable")
            ordered = values[order]
            np.save(directory / f"by_{name}.npy", order)
            np.save(directory / f"sorted_{name}s.npy", ordered)
            if name == "key":
                _save_groups(directory, order, ordered)
            else:
                _refuse_repeated_ids(corpus, order, ordered)
        np.save(directory / "keys.npy", keys)

    mode = "exact" if dedupe == "off" else dedupe
    origin = {"corpus": corpus.digest, "dedupe": mode, "layout": LAYOUT}
    if corpus.id_column not in corpus.columns:
        origin["ids"] = corpus.id_column or "row"
    directory = store.obtain(corpus.cache, "keys", origin, build)
    return CorpusKeys(directory=directory, dedupe=dedupe)


def _save_groups(directory: Path, order: np.ndarray, ordered: np.ndarray) -> None:
    """Which rows have equal keys, from the rows in stable order of their keys."""
    new = np.append(True, ordered[1:] != ordered[:-1])
    number = np.cumsum(new) - 1
    groups, shared = np.empty(len(order), np.int64), np.empty(len(order), bool)
    groups[order] = order[new][number]
    shared[order] = np.bincount(number)[number] > 1
    np.save(directory / "groups.npy", groups)
    np.save(directory / "shared.npy", shared)


def _refuse_repeated_ids(corpus: Corpus, order: np.ndarray, ordered: np.ndarray) -> None:
    repeats = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(repeats):
        name = corpus.ids(order[repeats[:1]])[0].as_py()
        raise DataError(
            f"{len(repeats)} documents repeat the id of another in {corpus.id_column!r}, such as {name!r}. Ids must be "
            f"unique: drop the repeats, or name another column with id_column=, {ROW_NUMBER!r} for row numbers from 0."
        )


@dataclass(frozen=True, kw_only=True)
class PositiveList:
    """Known positives of a batch of queries, one entry per (query, positive).

    Args:
        query (`np.ndarray`): (n,) int64, position of the query in the batch, ascending.
        key (`np.ndarray`): (n,) text keys.
        row (`np.ndarray`): (n,) int64, row in the corpus, -1 for a text outside it.
        text (`list[str | None]`): (n,) the text where it is outside the corpus.
    """

    query: np.ndarray
    key: np.ndarray
    row: np.ndarray
    text: list[str | None]

    def between(self, first: int, last: int) -> PositiveList:
        """Those of the queries `first` up to, not including, `last`; numbered as they were."""
        part = slice(*np.searchsorted(self.query, [first, last]))
        return PositiveList(query=self.query[part], key=self.key[part], row=self.row[part], text=self.text[part])

    def texts(self, corpus: Corpus) -> list[str]:
        """The text of each, n."""
        inside = iter(corpus.texts(self.row[self.row >= 0]).to_pylist())
        return [next(inside) if text is None else text for text in self.text]


@dataclass(frozen=True, kw_only=True)
class KnownPositives:
    """Every known positive of every query of a dataset, over all its rows; memory-mapped.

    Rows that share a query's normalised text, or its id, are one query.

    Args:
        directory (`Path`): the published table.
    """

    directory: Path

    def of(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str | None]]:
        """Positives under the given group keys.

        Args:
            groups (`np.ndarray`): (n,) keys of query texts or query ids.

        Returns:
            position of the group in `groups`, text key, corpus row (-1 outside), text (outside only); equal lengths.
        """
        table = mapped(self.directory, "groups")
        offsets = mapped(self.directory, "offsets")
        position, found = isin_sorted(groups, table)
        counts = np.where(found, offsets[np.minimum(position + 1, len(offsets) - 1)] - offsets[position], 0)
        owner = np.repeat(np.arange(len(groups)), counts)
        ends = np.cumsum(counts)
        inside = np.arange(len(owner)) - np.repeat(ends - counts, counts)
        members = mapped(self.directory, "members")[offsets[position[owner]] + inside]
        rows = mapped(self.directory, "rows")[members]
        outside = mapped(self.directory, "outside")[members]
        texts = _texts(str(self.directory / "texts.arrow"))
        text = [texts[int(place)].as_py() if place >= 0 else None for place in outside]
        return owner, mapped(self.directory, "keys")[members], rows, text


def save_known_positives(directory: Path, groups: np.ndarray, positives: PositiveList) -> None:
    """Write the table that `KnownPositives` reads.

    Args:
        directory (`Path`): empty.
        groups (`np.ndarray`): (n,) group key of each entry.
        positives (`PositiveList`): (n,) entries; `query` is not used.
    """
    keys, first, member = np.unique(positives.key, return_index=True, return_inverse=True)
    entries = np.empty(len(member), dtype=[("group", KEY), ("member", np.int64)])
    entries["group"], entries["member"] = groups, member
    pairs = np.unique(entries)
    table, starts = np.unique(pairs["group"], return_index=True)
    rows = positives.row[first]
    texts = [positives.text[i] for i in first[rows < 0]]
    outside = np.where(rows < 0, np.cumsum(rows < 0) - 1, -1)
    arrays = {
        "groups": table,
        "offsets": np.append(starts, len(pairs)),
        "members": pairs["member"],
        "keys": keys,
        "rows": rows,
        "outside": outside,
    }
    for name, values in arrays.items():
        np.save(directory / f"{name}.npy", values)
    batch = pa.record_batch([pa.array(texts, pa.large_string())], names=["text"])
    with pa.OSFile(str(directory / "texts.arrow"), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def mapped(directory: Path, name: str) -> np.ndarray:
    """An array of a published table, memory-mapped; opened and checked once in a process."""
    return _load(str(directory / f"{name}.npy"))


@functools.lru_cache(maxsize=256)
def _load(path: str) -> np.ndarray:
    store.check(Path(path).parent)
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.view(np.ndarray)


@functools.lru_cache(maxsize=64)
def _texts(path: str) -> pa.Array:
    table = pa.ipc.open_file(pa.memory_map(path)).read_all()
    return table.column("text").combine_chunks() if table.num_rows else pa.array([], pa.large_string())
