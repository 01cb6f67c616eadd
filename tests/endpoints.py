"""Real HTTP endpoints on loopback that speak the OpenAI protocol and say what a test tells them to."""

import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hf_hardneg.generate.prompts import KEYS


def passage(text):
    """A reply that follows the schema."""
    return json.dumps(dict.fromkeys(KEYS[:2], "Because.") | {KEYS[2]: text})


class Endpoint:
    """What a server was asked, and what it answers: `script` is called with the prompt and the request's number."""

    def __init__(self, script):
        self.script, self.bodies, self.headers, self.times = script, [], [], []
        self.lock = threading.Lock()

    def take(self, headers, body):
        with self.lock:
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self.bodies.append(body)
            self.times.append(time.monotonic())
            return len(self.bodies) - 1


@contextmanager
def serving(script):
    """An `Endpoint` at `.url`.

    The script returns a reply, or (status, headers, body), `None` to drop the line, or what answers with the handler.
    """
    endpoint = Endpoint(script)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.respond(404, {}, b"{}")

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number = endpoint.take(self.headers, body)
            said = endpoint.script(body["messages"][0]["content"], number)
            if said is None:
                self.connection.close()
            elif callable(said):
                with suppress(OSError):  # the client has gone
                    said(self)
            elif isinstance(said, str):
                usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
                message = {"role": "assistant", "content": said}
                choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
                reply = {"id": "1", "created": 0, "model": "m", "choices": choices, "usage": usage}
                self.respond(200, {"Content-Type": "application/json"}, json.dumps(reply).encode())
            else:
                self.respond(*said)

        def respond(self, status, headers, body):
            try:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # the client has gone
                pass

        def log_message(self, *parts):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
