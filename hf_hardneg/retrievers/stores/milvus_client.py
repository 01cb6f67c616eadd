"""The client of Milvus: its connections, its errors, and its logs, which would say each error again."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers.stores.addresses import Address
from hf_hardneg.retrievers.stores.answers import told
from hf_hardneg.runtime.optional import require

EXTRA, SECRET = "milvus", "MILVUS_TOKEN"
NEVER = 2**31 - 1
"""Milliseconds between two signs of life to a file: its server is this process, and closes a line with several."""
REMEDIES = {
    "not found": "Give the name of a collection, as milvus://host:19530/database/collection.",
    "does not exist": "Give the name of a collection in the file, as milvus:///folder/x.db?collection=docs.",
    "released": "Load the collection, with load_collection() of its client.",
    "not loaded": "Load the collection, with load_collection() of its client.",
    "dimension": "Pass the encoder that filled the collection.",
    "mismatch": "Pass the encoder that filled the collection.",
    "auth": f"Set {SECRET} to user:password, or to a key.",
    "not exist": "Name fields of the collection, as ?text=body&vector=embedding.",
    "code=65535": "Look at the collection, and at how the address names it.",
    "Open local milvus failed": "A file is open in one process at a time: end the other one, or ask a server.",
}
"""What to do, by words of what Milvus says."""


def connected(address: str, place: Address, collection: str, timeout: int) -> Any:
    """A client of its own line to a server or a file, so that what breaks one is gone once it is closed.

    Args:
        address (`str`), place (`Address`): of the collection, as text and in parts.
        collection (`str`): its name in a file, where it is loaded.
        timeout (`int`): seconds that an answer may take.

    Raises:
        ConfigError: there is no such file, or it has no name of a collection.
        DocumentStoreError: there is no answer.
    """
    pymilvus = require("pymilvus", extra=EXTRA, needed_by="Milvus")
    if place.host:
        url = f"{place.transport or 'http'}://{place.host}:{place.port or 19530}"
        named: dict[str, Any] = {"uri": url, "token": os.environ.get(SECRET, ""), "db_name": place.folder.strip("/")}
    elif collection and Path(place.path).exists():
        named = {"uri": place.path, "grpc_options": {"grpc.keepalive_time_ms": NEVER}}
    else:
        raise ConfigError(
            f"{address} names no file of Milvus Lite that is there, or no collection in it; both are needed. Give the "
            "path of one, as milvus:///folder/x.db?collection=docs."
        )
    with told_of_milvus(address):
        client = pymilvus.MilvusClient(**named, timeout=timeout, dedicated=True)
        if not place.host:
            client.load_collection(collection)
    return client


@contextlib.contextmanager
def told_of_milvus(address: str) -> Iterator[None]:
    """Raise what Milvus says of an address as an error of ours, once: its client logs each of its errors as well."""
    errors = require("pymilvus.exceptions", extra=EXTRA, needed_by="Milvus")
    loggers = [logging.getLogger(name) for name in ("pymilvus", "milvus_lite")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        lost = (errors.MilvusException, require("grpc", extra=EXTRA, needed_by="Milvus").RpcError)
        with told(address, "a collection that this user may read", REMEDIES, lost=lost, refused=()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
