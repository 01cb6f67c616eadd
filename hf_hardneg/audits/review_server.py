"""The page of a review, on this machine alone: a server of the standard library, for one person.

It listens on loopback. Every address begins with a token that nobody can guess, and a request must name the server by
its loopback name: a page elsewhere that has its own name lead here is refused. Texts travel as JSON and become text
nodes; the policy of the page allows neither scripts nor styles but its own files, and no other server.
"""

from __future__ import annotations

import json
import secrets
import socketserver
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hf_hardneg.audits.orders import ORDERS
from hf_hardneg.audits.shown_rows import ShownRows
from hf_hardneg.errors import ConfigError, HardNegError
from hf_hardneg.reports.templates import rendered

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost")
LONGEST_BODY = 10_000
MOST_UNITS = 50
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FILES = {
    "look.css": ("reports", "text/css"),
    "review.css": ("audits", "text/css"),
    "review.js": ("audits", "text/javascript"),
}
"""Files of the package that the page loads: their room, and their type."""


class Refusal(Exception):
    """A request that is not answered: the status and what is said."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class ReviewServer(ThreadingHTTPServer):
    """Serves the page of some rows; `url` is its address with the token.

    Args:
        rows (`ShownRows`): what is reviewed.
        port (`int`): 0 for any that is free.

    Raises:
        ConfigError: the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, rows: ShownRows, port: int) -> None:
        self.rows, self.token, self.guard = rows, secrets.token_urlsafe(32), threading.Lock()
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port={port} cannot be listened on ({error}). Give another, or 0 for any that is free."
            ) from error
        self.hosts = {f"{name}:{self.server_port}" for name in NAMES}
        self.url = f"http://{LOOPBACK}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """Bind without asking a name server for the name of this machine, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away, and show every other error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    server_version, sys_version = "hf_hardneg", ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Answer with the page, a file of it, or rows."""
        self._answer(self._read)

    def do_POST(self) -> None:
        """Take a verdict, or take one back."""
        self._answer(self._write)

    def log_message(self, format: str, *args: Any) -> None:
        """Write no line for a request: its address has the token."""

    def _answer(self, respond: Callable[[str], tuple[str, bytes]]) -> None:
        status = HTTPStatus.OK
        try:
            kind, body = respond(self._checked_path())
        except Refusal as refusal:
            status, kind, body = refusal.status, "text/plain", refusal.reason.encode()
            self.close_connection = True
        except HardNegError as error:
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", str(error).encode()
            self.close_connection = True
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _checked_path(self) -> str:
        """Return what is asked for, after the token.

        Raises:
            Refusal: the request names another server, comes from another page, or lacks the token.
        """
        if self.headers.get("Host") not in self.server.hosts:
            raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, "This server answers by its loopback address alone.")
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            raise Refusal(HTTPStatus.FORBIDDEN, "Another page asked; open the address that was printed.")
        token, _, rest = urlsplit(self.path).path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise Refusal(HTTPStatus.FORBIDDEN, "The address lacks its token; open the one that was printed.")
        return rest

    def _read(self, name: str) -> tuple[str, bytes]:
        if name == "":
            return "text/html", rendered("audits/review.html.jinja", orders=list(ORDERS)).encode()
        if name in FILES:
            room, kind = FILES[name]
            return kind, files("hf_hardneg").joinpath(room, name).read_bytes()
        if name == "rows":
            return self._rows({key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()})
        raise Refusal(HTTPStatus.NOT_FOUND, "There is nothing here; open the address that was printed.")

    def _rows(self, asked: dict[str, str]) -> tuple[str, bytes]:
        rows, order = self.server.rows, asked.get("order", "")
        if order not in ORDERS:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"order must be one of {', '.join(ORDERS)}.")
        with self.server.guard:
            try:
                start = int(asked.get("start", "0"))
                count = min(max(int(asked.get("count", "1")), 0), MOST_UNITS)
            except ValueError as error:
                raise Refusal(HTTPStatus.BAD_REQUEST, "start and count must be whole numbers.") from error
            total = len(rows.order(order).row)
            if "open" in asked:
                first = rows.first_open(order, start)
                start = total if first is None else first
            units = rows.units(order, start, count)
            return _json({"start": start, "total": total, "units": units, "counts": rows.log.counts})

    def _write(self, name: str) -> tuple[str, bytes]:
        asked = self._body()
        with self.server.guard:
            if name == "undo":
                return self._undo()
            if name != "verdict":
                raise Refusal(HTTPStatus.NOT_FOUND, "There is nothing here; open the address that was printed.")
            row, place, score = (asked.get(key) for key in ("row", "place", "score"))
            whole = [value for value in (row, place, score) if type(value) is int]
            if len(whole) < 3 or score not in (0, 1) or type(asked.get("drawn", False)) is not bool:
                raise Refusal(HTTPStatus.BAD_REQUEST, "A verdict has a row, a place, a score of 0 or 1, and drawn.")
            rows = self.server.rows
            verdict = rows.verdict(whole[0], whole[1], whole[2], drawn=asked.get("drawn", False))
            if verdict is None:
                raise Refusal(HTTPStatus.NOT_FOUND, "There is no such negative, or it shows nothing.")
            rows.log.add(*verdict)
            return _json({"row": row, "place": place, "verdict": score, "counts": rows.log.counts})

    def _undo(self) -> tuple[str, bytes]:
        rows = self.server.rows
        undone = rows.log.undo()
        if undone is None:
            return _json({"counts": rows.log.counts})
        stands = rows.verdict(undone.row, undone.place, None, drawn=False)
        is_there = stands is not None and (stands[1].query, stands[1].document) == (undone.query, undone.document)
        where = {"row": undone.row, "place": undone.place} if is_there else {}
        score = rows.log.score(stands[0]) if stands is not None and is_there else None
        return _json({**where, "verdict": score, "counts": rows.log.counts})

    def _body(self) -> dict[str, Any]:
        if self.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Only JSON is taken.")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 6 and int(length) <= LONGEST_BODY):
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request has at most {LONGEST_BODY} bytes.")
        try:
            asked = json.loads(self.rfile.read(int(length)) or b"{}")
        except (ValueError, RecursionError) as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "This is no JSON.") from error
        if not isinstance(asked, dict):
            raise Refusal(HTTPStatus.BAD_REQUEST, "This is no JSON object.")
        return asked


def _json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, allow_nan=False).encode()
