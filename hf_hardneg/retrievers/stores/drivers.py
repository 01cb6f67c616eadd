"""Every document store by the scheme of its addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.retrievers.stores.addresses import EXAMPLE, half_scheme_of, scheme_of
from hf_hardneg.retrievers.stores.chroma import Chroma
from hf_hardneg.retrievers.stores.document_store import DocumentStore
from hf_hardneg.retrievers.stores.hnswlib import Hnswlib
from hf_hardneg.retrievers.stores.lancedb import LanceDB
from hf_hardneg.retrievers.stores.lucene import Lucene
from hf_hardneg.retrievers.stores.milvus import Milvus
from hf_hardneg.retrievers.stores.opensearch import OpenSearch
from hf_hardneg.retrievers.stores.pgvector import PGVector
from hf_hardneg.retrievers.stores.qdrant import Qdrant
from hf_hardneg.retrievers.stores.redisearch import RediSearch
from hf_hardneg.retrievers.stores.sqlite_vec import SqliteVec
from hf_hardneg.retrievers.stores.usearch import Usearch
from hf_hardneg.retrievers.stores.weaviate import Weaviate

_ALL: tuple[type[DocumentStore], ...] = (
    Chroma,
    Hnswlib,
    LanceDB,
    Lucene,
    Milvus,
    OpenSearch,
    PGVector,
    Qdrant,
    RediSearch,
    SqliteVec,
    Usearch,
    Weaviate,
)
DRIVERS = {driver.scheme: driver for driver in _ALL}
"""By scheme; a driver is added here, in the stub of this folder, and in the contract of the tests."""


def document_store(address: str) -> DocumentStore:
    """The document store behind a URI.

    Raises:
        UnknownNameError: nothing reads its scheme.
        ConfigError: it holds a secret, or options that the store does not have.
    """
    scheme = scheme_of(address) or address.partition(":")[0]
    driver = DRIVERS.get(scheme)
    if driver is None:
        raise unknown_name("scheme of a document store", scheme, DRIVERS)
    return driver(address)


def is_document_store(source: Any) -> bool:
    """Whether a value is a document store, or the URI of a collection in it.

    Raises:
        ConfigError: it begins as such a URI without its colon or slashes; it is not quoted, since it may hold a secret.
    """
    if isinstance(source, DocumentStore):
        return True
    half = half_scheme_of(source) if isinstance(source, str) else None
    if half in DRIVERS and not Path(source).exists():
        raise ConfigError(
            f"An address of {half} has two slashes behind its colon, and this one lacks some of them. Give a URI, such "
            f"as {EXAMPLE!r}."
        )
    scheme = scheme_of(source) if isinstance(source, str) else None
    driver = None if scheme is None else DRIVERS.get(scheme)
    return driver is not None and f"{driver.told_by}=" in f"{source}="


def document_store_of(source: Any) -> DocumentStore | None:
    """The document store that a value is, or whose URI it is; `None` for anything else."""
    if not is_document_store(source):
        return None
    return source if isinstance(source, DocumentStore) else document_store(source)
