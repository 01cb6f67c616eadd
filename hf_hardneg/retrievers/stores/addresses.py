"""Addresses of document stores: URIs that say where a collection is, and hold no secret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from hf_hardneg.errors import ConfigError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+([A-Za-z0-9]+))?://")
_SECRET = re.compile("pass|pwd|token|key|secret|credential|auth|signature", re.IGNORECASE)
_IN_PATH = re.compile(rf":[^/]*@|(?:{_SECRET.pattern})[^/=]*=", re.IGNORECASE)
_HALF = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+[A-Za-z0-9]+)?(?::(?!//)|//|%3A)", re.IGNORECASE)
EXAMPLE = "qdrant://host:6333/collection"
ALSO = {"postgres": ("postgresql", ""), "rediss": ("redis", "tls"), "elasticsearch": ("opensearch", "")}
"""Other schemes in use: ours, and the transport that they say."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """The parts of `scheme+transport://user@host:port/path?option=value`.

    Args:
        scheme (`str`): such as `"qdrant"`, in lower case.
        transport (`str`): what stands after `+`, such as `"https"`; else empty.
        user, host (`str`), port (`int`, *optional*), path (`str`): as in the URI; without what `%` stands for.
        options (`tuple[tuple[str, str], ...]`): what stands after `?`.
    """

    scheme: str
    transport: str
    user: str
    host: str
    port: int | None
    path: str
    options: tuple[tuple[str, str], ...]

    @property
    def folder(self) -> str:
        """The path up to its last part."""
        return self.path.rstrip("/").rpartition("/")[0]

    @property
    def collection(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]


def scheme_of(text: str) -> str | None:
    """The scheme of a URI as we call it, without its transport; `None` where a text is no URI."""
    match = _SCHEME.match(text)
    return ALSO.get(match[1].lower(), (match[1].lower(),))[0] if match else None


def half_scheme_of(text: str) -> str | None:
    """The scheme of what would be a URI with a colon and two slashes after it; `None` for any other text."""
    match = _HALF.match(text)
    return ALSO.get(match[1].lower(), (match[1].lower(),))[0] if match else None


def address_of(text: str, *, secret: str, has_users: bool) -> Address:
    """The parts of an address.

    Args:
        text (`str`): the URI.
        secret (`str`): the environment variables that hold what the store asks for, in words.
        has_users (`bool`): whether a name may stand before the host.

    Raises:
        ConfigError: it is no URI, or holds what may be a secret, which is not quoted.
    """
    match = _SCHEME.match(text)
    if match is None:
        raise ConfigError(f"{text[:80]!r} is no address of a document store. Give a URI, such as {EXAMPLE!r}.")
    scheme, transport = ALSO.get(match[1].lower(), (match[1].lower(), ""))
    transport = (match[2] or transport).lower()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError(
            f"An address of {scheme} cannot be read: its host or its port is none. Give a URI, such as {EXAMPLE!r}."
        ) from None  # the cause quotes what may be a secret
    options = tuple(parse_qsl(parts.query, keep_blank_values=True))
    named = [name for name, _ in options if _SECRET.search(name)]
    user, colon, _ = parts.netloc.rpartition("@")[0].partition(":")
    wrong = {
        f"the option {', '.join(named[:1])!r}": named,
        "a user or a password before its host": colon or (user and not has_users),
        "a part behind # (which is %23 within a name)": parts.fragment,
        "what may be a password in its path": _IN_PATH.search(unquote(parts.path)),
    }
    if what := next((words for words, is_there in wrong.items() if is_there), ""):
        raise ConfigError(
            f"The address of {scheme} at {parts.hostname or 'this machine'} holds {what}; addresses are written into "
            f"logs and names, so secrets come from the environment alone. Set {secret} and leave it out of the address."
        )
    return Address(
        scheme=scheme,
        transport=transport,
        user=unquote(user),
        host=parts.hostname or "",
        port=port,
        path=unquote(parts.path),
        options=options,
    )
