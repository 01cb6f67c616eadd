"""The documents of a document store that the queries of a job find, where all of them are too many to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_hardneg.corpus.batches import matrix
from hf_hardneg.corpus.documents import rows_digest
from hf_hardneg.corpus.ids import flat_texts, id_texts, named_columns
from hf_hardneg.corpus.loaded_from import in_words, remember
from hf_hardneg.corpus.positives import KnownPositives, Listing, PositiveList, obtain_positives
from hf_hardneg.corpus.queries import PairColumns, flat_strings, group_keys, strings
from hf_hardneg.errors import ConfigError
from hf_hardneg.formats.scanned import SCHEMA, as_documents, check_texts
from hf_hardneg.formats.streams import ROWS, write_tables
from hf_hardneg.index.hits import asked_first
from hf_hardneg.retrievers.stores.document_store import DocumentStore
from hf_hardneg.retrievers.stores.store_index import StoreIndex
from hf_hardneg.runtime.arguments import fit
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.arrow_files import stored_rows
from hf_hardneg.strategies import Strategy, resolve
from hf_hardneg.text.keys import Dedupe, text_keys

if TYPE_CHECKING:
    from datasets import Dataset

BATCH, FETCHED, NEGATIVES = 1000, 1000, 4
MORE = 2
"""How many times as many documents as mining asks for at first: where many repeat, it asks again for twice as many."""


def documents_found(
    collection: DocumentStore, pairs: Sequence[Dataset], strategy: str | Strategy, options: Mapping[str, Any]
) -> Dataset:
    """The ids and texts of the documents that queries find in a document store, and of those that rows name by ids.

    Args:
        collection (`DocumentStore`): searches exactly.
        pairs (`Sequence[Dataset]`): all pairs of the job.
        strategy (`str` or `Strategy`): says how many documents a query needs.
        options (`Mapping`): of `HardNegatives`; its `known_positives` name documents too.

    Raises:
        ConfigError: something of the strategy needs all documents, or the store does not search exactly.
        DocumentStoreError: it does not answer, lacks a document of an id, or changes meanwhile.
    """
    chosen = resolve(strategy, safeguards=options.get("safeguards", True), cross_encoder=options.get("cross_encoder"))
    known = _rows_known(pairs, options)
    state = collection.patiently(collection.describe)
    check_texts(collection, state)
    _check(collection, chosen, options, is_exact=not state.efforts)
    cache, columns = directories.cache_root(options.get("cache_dir")), PairColumns.of(options.get("columns"))
    index: Any = StoreIndex(collection=collection, state=state, corpus=None, keys=None)  # type: ignore[arg-type]
    encoder = _encoder(collection, options, cache)
    depth = chosen.depth(options.get("num_negatives", NEGATIVES))
    digests = [rows_digest(rows, columns.read(rows.column_names)) for rows in known]

    def build(directory: Path) -> None:
        excluded = _Excluded.of(known, digests, options, cache)
        names = sorted({*_named(known, columns), *_found(index, pairs, excluded, encoder, depth)})
        blocks = (names[start : start + FETCHED] for start in range(0, len(names), FETCHED))
        tables = (as_documents(collection.patiently(lambda: collection.fetch(ids))) for ids in blocks)  # noqa: B023
        write_tables(tables, directory / ROWS, collection.address, SCHEMA)
        index.check_unchanged()

    parameters = {
        "store": collection.settings,
        "count": state.count,
        "mark": state.mark,
        "pairs": digests,
        "symmetric": bool(options.get("symmetric")),
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


def _rows_known(pairs: Sequence[Dataset], options: Mapping[str, Any]) -> list[Dataset]:
    """All rows whose positives are excluded."""
    from datasets import Dataset

    return [*pairs, *fit("mine", "known_positives", options.get("known_positives", ()), Sequence[Dataset])]


@dataclass(frozen=True, kw_only=True)
class _Excluded:
    """How many documents each query excludes at most, counted before any document is read.

    Args:
        columns (`PairColumns`), dedupe (`str`): how pairs are read.
        known (`KnownPositives`): the positives of all rows: the texts of some, the ids of others.
    """

    columns: PairColumns
    dedupe: Dedupe
    known: KnownPositives

    @classmethod
    def of(cls, pairs: Sequence[Dataset], digests: list[str], options: Mapping[str, Any], cache: Path) -> _Excluded:
        columns, dedupe = PairColumns.of(options.get("columns")), options.get("dedupe", "normalized")

        def listings() -> Iterator[Listing]:
            for rows in pairs:
                for table in rows.with_format("arrow", columns=columns.read(rows.column_names)).iter(BATCH):
                    yield _listing(named_columns(table), columns, dedupe)

        symmetric = bool(options.get("symmetric"))
        parameters = {"pairs": digests, "columns": str(columns), "dedupe": dedupe, "of": "ids"}
        about = {"pairs": in_words(pairs, "rows")}
        known = obtain_positives(cache, listings, parameters, about, symmetric=symmetric)
        return cls(columns=columns, dedupe=dedupe, known=known)

    def counts(self, values: Mapping[str, pa.ChunkedArray]) -> np.ndarray:
        """How many documents each row of a batch excludes at most, its query among them; (rows,) int64."""
        groups = _groups(values, self.columns, self.dedupe)
        owners = [self.known.of(group)[0] for group in groups]
        never = self.columns.exclude_ids
        if never is not None and never in values:
            owners.append(flat_texts(values[never], never)[0])
        return 1 + np.bincount(np.concatenate(owners), minlength=len(groups[0]))


def _groups(values: Mapping[str, pa.ChunkedArray], columns: PairColumns, dedupe: Dedupe) -> list[np.ndarray]:
    keys = text_keys(strings(values[columns.query], columns.query), dedupe)
    ids = id_texts(values[columns.query_id], columns.query_id) if columns.query_id in values else None
    return group_keys(keys, ids)


def _listing(values: Mapping[str, pa.ChunkedArray], columns: PairColumns, dedupe: Dedupe) -> Listing:
    """The positives of a batch, named by their ids where no text is known."""
    texts = strings(values[columns.query], columns.query)
    themselves = PositiveList.outside(np.arange(len(texts)), texts, dedupe)
    parts = [themselves.take(np.zeros(0, np.int64))]
    if columns.has_texts(values):
        parts.append(PositiveList.outside(*flat_strings(values[columns.positive], columns.positive), dedupe))
    if columns.positive_ids in values:
        owner, ids = flat_texts(values[columns.positive_ids], columns.positive_ids)
        parts.append(PositiveList.outside(owner, [f"\x00id\x00{name}" for name in ids.to_pylist()], "exact"))
    listed = PositiveList.joined(parts)
    return Listing(_groups(values, columns, dedupe), listed, themselves, listed.key)


def _named(pairs: Iterable[Dataset], columns: PairColumns) -> Iterator[str]:
    """Ids of documents that rows name."""
    for rows in pairs:
        if names := columns.naming_documents(rows.column_names):
            for table in rows.with_format("arrow", columns=names).iter(BATCH):
                values = named_columns(table)
                yield from (each for name in names for each in flat_texts(values[name], name)[1].to_pylist())


def _found(index: StoreIndex, pairs: Iterable[Dataset], excluded: _Excluded, encoder: Any, depth: int) -> Iterator[str]:
    """Ids of what queries find, as deep as mining looks for them even where it asks once more."""
    columns = excluded.columns
    for rows in pairs:
        for table in rows.with_format("arrow", columns=columns.read(rows.column_names)).iter(BATCH):
            values = named_columns(table)
            asked: Any = strings(values[columns.query], columns.query)
            wanted = MORE * asked_first(depth, excluded.counts(values))
            if index.state.width is not None and columns.query_vector in values:
                yield from index.ids(index.queries(matrix(values[columns.query_vector])), wanted)
                continue
            texts, place = np.unique(asked, return_inverse=True)
            deepest = np.zeros(len(texts), np.int64)
            np.maximum.at(deepest, place, wanted)
            asked = texts.tolist()
            if index.state.width is not None:
                asked = index.queries(encoder.encode(asked, kind="query"))
            yield from index.ids(asked, deepest)
