"""The table of document stores that the contract test runs over: how each is filled, changed, and stopped."""

import contextlib
import os
from dataclasses import dataclass, field

import apsw
import lancedb
import numpy as np
import pyarrow as pa
import sqlite_vec
from qdrant_client import QdrantClient, models

from tests.retrievers.stores.opensearch_servers import VectorDouble, WeaviateDouble, serving
from tests.retrievers.stores.qdrant_server import QdrantDouble
from tests.retrievers.stores.servers import ChromaServer, MilvusFile, MilvusServer, Postgres, Redis, shared

METRICS = ("cosine", "dot", "l2")


@dataclass
class Place:
    """Where a store of one kind lives during a test.

    Args:
        folder (`Path`): an empty one.
    """

    folder: object
    metrics = METRICS
    """Score kinds that it can compare by; empty where it searches words."""
    has_texts = True
    in_one_process = False
    """Whether a second process cannot open it."""
    can_stop = False
    """Whether `stop` and `start` end and begin a server, which keeps its data."""
    can_change = True
    forks_may_die = False
    """Whether its client says that a fork of a process that used it may not work."""
    sorts_by_id = False
    """Whether a scan gives documents in the order of their ids, by which ties are broken then."""

    def fill(self, name, ids, texts, vectors, metric="cosine"):
        """Make a collection and return its address."""
        raise NotImplementedError

    def add(self, name, key, text, vector):
        """Add a document to a collection."""
        raise NotImplementedError

    def stop(self):
        """End the server."""

    def start(self):
        """Begin it again, on its port and with its data."""

    def close(self):
        """End whatever runs."""


class LancePlace(Place):
    forks_may_die = True

    def table(self, ids, texts, vectors):
        flat = pa.array(np.asarray(vectors, np.float32).ravel())
        lists = pa.FixedSizeListArray.from_arrays(flat, len(vectors[0]))
        return pa.table({"id": ids, "text": texts, "vector": lists})

    def fill(self, name, ids, texts, vectors, metric="cosine"):
        lancedb.connect(self.folder).create_table(name, self.table(ids, texts, vectors))
        return f"lancedb://{self.folder}/{name}?metric={metric}"

    def add(self, name, key, text, vector):
        lancedb.connect(self.folder).open_table(name).add(self.table([key], [text], [vector]))


DISTANCES = {"cosine": "Cosine", "dot": "Dot", "l2": "Euclid"}


def points(ids, texts, vectors, start=0):
    rows = zip(ids, texts, np.asarray(vectors, np.float32).tolist(), strict=True)
    return [
        models.PointStruct(id=start + row, vector=vector, payload={"key": key, "text": text})
        for row, (key, text, vector) in enumerate(rows)
    ]


def fill_qdrant(client, name, ids, texts, vectors, metric):
    params = models.VectorParams(size=len(vectors[0]), distance=DISTANCES[metric])
    client.create_collection(name, vectors_config=params)
    client.upsert(name, points(ids, texts, vectors))


@dataclass
class QdrantPlace(Place):
    server: QdrantDouble = field(default_factory=QdrantDouble)
    can_stop = True

    def fill(self, name, ids, texts, vectors, metric="cosine"):
        fill_qdrant(self.server.local, name, ids, texts, vectors, metric)
        return f"{self.server.address}/{name}?id=key"

    def add(self, name, key, text, vector):
        start = self.server.local.count(name).count
        self.server.local.upsert(name, points([key], [text], [vector], start))

    def stop(self):
        self.server.stop()

    def start(self):
        self.server.start()

    def close(self):
        self.server.stop()


class QdrantFolder(Place):
    in_one_process = True
    can_change = False

    def fill(self, name, ids, texts, vectors, metric="cosine"):
        with contextlib.closing(QdrantClient(path=str(self.folder))) as client:
            fill_qdrant(client, name, ids, texts, vectors, metric)
        return f"qdrant://{self.folder}/{name}?id=key"


class SqlitePlace(Place):
    metrics = ("cosine", "l2")

    def database(self):
        connection = apsw.Connection(f"{self.folder}/docs.db")
        connection.enable_load_extension(True)
        sqlite_vec.load(connection)
        return contextlib.closing(connection)

    def fill(self, name, ids, texts, vectors, metric="cosine"):
        columns = f"id text primary key, vector float[{len(vectors[0])}] distance_metric={metric}, +body text"
        with self.database() as connection, connection:
            connection.execute(f"create virtual table {name} using vec0({columns})")
            for row in zip(ids, texts, vectors, strict=True):
                self.insert(connection, name, *row)
        return f"sqlite-vec://{self.folder}/docs.db?table={name}&text=body"

    def insert(self, connection, name, key, text, vector):
        values = key, text, np.asarray(vector, np.float32).tobytes()
        connection.execute(f"insert into {name}(id, body, vector) values (?, ?, ?)", values)

    def add(self, name, key, text, vector):
        with self.database() as connection:
            self.insert(connection, name, key, text, vector)


class OpenSearchPlace(Place):
    """A double, since no server with vectors is to be had."""

    kind, spaces = "knn_vector", {"cosine": "cosinesimil", "dot": "innerproduct", "l2": "l2"}
    can_stop = True
    port = 0

    def fill(self, name, ids, texts, vectors, metric="cosine"):
        self.double = VectorDouble(self.kind, self.spaces[metric], ids, texts, vectors)
        self.start()
        return f"opensearch://127.0.0.1:{self.port}/{name}?vector=place"

    def add(self, name, key, text, vector):
        self.double.add(key, text, vector)

    def start(self):
        self.served = contextlib.ExitStack()
        self.port = self.served.enter_context(serving(self.double, self.port))

    def stop(self):
        self.served.close()

    def close(self):
        self.served.close()


class WeaviatePlace(OpenSearchPlace):
    kind, spaces = "hnsw", {"cosine": "cosine", "dot": "dot", "l2": "l2-squared"}

    def fill(self, name, ids, texts, vectors, metric="cosine"):
        self.double = WeaviateDouble(self.spaces[metric], ids, texts, vectors)
        self.start()
        return f"weaviate://127.0.0.1:{self.port}/{name}?id=key"


class ElasticsearchPlace(OpenSearchPlace):
    kind, spaces = "dense_vector", {"cosine": "cosine", "dot": "max_inner_product", "l2": "l2_norm"}


@dataclass
class ServerPlace(Place):
    """A place on one of the servers that all tests of this process share."""

    kind = Postgres
    can_stop = sorts_by_id = True

    def __post_init__(self):
        self.server = shared(self.kind)
        if self.server.secret:
            os.environ[self.server.secret] = self.server.password

    def fill(self, name, ids, texts, vectors, metric="cosine"):
        return self.server.fill(name, list(ids), list(texts), np.asarray(vectors, np.float32), metric)

    def add(self, name, key, text, vector):
        self.server.insert(name, [key], [text], np.asarray([vector], np.float32))

    def stop(self):
        self.server.kill()

    def start(self):
        self.server.start()

    def close(self):
        if self.server.secret:
            del os.environ[self.server.secret]


class RedisPlace(ServerPlace):
    kind = Redis


class ChromaPlace(ServerPlace):
    kind = ChromaServer
    sorts_by_id = False


class MilvusPlace(ServerPlace):
    kind = MilvusFile
    can_stop = False
    in_one_process = True


class MilvusServerPlace(ServerPlace):
    kind = MilvusServer
    sorts_by_id = False


PLACES = {
    "lancedb": LancePlace,
    "qdrant server": QdrantPlace,
    "qdrant folder": QdrantFolder,
    "pgvector": ServerPlace,
    "redis": RedisPlace,
    "chroma": ChromaPlace,
    "milvus file": MilvusPlace,
    "sqlite-vec": SqlitePlace,
    "opensearch": OpenSearchPlace,
    "elasticsearch": ElasticsearchPlace,
    "weaviate": WeaviatePlace,
}
SLOW_PLACES = {"milvus": MilvusServerPlace}
"""Document stores that need minutes, and run where they are asked for."""
