"""The documents of a document store, read once into the cache, where they are mapped as any corpus is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.corpus.loaded_from import remember
from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.formats.streams import ROWS, write_tables
from hf_hardneg.retrievers.attach import missing_vectors
from hf_hardneg.retrievers.stores.collection import ID, TEXT, Description
from hf_hardneg.retrievers.stores.document_store import DocumentStore
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.arrow_files import stored_rows
from hf_hardneg.strategies import Strategy, resolve, safeguards_of

if TYPE_CHECKING:
    from datasets import Dataset

SCHEMA = pa.schema([("_id", pa.string()), ("text", pa.string())])


def scanned(collection: DocumentStore, cache_dir: Any = None) -> Dataset:
    """The ids and texts of a document store, as `_id` and `text`; read again only once the store says that it changed.

    Args:
        collection (`DocumentStore`): has texts.
        cache_dir (`str`, *optional*): where indexes go; default is under the datasets cache.

    Raises:
        ConfigError: it holds no texts.
        DocumentStoreError: it does not answer, or changes while it is read.
    """
    state = collection.patiently(collection.describe)
    check_texts(collection, state)

    def build(directory: Path) -> None:
        count = write_tables(map(as_documents, collection.scan()), directory / ROWS, collection.address, SCHEMA)
        now = collection.patiently(collection.describe)
        if now != state or count != state.count:
            raise DocumentStoreError(
                f"{collection.address} changed while its documents were read: {count:,} were read, it said "
                f"{state.count:,} before and {now.count:,} after. Let what writes to it end, and mine again."
            )

    parameters = {"store": collection.settings, "count": state.count, "mark": state.mark}
    name = collection.place.collection
    cache, about = directories.cache_root(cache_dir), {"corpus": f"{name}, {state.count:,} documents"}
    (rows,) = stored_rows(directories.obtain(cache, kinds.CORPUS, parameters, build, about))
    remember(rows, name)
    return rows


def check_texts(collection: DocumentStore, state: Description) -> None:
    """Raise for a store of vectors alone, whose texts are to be read.

    Raises:
        ConfigError: it holds none.
    """
    if not state.has_texts:
        text = getattr(collection, "text", "")
        looked_for = f" called {text!r}" if text else ""
        raise ConfigError(
            f"{collection.address} holds vectors and no texts{looked_for}, which mining needs to tell documents apart. "
            "Name the column of texts with ?text= in the address; or give the texts as the corpus, under the same ids, "
            "and the store as index= or as a part of a Strategy."
        )


def as_documents(batch: pa.RecordBatch | pa.Table) -> pa.Table:
    """What a document store gives as documents of a corpus; a text that is missing is empty."""
    texts = pc.fill_null(batch.column(TEXT).cast(pa.string()), "")
    return pa.table([batch.column(ID).cast(pa.string()), texts], schema=SCHEMA)


def strategy_of_store(collection: DocumentStore, *, safeguards: bool = True) -> str | Strategy:
    """What mines where a document store is the corpus and no strategy is named: its search."""
    if collection.uses_vectors:
        return "dense"
    return Strategy([collection], safeguards_of(collection) if safeguards else ())


def check_searchable(collection: DocumentStore, strategy: str | Strategy, options: Mapping[str, Any]) -> None:
    """Raise, before anything is read, for vectors that are to be searched with queries that have none.

    Raises:
        ConfigError: there are neither an encoder nor vectors of queries.
    """
    has_vectors = options.get("encoder") is not None or "query_vector" in (options.get("columns") or ())
    if not has_vectors and resolve(strategy).uses_vectors:
        raise missing_vectors(f"Searching {collection.address} by {strategy!r}")
