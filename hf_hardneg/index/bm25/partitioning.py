"""Builds a BM25 index in parts of consecutive documents, each with postings and a vocabulary, under one statistic.

Weights, and the order in which the terms of a query are summed, equal one index over all documents: how many
documents have a term, its largest weight anywhere, and where it occurs first are joined over the parts. Joining goes
through the terms by their keys, a range at a time, so memory holds what one part needs, however many there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.index.bm25 import building
from hf_hardneg.index.bm25.building import Statistics, check_terms, save_postings
from hf_hardneg.index.bm25.counting import CountedCorpus, count_share, cut, joined
from hf_hardneg.index.bm25.vocabulary import save_vocabulary
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.index.hits import shares
from hf_hardneg.store.disk import reserved, save_array
from hf_hardneg.store.stored_arrays import Schema, Stored, mapped_array
from hf_hardneg.text.analysis import warn_if_broken
from hf_hardneg.text.keys import KEY, text_keys

AT_ONCE = 1 << 22
"""Terms joined at a time, over all parts."""
HAVING, FIRST, HIGHEST = "having", "first", "highest"
SORTED, ORDER = "sorted", "order"
"""Keys of a part's terms, ascending, and which term each is; for joining alone."""

SCHEMA = Schema.of(
    {
        HAVING: Stored(np.int64, "terms", least=1),
        FIRST: Stored(np.int64, "terms", least=0),
        HIGHEST: Stored(np.float32, "terms", least=0),
    }
)
"""What is known of a part's terms over all parts: how many documents have each; where it occurs first, as the number of
that part and its id there; its largest weight."""


def prefix_of(part: int) -> str:
    """What the names of the files of a part begin with."""
    return f"{part:05d}."


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The parts of a corpus that are counted: their rows, and the files that hold the counts of each."""

    rows: list[range]
    paths: list[list[Path]]

    def __iter__(self) -> Iterator[CountedCorpus]:
        """Read the counts of each part; memory holds one part's."""
        for rows, paths in zip(self.rows, self.paths, strict=True):
            yield joined(paths, len(rows))


def write_parts(directory: Path, corpus: Corpus, config: BM25Config, of: int) -> list[str]:
    """Write the files of an index in parts, and return their names.

    Args:
        directory (`Path`): where to; what an earlier build counted may lie in it.
        corpus (`Corpus`): the documents.
        config (`BM25Config`): how to weigh them.
        of (`int`): how many parts, at most as many as documents.

    Raises:
        ConfigError: no document has a term.
    """
    rows = shares(len(corpus), of)
    files = [cut(part) for part in rows]
    paths = iter(count_share(directory, corpus, config.tokenizer, parts=[file for part in files for file in part]))
    parts = _Parts(rows=rows, paths=[[next(paths) for _ in part] for part in files])
    names, tokens, characters, terms = [], 0, 0, []
    for number, part in enumerate(parts):
        prefix = prefix_of(number)
        names += save_vocabulary(directory, part.terms, prefix)
        _save_keys(directory, prefix, part)
        tokens, characters = tokens + part.tokens, characters + part.characters
        terms.append(len(part.terms))
    warn_if_broken(characters, tokens)
    check_terms([number for number in terms if number])
    mean = tokens / len(corpus)
    _join(directory, terms, HAVING, FIRST)
    for number, part in enumerate(parts):
        prefix = prefix_of(number)
        whole = Statistics(len(corpus), mean, mapped_array(directory / f"{prefix}{HAVING}.npy", np.int64))
        names += save_postings(directory, part, config, whole, prefix, rows[number].start)
    _join(directory, terms, HIGHEST)
    names += [f"{prefix_of(number)}{name}.npy" for number in range(of) for name, _ in SCHEMA.arrays]
    bounds = [*(part.start for part in rows), len(corpus)]
    said = {"mean_length": mean, "documents": len(corpus), "bounds": bounds, "terms": terms}
    (directory / building.STATISTICS).write_text(json.dumps(said))
    return [*names, building.STATISTICS]


def _save_keys(directory: Path, prefix: str, part: CountedCorpus) -> None:
    keys = text_keys(part.terms, "exact") if part.terms else np.zeros(0, KEY)
    order = np.argsort(keys, kind="stable")
    save_array(directory / f"{prefix}{SORTED}.npy", keys[order])
    save_array(directory / f"{prefix}{ORDER}.npy", order.astype(np.int64))
    save_array(directory / f"{prefix}{HAVING}.npy", part.having.astype(np.int64))


class _Range(NamedTuple):
    """Terms of all parts whose keys lie in one range: for each its part, its id there, and which term of all it is."""

    part: np.ndarray
    term: np.ndarray
    joint: np.ndarray


def _ranges(directory: Path, terms: Sequence[int]) -> Iterator[_Range]:
    """Yield all terms, those with equal keys together, about `AT_ONCE` at a time."""
    keys, orders = (
        [mapped_array(directory / f"{prefix_of(part)}{name}.npy", kind) for part in range(len(terms))]
        for name, kind in ((SORTED, KEY), (ORDER, np.int64))
    )
    steps = min(256, max(1, -(-sum(terms) // AT_ONCE)))
    limits = np.array([bytes([256 * step // steps]) for step in range(1, steps)], KEY)
    bounds = [[0, *np.searchsorted(part, limits).tolist(), len(part)] for part in keys]
    for step in range(steps):
        slices = [slice(*bound[step : step + 2]) for bound in bounds]
        whose = np.repeat(np.arange(len(terms)), [part.stop - part.start for part in slices])
        inside = np.concatenate([part[each] for part, each in zip(keys, slices, strict=True)])
        term = np.concatenate([part[each] for part, each in zip(orders, slices, strict=True)])
        yield _Range(whose, term, np.unique(inside, return_inverse=True)[1].reshape(-1))


def _join(directory: Path, terms: Sequence[int], *wanted: str) -> None:
    """Write what is known over all parts of the terms of each."""
    kinds = {name: stored.dtype for name, stored in SCHEMA.arrays}
    local = {name: [_local(directory, part, name) for part in range(len(terms))] for name in wanted if name != FIRST}
    results = {
        name: [
            reserved(directory / f"{prefix_of(part)}{name}.new", kinds[name], (size,))
            for part, size in enumerate(terms)
        ]
        for name in wanted
    }
    for part, term, joint in _ranges(directory, terms):
        size = int(joint.max(initial=-1)) + 1
        for name in wanted:
            values = np.zeros(size, kinds[name])
            if name == FIRST:
                values[:] = np.iinfo(np.int64).max
                np.minimum.at(values, joint, part << 32 | term)
            else:
                mine = np.concatenate([local[name][number][term[part == number]] for number in range(len(terms))])
                (np.add if name == HAVING else np.maximum).at(values, joint, mine)
            for number in range(len(terms)):
                here = part == number
                results[name][number][term[here]] = values[joint[here]]
    for name, files in results.items():
        for number, file in enumerate(files):
            file.flush()
            (directory / f"{prefix_of(number)}{name}.new").replace(directory / f"{prefix_of(number)}{name}.npy")


def _local(directory: Path, part: int, name: str) -> np.ndarray:
    """What a part itself says of its terms, (terms,)."""
    prefix = prefix_of(part)
    if name == HAVING:
        return mapped_array(directory / f"{prefix}{HAVING}.npy", np.int64)
    return mapped_array(directory / f"{prefix}{building.LARGEST}", np.float32)[:, 0]
