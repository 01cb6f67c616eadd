"""JSON over HTTP to the one host that the user named, within limits of time and size."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import json
import os
import threading
import weakref
from collections.abc import Coroutine, Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

from hf_hardneg.errors import ConfigError

T = TypeVar("T")
LARGEST = 2 * 1024 * 1024
"""Bytes of an answer; a reply that may be used has at most 64 KiB."""
MOST_REDIRECTS = 3
KEPT = (307, 308)
"""Redirects that leave a request as it is."""
LOOK = 0.2


class Refused(Exception):
    """An answer that is not taken: too large, packed, or a redirect to a place that nobody named.

    Args:
        what (`str`): the endpoint did.
        lasting (`bool`, defaults to `False`): whether it will do the same to any request.
    """

    def __init__(self, what: str, *, lasting: bool = False) -> None:
        super().__init__(what)
        self.lasting = lasting


class Left(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer.

    Args:
        status (`int`): of HTTP.
        retry_after (`str`, *optional*): the header of that name.
        body (`bytes`): at most `LARGEST`.
    """

    status: int
    retry_after: str | None
    body: bytes


def checked_url(base_url: str) -> SplitResult:
    """Split an endpoint's URL into its parts.

    Raises:
        ConfigError: it is no URL, or holds secrets, which would be stored and shown.
    """
    try:
        url = urlsplit(base_url)
        known = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and base_url.isprintable()
    except ValueError:
        url, known = urlsplit(""), False
    if "@" in base_url or "?" in base_url or "#" in base_url:
        raise ConfigError(
            f"base_url for {url.hostname} holds a user, password, query or fragment, which would be stored and shown. "
            "Give the plain URL, and the key in an environment variable named by api_key_env=."
        )
    if not known:
        raise ConfigError(f"base_url={base_url!r} is no URL of an endpoint; give one as http://host:8000/v1.")
    return url


def is_loopback(host: str | None) -> bool:
    """Say whether a host is this machine: `localhost`, or an address of the loopback network."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class Client:
    """Connections of one process to one endpoint, which are kept open.

    Requests run in the event loop of one thread of the process, where each can be broken off at any point: an endpoint
    that sends a byte a minute, in its headers or its body, holds nobody up for longer than `total`. Proxies of the
    environment are passed by on the way to this machine. Redirects are followed to the same scheme, host and port.

    Args:
        base_url (`str`): of the endpoint.
        key (`str`, *optional*): sent as a bearer token.
        timeout (`float`): seconds without a byte.
        total (`float`): seconds of a whole request.
    """

    def __init__(self, base_url: str, key: str | None, *, timeout: float, total: float) -> None:
        import httpx2

        url = urlsplit(base_url)
        self.base, self.origin, self.total = base_url.rstrip("/"), _origin(base_url), total
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self.http = httpx2.AsyncClient(
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx2.Timeout(timeout),
            follow_redirects=False,
            trust_env=not is_loopback(url.hostname),
        )
        weakref.finalize(self, _close, self.http, os.getpid())
        self.errors: tuple[type[Exception], ...] = (httpx2.HTTPError, OSError, asyncio.TimeoutError)

    def probe(self) -> None:
        """Return once the host answers anything."""
        self._run(self._status(), self.total, threading.Event())

    def post(self, path: str, content: Mapping[str, Any], left: threading.Event) -> Reply:
        """Send JSON, and return the answer.

        Args:
            path (`str`): after the URL of the endpoint.
            content (`Mapping`): sent as JSON.
            left (`threading.Event`): set when nobody waits any more.

        Raises:
            Refused: an answer that is not taken.
            Left: nobody waits any more.
        """
        body = json.dumps(content).encode()
        return self._run(self._sent(f"{self.base}{path}", body), self.total, left)

    def _run(self, work: Coroutine[Any, Any, T], seconds: float, left: threading.Event) -> T:
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), _loop(os.getpid()))
        while not wait([future], LOOK).done:
            if left.is_set():
                future.cancel()
                raise Left
        return future.result()

    async def _status(self) -> int:
        async with self.http.stream("GET", self.base) as response:
            return int(response.status_code)

    async def _sent(self, url: str, body: bytes) -> Reply:
        start = url
        for _ in range(MOST_REDIRECTS):
            headers = {"Content-Type": "application/json"}
            async with self.http.stream("POST", url, content=body, headers=headers) as response:
                where = response.headers.get("location")
                if not response.is_redirect or not where:
                    after = response.headers.get("retry-after")
                    return Reply(status=response.status_code, retry_after=after, body=await _content(response))
                url = urljoin(url, where)
                if response.status_code not in KEPT or _origin(url) != self.origin:
                    what = f"answered {response.status_code}, which leads to {where[:200]!r}, a place nobody named"
                    raise Refused(what, lasting=True)
        raise Refused(f"sends {start} on more than {MOST_REDIRECTS} times", lasting=True)


@functools.lru_cache(maxsize=1)
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """Return the event loop of a process, which runs in a thread by itself."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="hf_hardneg endpoints").start()
    return loop


def _close(http: Any, process: int) -> None:
    """Close the connections of a client that nobody holds any more, in the process that opened them."""
    if process == os.getpid():
        asyncio.run_coroutine_threadsafe(http.aclose(), _loop(process))


async def _content(response: Any) -> bytes:
    """Read the body of an answer.

    Raises:
        Refused: the body is packed, or larger than `LARGEST`.
    """
    packed = response.headers.get("content-encoding", "identity")
    if packed.lower() != "identity":
        raise Refused(f"sent an answer packed as {packed[:40]!r}, unasked")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > LARGEST:
            raise Refused(f"sent more than {LARGEST // 1024:,} KiB")
    return bytes(body)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL; empty ones, which no endpoint has, where the port is no number."""
    parts = urlsplit(url)
    try:
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", None, None


def said_by(body: bytes, status: int) -> str:
    """Return what an error's answer says, on one line of at most 300 characters: a message in JSON, or the text."""
    text = body[: 64 * 1024].decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError):  # a body that is no JSON is quoted as it came
        message: Any = json.loads(text)
        for name in ("error", "message", "detail"):
            message = message.get(name, message) if isinstance(message, dict) else message
        text = message if isinstance(message, str) else text
    return " ".join(text.split())[:300] or f"status {status}"
