"""A Qdrant of the tests: the official local mode behind the routes that the official client asks, on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from qdrant_client import QdrantClient, models


class Handler(BaseHTTPRequestHandler):
    """Answers as a server does: what is asked, 404 for what is missing, 400 for what is wrong, 401 without the key."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits for the other side to say that it has the head
    wbufsize = -1

    def log_message(self, *told):
        pass

    def do_GET(self):
        self.answered()

    def do_POST(self):
        self.answered()

    def do_PUT(self):
        self.answered()

    def answered(self):
        size = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(size) or b"null")
        self.server.before_answer()
        if self.server.key is not None and self.headers.get("api-key") != self.server.key:
            self.send(401, {"status": {"error": "Must provide an API key or an Authorization bearer token"}})
            return
        _, _, name, *rest = urlsplit(self.path).path.split("/")
        with self.server.lock:
            if not self.server.local.collection_exists(name):
                self.send(404, {"status": {"error": f"Not found: Collection `{name}` doesn't exist!"}})
                return
            try:
                result = self.result(self.server.local, name, "/".join(rest), body)
            except Exception as error:
                self.send(400, {"status": {"error": f"Wrong input: {error}"}})
                return
        self.send(200, {"result": result, "status": "ok", "time": 0.0})

    def result(self, local, name, route, body):
        match route:
            case "":
                return plain(local.get_collection(name))
            case "points/count":
                return {"count": local.count(name).count}
            case "points/query/batch":
                asked = [models.QueryRequest(**{**each, "params": None}) for each in body["searches"]]
                return [plain(answer) for answer in local.query_batch_points(name, asked)]
            case "points/scroll":
                options = {word: body.get(word) for word in ("limit", "offset", "with_payload")}
                options |= {"with_vectors": body.get("with_vector")}
                only = models.Filter(**body["filter"]) if body.get("filter") else None
                points, after = local.scroll(name, scroll_filter=only, **options)
                return {"points": list(map(plain, points)), "next_page_offset": after}
            case "points":
                options = {"with_payload": body.get("with_payload"), "with_vectors": body.get("with_vector")}
                return list(map(plain, local.retrieve(name, body["ids"], **options)))
        raise ValueError(f"no route {route}")

    def send(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def plain(model):
    return model.model_dump(mode="json")


class QdrantDouble:
    """A server in a thread, which can be stopped and started again on its port."""

    def __init__(self, key=None):
        self.key, self.local, self.port, self.server = key, QdrantClient(":memory:"), 0, None
        self.before_answer = lambda: None
        self.start()

    @property
    def address(self):
        return f"qdrant://127.0.0.1:{self.port}"

    def start(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.server.local, self.server.key, self.server.lock = self.local, self.key, threading.Lock()
        self.server.before_answer = lambda: self.before_answer()
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
