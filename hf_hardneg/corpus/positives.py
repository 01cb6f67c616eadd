"""Who must never be a negative: text keys, and the table of every known positive of every query.

Two texts are the same document when their keys are equal: Unicode NFKC, case-folded, white space collapsed, compared by
a 128-bit BLAKE2b digest. Both tables are memory-mapped, so a worker holds a path.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from hf_hardneg.arrays.grouping import isin_sorted, spread
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.ids import ROW_NUMBER
from hf_hardneg.corpus.pictures import Picture
from hf_hardneg.errors import DataError
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.arrow_files import read_arrow
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.stored_arrays import Schema, Stored
from hf_hardneg.text.keys import KEY, Dedupe, is_blank, text_keys

LAYOUT = 3
"""Of the key tables."""
TABLE = 3
"""Layout of the tables of known positives."""


KEYS = Schema.of(
    {
        "keys": Stored(KEY, "documents"),
        "sorted_keys": Stored(KEY, "documents"),
        "by_key": Stored(np.int64, "documents", least=0, below="documents"),
        "sorted_ids": Stored(KEY, "documents"),
        "by_id": Stored(np.int64, "documents", least=0, below="documents"),
        "groups": Stored(np.int64, "documents", least=0, below="documents"),
        "shared": Stored(np.bool_, "documents"),
        "blank": Stored(np.int64, "blank", least=0, below="documents"),
    }
)
POSITIVES = Schema.of(
    {
        "groups": Stored(KEY, "groups"),
        "classes": Stored(np.int64, "groups", least=0, below="classes"),
        "offsets": Stored(np.int64, "classes+1", bounds="entries"),
        "members": Stored(np.int64, "entries", least=0, below="positives"),
        "keys": Stored(KEY, "positives"),
        "rows": Stored(np.int64, "positives", least=-1),
        "outside": Stored(np.int64, "positives", least=-1, below="texts"),
    }
)
TEXTS = "texts.arrow"


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
        return self._array("keys")[rows]

    def _array(self, name: str) -> np.ndarray:
        return KEYS.opened(self.directory)[name]

    def are_blank(self, rows: np.ndarray) -> np.ndarray:
        """Mask (n,) of the corpus rows whose text `is_blank`."""
        return isin_sorted(rows, self._array("blank"))[1]

    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """For each corpus row the first row with the same key, (n,) int64, and whether others share that, (n,) bool."""
        return self._array("groups"), self._array("shared")

    def copies(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every corpus row with the key of one of some rows: whose it is, ascending, and the row; equally long."""
        table, keys = self._array("sorted_keys"), self.of_rows(rows)
        first = np.searchsorted(table, keys)
        counts = np.searchsorted(table, keys, side="right") - first
        owner, inside = spread(counts)
        return owner, self._array("by_key")[first[owner] + inside]

    def row_of_keys(self, keys: np.ndarray) -> np.ndarray:
        """First corpus row with each key, (n,) int64; -1 where the text is not in the corpus."""
        order = self._array("by_key")
        table = self._array("sorted_keys")
        position, is_known = isin_sorted(keys, table)
        return np.where(is_known, order[position], -1)

    def row_of_ids(self, ids: list[str]) -> np.ndarray:
        """Corpus row of each id, (n,) int64; -1 where the corpus has none."""
        position, is_known = isin_sorted(text_keys(ids, "exact"), self._array("sorted_ids"))
        return np.where(is_known, self._array("by_id")[position], -1)

    def rows_of_ids(self, ids: list[str], column: str) -> np.ndarray:
        """Corpus row of each id in a column of the pairs, (n,) int64.

        Raises:
            DataError: an id is not in the corpus.
        """
        rows = self.row_of_ids(ids)
        if (rows < 0).any():
            missing = list(dict.fromkeys(ids[i] for i in np.flatnonzero(rows < 0)))
            raise DataError(
                f"{len(missing)} ids of the column {column!r} are not in the corpus, such as "
                f"{', '.join(map(repr, missing[:3]))}. "
                "Give the corpus those ids belong to, name its id column with columns={'id': ...}, or drop those rows."
            )
        return rows


def corpus_keys(corpus: Corpus, dedupe: Dedupe) -> CorpusKeys:
    """The key tables of a corpus, built once.

    Raises:
        DataError: two documents have the same id.
    """

    def build(directory: Path) -> None:
        keys, blank = [], []
        for texts in map(pa.Array.to_pylist, corpus.batches()):
            keys.append(text_keys(texts, dedupe))
            blank.append(np.fromiter(map(is_blank, texts), bool, len(texts)))
        save_array(directory / "blank.npy", np.flatnonzero(np.concatenate(blank)))
        ids = text_keys(corpus.ids(np.arange(len(corpus))).to_pylist(), "exact")
        for name, values in (("key", np.concatenate(keys)), ("id", ids)):
            order = np.argsort(values, kind="stable")
            ordered = values[order]
            save_array(directory / f"by_{name}.npy", order)
            save_array(directory / f"sorted_{name}s.npy", ordered)
            if name == "key":
                save_array(directory / "keys.npy", values)
                _save_groups(directory, order, ordered)
            else:
                _refuse_repeated_ids(corpus, order, ordered)

    mode = "exact" if dedupe == "off" else dedupe
    origin = {"corpus": corpus.digest, "dedupe": mode, "layout": LAYOUT}
    if corpus.id_column not in corpus.columns:
        origin["ids"] = corpus.id_column or "row"
    directory = directories.obtain(corpus.cache, kinds.KEYS, origin, build, corpus.about)
    return CorpusKeys(directory=directory, dedupe=dedupe)


def _save_groups(directory: Path, order: np.ndarray, ordered: np.ndarray) -> None:
    """Which rows have equal keys, from the rows in stable order of their keys."""
    new = np.append(True, ordered[1:] != ordered[:-1])
    number = np.cumsum(new) - 1
    groups, shared = np.empty(len(order), np.int64), np.empty(len(order), bool)
    groups[order] = order[new][number]
    shared[order] = np.bincount(number)[number] > 1
    save_array(directory / "groups.npy", groups)
    save_array(directory / "shared.npy", shared)


def _refuse_repeated_ids(corpus: Corpus, order: np.ndarray, ordered: np.ndarray) -> None:
    repeats = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(repeats):
        name = corpus.ids(order[repeats[:1]])[0].as_py()
        raise DataError(
            f"{len(repeats)} documents repeat the id of another in {corpus.id_column!r}, such as {name!r}. Ids must be "
            f"unique: drop the repeats, or name another column with columns={{'id': ...}}, where {ROW_NUMBER!r} stands "
            "for row numbers from 0."
        )


@dataclass(frozen=True)
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

    @classmethod
    def outside(cls, query: np.ndarray, texts: list[str], dedupe: Dedupe) -> PositiveList:
        """Lists texts that no corpus is asked for, of the given queries (n,)."""
        return cls(query=query, key=text_keys(texts, dedupe), row=np.full(len(texts), -1), text=list(texts))

    @classmethod
    def joined(cls, parts: Sequence[PositiveList]) -> PositiveList:
        """Joins lists one behind the other; at least one."""
        return cls(
            query=np.concatenate([part.query for part in parts]),
            key=np.concatenate([part.key for part in parts]),
            row=np.concatenate([part.row for part in parts]),
            text=[text for part in parts for text in part.text],
        )

    def take(self, places: np.ndarray) -> PositiveList:
        """Takes the entries at some places (m,), in the order of those."""
        text = [self.text[place] for place in places]
        return PositiveList(query=self.query[places], key=self.key[places], row=self.row[places], text=text)

    def between(self, first: int, last: int) -> PositiveList:
        """Takes the entries of the queries `first` up to, not including, `last`; numbered as they were."""
        return self.take(np.arange(*np.searchsorted(self.query, [first, last])))

    def texts(self, corpus: Corpus) -> list[str]:
        """The text of each, n; of images their names."""
        inside = iter(corpus.texts(self.row[self.row >= 0]).to_pylist())
        return [next(inside) if text is None else text for text in self.text]


@dataclass(frozen=True, kw_only=True)
class KnownPositives:
    """Every known positive of every query of a dataset, over all its rows; memory-mapped.

    Rows that share a query's normalised text, or its id, are one query. Where pairs are symmetric, all texts that pairs
    link, directly or over others, are positives of each other.

    Args:
        directory (`Path`): the published table.
    """

    directory: Path

    def has(self, groups: np.ndarray) -> np.ndarray:
        """Masks (n,) the group keys that a query has."""
        return isin_sorted(groups, _positives(self.directory)[0]["groups"])[1]

    def of(
        self, groups: np.ndarray, *, documents: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str | None]]:
        """Positives under the given group keys.

        Args:
            groups (`np.ndarray`): (n,) keys of query texts or query ids.
            documents (`int`, *optional*): how many the corpus has.

        Returns:
            position of the group in `groups`, text key, corpus row (-1 outside), text (outside only); equal lengths.

        Raises:
            StoreError: the table is altered, or of another corpus.
        """
        arrays, texts = _positives(self.directory)
        table, offsets = arrays["groups"], arrays["offsets"]
        position, is_known = isin_sorted(groups, table)
        place = arrays["classes"][position] if len(table) else position
        counts = np.where(is_known, offsets[np.minimum(place + 1, len(offsets) - 1)] - offsets[place], 0)
        owner, inside = spread(counts)
        members = arrays["members"][offsets[place[owner]] + inside]
        rows, outside = arrays["rows"][members], arrays["outside"][members]
        if documents is not None and rows.max(initial=-1) >= documents:
            raise directories.altered(
                self.directory, "rows.npy", f"it names rows beyond the {documents:,} of the corpus"
            )
        text = [_outside(texts, int(place)) if place >= 0 else None for place in outside]
        return owner, arrays["keys"][members], rows, text


@dataclass(frozen=True)
class Listing:
    """The positives of a batch of rows, to be entered in the table of known ones.

    Args:
        groups (`list[np.ndarray]`): group keys of its queries (q,), once for each way in which rows are one query.
        listed (`PositiveList`): the n positives that the rows list.
        themselves (`PositiveList`): its q queries as positives.
        as_queries (`np.ndarray`): (n,) group keys of the listed texts, were they queries.
    """

    groups: list[np.ndarray]
    listed: PositiveList
    themselves: PositiveList
    as_queries: np.ndarray

    def entries(self, *, symmetric: bool) -> Iterator[tuple[np.ndarray, PositiveList]]:
        """Yields group keys and positives, equally long.

        Where pairs are symmetric, each query and each positive is of a group too, so that the groups link up.
        """
        for group in self.groups:
            yield group[self.listed.query], self.listed
            if symmetric:
                yield group, self.themselves
        if symmetric:
            yield self.as_queries, self.listed


def obtain_positives(
    cache: Path,
    listings: Callable[[], Iterable[Listing]],
    parameters: Mapping[str, Any],
    about: Mapping[str, str],
    *,
    symmetric: bool,
) -> KnownPositives:
    """Builds the table of known positives of some rows once; see `KnownPositives`.

    Args:
        cache (`Path`): where it is stored.
        listings (`Callable`): returns what the rows list, at least one batch; called where the table must be built.
        parameters (`Mapping[str, Any]`): what that depends on.
        about (`Mapping[str, str]`): what the rows are, in words.
        symmetric (`bool`): whether entries that share a group or a text, directly or over others, are one class, whose
            groups have all its texts.
    """

    def build(directory: Path) -> None:
        entries = (entry for listing in listings() for entry in listing.entries(symmetric=symmetric))
        groups, parts = zip(*entries, strict=True)
        _save_positives(directory, np.concatenate(groups), PositiveList.joined(parts), symmetric=symmetric)

    parameters = {**parameters, "symmetric": symmetric, "layout": TABLE}
    return KnownPositives(directory=directories.obtain(cache, kinds.POSITIVES, parameters, build, about))


def _save_positives(directory: Path, groups: np.ndarray, positives: PositiveList, *, symmetric: bool) -> None:
    """Writes the table that `KnownPositives` reads, of entries (n,) under their group keys (n,)."""
    keys, first, member = np.unique(positives.key, return_index=True, return_inverse=True)
    table, place, number = np.unique(groups, return_index=True, return_inverse=True)
    label = _linked(number, len(table) + member, len(table) + len(keys)) if symmetric else number
    names, label = np.unique(label, return_inverse=True)
    entries = np.empty(len(member), dtype=[("class", np.int64), ("member", np.int64)])
    entries["class"], entries["member"] = label, member
    pairs = np.unique(entries)
    rows = positives.row[first]
    texts = [positives.text[i] for i in first[rows < 0]]
    outside = np.where(rows < 0, np.cumsum(rows < 0) - 1, -1)
    arrays = {
        "groups": table,
        "classes": label[place],
        "offsets": np.searchsorted(pairs["class"], np.arange(len(names) + 1)),
        "members": pairs["member"],
        "keys": keys,
        "rows": rows,
        "outside": outside,
    }
    for name, values in arrays.items():
        save_array(directory / f"{name}.npy", values)
    images = [text.stored if isinstance(text, Picture) else None for text in texts]
    held = pa.array([image and image["bytes"] for image in images], pa.large_binary())
    paths = pa.array([image and image["path"] for image in images], pa.large_string())
    batch = pa.record_batch([pa.array(texts, pa.large_string()), held, paths], names=["text", "bytes", "path"])
    with pa.OSFile(str(directory / TEXTS), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _root(parents, node):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _linked(first, second, nodes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The connected component of each edge, from `first` to `second` (n,), as one of its nodes."""
    parents = np.arange(nodes)
    for i in range(len(first)):
        low, high = _root(parents, first[i]), _root(parents, second[i])
        parents[max(low, high)] = min(low, high)
    roots = np.empty(len(first), np.int64)
    for i in range(len(first)):
        roots[i] = _root(parents, first[i])
    return roots


def _outside(texts: pa.Table, place: int) -> str:
    """A text or an image of those outside the corpus."""
    text, content, path = (texts.column(name)[place].as_py() for name in ("text", "bytes", "path"))
    return text if content is None and path is None else Picture(text, {"bytes": content, "path": path})


@functools.lru_cache(maxsize=64)
def _positives(directory: Path) -> tuple[dict[str, np.ndarray], pa.Table]:
    """The arrays of a table of known positives, and the texts and images of those outside the corpus."""
    texts = read_arrow(directory, TEXTS, stream=False)
    arrays = POSITIVES.opened(directory, texts=len(texts))
    if ((arrays["rows"] < 0) != (arrays["outside"] >= 0)).any():
        raise directories.altered(
            directory, "rows.npy", "positives are neither in the corpus nor among the texts, or both"
        )
    return arrays, texts
