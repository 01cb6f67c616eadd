#!/usr/bin/env bash
# One would guess that Chroma finds more of the nearest documents once `ef_search` of a collection is raised: it is the
# setting that says how far its graph is searched, and may be modified.
# What happens: the server takes the new value, says it in the configuration, and finds exactly what it found before.
# What does change the first 100 hits is how many hits are asked for: of 800, the best 100 are nearly all that there are.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2> /dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# The server is in one file of the package and needs nothing that the package asks for.
"$folder/venv/bin/pip" install --quiet numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --no-deps chromadb==1.5.9
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/python" -c 'import sys, chromadb_rust_bindings as chroma; chroma.cli(sys.argv)' \
    run --path "$folder/data" --host 127.0.0.1 --port "$port" > /dev/null 2>&1 &
server=$!
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - "$port" <<'PYTHON'
import json
import sys
import time
import urllib.request
from importlib.metadata import version

import numpy as np

ROOT = f"http://127.0.0.1:{sys.argv[1]}/api/v2"
COLLECTIONS = f"{ROOT}/tenants/default_tenant/databases/default_database/collections"


def asked(url, method="GET", **values):
    request = urllib.request.Request(url, json.dumps(values).encode() if values else None, method=method)
    request.add_header("Content-Type", "application/json")
    return json.loads(urllib.request.urlopen(request, timeout=60).read() or "null")


for _ in range(200):
    try:
        asked(f"{ROOT}/heartbeat")
        break
    except OSError:
        time.sleep(0.1)
vectors = np.random.default_rng(0).normal(size=(5000, 64)).astype("float32")
queries = np.random.default_rng(1).normal(size=(50, 64)).astype("float32")
collection = asked(COLLECTIONS, "POST", name="docs", configuration={"hnsw": {"space": "l2"}})["id"]
for start in range(0, len(vectors), 1000):
    part = vectors[start : start + 1000]
    ids = [str(start + row) for row in range(len(part))]
    asked(f"{COLLECTIONS}/{collection}/add", "POST", ids=ids, embeddings=part.tolist())
distances = ((queries[:, None] - vectors) ** 2).sum(axis=2)
nearest = [set(row) for row in np.argsort(distances, axis=1)[:, :100]]


def recall(results):
    answer = asked(
        f"{COLLECTIONS}/{collection}/query", "POST", query_embeddings=queries.tolist(), n_results=results, include=[]
    )
    return np.mean([len(near & set(map(int, ids[:100]))) for near, ids in zip(nearest, answer["ids"])]) / 100


print("chromadb", version("chromadb"))
before = recall(100)
asked(f"{COLLECTIONS}/{collection}", "PUT", new_configuration={"hnsw": {"ef_search": 800}})
told = asked(f"{COLLECTIONS}/docs")["configuration_json"]["hnsw"]["ef_search"]
after, more = recall(100), recall(800)
print(f"recall@100: {before:.3f}; with ef_search {told}: {after:.3f}; best 100 of 800 hits: {more:.3f}")
assert told == 800 and after == before < more - 0.02, "ef_search has an effect now, or the hits asked for have none"
PYTHON
