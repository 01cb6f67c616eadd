"""What OpenSearch's client is asked, and how it fails; it speaks with Elasticsearch too."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from hf_hardneg.errors import DocumentStoreError
from hf_hardneg.retrievers.stores.addresses import Address
from hf_hardneg.retrievers.stores.collection import TIMEOUT
from hf_hardneg.runtime.optional import require

EXTRA = "opensearch"
PORT = 9200
SECRET = "OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD, or OPENSEARCH_API_KEY"
WRITTEN = {"size": 0, "track_total_hits": True, "aggs": {"written": {"sum": {"field": "_seq_no"}}}}
"""Asks for the number of documents and the sum of the numbers of the writes that they are of."""


def connected(place: Address) -> Any:
    """A client for the server at an address, with what the environment says of who asks."""
    user, password, key = (os.environ.get(f"OPENSEARCH_{name}") for name in ("USERNAME", "PASSWORD", "API_KEY"))
    return require("opensearchpy", extra=EXTRA, needed_by="OpenSearch").OpenSearch(
        hosts=[{"host": place.host, "port": place.port or PORT, "url_prefix": place.folder.strip("/")}],
        use_ssl=place.transport == "https",
        http_auth=(user, password or "") if user else None,
        headers={"authorization": f"ApiKey {key}"} if key else None,
        timeout=TIMEOUT,
        max_retries=0,
    )


def error_of(where: str, what: str, do: str) -> DocumentStoreError:
    """An error that names an address, what is wrong, and what to do."""
    return DocumentStoreError(f"{where}: {what}; an index that answers is allowed. {do}")


@contextlib.contextmanager
def asking(where: str) -> Iterator[None]:
    """Turn errors of the client into ours, which say all that its log would.

    Raises:
        DocumentStoreError: the server does not answer, or answers with an error.
    """
    exceptions = require("opensearchpy.exceptions", extra=EXTRA, needed_by=where)
    log = logging.getLogger("opensearch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    except exceptions.ConnectionError as error:
        what = f"it did not answer ({type(error).__name__})"
        raise error_of(where, what, "Look whether it runs, and at its host and port.") from error
    except exceptions.TransportError as error:
        if error.status_code in (401, 403):
            raise error_of(where, f"it refuses who asks ({error.status_code})", f"Set {SECRET}.") from error
        do = "Give the name of an index that is there." if error.status_code == 404 else "Look at the server."
        raise error_of(where, f"it answered {error.status_code}, {_reason(error.info)}", do) from error
    finally:
        log.setLevel(level)


def whole(where: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to a search, if all of the index gave it.

    Raises:
        DocumentStoreError: it is an error, or shards are missing in it.
    """
    if "error" in answer:
        what = f"it answered {answer.get('status')}, {_reason(answer)}"
        raise error_of(where, what, "Look at the fields, at how many hits it gives, and at the server.")
    failed = answer["_shards"]["failed"]
    if answer["timed_out"] or failed:
        raise error_of(where, f"{failed} of its shards did not answer in time", "Look at the server.")
    return answer


def _reason(answer: Any) -> str:
    """The reason in an error of the server."""
    told = answer.get("error") if isinstance(answer, dict) else answer
    causes = [told, *(told.get("root_cause") or [])] if isinstance(told, dict) else []
    return str(causes[-1].get("reason") if causes else told)[:200]
