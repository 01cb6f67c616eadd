"""What servers do that a guess would get wrong, and what their stores do about it."""

from dataclasses import replace

import numpy as np
import pytest

from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers.stores.drivers import document_store
from tests.retrievers.stores.servers import ChromaServer, MilvusFile, Postgres, Redis, exact, shared

pytestmark = pytest.mark.slow

K = 100


@pytest.fixture(scope="module")
def content():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(1200, 24)).astype(np.float32)
    return [f"d{row}" for row in range(len(vectors))], ["a text"] * len(vectors), vectors, vectors[:12] + 0.3


@pytest.fixture
def server(request, monkeypatch):
    server = shared(request.param)
    if server.secret:
        monkeypatch.setenv(server.secret, server.password)
    return server


def on(kind):
    return pytest.mark.parametrize("server", [kind], indirect=True)


def recall(store, content, effort=None):
    names, _, vectors, queries = content
    truth = exact(queries, vectors, store.describe().score_kind)
    found = store.search(queries, K, effort)
    assert {len(hits) for hits, _ in found} == {K}
    rows = [[names.index(name) for name in hits] for hits, _ in found]
    least = np.sort(truth, axis=1)[:, -K] - 1e-6
    return np.mean([truth[query][hits] >= least[query] for query, hits in enumerate(rows)])


@on(Postgres)
def test_an_index_of_hnsw_answers_forty_rows_and_the_store_all(server, content):
    address, queries = server.fill("many", *content[:3]), content[-1]
    with server.connect() as connection:
        connection.execute("set enable_seqscan = off")
        plain = "select id from many order by embedding <=> %s::real[]::vector limit 100"
        assert len(connection.execute(plain, [queries[0].tolist()], prepare=False).fetchall()) == 40
    assert recall(document_store(address), content) == 1
    store = document_store(f"{address}&exact=false")
    assert [recall(store, content, effort) for effort in store.describe().efforts][-1] > 0.98
    for _ in range(8):  # where statements are prepared, later ones go on with the index of earlier ones
        assert recall(document_store(address), content) == 1


@on(Postgres)
@pytest.mark.parametrize("index", ["ivfflat", None])
def test_half_vectors_whole_numbers_as_ids_and_missing_values(server, index):
    vectors = np.random.default_rng(4).normal(size=(300, 8)).astype(np.float16).astype(np.float32)
    with server.connect() as connection:
        connection.execute('create schema if not exists "Odd"; drop table if exists "Odd"."Docs"')
        connection.execute('create table "Odd"."Docs" ("The Id" bigint, a text, b text, v halfvec(8))')
        rows = [(7 * row, "left" if row % 2 else None, "right", str(x.tolist())) for row, x in enumerate(vectors)]
        connection.cursor().executemany(
            'insert into "Odd"."Docs" values (%s, %s, %s, %s)', [*rows, (1, "x", "y", None)]
        )
        if index:
            connection.execute('create index on "Odd"."Docs" using ivfflat (v halfvec_cosine_ops) with (lists = 10)')
    named = f"?table=Odd.Docs&id=The+Id&text=a,b&vector=v&exact={'false' if index else 'true'}"
    store = document_store(f"postgresql://postgres@127.0.0.1:{server.port}/postgres{named}")
    assert store.describe().count == 300 and bool(store.describe().efforts) == bool(index)
    ((found, scores),) = store.search(vectors[:1], 300, 1024 if index else None)
    assert found[0] == "0" and len(found) == 300
    truth = exact(vectors[:1], vectors, "cosine")[0]
    np.testing.assert_allclose(scores, [truth[int(name) // 7] for name in found], atol=2e-6)
    assert store.fetch(["7", "0"])["text"].to_pylist() == ["left right", "right"]
    with pytest.raises(ConfigError, match="invalid input syntax"):
        store.fetch(["no number"])


@on(Postgres)
def test_views_and_unknown_columns_and_metrics_are_refused(server, content):
    address = server.fill("plain", *content[:3])
    with server.connect() as connection:
        connection.execute("create or replace view looked_at as select * from plain")
        connection.execute("create index on plain using hnsw (embedding vector_l2_ops)")
    for change, match in (
        (("table=plain", "table=looked_at"), "is a view"),
        (("text=body", "text=bodi"), "no column 'bodi' but id, body, embedding"),
        (("vector=embedding", "vector=body"), "has the type text"),
        (("", ""), "indexes of several metrics"),
    ):
        with pytest.raises(ConfigError, match=match):
            document_store(address.replace(*change)).describe()
    assert document_store(f"{address}&metric=l2").describe().score_kind == "l2"


@on(Redis)
def test_hnsw_of_redis_is_searched_exactly_and_answers_more_than_ten(server, content):
    address, queries = server.fill("graph", *content[:3], index="HNSW"), content[-1]
    near = ["FT.SEARCH", "graph", "*=>[KNN 100 @embedding $v]", "PARAMS", 2, "v", queries[0].tobytes(), "DIALECT", 2]
    assert len(server.connect().execute_command(*near)) == 1 + 2 * 10
    store = document_store(address)
    assert recall(store, content) == 1 and store.describe().efforts == ()
    rough = document_store(f"{address}&exact=false")
    assert recall(rough, content, rough.describe().efforts[-1]) > 0.98


@on(Redis)
def test_documents_without_vectors_and_unknown_fields_are_refused(server, content):
    address = server.fill("holes", *(part[:50] for part in content[:3]))
    with pytest.raises(ConfigError, match=r"fields of vectors: embedding \(FLOAT32\)"):
        document_store(f"{address}&vector=other").describe()
    server.connect().hset("holes:empty", "body", "no vector")
    assert sum(map(len, document_store(address).scan())) == 51
    with pytest.raises(ConfigError, match="has 'empty' without a vector in 'embedding'"):
        list(document_store(address).scan(vectors=True))


@on(ChromaServer)
def test_chroma_looks_the_harder_the_more_is_asked_for(server, content):
    store = document_store(server.fill("harder", *content[:3]))
    found = [recall(store, content, effort) for effort in store.describe().efforts]
    assert found[0] <= found[-1] and found[-1] > 0.999


@on(MilvusFile)
@pytest.mark.parametrize("index", ["HNSW", "IVF_FLAT", "AUTOINDEX"])
def test_indexes_of_milvus_are_searched_harder(server, content, index):
    store = document_store(server.fill(f"by_{index.lower()}", *content[:3], index=index))
    assert recall(store, content, store.describe().efforts[-1]) > 0.98


@on(MilvusFile)
def test_a_line_to_a_file_is_replaced_once_it_breaks(server, content):
    store = document_store(server.fill("lines", *(part[:50] for part in content[:3])))
    state = store.describe()
    store.client._handler.close()
    assert store.patiently(store.describe) == state


@pytest.mark.parametrize(
    ("server", "wide", "options"),
    [
        (Redis, {"index": "HNSW", "M": 40}, "&exact=false"),
        (ChromaServer, {"M": 40}, ""),
        (Postgres, {}, "&exact=false"),
    ],
    indirect=["server"],
)
def test_an_index_that_is_built_anew_is_measured_anew(server, wide, options, content):
    few = [part[:80] for part in content[:3]]
    store = document_store(server.fill("again", *few, index=wide.get("index")) + options)
    before = store.describe()
    server.fill("again", *few, **wide)
    assert replace(store.describe(), mark="") == replace(before, mark="")
    assert store.describe().mark != before.mark


@on(MilvusFile)
def test_a_file_that_is_not_there_is_not_made(server, tmp_path):
    with pytest.raises(ConfigError, match="names no file of Milvus Lite that is there"):
        document_store(f"milvus://{tmp_path}/new.db?collection=docs").describe()
    assert not list(tmp_path.glob("new*"))
