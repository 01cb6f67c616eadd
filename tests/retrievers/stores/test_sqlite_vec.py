"""Tables of sqlite-vec: keys of both kinds, texts, metrics, and definitions that cannot be searched."""

import apsw
import numpy as np
import pytest
import sqlite_vec
from datasets import Dataset, load_from_disk

from hf_hardneg import Dense, Strategy, mine
from hf_hardneg.cli import main
from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores import SqliteVec

ROWS, WIDTH = 90, 12
_rng = np.random.default_rng(4)
VECTORS = _rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
ASKED = _rng.normal(size=(7, WIDTH)).astype(np.float32)


def writable(path):
    connection = apsw.Connection(str(path))
    connection.enable_load_extension(True)
    sqlite_vec.load(connection)
    return connection


def filled(path, definition, keys, texts=True, name="docs"):
    connection = writable(path)
    connection.execute(f"create virtual table {name} using vec0({definition})")
    key = "id" if "primary key" in definition else "rowid"
    columns, marks = (f"{key}, embedding, body", "?, ?, ?") if texts else (f"{key}, embedding", "?, ?")
    with connection:
        for row, vector in enumerate(VECTORS):
            values = (keys[row], vector.tobytes(), f"text {row}")
            connection.execute(f"insert into {name}({columns}) values ({marks})", values[: 3 if texts else 2])
    connection.close()
    return f"sqlite-vec://{path}?table={name}"


TEXT_KEY = "id text primary key, embedding float[12] distance_metric=cosine, +body text"
ROWID = "embedding float[12], +body text"


@pytest.mark.parametrize("kind", ["cosine", "l2"])
def test_hits_are_those_of_brute_force(kind, tmp_path):
    names = [f"doc {row}" for row in range(ROWS)] if kind == "cosine" else (7 + 3 * np.arange(ROWS)).tolist()
    store = SqliteVec(filled(tmp_path / "docs.db", TEXT_KEY if kind == "cosine" else ROWID, names), text="body")
    told = store.describe()
    assert (told.score_kind, told.count, told.width, told.max_k, told.efforts) == (kind, ROWS, WIDTH, 4096, ())
    asked, known = ASKED.astype(np.float64), VECTORS.astype(np.float64)
    if kind == "cosine":
        truth = asked @ known.T / np.linalg.norm(asked, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    else:
        truth = -((asked[:, None] - known) ** 2).sum(axis=2)
    for line, (ids, scores) in zip(truth, store.search(ASKED, 20), strict=True):
        best = np.argsort(-line)[:20]
        assert ids == [str(names[row]) for row in best]
        assert np.allclose(scores, line[best], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("definition", [TEXT_KEY, ROWID])
def test_documents_come_in_the_order_asked(definition, tmp_path):
    keys = [f"{row:03}" for row in range(ROWS)] if "text primary" in definition else list(range(5, ROWS + 5))
    store = SqliteVec(filled(tmp_path / "docs.db", definition, keys), text="body")
    ids = [str(keys[row]) for row in (70, 3, 12)]
    table = store.fetch(ids, vectors=True)
    assert table["id"].to_pylist() == ids and table["text"].to_pylist() == ["text 70", "text 3", "text 12"]
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), VECTORS[[70, 3, 12]])
    everything = [row for batch in store.scan(vectors=True) for row in batch.to_pylist()]
    assert [row["id"] for row in everything] == list(map(str, keys))
    for unknown in ("nothing", "1e3", "x or 1", "9" * 30):
        with pytest.raises(DocumentStoreError, match=f"holds no row '{unknown}'"):
            store.fetch([ids[0], unknown])


def test_a_column_that_is_not_there_is_an_error_and_no_text_of_its_name(tmp_path):
    address = filled(tmp_path / "docs.db", TEXT_KEY, [str(row) for row in range(ROWS)])
    with pytest.raises(DocumentStoreError, match="no such column: nothing; .* Look at text="):
        list(SqliteVec(address, text="nothing").scan())
    store = SqliteVec(address)
    assert not store.describe().has_texts and store.fetch(["3"]).column_names == ["id"]


def test_what_is_no_table_of_vectors_is_refused(tmp_path):
    with pytest.raises(DocumentStoreError, match="is no file; .* Give the path of a database"):
        SqliteVec(f"sqlite-vec://{tmp_path}/none.db", table="docs").describe()
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(DocumentStoreError, match="SQLite says: .*file is not a database"):
        SqliteVec(f"sqlite-vec://{tmp_path}/text.db", table="docs").describe()
    address = filled(tmp_path / "docs.db", TEXT_KEY, [str(row) for row in range(ROWS)])
    with pytest.raises(DocumentStoreError, match="table='nothing' is none of its tables of vec0; .*: docs"):
        SqliteVec(address.replace("table=docs", "table=nothing")).describe()


@pytest.mark.parametrize(
    "definition, match",
    [
        ("embedding int8[12]", r"keeps int8\[12\] with the metric l2 .* float with cosine or l2 is allowed"),
        ("embedding bit[16]", r"keeps bit\[16\]"),
        ("embedding float[12] distance_metric=l1", r"keeps float\[12\] with the metric l1"),
        ("a float[12], b float[12]", "has the columns of vectors a, b, and vector=None was given"),
        ("a float[12]", "has the columns of vectors a, and vector='embedding' was given"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(definition, match, tmp_path):
    writable(tmp_path / "docs.db").execute(f"create virtual table docs using vec0({definition})")
    vector = "embedding" if definition == "a float[12]" else None
    with pytest.raises(ConfigError, match=match):
        SqliteVec(f"sqlite-vec://{tmp_path}/docs.db?table=docs", vector=vector).describe()


def test_of_several_columns_of_vectors_the_named_is_searched(tmp_path):
    connection = writable(tmp_path / "docs.db")
    connection.execute("create virtual table docs using vec0(a float[2], b float[3] distance_metric=cosine)")
    connection.execute("insert into docs(rowid, a, b) values (1, '[1, 2]', '[1, 2, 3]')")
    told = SqliteVec(f"sqlite-vec://{tmp_path}/docs.db?table=docs&vector=b").describe()
    assert (told.width, told.score_kind, told.count) == (3, "cosine", 1)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    names = [str(row) for row in range(ROWS)]
    address = filled(tmp_path_factory.mktemp("job") / "docs.db", TEXT_KEY, names) + "&text=body&reads=found"
    corpus = Dataset.from_dict({"id": names, "text": [f"text {row}" for row in range(ROWS)], "v": VECTORS.tolist()})
    pairs = Dataset.from_dict(
        {"query": list("abcdefg"), "asked": ASKED.tolist(), "positive_ids": [[n] for n in names[:7]]}
    )
    return address, corpus, pairs, [names[row] for row in np.argsort(-(ASKED @ VECTORS.T)[0])]


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 8])
def test_of_documents_that_queries_find_rows_are_as_of_all(depth, job):
    address, corpus, pairs, nearest = job
    columns = {"query_vector": "asked"}
    names = pairs["positive_ids"][:]
    many = pairs.remove_columns("positive_ids").add_column("positive_ids", [nearest[:30], *names[1:]])
    cases = [
        (pairs, columns, ()),
        (many, columns, ()),
        (pairs, columns, [many]),
        (pairs.add_column("never", many["positive_ids"][:]), {**columns, "exclude_ids": "never"}, ()),
    ]
    for rows, roles, known in cases:
        options = {"num_negatives": 2, "known_positives": known}
        strategy = Strategy([Dense(depth)])
        expected = mine(rows, corpus, strategy, columns={**roles, "vector": "v"}, **options)
        mined = mine(rows, address, strategy, columns=roles, **options)
        assert mined["negative_ids"][:] == expected["negative_ids"][:]
        assert not {*nearest[:30]} & {*mined[0]["negative_ids"]} or (rows is pairs and not known)


def test_the_mark_changes_with_the_table(tmp_path):
    address = filled(tmp_path / "docs.db", TEXT_KEY, [str(row) for row in range(ROWS)])
    store = SqliteVec(address)
    before = store.describe()
    assert store.describe() == before
    connection = writable(tmp_path / "docs.db")
    connection.execute("update docs set embedding = ? where id = '3'", (VECTORS[4].tobytes(),))
    after = store.describe()
    assert after.count == before.count and after.mark != before.mark


def test_the_command_line_reads_what_queries_find_as_python_does(job, tmp_path, monkeypatch):
    address, _, pairs, _ = job
    pairs.to_parquet(tmp_path / "pairs.parquet")
    monkeypatch.setattr(SqliteVec, "scan", lambda *_, **__: pytest.fail("it was read"))
    how = ["--strategy", "dense", "--no-safeguards", "--num-negatives", "3", "--columns", "query_vector=asked"]
    told = ["--pairs", str(tmp_path / "pairs.parquet"), "--corpus", address, *how]
    assert main(["mine", *told, "--out", str(tmp_path / "mined")]) == 0
    columns = {"query_vector": "asked"}
    same = mine(pairs, address, "dense", num_negatives=3, safeguards=False, columns=columns)
    assert load_from_disk(tmp_path / "mined")["negative_ids"] == same["negative_ids"][:]
    assert main(["plan", *told]) == 2
