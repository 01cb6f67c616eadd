"""`EndpointGenerator`: a model behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from hf_hardneg.errors import ConfigError, EndpointError, shown, warn
from hf_hardneg.generate.generators import BUDGET, ENDPOINT, Answer, Ask
from hf_hardneg.generate.prompts import SCHEMAS
from hf_hardneg.generate.transport import Client, Left, Refused, Reply, checked_url, is_loopback, said_by
from hf_hardneg.runtime.arguments import AboveZero, AtLeastOne, AtLeastZero, Name, Range, check_fields, fit
from hf_hardneg.runtime.process import in_child
from hf_hardneg.text.masking import MASK, masked

logger = logging.getLogger(__name__)

HUGGING_FACE = (".huggingface.co", ".huggingface.cloud")
TRY_AGAIN = (408, 409, 425, 429)
TOO_MANY = 429
PROMPT_REFUSED = (400, 413, 422)
NO_COMPLETION = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
"""The errors of reading a body that is no chat completion."""
SHORT = Annotated[float, Range(above=0, most=86_400, such_as=60)]
"""Seconds, up to a day."""

CHAT = "/chat/completions"
VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")
"""The form of an environment variable's name, which a key has not."""


@dataclass(frozen=True, kw_only=True)
class EndpointGenerator:
    """A chat model behind an OpenAI-compatible endpoint: vLLM, TGI, llama.cpp, `transformers serve`, a provider.

    No key is part of this object: it is read from the environment for each connection. Without `api_key_env` none is
    sent, except to Hugging Face's own hosts, which get the token `huggingface_hub` knows. Keys go over https alone, or
    to this machine, never along a redirect to another host, and are masked in every message.

    Args:
        model (`str`): name the endpoint knows.
        base_url (`str`): such as `"http://127.0.0.1:8000/v1"` or `"https://router.huggingface.co/v1"`.
        api_key_env (`str`, *optional*): environment variable that holds the key.
        temperature (`float`, defaults to 0.8), max_tokens (`int`, defaults to 1024): of the replies.
        structured (`bool`, defaults to `True`): ask for replies in JSON of the schema; an endpoint that refuses this is
            asked without. What comes is validated in any case.
        timeout (`float`, defaults to 60): seconds without a byte from the endpoint.
        max_seconds (`float`, defaults to 600): of a whole request, however slowly its answer comes. An answer of more
            than 2 MiB is broken off.
        retries (`int`, defaults to 5): after 429, 5xx, timeouts and lost connections, waiting as long as `Retry-After`
            says, else `backoff` seconds, twice as long each time.
        backoff (`float`, defaults to 1), max_wait (`float`, defaults to 120): seconds; a longer wait is an error.
        concurrency (`int`, defaults to 4): requests under way.
        requests_per_minute (`float`, *optional*): at most so many, evenly spaced.
        max_requests, max_total_tokens (`int`, *optional*): budgets of one process, retries included. A request is sent
            only if its worst case fits: each byte of the prompt a token, and a reply of `max_tokens`.

    Raises:
        ConfigError: an argument cannot work, or the variable of the key is not set.
    """

    model: Name
    base_url: Name
    api_key_env: Name | None = None
    temperature: AboveZero = 0.8
    max_tokens: AtLeastOne = 1024
    structured: bool = True
    timeout: SHORT = 60.0
    max_seconds: SHORT = 600.0
    retries: AtLeastZero = 5
    backoff: Annotated[float, Range(least=0, most=86_400, such_as=1)] = 1.0
    max_wait: Annotated[float, Range(least=0, most=86_400, such_as=120)] = 120.0
    concurrency: Annotated[int, Range(least=1, most=1024, such_as=4)] = 4
    requests_per_minute: Annotated[float, Range(least=0.001, such_as=60)] | None = None
    max_requests: AtLeastOne | None = None
    max_total_tokens: AtLeastOne | None = None

    def __post_init__(self) -> None:
        fit(type(self).__name__, "base_url", self.base_url, str)
        checked_url(self.base_url)
        check_fields(self)
        _ = self._key()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The endpoint, its model, and how it decodes."""
        names = ("base_url", "model", "temperature", "max_tokens", "structured")
        return {name: getattr(self, name) for name in names}

    def generate(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Answer]]:
        """Ask the endpoint, as `Generator` says.

        Raises:
            EndpointError: the endpoint is down or refuses; the answers that came before have been yielded.
            ConfigError: a worker would have a budget or rate of its own.
        """
        connection, run, failed = self._connection, _Run(), None
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                futures = {pool.submit(self._answer, ask, connection, run): place for place, ask in enumerate(asks)}
                for future in as_completed(futures):
                    if isinstance(error := future.exception(), EndpointError):
                        failed = failed or error
                        run.stop.set()
                    else:
                        yield futures[future], future.result()
            finally:
                run.stop.set()
                run.left.set()
        if failed is not None:
            raise failed

    def _answer(self, ask: Ask, connection: _Connection, run: _Run) -> Answer:
        worst = len(ask.prompt.encode()) + self.max_tokens
        attempt = 0
        while not run.stop.is_set():
            if not connection.meter.reserve(worst):
                return Answer(failure=BUDGET)
            connection.meter.wait_for_turn(run.stop)
            answer, used, trouble = connection.ask(ask, run.left)
            connection.meter.settle(worst, worst if used is None else used)
            if trouble is None:
                return answer
            if trouble.again:
                if attempt == self.retries:
                    raise self._error(f"{trouble.what}, {attempt + 1} times", "Start it again, or raise retries=.")
                self._wait(trouble, ask, attempt, connection.meter, run.stop)
                attempt += 1
        return Answer(failure=ENDPOINT)

    def _wait(self, trouble: _Trouble, ask: Ask, attempt: int, meter: _Meter, stop: threading.Event) -> None:
        spread = 0.5 + ask.seed / 2**32
        seconds = self.backoff * 2.0 ** min(attempt, 60) * spread if trouble.wait is None else trouble.wait
        if seconds > self.max_wait:
            raise self._error(f"{trouble.what} and asks to wait {seconds:.0f} s", "Wait, or raise max_wait=.")
        logger.info("%s: %s; again in %.1f s", self.base_url, trouble.what, seconds)
        if trouble.everybody:
            meter.pause(seconds)
        else:
            stop.wait(seconds)

    def _error(self, what: str, advice: str) -> EndpointError:
        return EndpointError(
            f"The endpoint {self.base_url} (model {self.model!r}) {what}. {advice} Replies so far are stored: the same "
            "call goes on where it stopped."
        )

    def _key(self) -> str | None:
        """Read the key from the environment; Hugging Face's own hosts get that of the Hub.

        Raises:
            ConfigError: there is no key, or others could read it on its way.
        """
        url = urlsplit(self.base_url)
        if self.api_key_env is None:
            if url.scheme != "https" or not f".{url.hostname}".endswith(HUGGING_FACE):
                return None
            from huggingface_hub import get_token

            return get_token()
        named = repr(self.api_key_env) if VARIABLE.fullmatch(self.api_key_env) else "..."
        if not (key := os.environ.get(self.api_key_env, "").strip()):
            raise ConfigError(
                f"api_key_env={named}: that environment variable is not set. Set it, name the one that holds the key "
                "(the name, not the key), or leave it out where no key is needed."
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"api_key_env={named}: that environment variable holds more than a key, such as spaces or line ends. "
                "Set it to the key alone."
            )
        if url.scheme != "https" and not is_loopback(url.hostname):
            raise ConfigError(
                f"api_key_env={named} with base_url={self.base_url!r}: over http others can read the key. Give a URL "
                "of https, or of this machine such as http://127.0.0.1:8000/v1 behind a tunnel, or leave out the key."
            )
        return key

    @property
    def _connection(self) -> _Connection:
        """The connection of this process: a fork has neither the threads of its parent nor its connections."""
        opened: _Connection | None = self.__dict__.get("_opened")
        if opened is None or opened.process != os.getpid():
            limits = (self.requests_per_minute, self.max_requests, self.max_total_tokens)
            if in_child() and any(limit is not None for limit in limits):
                raise ConfigError(
                    "num_proc > 1 with a budget or rate: each worker would have its own. Use num_proc=1 and "
                    "concurrency=: the endpoint does the work."
                )
            opened = _Connection(self)
            object.__setattr__(self, "_opened", opened)
        return opened

    def __getstate__(self) -> dict[str, Any]:
        return {setting.name: getattr(self, setting.name) for setting in fields(self)}


@dataclass(frozen=True)
class _Run:
    """The events that end one call: `stop` keeps requests from being sent, `left` breaks off those under way."""

    stop: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class _Trouble:
    """A failed request: why, whether to send it again, after how many seconds, and whether all requests should wait."""

    what: str
    again: bool = True
    wait: float | None = None
    everybody: bool = False


class _Connection:
    """The client of one process, with what it has spent. Opening it makes sure that the endpoint answers."""

    def __init__(self, settings: EndpointGenerator) -> None:
        self.settings, self.process, self.key = settings, os.getpid(), settings._key()
        self.client = Client(settings.base_url, self.key, timeout=settings.timeout, total=settings.max_seconds)
        self.meter = _Meter(settings.requests_per_minute, settings.max_requests, settings.max_total_tokens)
        self.structured = settings.structured
        path = urlsplit(settings.base_url).path.rstrip("/")
        self.path = "" if path.endswith(CHAT) else CHAT if path.endswith("/v1") else f"/v1{CHAT}"
        try:
            self.client.probe()
        except self.client.errors as error:
            raise self.settings._error(
                f"does not answer ({self._quoted(error)})", "Start it, or correct base_url=."
            ) from None

    def _quoted(self, said: object) -> str:
        """Return what an endpoint or an error says, without keys."""
        text = str(said) if isinstance(said, str) else f"{type(said).__name__}: {said}"
        return shown(masked(text.replace(self.key, MASK) if self.key else text))

    def ask(self, ask: Ask, left: threading.Event) -> tuple[Answer, int | None, _Trouble | None]:
        """Send a request; return the answer, the tokens it took where the endpoint says so, and what went wrong.

        Raises:
            EndpointError: the endpoint will refuse every request.
        """
        structured = self.structured
        request = {name: getattr(self.settings, name) for name in ("model", "temperature", "max_tokens")}
        request |= {"messages": [{"role": "user", "content": ask.prompt}], "seed": ask.seed}
        try:
            reply = self.client.post(self.path, request | (_structured(ask.form) if structured else {}), left)
            if reply.status >= 400:
                return Answer(failure=ENDPOINT), 0, self._refused(reply, structured)
            return (*_completion(reply.body), None)
        except Left:
            return Answer(failure=ENDPOINT), None, None
        except Refused as error:
            if error.lasting:
                raise self.settings._error(
                    self._quoted(str(error)), "Give its address as base_url=, if you trust it."
                ) from None
            what = str(error)
        except self.client.errors as error:
            return Answer(failure=ENDPOINT), None, _Trouble(f"does not answer ({self._quoted(error)})")
        except NO_COMPLETION as error:
            what = f"sent no chat completion ({str(error)[:200]})"
        warn(
            f"{self.settings.base_url} {self._quoted(what)}. Check that base_url= is that of an OpenAI-compatible "
            "endpoint; the row goes without."
        )
        return Answer(failure=ENDPOINT), None, None

    def _refused(self, reply: Reply, structured: bool) -> _Trouble | None:
        status, said = reply.status, self._quoted(said_by(reply.body, reply.status))
        if status in PROMPT_REFUSED and structured:
            logger.info("%s takes no response_format (%s); asking without", self.settings.base_url, said)
            self.structured = False
            return _Trouble("", again=False)
        if status in PROMPT_REFUSED:
            warn(
                f"{self.settings.base_url} refused a prompt ({said}). Its row goes without; shorten the "
                "prompt or the texts if this happens often."
            )
            return None
        if status in TRY_AGAIN or status >= 500:
            return _Trouble(f"answered {status}", wait=_seconds(reply.retry_after), everybody=status == TOO_MANY)
        raise self.settings._error(f"answered {status}: {said}", "Check model=, base_url= and the key in api_key_env=.")


def _structured(form: str) -> dict[str, Any]:
    """Return the part of a request that asks for a reply of a form."""
    schema = {"name": form, "schema": SCHEMAS[form], "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _completion(body: bytes) -> tuple[Answer, int | None]:
    """Read the reply in the body of a chat completion, and how many tokens were used.

    Raises:
        NO_COMPLETION: the body is none.
    """
    said = json.loads(body)
    text, used = said["choices"][0]["message"].get("content") or "", (said.get("usage") or {}).get("total_tokens")
    if not isinstance(text, str):
        raise TypeError(f"content of type {type(text).__name__}")
    return Answer(text), used if type(used) is int and used >= 0 else None


@dataclass
class _Meter:
    """The requests and tokens spent so far, and when the next request may go; all threads share it."""

    requests_per_minute: float | None
    max_requests: int | None
    max_total_tokens: int | None
    requests: int = 0
    tokens: int = 0
    free_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, tokens: int) -> bool:
        """Say whether a request of at most so many tokens fits the budget, and count it if so."""
        with self.lock:
            most_requests, most_tokens = self.max_requests or math.inf, self.max_total_tokens or math.inf
            if self.requests >= most_requests or self.tokens + tokens > most_tokens:
                return False
            self.requests += 1
            self.tokens += tokens
            return True

    def settle(self, reserved: int, used: int) -> None:
        """Count what a request used instead of what was reserved."""
        with self.lock:
            self.tokens += used - reserved

    def wait_for_turn(self, stop: threading.Event) -> None:
        """Sleep until the rate lets a request through, and no pause is on."""
        interval = 60.0 / self.requests_per_minute if self.requests_per_minute else 0.0
        with self.lock:
            turn = max(time.monotonic(), self.free_at)
            self.free_at = turn + interval
        stop.wait(max(turn - time.monotonic(), 0.0))

    def pause(self, seconds: float) -> None:
        """Let no request through for some time."""
        with self.lock:
            self.free_at = max(self.free_at, time.monotonic() + seconds)


def _seconds(retry_after: str | None) -> float | None:
    """Read the seconds of a `Retry-After` header, which holds a number or a date."""
    with contextlib.suppress(TypeError, ValueError):
        seconds = float(retry_after or "")
        return None if math.isnan(seconds) else max(seconds, 0.0)
    with contextlib.suppress(TypeError, ValueError):
        return max((parsedate_to_datetime(retry_after or "") - datetime.now(timezone.utc)).total_seconds(), 0.0)
    return None
