"""Batches whose rows are hard for each other, from the graph of candidates (B3, arXiv 2505.11293, its abstract).

A row leads to the rows whose positives stand among its candidates; rows that lead to each other share batches, so that
in-batch negatives are hard ones.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from hf_hardneg.arrays.grouping import position_in_group, spread
from hf_hardneg.draws import uniforms_of_keys
from hf_hardneg.errors import ConfigError, DataError, warn
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, checked
from hf_hardneg.training.communities import Graph, Sharing, grown, refine
from hf_hardneg.training.topic_batches import numbered

NEIGHBOURS, COMMUNITY = 100, 32
"""Candidates of a row that lead to other rows, and rows that are hard for each other, as in the paper."""
ROWS_OF_DOCUMENT = 8
"""Rows of one positive that a candidate leads to, of more the next behind a keyed place: they cannot share a batch."""
NAMES = (str, int, np.integer)
"""Types of ids and texts."""
NO_QUERY = np.zeros(1, np.uint64)
"""What draws of rows and communities are keyed by in a query's place."""


class GraphBatchSampler(Sampler[list[int]]):
    """A batch sampler: rows that are hard for each other, every row once an epoch.

    In each epoch the graph is cut anew into communities: they grow from rows in a keyed order by what has most links to
    them, then rows are exchanged where that gains links. Communities are joined to batches in a keyed order. No row
    meets a known positive of its query in another row: rows of one query, or with positives that the other's query
    has, are in different batches. Mined negatives that answer another row of the batch are left out by the loss, which
    needs `keys=` for it.

    All batches but the last are full, and the same on every rank: Accelerate shards them as it does
    `TopicBatchSampler`'s. Where rows share so many positives that more stay short, it warns.

    Args:
        positives (`Sequence`): (n,) the positive of each row, or several, as ids or texts.
        batch_size (`int`, defaults to 32): rows of a batch, of all ranks where batches are split.
        candidates (`Sequence[Sequence]`, *optional*): (n,) mined negatives of each row, best first, named as positives
            are: `mined["negative_ids"]` beside `mined["positive_ids"]`, twenty or more of each. Without, batches are
            drawn at random; where none of them is any row's positive too, which it warns of.
        queries (`Sequence`, *optional*): (n,) the query of each row, an id or text; by default each row is one.
        groups (`Sequence`, *optional*): (n,) what all rows of a batch share, such as their language or source. What is
            left of groups after their last full batch goes into batches together.
        skip (`int`, defaults to 0): so many of the best candidates lead nowhere, since they may be false negatives.
            Mined negatives went through filters, so none by default.
        neighbours (`int`, defaults to 100): so many candidates behind those lead to rows.
        community_size (`int`, *optional*): rows of a community; by default 32, or a batch where that is smaller.
            Smaller ones make easier batches.
        seed (`int`, defaults to 42): of the draws.

    Raises:
        ConfigError: options that cannot work, such as a positive that more rows share than there are batches.
        DataError: sequences of different lengths, or that hold something else.

    Example:
        >>> sampler = GraphBatchSampler(mined["positive_ids"], 2, candidates=mined["negative_ids"])
        >>> sorted(row for batch in sampler for row in batch) == list(range(len(mined)))
        True
    """

    drop_last = False
    epoch = 0

    @checked
    def __init__(
        self,
        positives: Sequence[object],
        batch_size: AtLeastOne = 32,
        *,
        candidates: Sequence[object] | None = None,
        queries: Sequence[object] | None = None,
        groups: Sequence[object] | None = None,
        skip: AtLeastZero = 0,
        neighbours: AtLeastOne = NEIGHBOURS,
        community_size: AtLeastOne | None = None,
        seed: int = 42,
    ) -> None:
        count = len(positives)
        for name, values in {"candidates": candidates, "queries": queries, "groups": groups}.items():
            if values is not None and len(values) != count:
                raise DataError(
                    f"There are {count} rows of positives and {len(values)} of {name}; each row needs both. Take them "
                    "from columns of one dataset."
                )
        self.batch_size, self.seed = batch_size, seed
        query = np.arange(count) if queries is None else numbered("queries", queries)
        group = np.zeros(count, np.int64) if groups is None else numbered("groups", groups)
        row, names = _flat("positives", positives)
        number = {name: place for place, name in enumerate(dict.fromkeys(names))}
        brings = Lists.of(row, np.array([number[name] for name in names], np.int64), count)
        known = Lists.of(query[brings.owners], brings.values, int(query.max(initial=-1)) + 1)
        self._check(brings, query)
        owner, texts = _flat("candidates", [] if candidates is None else candidates)
        documents = np.array([number.get(name, -1) for name in texts], np.int64)
        if (documents < 0).all() and names and texts:
            _warn_of_no_links(names[0], texts[0])
        leads = _leads(owner, documents, skip, skip + neighbours)
        self._graph = _graph(leads, brings, known, query, seed)
        self._size = min(COMMUNITY, batch_size) if community_size is None else min(community_size, batch_size)
        self._rows = Sharing(group, query, known.starts, known.values, brings.starts, brings.values)
        self._brings = [frozenset(docs.tolist()) for docs in brings.split()]
        self._known = [frozenset(docs.tolist()) for docs in known.split()]
        self._drawn: tuple[int, list[list[int]]] | None = None

    def _check(self, brings: Lists, query: np.ndarray) -> None:
        """Raise for rows that must be in different batches and are more than there are batches."""
        batches = -(-len(query) // self.batch_size)
        for what, labels in (("positive", brings.values), ("query", query)):
            most = int(np.bincount(labels).max(initial=0))
            if most > batches:
                raise ConfigError(
                    f"{most} rows share one {what}, and {len(query)} rows make {batches} batches of "
                    f"{self.batch_size}; rows of one {what} cannot share a batch, since one's positive would be a "
                    "negative of another. Give smaller batches, or fewer such rows."
                )

    @property
    def sampler(self) -> GraphBatchSampler:
        """The sampler itself: here Accelerate looks for `set_epoch` once it has sharded the batches."""
        return self

    @checked
    def set_epoch(self, epoch: AtLeastZero) -> None:
        """Draw the batches of another epoch; Accelerate calls it at the start of each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Iterator[list[int]]:
        yield from map(list, self._batches())

    def _batches(self) -> list[list[int]]:
        """Return the batches of the epoch; they are drawn once."""
        if self._drawn is None or self._drawn[0] != self.epoch:
            self._drawn = (self.epoch, self._draw())
        return self._drawn[1]

    def _draw(self) -> list[list[int]]:
        """Join communities to batches: full ones of each group, and the rows that are left together."""
        if not self._brings:
            return []
        rows, group = self._in_communities(), self._rows.group
        groups = np.unique(group)
        if len(groups) < 2:
            return self._repaired(self._packed(rows))
        batches = [batch for each in groups for batch in self._packed(rows[group[rows] == each])]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [row for batch in batches if len(batch) < self.batch_size for row in batch]
        shuffled = np.argsort(self._uniforms("batch", len(full)))
        return self._repaired([*(full[place] for place in shuffled), *self._packed(rest)])

    def _in_communities(self) -> np.ndarray:
        """Return all rows, (n,), community by community in a keyed order, those that are not full last."""
        draws = self._uniforms("row", len(self._brings))
        seeds = np.lexsort((draws, self._rows.group))
        community = grown(tuple(self._graph), tuple(self._rows), seeds, self._size)
        sizes = np.bincount(community)
        members = np.full((len(sizes), self._size), -1)
        members[community[seeds], _place_within(community[seeds])] = seeds
        refine(tuple(self._graph), tuple(self._rows), community, members, sizes, np.argsort(draws))
        order = np.lexsort((self._uniforms("community", len(sizes)), sizes < self._size))
        joined = members[order].ravel()
        return joined[joined >= 0]

    def _packed(self, rows: Iterable[int]) -> list[list[int]]:
        """Fill batches with rows in their order; one that does not fit is first in the next."""
        queue, batches = deque(map(int, rows)), list[list[int]]()
        while queue:
            batch, deferred, brought, known = list[int](), list[int](), set[int](), set[int]()
            while queue and len(batch) < self.batch_size:
                row = queue.popleft()
                of_query = self._known[self._rows.query[row]]
                if brought.isdisjoint(of_query) and known.isdisjoint(self._brings[row]):
                    batch.append(row)
                    brought |= self._brings[row]
                    known |= of_query
                else:
                    deferred.append(row)
            queue.extendleft(reversed(deferred))
            batches.append(batch)
        return batches

    def _repaired(self, batches: list[list[int]]) -> list[list[int]]:
        """Fill batches that stayed short by exchanges, so that only the last is, or as few as can be."""
        while True:
            short = sorted((batch for batch in batches if len(batch) < self.batch_size), key=len)
            moves = ((source, row, target) for source in short for row in source for target in reversed(short))
            for source, row, target in moves:
                if target is not source and len(target) >= len(source) and self._moved(row, target, batches):
                    source.remove(row)
                    break
            else:
                if len(short) > 1:
                    _warn_of_short(len(short), self.batch_size)
                return [batch for batch in batches if len(batch) == self.batch_size] + short[::-1]
            batches = [batch for batch in batches if batch]

    def _moved(self, row: int, target: list[int], batches: list[list[int]]) -> bool:
        """Put a row into a batch, or into a full one in exchange for a row of its group, where that can be."""
        if not any(self._clash(row, member) for member in target):
            target.append(row)
            return True
        for batch in batches:
            if len(batch) < self.batch_size:
                continue
            clashing = [other for other in batch if self._clash(row, other)]
            for other in clashing if len(clashing) == 1 else [] if clashing else batch:
                of_group = self._rows.group[other] == self._rows.group[row]
                if of_group and not any(self._clash(other, member) for member in target):
                    batch[batch.index(other)] = row
                    target.append(other)
                    return True
        return False

    def _clash(self, first: int, second: int) -> bool:
        """Say whether one row brings a known positive of the other."""
        known = (self._known[self._rows.query[row]] for row in (first, second))
        brings = (self._brings[row] for row in (second, first))
        return any(not of.isdisjoint(docs) for of, docs in zip(known, brings, strict=True))

    def _uniforms(self, what: str, count: int) -> np.ndarray:
        return uniforms_of_keys(self.seed, f"graph#{what}@{self.epoch}", NO_QUERY, _places(count))


@functools.lru_cache(maxsize=256)
def _warn_of_short(short: int, size: int) -> None:
    warn(
        f"{short} batches have fewer than {size} rows: so many share queries and positives that no others fit there. "
        "Over several ranks Accelerate drops such batches but for the last; give smaller batches."
    )


def _warn_of_no_links(positive: object, candidate: object) -> None:
    warn(
        f"No candidate is a positive of any row, so batches are drawn at random: candidates hold such as "
        f"{str(candidate)[:60]!r} ({type(candidate).__name__}), positives {str(positive)[:60]!r} "
        f"({type(positive).__name__}). Give both as ids, mined['positive_ids'] and mined['negative_ids'], or both as "
        "texts, mined['positive'] and mined['negatives']; numbers are no strings. If they are named alike, mine deeper."
    )


@dataclass(frozen=True)
class Lists:
    """Lists of numbers: where each begins, (n + 1,), and the values, one after the other."""

    starts: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, owner: np.ndarray, values: np.ndarray, count: int) -> Lists:
        """Return the different values under each of `count` owners."""
        width = int(values.max(initial=0)) + 1
        owners, different = np.divmod(np.unique(owner * width + values), width)
        return cls(np.searchsorted(owners, np.arange(count + 1)), different)

    @property
    def owners(self) -> np.ndarray:
        """Return whose each value is, (m,)."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def split(self) -> list[np.ndarray]:
        """Return each list."""
        return np.split(self.values, self.starts[1:])[:-1]


def _places(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint64)


def _flat(name: str, lists: Sequence[Any]) -> tuple[np.ndarray, list[object]]:
    """Return whose each id or text is, (m,), and the ids or texts; a row may have one by itself.

    Raises:
        DataError: a row holds something else.
    """
    rows = [[value] if isinstance(value, NAMES) else value for value in lists]
    for place, row in enumerate(rows):
        if not isinstance(row, Sequence | np.ndarray) or not all(isinstance(one_name, NAMES) for one_name in row):
            raise DataError(
                f"{name} holds {row!r} in row {place}; each row must hold an id or text, or a list of them. Take a "
                "column of the mined dataset, such as mined['positive_ids'] and mined['negative_ids']."
            )
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return owner, [one_name for row in rows for one_name in row]


def _leads(row: np.ndarray, document: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and documents of candidates of the ranks `[first, last)` that are some row's positives."""
    rank = position_in_group(row)
    kept = (rank >= first) & (rank < last) & (document >= 0)
    return row[kept], document[kept]


def _graph(leads: tuple[np.ndarray, np.ndarray], brings: Lists, known: Lists, query: np.ndarray, seed: int) -> Graph:
    """Link rows to the rows whose positives are their candidates, where the query is not known to have those."""
    count, documents = len(query), int(brings.values.max(initial=-1)) + 1
    row, document = leads
    fresh = ~np.isin(query[row] * documents + document, known.owners * documents + known.values)
    row, document = row[fresh], document[fresh]
    owners = Lists.of(brings.values, brings.owners, documents)
    sizes = np.diff(owners.starts)[document]
    lead, step = spread(np.minimum(sizes, ROWS_OF_DOCUMENT))
    start = uniforms_of_keys(seed, "graph#lead", row.astype(np.uint64), document.astype(np.uint64)) * sizes
    place = owners.starts[document[lead]] + (start.astype(np.int64)[lead] + step) % np.maximum(sizes[lead], 1)
    first, second = row[lead], owners.values[place]
    apart = first != second
    first, second = first[apart], second[apart]
    pairs, links = np.unique(np.concatenate([first * count + second, second * count + first]), return_counts=True)
    ends, others = np.divmod(pairs, max(count, 1))
    return Graph(np.searchsorted(ends, np.arange(count + 1)), others, links)


def _place_within(labels: np.ndarray) -> np.ndarray:
    """Return how many equal labels stand before each, (n,)."""
    order = np.argsort(labels, kind="stable")
    place = np.empty(len(labels), np.int64)
    place[order] = position_in_group(labels[order])
    return place
