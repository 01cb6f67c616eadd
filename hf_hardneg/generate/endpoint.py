"""`EndpointGenerator`: a model behind any OpenAI-compatible endpoint, through `huggingface_hub.InferenceClient`."""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from hf_hardneg.errors import ConfigError, EndpointError, warn
from hf_hardneg.generate.generators import BUDGET, ENDPOINT, Answer, Ask, check_decoding
from hf_hardneg.generate.prompts import SCHEMA
from hf_hardneg.process import in_child

logger = logging.getLogger(__name__)

HUGGING_FACE = (".huggingface.co", ".huggingface.cloud")
TRY_AGAIN = (408, 409, 425, 429)
TOO_MANY = 429
PROMPT_REFUSED = (400, 413, 422)
NO_COMPLETION = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
"""What `InferenceClient` raises on a body that is no chat completion, and what reading one of another shape raises."""

RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "negative", "schema": SCHEMA, "strict": True}}


@dataclass(frozen=True, kw_only=True)
class EndpointGenerator:
    """A chat model behind an OpenAI-compatible endpoint: vLLM, TGI, llama.cpp, `transformers serve`, a provider.

    No key is part of this object: it is read from the environment for each connection. Without `api_key_env` none is
    sent, except to Hugging Face's own hosts, which get the token `huggingface_hub` knows.

    Args:
        model (`str`): name the endpoint knows.
        base_url (`str`): such as `"http://127.0.0.1:8000/v1"` or `"https://router.huggingface.co/v1"`.
        api_key_env (`str`, *optional*): environment variable that holds the key.
        temperature (`float`, defaults to 0.8), max_tokens (`int`, defaults to 1024): of the replies.
        structured (`bool`, defaults to `True`): ask for replies in JSON, of the schema where the endpoint is TGI; one
            that refuses this is asked without. What comes is validated in any case.
        timeout (`float`, defaults to 60): seconds without a byte from the endpoint.
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

    model: str
    base_url: str
    api_key_env: str | None = None
    temperature: float = 0.8
    max_tokens: int = 1024
    structured: bool = True
    timeout: float = 60.0
    retries: int = 5
    backoff: float = 1.0
    max_wait: float = 120.0
    concurrency: int = 4
    requests_per_minute: float | None = None
    max_requests: int | None = None
    max_total_tokens: int | None = None

    def __post_init__(self) -> None:
        check_decoding(self.temperature, self.max_tokens)
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigError(f"base_url={self.base_url!r} is no URL of an endpoint; give one as http://host:8000/v1.")
        if url.username or url.password or url.query:
            raise ConfigError(
                f"base_url for {url.hostname} holds a user, password or query, which would be stored and shown. Give "
                "the plain URL, and the key in an environment variable named by api_key_env=."
            )
        for name, least in (("concurrency", 1), ("retries", 0), ("backoff", 0), ("max_wait", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)} cannot work; give at least {least}.")
        for name in ("timeout", "requests_per_minute", "max_requests", "max_total_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name}={value} lets no request through; give one above 0, or leave it out.")
        _ = self._key()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The endpoint, its model, and how it decodes."""
        names = ("base_url", "model", "temperature", "max_tokens", "structured")
        return {name: getattr(self, name) for name in names}

    def generate(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Answer]]:
        """See `Generator`.

        Raises:
            EndpointError: the endpoint is down or refuses; what it answered before has been handed on.
            ConfigError: a worker would have a budget or rate of its own.
        """
        connection, stop, failed = self._connection, threading.Event(), None
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                futures = {pool.submit(self._answer, ask, connection, stop): place for place, ask in enumerate(asks)}
                for future in as_completed(futures):
                    if isinstance(error := future.exception(), EndpointError):
                        failed = failed or error
                        stop.set()
                    else:
                        yield futures[future], future.result()
            finally:
                stop.set()
        if failed is not None:
            raise failed

    def _answer(self, ask: Ask, connection: _Connection, stop: threading.Event) -> Answer:
        worst = len(ask.prompt.encode()) + self.max_tokens
        attempt = 0
        while not stop.is_set():
            if not connection.meter.reserve(worst):
                return Answer(failure=BUDGET)
            connection.meter.wait_for_turn(stop)
            answer, used, trouble = connection.ask(ask)
            connection.meter.settle(worst, worst if used is None else used)
            if trouble is None:
                return answer
            if trouble.again:
                if attempt == self.retries:
                    raise self._error(f"{trouble.what}, {attempt + 1} times", "Start it again, or raise retries=.")
                self._wait(trouble, ask, attempt, connection.meter, stop)
                attempt += 1
        return Answer(failure=ENDPOINT)

    def _wait(self, trouble: _Trouble, ask: Ask, attempt: int, meter: _Meter, stop: threading.Event) -> None:
        spread = 0.5 + ask.seed / 2**32
        seconds = self.backoff * 2**attempt * spread if trouble.wait is None else trouble.wait
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
        if self.api_key_env is not None:
            if not os.environ.get(self.api_key_env):
                raise ConfigError(
                    f"api_key_env={self.api_key_env!r}: that environment variable is not set. Set it, name the one "
                    "that holds the key, or leave it out where no key is needed."
                )
            return os.environ[self.api_key_env]
        if f".{urlsplit(self.base_url).hostname}".endswith(HUGGING_FACE):
            from huggingface_hub import get_token

            return get_token()
        return None

    @functools.cached_property
    def _connection(self) -> _Connection:
        limits = (self.requests_per_minute, self.max_requests, self.max_total_tokens)
        if in_child() and any(limit is not None for limit in limits):
            raise ConfigError(
                "num_proc > 1 with a budget or rate: each worker would have its own. Use num_proc=1 and concurrency=: "
                "the endpoint does the work."
            )
        return _Connection(self)

    def __getstate__(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True)
class _Trouble:
    """Why a request brought nothing, whether to send it again, after how many seconds, and whether all should wait."""

    what: str
    again: bool = True
    wait: float | None = None
    everybody: bool = False


class _Connection:
    """The client of one process, and what it has spent. Opening it makes sure that somebody answers."""

    def __init__(self, settings: EndpointGenerator) -> None:
        from huggingface_hub import InferenceClient
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

        key = settings._key()
        headers: Any = {} if key else {"authorization": None}
        self.settings = settings
        self.client = InferenceClient(
            base_url=settings.base_url, api_key=key, headers=headers, timeout=settings.timeout
        )
        self.meter = _Meter(settings.requests_per_minute, settings.max_requests, settings.max_total_tokens)
        self.structured = settings.structured
        self.http_error: type[Exception] = HfHubHTTPError
        self.network_errors: Any = (OSError, *InferenceTimeoutError.__bases__)
        self._probe()

    def _probe(self) -> None:
        from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

        try:
            get_session().get(self.settings.base_url, timeout=self.settings.timeout)
        except self.network_errors as error:
            raise self.settings._error(
                f"does not answer ({type(error).__name__}: {error})", "Start it, or correct base_url=."
            ) from error

    def ask(self, ask: Ask) -> tuple[Answer, int | None, _Trouble | None]:
        """The answer, the tokens it took where the endpoint says so, and what went wrong.

        Raises:
            EndpointError: the endpoint will refuse every request.
        """
        structured = self.structured
        try:
            output = self.client.chat_completion(
                [{"role": "user", "content": ask.prompt}],
                model=self.settings.model,
                temperature=self.settings.temperature,
                max_tokens=self.settings.max_tokens,
                seed=ask.seed,
                response_format=RESPONSE_FORMAT if structured else None,  # type: ignore[arg-type]
            )
            text, used = output.choices[0].message.content or "", getattr(output.usage, "total_tokens", None)
            if not isinstance(text, str):
                raise TypeError(f"content of type {type(text).__name__}")
            return Answer(text), used if isinstance(used, int) and used >= 0 else None, None
        except self.http_error as error:
            return Answer(failure=ENDPOINT), 0, self._refused(error, structured)
        except self.network_errors as error:
            return Answer(failure=ENDPOINT), None, _Trouble(f"does not answer ({type(error).__name__}: {error})")
        except NO_COMPLETION as error:
            warn(
                f"{self.settings.base_url} sent no chat completion ({error}). Check that base_url= is that of an "
                "OpenAI-compatible endpoint."
            )
            return Answer(failure=ENDPOINT), None, None

    def _refused(self, error: Any, structured: bool) -> _Trouble | None:
        status, said = error.response.status_code, error.server_message or str(error).partition("\n")[0]
        if status in PROMPT_REFUSED and structured:
            logger.info("%s takes no response_format (%s); asking without", self.settings.base_url, said)
            self.structured = False
            return _Trouble("", again=False)
        if status in PROMPT_REFUSED:
            warn(
                f"{self.settings.base_url} refused a prompt ({said}). Its row gets no written negative; shorten the "
                "prompt or the texts if this happens often."
            )
            return None
        if status in TRY_AGAIN or status >= 500:
            wait = _seconds(error.response.headers.get("Retry-After"))
            return _Trouble(f"answered {status}", wait=wait, everybody=status == TOO_MANY)
        raise self.settings._error(
            f"answered {status}: {said}", "Check model=, base_url= and the key in api_key_env=."
        ) from error


@dataclass
class _Meter:
    """What was spent, and when the next request may go; shared by threads."""

    requests_per_minute: float | None
    max_requests: int | None
    max_total_tokens: int | None
    requests: int = 0
    tokens: int = 0
    free_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, tokens: int) -> bool:
        """Whether a request of at most so many tokens fits the budget; if so, it is counted."""
        with self.lock:
            if self.max_requests is not None and self.requests >= self.max_requests:
                return False
            if self.max_total_tokens is not None and self.tokens + tokens > self.max_total_tokens:
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
    """The seconds of a `Retry-After` header, which holds a number or a date."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
        return None if math.isnan(seconds) else max(seconds, 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(retry_after) - datetime.now(timezone.utc)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None
