"""Servers that speak as OpenSearch or Elasticsearch does: osmem, which searches words, and a double with vectors."""

import json
import re
import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import numpy as np


class VectorDouble:
    """A double of both servers that holds vectors: requests and formulas as their documentation says, by NumPy.

    Args:
        kind (`str`): `"dense_vector"` of Elasticsearch, or `"knn_vector"` of OpenSearch.
        space (`str`): the name of the similarity there.
        ids, texts, vectors: documents.
        lost (`float`): share of the documents that approximate search does not look at.
        password (`str`, *optional*): of the user `reader`, without which it answers 401.
    """

    def __init__(self, kind, space, ids, texts, vectors, lost=0.0, password=None):
        self.kind, self.space, self.password, self.writes = kind, space, password, len(ids)
        self.ids, self.texts, self.vectors = list(ids), list(texts), np.asarray(vectors, np.float64)
        self.looked_at = np.random.default_rng(0).random(len(ids)) >= lost
        self.failed_shards = 0

    def add(self, key, text, vector):
        self.ids, self.texts = [*self.ids, key], [*self.texts, text]
        self.vectors = np.vstack([self.vectors, np.asarray(vector, np.float64)])
        self.looked_at, self.writes = np.append(self.looked_at, True), self.writes + 1

    def answer(self, path, body):
        name, _, verb = path.partition("?")[0].strip("/").partition("/")
        if name == "_search" and verb == "scroll":
            return {"_scroll_id": "s", "hits": {"hits": []}, **self.shards}
        if name != "docs":
            reason = {"type": "index_not_found_exception", "reason": f"no such index [{name}]"}
            return 404, {"error": {**reason, "root_cause": [reason]}, "status": 404}
        if verb == "":
            field = {"type": self.kind, "dims": self.width, "similarity": self.space}
            if self.kind == "knn_vector":
                field = {"type": self.kind, "dimension": self.width, "method": {"space_type": self.space}}
            properties = {"text": {"type": "text"}, "place": field}
            return {"docs": {"settings": {"index": {"uuid": "u"}}, "mappings": {"properties": properties}}}
        if verb == "_mget":
            return {"docs": [self.source(key) for key in body["ids"]]}
        if verb == "_msearch":
            return {"responses": [self.searched(query) for query in body[1::2]]}
        if body.get("aggs"):
            total = {"value": len(self.ids), "relation": "eq"}
            return {"hits": {"total": total}, "aggregations": {"written": {"value": self.writes}}, **self.shards}
        return {"_scroll_id": "s", "hits": {"hits": [self.source(key) for key in self.ids]}, **self.shards}

    @property
    def shards(self):
        return {
            "timed_out": False,
            "_shards": {"failed": self.failed_shards, "total": 2, "successful": 2, "skipped": 0},
        }

    @property
    def width(self):
        return self.vectors.shape[1]

    def source(self, key):
        if key not in self.ids:
            return {"_id": key, "found": False}
        row = self.ids.index(key)
        return {"_id": key, "found": True, "_source": {"text": self.texts[row], "place": self.vectors[row].tolist()}}

    def searched(self, body):
        query = body.get("query", {})
        if "script_score" in query:
            script, chosen = query["script_score"]["script"], query["script_score"]["query"]
            assert script.get("lang", "painless") == ("knn" if self.kind == "knn_vector" else "painless")
            asked, inside = (
                script["params"]["query_value"],
                np.isin(self.ids, chosen.get("ids", {}).get("values", self.ids)),
            )
        else:
            knn = body["knn"] if self.kind == "dense_vector" else query["knn"]["place"]
            effort = knn["num_candidates"] if self.kind == "dense_vector" else knn["method_parameters"]["ef_search"]
            assert effort >= knn["k"] == body["size"]
            asked, inside = (
                knn["query_vector" if self.kind == "dense_vector" else "vector"],
                self.looked_at | (effort > 300),
            )
        scores = np.where(inside, self.scores(np.asarray(asked)), -np.inf).astype(np.float32)
        best = np.argsort(-scores, kind="stable")[: min(body["size"], int(inside.sum()))]
        hits = [{"_id": self.ids[row], "_score": float(scores[row])} for row in best]
        return {"hits": {"hits": hits}, "status": 200, **self.shards}

    def scores(self, asked):
        dots = self.vectors @ asked
        if self.space in ("cosine", "cosinesimil"):
            return 1 + dots / np.linalg.norm(self.vectors, axis=1) / np.linalg.norm(asked)
        if self.space in ("l2", "l2_norm"):
            return 1 / (1 + ((self.vectors - asked) ** 2).sum(axis=1))
        return np.where(dots < 0, 1 / (1 - dots), dots + 1)


class WeaviateDouble(VectorDouble):
    """A double of Weaviate's routes, which reads the questions that the driver writes, by NumPy."""

    def __init__(self, space, ids, texts, vectors):
        super().__init__("hnsw", space, ids, texts, vectors)

    def answer(self, path, body):
        path, _, options = path.partition("?")
        if path.startswith("/v1/schema/"):
            if not path.endswith("/docs"):
                return 404, {}
            fields = [{"name": "key", "dataType": ["text"]}, {"name": "text", "dataType": ["text"]}]
            return {"class": "docs", "properties": fields, "vectorIndexConfig": {"distance": self.space}}
        if path == "/v1/objects":
            after = dict(parse_qsl(options, keep_blank_values=True))["after"]
            start = self.numbers().index(after) + 1 if after else 0
            return {"objects": [self.object(row) for row in range(start, min(start + 30, len(self.ids)))]}
        query = body["query"]
        if "Aggregate" in query:
            return {"data": {"Aggregate": {"docs": [{"meta": {"count": len(self.ids)}}]}}}
        if "nearVector" in query:
            asked, k = re.search(r"vector: (\[.*?\])}, limit: (\d+)", query).groups()
            far = self.distances(np.array(json.loads(asked))).astype(np.float32)
            rows = np.argsort(far, kind="stable")[: int(k)]
            return self.got([{**self.row(row), "_additional": {"distance": float(far[row])}} for row in rows])
        if "ContainsAny" in query:
            names = json.loads(re.search(r"valueText: (\[.*?\])}, limit", query)[1])
            return self.got([self.row(row) for row, key in enumerate(self.ids) if key in names])
        return self.got([self.row(0)])

    def got(self, rows):
        return {"data": {"Get": {"docs": rows}}}

    def numbers(self):
        return [f"{row:08}-0000-4000-8000-000000000000" for row in range(len(self.ids))]

    def object(self, row):
        return {"id": self.numbers()[row], "properties": self.row(row), "vector": self.vectors[row].tolist()}

    def row(self, row):
        told = {"id": self.numbers()[row], "vector": self.vectors[row].tolist(), "lastUpdateTimeUnix": str(self.writes)}
        return {"key": self.ids[row], "text": self.texts[row], "_additional": told}

    def distances(self, asked):
        dots = self.vectors @ asked
        if self.space == "l2-squared":
            return ((self.vectors - asked) ** 2).sum(axis=1)
        return -dots if self.space == "dot" else 1 - dots / np.linalg.norm(self.vectors, axis=1) / np.linalg.norm(asked)


def handler(double):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each body waits for the other side to say that it has the head
        wbufsize = -1

        def do_GET(self):
            text = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            body = lines if "_msearch" in self.path else (lines or [{}])[0]
            answer = double.answer(self.path, body)
            status, told = answer if isinstance(answer, tuple) else (200, answer)
            if double.password and "cmVhZGVy" not in self.headers.get("authorization", ""):
                status, told = 401, {"error": "Unauthorized", "status": 401}
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    return Handler


class Server(ThreadingHTTPServer):
    """Ends the connections that are open when it ends, as a server that is killed does."""

    daemon_threads = True

    def __init__(self, *arguments):
        self.open = set()
        super().__init__(*arguments)

    def process_request(self, request, client_address):
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.open.discard(request)
        super().shutdown_request(request)

    def hang_up(self):
        for request in list(self.open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(double, port=0):
    """The port on which a double serves on this machine; by default a free one."""
    server = Server(("127.0.0.1", port), handler(double))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()
