"""Opening a document store: its documents are compared with the corpus, its recall is measured and raised, once."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_hardneg.arrays.grouping import position_in_group
from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.corpus.positives import corpus_keys
from hf_hardneg.errors import ConfigError, DocumentStoreError, warn
from hf_hardneg.index.dense.approximate import DEPTH, SAMPLE, Measured, measured_of
from hf_hardneg.index.dense.dense_index import normalized
from hf_hardneg.index.hits import Hits
from hf_hardneg.retrievers.stores.collection import ID, TEXT, Collection
from hf_hardneg.retrievers.stores.store_index import ROUNDING, StoreIndex
from hf_hardneg.store import directories, kinds

if TYPE_CHECKING:
    from hf_hardneg.models.encoder import Encoder

OPENED = "opened.json"
COMPARED, ALIKE = 8, 0.9
"""Documents that are encoded to see whether the store's vectors are of the same model, and the least median cosine."""


def opened_store(
    collection: Collection,
    corpus: Corpus,
    *,
    encoder: Encoder | None = None,
    recall: float = 0.98,
    sample: Callable[[], Any] = tuple,
    by_row: bool | None = None,
) -> StoreIndex:
    """A collection that holds the documents of a corpus, with the effort at which it finds what was asked for.

    Args:
        collection (`Collection`): answers.
        corpus (`Corpus`): has its documents, by id; ids in the store may be row numbers from 0 instead.
        encoder (`Encoder`, *optional*): of the queries; it is compared with the vectors in the store.
        recall (`float`, defaults to 0.98): share of the 100 nearest documents to find.
        sample (`Callable`, *optional*): gives (n, d) vectors of queries, on which the recall of an approximate search
            is measured; where they are none, documents stand in, each without itself among its hits.
        by_row (`bool`, *optional*): whether ids in the store are row numbers; by default a few are looked up.

    Raises:
        DocumentStoreError: the store does not answer, or has other documents than the corpus.
        ConfigError: the search does not reach the recall.
    """
    state = collection.patiently(collection.describe)
    index = StoreIndex(collection=collection, state=state, corpus=corpus, keys=corpus_keys(corpus, "normalized"))
    if state.count != len(corpus) and not index.is_in_part:
        raise DocumentStoreError(
            f"{collection.address} holds {state.count:,} documents, the corpus has {len(corpus):,}; each document of "
            "one must be in the other, by its id. Mine with the address as the corpus, or give the corpus that the "
            "store was filled from."
        )
    index = replace(index, by_row=_are_rows(index) if by_row is None else by_row)
    vectors = sample() if state.efforts else ()
    asked = index.queries(vectors, what="vectors of queries") if len(vectors) else None
    setting = {
        "index": index.identity,
        "efforts": list(state.efforts),
        "corpus": corpus.digest,
        "target": recall,
        "sample": None if asked is None else directories.bytes_digest(asked),
        "model": getattr(encoder, "digest", None),
    }
    build = functools.partial(_open, index, encoder, recall, asked)
    directory = directories.obtain(corpus.cache, kinds.RECALL, setting, build, corpus.about)
    told = directories.read_object(directory, OPENED)
    return replace(index, measured=Measured(**told)) if told else index


def _open(
    index: StoreIndex, encoder: Encoder | None, recall: float, sample: np.ndarray | None, directory: Path
) -> None:
    """Look at a collection once, and write what is measured."""
    if index.state.width is not None and index.state.has_texts and encoder is not None:
        _check_model(index, encoder)
    measured = _tuned(index, recall, sample) if index.state.efforts else None
    index.check_unchanged()
    (directory / OPENED).write_text(json.dumps({} if measured is None else asdict(measured)))


def _check_model(index: StoreIndex, encoder: Encoder) -> None:
    """Warn where a model gives other vectors for a few texts than the store holds.

    Raises:
        DataError: they are of another width.
    """
    rows = _spread(index, COMPARED)
    encoded = index.queries(encoder.encode(index.corpus.contents(rows), kind="document"), what="vectors")
    cosines = (normalized(encoded) * normalized(index.vectors(rows))).sum(axis=1)
    if np.median(cosines) < ALIKE:
        warn(
            f"encoder= gives other vectors for documents of {index.collection.address} than it holds, with cosines of "
            f"{np.median(cosines):.2f} in the middle; queries must be encoded by the model of the documents. Pass the "
            "model with which the store was filled, with its prompts."
        )


def _are_rows(index: StoreIndex) -> bool:
    """Whether the collection calls documents by row numbers of the corpus: where it has none of some of their ids.

    Raises:
        DocumentStoreError: it calls them by neither; row numbers begin with 0.
    """
    total, rows, by_row = len(index.corpus), _spread(index, COMPARED), replace(index, by_row=True)
    ends = np.union1d(rows, [0, total - 1])
    has_ids = index.corpus.id_column is not None
    ids = index.names(rows) if has_ids else []
    try:
        told = index.collection.patiently(lambda: index.collection.fetch(ids if has_ids else by_row.names(ends)))
    except DocumentStoreError as error:
        with contextlib.suppress(DocumentStoreError):
            if has_ids and not _are_numbers_in_another_order(index):
                index.collection.patiently(lambda: index.collection.fetch(by_row.names(ends)))
                return True
        by_ids = f"by their ids, such as {ids[0]!r}, nor " if has_ids else ""
        raise DocumentStoreError(
            f"{index.collection.address} does not give documents of the corpus {by_ids}by row numbers, 0 to "
            f"{total - 1:,}; both must name documents alike. Give the corpus that the store was filled from, or name "
            "its column of ids with columns={'id': ...}."
        ) from error
    if not has_ids:
        return True
    numbers = index.row_numbers(ids)
    texts = index.corpus.texts(rows).to_pylist()
    are_its_texts = index.state.has_texts and told[TEXT].fill_null("").to_pylist() == texts
    if not are_its_texts and (numbers >= 0).all() and _are_numbers_in_another_order(index):
        warn(
            f"What {index.collection.address} calls its documents may be row numbers or ids of the corpus, which are "
            "the same numbers in another order; they are read as ids. If they are row numbers, give the corpus without "
            "its column of ids."
        )
    return False


def _are_numbers_in_another_order(index: StoreIndex) -> bool:
    """Whether the ids of the corpus, maybe with zeros in front, are the numbers of its rows in another order."""
    rows = np.arange(len(index.corpus))
    numbers = index.row_numbers(index.names(rows))
    return np.array_equal(np.sort(numbers), rows) and not np.array_equal(numbers, rows)


def _spread(index: StoreIndex, wanted: int) -> np.ndarray:
    """Corpus rows all over it, at most so many, ascending."""
    total = len(index.corpus)
    return np.sort(np.random.default_rng(1).choice(total, min(wanted, total), replace=False))


def _tuned(index: StoreIndex, target: float, sample: np.ndarray | None) -> Measured:
    """The least effort at which the recall is reached.

    Raises:
        ConfigError: none reaches it.
    """
    rows = _spread(index, SAMPLE) if sample is None and index.state.count > 1 else None
    asked = index.vectors(_spread(index, SAMPLE)) if sample is None else sample[:SAMPLE]
    depth = min(DEPTH, index.state.count - (rows is not None))
    begun = time.perf_counter()
    least = _least(index, asked, depth, rows)
    exact_seconds = time.perf_counter() - begun
    for effort in index.state.efforts:
        told: dict[str, Any] = {"target": target, "sample": "documents" if sample is None else "given"}
        told |= {"effort": {"effort": effort}, "exact_seconds": exact_seconds}
        trial = replace(index, measured=Measured(recall=0.0, depth=depth, queries=0, seconds=0.0, **told))
        measured = measured_of(lambda: _hits(trial, asked, depth, rows), least, depth, **told)  # noqa: B023
        if measured.recall >= target:
            return measured
    raise ConfigError(
        f"{index.collection.address} finds {measured.recall:.4f} of the {depth} nearest at its highest effort, "
        f"{effort}; less than recall={target}. Have it search exactly, give its index more links or lists, or pass a "
        "lower recall=."
    )


def _hits(index: StoreIndex, asked: np.ndarray, depth: int, rows: np.ndarray | None) -> Hits:
    """The `depth` best documents of each query; where queries are documents in `rows`, without those."""
    if rows is None:
        return index.search(asked, np.full(len(asked), depth))
    hits = index.search(asked, np.full(len(asked), depth + 1))
    others = hits.doc != rows[hits.query]
    nearest = position_in_group(hits.query[others]) < depth
    return Hits(*(part[others][nearest] for part in hits))


def _least(index: StoreIndex, asked: np.ndarray, depth: int, rows: np.ndarray | None) -> np.ndarray:
    """The exact score of the `depth`-th nearest document of each query, (n,) float32, over all vectors in the store.

    Where queries are documents in `rows`, they are not counted among their own.
    """
    best = np.full((len(asked), 0), -np.inf, np.float32)
    for batch in index.collection.scan(vectors=True):
        documents = index.vectors_of(batch)
        scores = asked @ documents.T
        if index.similarity == "l2":
            scores = 2 * scores - (asked**2).sum(axis=1)[:, None] - (documents**2).sum(axis=1)
        if rows is not None:
            scores[rows[:, None] == index.rows(batch[ID].to_pylist())] = -np.inf
        best = np.concatenate([best, scores], axis=1)
        if best.shape[1] > depth:
            best = np.partition(best, best.shape[1] - depth, axis=1)[:, -depth:]
    least = best.min(axis=1)
    return least - np.float32(ROUNDING) * np.maximum(np.abs(least), 1)
