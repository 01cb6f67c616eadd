"""Counts the terms of a corpus part by part, so that a build that was stopped goes on from the parts that are there.

Each part has a vocabulary of its own. Joined in the order of the corpus they are the vocabulary of one pass.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hf_hardneg.corpus.documents import BATCH, Corpus
from hf_hardneg.runtime.progress import Progress, bar
from hf_hardneg.store.named_files import NAME, is_intact, publish, shards
from hf_hardneg.store.stored_arrays import mapped_array
from hf_hardneg.text.analysis import Tokenizer, warn_if_another_language, warn_if_broken

COUNT = np.dtype([("term", np.int32), ("row", np.int32), ("frequency", np.int32), ("length", np.int32)])
PARTS, FEWEST, MOST = 20, 2_000, 50_000
"""Parts of a corpus at least; documents that are worth a part, and documents of one that memory holds."""


class TermCounts(NamedTuple):
    """What is counted of some documents, in order.

    Args:
        terms (`list[str]`): in the order in which they occur first.
        counts (`np.ndarray`): (n,) of `COUNT`, terms by their place in `terms`, ascending by row.
        characters (`int`), tokens (`int`): of all texts.
    """

    terms: list[str]
    counts: np.ndarray
    characters: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class CountedCorpus:
    """What is counted of a corpus.

    Args:
        terms (`list[str]`): in the order of their ids.
        having (`np.ndarray`): (terms,) how many documents have each.
        documents (`int`), tokens (`int`), characters (`int`): in all.
        paths (`tuple[Path, ...]`): of the parts.
        ids (`tuple[np.ndarray, ...]`): of the terms of each part.
    """

    terms: list[str]
    having: np.ndarray
    documents: int
    tokens: int
    characters: int
    paths: tuple[Path, ...]
    ids: tuple[np.ndarray, ...]

    def counts(self) -> Iterator[np.ndarray]:
        """Yield the counts of each part, (n,) of `COUNT`, with the ids of the whole corpus."""
        for path, ids in zip(self.paths, self.ids, strict=True):
            counts = np.array(_unpacked(path).counts)
            counts["term"] = ids[counts["term"]]
            yield counts


def counted(directory: Path, corpus: Corpus, tokenizer: Tokenizer) -> CountedCorpus:
    """Count the terms of all documents, but for the parts that lie whole in a folder.

    Args:
        directory (`Path`): where parts are published.
        corpus (`Corpus`): the documents.
        tokenizer (`Tokenizer`): turns a text into terms.
    """
    whole = joined(count_share(directory, corpus, tokenizer), len(corpus))
    warn_if_broken(whole.characters, whole.tokens)
    return whole


def cut(rows: range) -> list[range]:
    """Cut consecutive documents into parts, each counted at once."""
    size = min(max(-(-len(rows) // PARTS), FEWEST), MOST)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def count_share(
    directory: Path,
    corpus: Corpus,
    tokenizer: Tokenizer,
    share: Callable[[int], range] = range,
    parts: Sequence[range] | None = None,
) -> list[Path]:
    """Count the terms of a share of the parts, but for those that lie whole in a folder; return their files in order.

    Args:
        directory, corpus, tokenizer: see `counted`.
        share (`Callable[[int], range]`, *optional*): which of so many parts; by default all.
        parts (`Sequence[range]`, *optional*): rows of the parts; by default the corpus is `cut`.
    """
    parts = cut(range(len(corpus))) if parts is None else parts
    numbers, finished = share(len(parts)), _finished(directory)
    warn_if_another_language(tokenizer, corpus.texts(np.arange(min(BATCH, len(corpus)))).to_pylist())
    total, kept = (sum(len(parts[number]) for number in some) for some in (numbers, finished.keys() & set(numbers)))
    with bar(total=total, initial=kept, desc="BM25 terms", unit=" texts") as progress:
        for number in numbers:
            if number not in finished:
                publish(directory, f"{number:06d}-", _packed(_part(corpus, tokenizer, parts[number], progress)))
    whole = _finished(directory, whole=False)
    return [whole[number] for number in numbers]


def _finished(directory: Path, *, whole: bool = True) -> dict[int, Path]:
    """Return the parts in a folder by number; those that are not `whole` are removed, where that is asked."""
    parts = {}
    for path in shards(directory):
        named: Any = NAME.fullmatch(path.name)
        if whole and not is_intact(path):
            path.unlink()
        elif named["number"]:
            parts[int(named["number"][:-1])] = path
    return parts


def _part(corpus: Corpus, tokenizer: Tokenizer, rows: range, progress: Progress) -> TermCounts:
    vocabulary: dict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__  # type: ignore[attr-defined]
    counts, characters, tokens = [], 0, 0
    for first in rows[::BATCH]:
        ids, lengths = array("i"), array("i")
        texts = corpus.texts(np.arange(first, min(first + BATCH, rows.stop))).to_pylist()
        for text in texts:
            terms = tokenizer(text)
            ids.extend(map(vocabulary.__getitem__, terms))
            lengths.append(len(terms))
            characters += len(text) - text.count(" ")
        counts.append(_counts(np.array(ids), np.array(lengths), first))
        tokens += len(ids)
        progress.update(len(texts))
    vocabulary.default_factory = None  # type: ignore[attr-defined]  # which holds the vocabulary, so that only a collection of garbage would free it
    return TermCounts(list(vocabulary), np.concatenate(counts), characters, tokens)


def _counts(ids: np.ndarray, lengths: np.ndarray, first_row: int) -> np.ndarray:
    """How often each document has each of its terms, (n,) of `COUNT`, sorted by row."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    pairs, frequency = np.unique(owner << 32 | ids, return_counts=True)
    counts = np.empty(len(pairs), COUNT)
    owner = pairs >> 32
    counts["term"], counts["row"] = pairs & 0xFFFFFFFF, owner + first_row
    counts["frequency"], counts["length"] = frequency, lengths[owner]
    return counts


def _packed(part: TermCounts) -> np.ndarray:
    """Write a part as bytes, (n,) uint8: how long the words are, the words, the counts."""
    words = json.dumps([part.terms, part.characters, part.tokens]).encode()
    head = np.array([len(words)], np.int64).view(np.uint8)
    return np.concatenate([head, np.frombuffer(words, np.uint8), part.counts.view(np.uint8)])


def _unpacked(path: Path) -> TermCounts:
    content = mapped_array(path, np.uint8)
    stop = 8 + int(content[:8].view(np.int64)[0])
    terms, characters, tokens = json.loads(content[8:stop].tobytes())
    return TermCounts(terms, content[stop:].view(COUNT), characters, tokens)


def joined(paths: Sequence[Path], documents: int) -> CountedCorpus:
    """Join what was counted of consecutive parts of so many documents."""
    vocabulary: dict[str, int] = {}
    having = np.zeros(0, np.int64)
    ids: list[np.ndarray] = []
    characters = tokens = 0
    for part in map(_unpacked, paths):
        ids.append(np.array([vocabulary.setdefault(term, len(vocabulary)) for term in part.terms], np.int64))
        more = np.bincount(ids[-1][part.counts["term"]], minlength=len(vocabulary))
        more[: len(having)] += having
        having, characters, tokens = more, characters + part.characters, tokens + part.tokens
    return CountedCorpus(
        terms=list(vocabulary),
        having=having,
        documents=documents,
        tokens=tokens,
        characters=characters,
        paths=tuple(paths),
        ids=tuple(ids),
    )
