"""The documents of a document store that the queries of a job find, where all of them are too many to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_hardneg.corpus.batches import matrix
from hf_hardneg.corpus.documents import dataset_digest
from hf_hardneg.corpus.ids import flat_texts, named_columns
from hf_hardneg.corpus.loaded_from import remember
from hf_hardneg.corpus.queries import PairColumns, strings
from hf_hardneg.errors import ConfigError
from hf_hardneg.formats.scanned import SCHEMA, as_documents, check_texts
from hf_hardneg.formats.streams import ROWS, write_tables
from hf_hardneg.retrievers.stores.document_store import DocumentStore
from hf_hardneg.retrievers.stores.store_index import StoreIndex
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.arrow_files import stored_rows
from hf_hardneg.strategies import Strategy, resolve

if TYPE_CHECKING:
    from datasets import Dataset

BATCH, FETCHED, NEGATIVES = 1000, 1000, 4
MORE = 2
"""How many times as many documents as mining asks for at first: some repeat, or are known positives."""


def documents_found(
    collection: DocumentStore, pairs: Sequence[Dataset], strategy: str | Strategy, options: Mapping[str, Any]
) -> Dataset:
    """The ids and texts of the documents that queries find in a document store, and of the positives named by ids.

    Args:
        collection (`DocumentStore`): searches exactly.
        pairs (`Sequence[Dataset]`): all pairs of the job.
        strategy (`str` or `Strategy`): says how many documents a query needs.
        options (`Mapping`): of `HardNegatives`.

    Raises:
        ConfigError: something of the strategy needs all documents, or the store does not search exactly.
        DocumentStoreError: it does not answer, has no document of a positive's id, or changes meanwhile.
    """
    chosen = resolve(strategy, safeguards=options.get("safeguards", True), cross_encoder=options.get("cross_encoder"))
    state = collection.patiently(collection.describe)
    check_texts(collection, state)
    _check(collection, chosen, options, is_exact=not state.efforts)
    cache, columns = directories.cache_root(options.get("cache_dir")), PairColumns.of(options.get("columns"))
    index: Any = StoreIndex(collection=collection, state=state, corpus=None, keys=None)  # type: ignore[arg-type]
    encoder = _encoder(collection, options, cache)
    depth = chosen.depth(options.get("num_negatives", NEGATIVES))

    def build(directory: Path) -> None:
        names = sorted(set().union(*_names(index, pairs, columns, encoder, MORE * depth)))
        blocks = (names[start : start + FETCHED] for start in range(0, len(names), FETCHED))
        tables = (as_documents(collection.patiently(lambda: collection.fetch(ids))) for ids in blocks)  # noqa: B023
        write_tables(tables, directory / ROWS, collection.address, SCHEMA)
        index.check_unchanged()

    parameters = {
        "store": collection.settings,
        "count": state.count,
        "mark": state.mark,
        "pairs": [dataset_digest(rows, _read(rows, columns)) for rows in pairs],
        "encoder": getattr(encoder, "digest", None),
        "depth": depth,
    }
    name = collection.place.collection
    about = {"corpus": f"{name}, documents of {state.count:,} that queries find"}
    (rows,) = stored_rows(directories.obtain(cache, kinds.CORPUS, parameters, build, about))
    remember(rows, name)
    return rows


def _check(collection: DocumentStore, strategy: Strategy, options: Mapping[str, Any], *, is_exact: bool) -> None:
    """Raise for what documents that queries find cannot serve."""
    size = options.get("num_negatives", NEGATIVES)
    parts = [part for part in strategy.retriever.parts if not (part.searches_elsewhere or part.name == "dense")]
    wrong: dict[str, bool] = {f"{type(part).__name__}() searches the texts of all": True for part in parts} | {
        "Disagreement() weighs words by all": any(
            signal.name.startswith("second_score") for signal in strategy.signals
        ),
        "DistanceWeighted(dim='intrinsic') looks at all": getattr(strategy.chooser, "dim", None) == "intrinsic",
        f"{type(strategy.sampler).__name__}() adds random ones, drawn from all": strategy.sampler.drawn(size) > 0,
        "on_shortage='pad_random' draws from all": options.get("on_shortage") == "pad_random",
        "the recall of an approximate search is measured over all": not is_exact,
    }
    if what := next((words for words, is_so in wrong.items() if is_so), None):
        raise ConfigError(
            f"{collection.address} is read for what queries find alone, and {what} documents. Read all of them, "
            "without ?reads=found, or leave that out; safeguards are left out by safeguards=False."
        )


def _encoder(collection: DocumentStore, options: Mapping[str, Any], cache: Path) -> Any:
    if options.get("encoder") is None or not collection.uses_vectors:
        return None
    from hf_hardneg.models.encoder import load_encoder

    return load_encoder(options["encoder"], cache_dir=cache)


def _read(rows: Dataset, columns: PairColumns) -> list[str]:
    names = (columns.query, columns.query_vector, columns.positive_ids)
    return [name for name in names if name is not None and name in rows.column_names]


def _names(
    index: StoreIndex, pairs: Iterable[Dataset], columns: PairColumns, encoder: Any, depth: int
) -> Iterator[set[str]]:
    """Ids of what each batch of queries finds, and of its positives."""
    for rows in pairs:
        for table in rows.with_format("arrow", columns=_read(rows, columns)).iter(BATCH):
            values = named_columns(table)
            texts, first = np.unique(strings(values[columns.query], columns.query), return_index=True)
            asked: Any = texts.tolist()
            if index.state.width is not None and columns.query_vector in values:
                asked = index.queries(matrix(values[columns.query_vector].take(pa.array(first))))
            elif index.state.width is not None:
                asked = index.queries(encoder.encode(asked, kind="query"))
            yield set(index.ids(asked, np.full(len(texts), depth)))
            if columns.positive_ids in values:
                yield set(flat_texts(values[columns.positive_ids], columns.positive_ids)[1].to_pylist())
