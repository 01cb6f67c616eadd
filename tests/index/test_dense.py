import faiss
import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset

from hf_hardneg import Dense, HardNegatives, Strategy, attach_bm25, attach_dense
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegWarning, StoreError
from hf_hardneg.index.dense.adoption import adopt_faiss
from hf_hardneg.index.dense.dense_index import build_dense
from hf_hardneg.retrievers import Sources
from tests.worlds import encode, world


def corpus_of(count):
    return open_corpus(Dataset.from_dict({"text": [f"text {row}" for row in range(count)]}))


def index_of(vectors, similarity="cosine"):
    vectors = np.asarray(vectors, np.float32)
    return build_dense(corpus_of(len(vectors)), [vectors], vectors_digest=str(vectors.tolist()), similarity=similarity)


def search(index, queries, k):
    return index.search(index.queries(queries), np.full(len(queries), k))


def test_published_vector():
    hits = search(index_of([[1, 0, 0], [0.6, 0.8, 0], [0.6, 0, 0.8], [0, 1, 0], [-1, 0, 0]]), [[0.8, 0.6, 0]], 5)
    assert hits.doc.tolist() == [1, 0, 3, 2, 4]
    np.testing.assert_allclose(hits.score, [0.96, 0.8, 0.6, 0.48, -0.8], rtol=1e-6)


def test_ties_are_in_corpus_order_also_across_the_cut():
    index = index_of([[1, 0], [0.6, 0.8], [0.6, -0.8], [0, 1]])
    assert search(index, [[1, 0]], 4).doc.tolist() == [0, 1, 2, 3]
    assert search(index, [[1, 0]], 2).doc.tolist() == [0, 1]
    alike = index_of([[1, 0]] * 50)
    assert search(alike, [[1, 0]], 7).doc.tolist() == list(range(7))


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
def test_search_equals_brute_force_and_does_not_depend_on_the_batch(similarity):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 24)) * rng.uniform(0.2, 3, size=(300, 1))
    queries = rng.normal(size=(64, 24))
    index = index_of(vectors, similarity)
    a, b = queries.astype(np.float32).astype(float), vectors.astype(np.float32).astype(float)
    scores = a @ b.T
    if similarity == "cosine":
        scores = scores / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    if similarity == "l2":
        scores = -((a[:, None] - b[None]) ** 2).sum(-1)
    hits = search(index, queries, 10)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    assert hits.doc.reshape(64, 10).tolist() == expected.tolist()
    np.testing.assert_allclose(
        hits.score.reshape(64, 10), np.take_along_axis(scores, expected, 1), rtol=1e-4, atol=1e-6
    )
    for size in (1, 7):
        parts = [search(index, queries[start : start + size], 10) for start in range(0, 64, size)]
        assert np.concatenate([part.score for part in parts]).tobytes() == hits.score.tobytes()
    rows = index.score_rows(index.queries(queries), hits.query, hits.doc)
    assert rows.tobytes() == hits.score.tobytes()


def test_a_zero_vector_has_cosine_zero():
    with pytest.warns(
        HardNegWarning, match=r"1 of the corpus vectors have length zero, in rows 0: they are near nothing"
    ):
        index = index_of([[0, 0], [1, 1]])
    hits = search(index, [[1, 0], [0, 0]], 2)
    assert hits.score[hits.doc == 0].tolist() == [0, 0] and np.isfinite(hits.score).all()


def test_what_cannot_be_indexed():
    with pytest.raises(DataError, match="holds 2 vectors, the corpus 3 documents"):
        build_dense(corpus_of(3), [np.eye(2, dtype=np.float32)], vectors_digest="x")
    with pytest.raises(DataError, match="corpus vectors are 3 wide, the index is 2 wide"):
        build_dense(corpus_of(5), [np.eye(2), np.eye(3)], vectors_digest="x")
    with pytest.raises(ConfigError, match="similarity='cosin' is not known"):
        build_dense(corpus_of(2), [np.eye(2)], vectors_digest="x", similarity="cosin")


@pytest.fixture
def vectors():
    rng = np.random.default_rng(3)
    return rng.normal(size=(80, 8)).astype(np.float32), rng.normal(size=(6, 8)).astype(np.float32)


def mined_with(vectors, corpus, **options):
    pairs = Dataset.from_dict(
        {"query": [f"q{i}" for i in range(6)], "positive_ids": [["79"]] * 6, "vector": vectors[1].tolist()}
    )
    options["columns"] = {"query_vector": "vector", "id": "row_number"} | options.get("columns", {})
    return pairs.map(HardNegatives(corpus, Strategy([Dense()]), **options), batched=True)


def neighbours(scores):
    return [[str(row) for row in np.argsort(-line, kind="stable") if row != 79][:4] for line in scores]


def own_index(kind, base, folder):
    if kind == "attached inner product":
        return "embeddings", faiss.METRIC_INNER_PRODUCT
    if kind == "attached l2":
        return "embeddings", faiss.METRIC_L2
    index = faiss.IndexFlatL2(8)
    if kind == "ivf":
        index = faiss.index_factory(8, "IVF2,Flat", faiss.METRIC_L2)
        index.train(base)
        index.nprobe = 2
        index.make_direct_map()
    index.add(base)
    if kind == "file":
        faiss.write_index(index, str(folder / "own.faiss"))
        return str(folder / "own.faiss"), None
    return index, None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["attached inner product", "attached l2", "file", "object", "ivf"])
def test_a_users_own_index(kind, vectors, tmp_path):
    base, queries = vectors
    corpus = Dataset.from_dict({"text": [f"t{i}" for i in range(80)], "embeddings": base.tolist()})
    index, metric = own_index(kind, base, tmp_path)
    if metric is not None:
        corpus.add_faiss_index("embeddings", metric_type=metric)
    mined = mined_with(vectors, corpus, index=index)
    inner = queries @ base.T
    scores = inner if metric == faiss.METRIC_INNER_PRODUCT else -((queries[:, None] - base[None]) ** 2).sum(-1)
    assert mined["negative_ids"][:] == neighbours(scores)
    for row in mined:
        assert row["negative_scores"] == sorted(row["negative_scores"], reverse=True)
        np.testing.assert_allclose(
            row["negative_scores"], sorted(np.delete(scores[int(row["query"][1])], 79))[::-1][:4], rtol=1e-3
        )


def test_a_column_of_vectors(vectors):
    base, queries = vectors
    corpus = Dataset.from_dict({"text": [f"t{i}" for i in range(80)], "embeddings": base.tolist()})
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    assert mined_with(vectors, corpus, columns={"vector": "embeddings"})["negative_ids"][:] == neighbours(
        queries @ unit.T
    )


def test_unit_vectors_under_inner_product_are_cosines(vectors):
    base, _ = vectors
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    for given, expected in ((unit, "cosine"), (base, "dot")):
        index = faiss.IndexFlatIP(8)
        index.add(given)
        assert adopt_faiss(corpus_of(80), index).similarity == expected
    with pytest.raises(ConfigError, match="similarity='l2' was given, but the index was built for 'dot'"):
        adopt_faiss(corpus_of(80), index, similarity="l2")


def test_a_file_that_is_no_index(tmp_path, vectors):
    (tmp_path / "own.faiss").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="own.faiss is not a readable FAISS file"):
        adopt_faiss(corpus_of(80), str(tmp_path / "own.faiss"))
    index = faiss.IndexFlatIP(8)
    index.add(vectors[0])
    faiss.write_index(index, str(tmp_path / "cut.faiss"))
    whole = (tmp_path / "cut.faiss").read_bytes()
    (tmp_path / "cut.faiss").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="not a readable FAISS file"):
        adopt_faiss(corpus_of(80), str(tmp_path / "cut.faiss"))


def test_attached_indexes_answer_datasets_own_verbs():
    pairs, corpus = world(1)
    texts = [row["query"] for row in pairs.select(range(3))]
    dense = attach_dense(corpus, encoder=encode)
    assert corpus.list_indexes() == [] and dense.list_indexes() == ["dense"]
    vectors = encode(texts)
    scores, examples = dense.get_nearest_examples_batch(
        "dense", vectors / np.linalg.norm(vectors, axis=1)[:, None], k=3
    )
    assert len(scores) == 3 and len(examples[0]["text"]) == 3 and list(scores[0]) == sorted(scores[0], reverse=True)
    both = attach_bm25(dense)
    assert sorted(both.list_indexes()) == ["bm25", "dense"]
    batch = both.search_batch("bm25", texts, k=3)
    for text, rows in zip(texts, batch.total_indices, strict=True):
        assert list(both.search("bm25", text, k=3).indices) == list(rows)
        assert len(rows) == 3 and set(text.lower().split()) & set(both[int(rows[0])]["text"].lower().split())
    mined = pairs.map(HardNegatives(dense, "dense", index="dense", encoder=encode), batched=True)
    assert (
        mined["negative_ids"][:]
        == pairs.map(HardNegatives(corpus, "dense", encoder=encode), batched=True)["negative_ids"][:]
    )


def test_two_encoders_never_share_vectors_or_candidates():
    pairs, corpus = world(1)

    def other(texts):
        return -(encode(texts)[:, ::-1] ** 3)

    first = HardNegatives(corpus, "dense", encoder=encode)
    second = HardNegatives(corpus, "dense", encoder=other)
    assert first.retrieval.searcher.index.directory != second.retrieval.searcher.index.directory
    one, two = (pairs.map(miner, batched=True) for miner in (first, second))
    assert one._fingerprint != two._fingerprint and one["negative_ids"][:] != two["negative_ids"][:]


def columns_of(values, kind=None):
    corpus = Dataset.from_dict({"text": [f"t{row}" for row in range(len(values))]})
    column = pa.array(values.tolist() if isinstance(values, np.ndarray) else values, kind)
    return Dataset(pa.table({"text": corpus.data["text"], "v": column}))


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64(), pa.int16(), pa.int64()])
@pytest.mark.parametrize("fixed", [True, False])
def test_columns_of_numbers_of_any_width_are_one_column(kind, fixed):
    base = np.random.default_rng(2).integers(-9, 9, (40, 4))
    values = base.astype(kind.to_pandas_dtype())
    index = index_corpus_of(columns_of(values, pa.list_(kind, 4) if fixed else pa.list_(kind)))
    expected = index_of(base)
    np.testing.assert_array_equal(index.flat_vectors(), expected.flat_vectors())


def index_corpus_of(corpus):
    return Dense().bind(Sources(dataset=corpus, corpus=open_corpus(corpus), vector_column="v")).index


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (
            [[1, 2], None, [3, 4]],
            pa.list_(pa.float32()),
            "not a matrix of numbers: row 1 has none. Give one",
        ),
        ([[1, 2], None], pa.list_(pa.float32(), 2), "row 1 has none"),
        ([[1, 2], [3, None]], pa.list_(pa.float32()), "hold NaN, infinite or missing values, in rows 1. Look at"),
        ([[1, 2], [3, 4, 5]], pa.list_(pa.float32()), "row 1 is 3 wide, row 0 2. Give one vector per row, all as wide"),
        ([[1, 2], [3, float("nan")]], pa.list_(pa.float32()), "hold NaN, infinite or missing values, in rows 1"),
        ([[1, 2], [3, 1e300]], pa.list_(pa.float64()), "hold NaN, infinite or missing values, in rows 1"),
        (
            [[1, -2], [3, 4]],
            pa.list_(pa.int8()),
            "of type int8, which holds whole numbers or packed bits.*Cast",
        ),
        ([[1, 255], [3, 4]], pa.list_(pa.uint8(), 2), "of type uint8, .* unpack bits to -1 and 1: np.unpackbits"),
        ([[], []], pa.list_(pa.float32()), r"shape \(2, 0\). Give a matrix"),
        (["[1, 2]", "[3, 4]"], pa.string(), "not a matrix of numbers: values of type.*Give one vector per row"),
        ([[[1, 2]], [[3, 4]]], pa.list_(pa.list_(pa.float32())), r"shape \(2, 1, 2\). Give a matrix"),
    ],
)
def test_vectors_that_are_none(values, kind, message):
    with pytest.raises(DataError, match=f"corpus vectors .*{message}"):
        index_corpus_of(columns_of(values, kind))


def test_query_vectors_of_another_kind(vectors):
    base, queries = vectors
    ids = [f"row-{i}" for i in range(80)]
    corpus = Dataset.from_dict({"_id": ids, "text": [f"t{i}" for i in range(80)], "v": base.tolist()})
    miner = HardNegatives(corpus, Strategy([Dense()]), columns={"vector": "v", "query_vector": "vector"})
    batch = {"query": [f"q{i}" for i in range(6)], "positive_ids": [["row-79"]] * 6}
    expected = miner({**batch, "vector": torch.from_numpy(queries)})["negative_ids"]
    for given in (list(torch.from_numpy(queries)), queries.astype(np.float64)):
        assert miner({**batch, "vector": given})["negative_ids"] == expected
    half = torch.from_numpy(queries).bfloat16()
    assert miner({**batch, "vector": half})["negative_ids"] == miner({**batch, "vector": half.float()})["negative_ids"]
    for given, message in (
        (queries.astype(np.int8), "query vectors are of type int8"),
        (queries[:, :5], "query vectors are 5 wide, the index is 8 wide"),
    ):
        with pytest.raises(DataError, match=message):
            miner({**batch, "vector": given})
    with pytest.raises(ColumnError, match="vector"):
        miner(batch)
    blank = queries.copy()
    blank[2] = 0
    with pytest.warns(HardNegWarning, match="1 of 6 query vectors have length zero, such as that of 'q2'"):
        rows = miner({**batch, "vector": blank})
    assert rows["negative_ids"][2] == [] and rows["negative_ids"][3] == expected[3]


def test_encoders_may_return_tensors_of_any_precision():
    pairs, corpus = world(1)

    def rounded(texts):
        return torch.from_numpy(encode(texts)).bfloat16()

    def plain(texts):
        return rounded(texts).float().numpy()

    rounded.digest, plain.digest = "rounded", "plain"
    batch = pairs[:6]
    first, second = (HardNegatives(corpus, "dense", encoder=one)(batch) for one in (rounded, plain))
    assert first["negative_ids"] == second["negative_ids"]
