"""The client of Redis: its connection, commands that are sent at once, and its errors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from hf_hardneg.retrievers.stores.addresses import Address
from hf_hardneg.retrievers.stores.answers import told
from hf_hardneg.runtime.optional import require

EXTRA, SECRET = "redis", "REDIS_PASSWORD"
REMEDIES = {
    "index name": "Give an index that FT._LIST lists, as redis://host:6379/index.",
    "no such index": "Give an index that FT._LIST lists, as redis://host:6379/index.",
    "unknown command": "Start Redis 8 or Redis Stack, or load the module.",
    "uthentication": f"Set {SECRET}, and a user before the host if it is not `default`.",
    "invalid username": f"Set {SECRET}, and a user before the host if it is not `default`.",
    "LIMIT exceeds": "Ask for a smaller depth, or raise the server's MAXSEARCHRESULTS.",
    "blob size": "Pass the encoder that filled the index.",
    "permissions": "Have that user allowed to run FT.INFO, FT.SEARCH, FT.AGGREGATE and FT.CURSOR.",
}
"""What to do, by words of what Redis says."""


def connected(address: str, place: Address, timeout: int) -> Any:
    """A client that waits so many seconds for each answer, and asks once.

    Raises:
        DocumentStoreError: there is no answer.
        ConfigError: the server wants another user or password.
    """
    redis = require("redis", extra=EXTRA, needed_by="An index of RediSearch")
    client = redis.Redis(
        host=place.host or "localhost",
        port=place.port or 6379,
        username=place.user or None,
        password=os.environ.get(SECRET) or None,
        ssl=bool(place.transport),
        protocol=2,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    )
    with _told(address):
        client.ping()
    return client


def answers_of(address: str, client: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """The answers to commands, which are sent at once.

    Raises:
        DocumentStoreError: there is no answer.
        ConfigError: the answer to one is no.
    """
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    with _told(address):
        answers = pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
    return answers


def _told(address: str) -> contextlib.AbstractContextManager[None]:
    errors = require("redis.exceptions", extra=EXTRA, needed_by="An index of RediSearch")
    lost, refused = (errors.ConnectionError, errors.TimeoutError), (errors.ResponseError,)
    return told(address, "an index that this user may read", REMEDIES, lost=lost, refused=refused)
