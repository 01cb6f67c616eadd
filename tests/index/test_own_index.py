"""A user's own FAISS index: what comes out equals brute force over the vectors that the index gives back."""

import functools
import re
from pathlib import Path

import faiss
import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import Dense, HardNegatives, Strategy, mine
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, DataError, HardNegWarning
from hf_hardneg.filters import AbsoluteMargin
from hf_hardneg.index.dense.adoption import adopt_faiss
from hf_hardneg.retrievers import Sources

pytestmark = pytest.mark.slow

SECTION = (Path(__file__).parents[2] / "docs/own_index.md").read_text()
TABLE = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", SECTION, re.MULTILINE)
ROWS, WIDTH, QUERIES, DEPTH, MARGIN = 300, 32, 6, 20, 0.05
IP, L2 = faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2

_rng = np.random.default_rng(5)
BASE = _rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
BASE[1::10] = BASE[0::10] + 0.3 * _rng.normal(size=(ROWS // 10, WIDTH)).astype(np.float32)
UNIT = BASE / np.linalg.norm(BASE, axis=1, keepdims=True)
ASKED = (3 * BASE[10 * np.arange(QUERIES)] + 0.5 * _rng.normal(size=(QUERIES, WIDTH))).astype(np.float32)
LABELS = 10**12 + 7 * _rng.permutation(ROWS)
"""What a user calls the vectors; the documents come in another order."""


def factories(refused):
    cells = [(factory, metric, cell) for factory, *two in TABLE for metric, cell in zip((IP, L2), two, strict=True)]
    return [(factory, metric, cell) for factory, metric, cell in cells if cell.startswith("refused") == refused]


@functools.cache
def trained(factory, metric, unit):
    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(WIDTH, factory, metric)
    index.train(UNIT if unit else BASE)
    return faiss.serialize_index(index)


def filled(factory, metric, vectors, labels=None):
    """An index of FAISS, searched as widely as it can be."""
    index = faiss.deserialize_index(trained(factory, metric, vectors is UNIT))
    for name in ("nprobe", "efSearch", "search_L"):
        setting(index, name, ROWS)
    if labels is None:
        index.add(vectors)
        return index
    named = faiss.IndexIDMap2(index)
    named.add_with_ids(vectors, labels)
    return named


def setting(index, name, value):
    core = faiss.downcast_index(index.index if hasattr(index, "chain") else index)
    core = faiss.downcast_index(core.base_index) if hasattr(core, "base_index") else core
    for part in (core, getattr(core, "hnsw", None), getattr(core, "nsg", None)):
        if name in dir(part):
            setattr(part, name, value)


def brute_force(index):
    """All scores (queries, vectors) by float64 over reconstructions, in the order in which vectors were added."""
    index = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap) else index
    asked, core = ASKED, index
    if isinstance(index, faiss.IndexPreTransform):
        for place in range(index.chain.size()):
            asked = faiss.downcast_VectorTransform(index.chain.at(place)).apply(asked)
        core = faiss.downcast_index(index.index)
    if isinstance(core, faiss.IndexIVF):
        core.make_direct_map()
    known, asked = core.reconstruct_n(0, ROWS).astype(np.float64), asked.astype(np.float64)
    if core.metric_type == L2:
        return -((asked[:, None] - known[None]) ** 2).sum(axis=2)
    if np.allclose(np.linalg.norm(known, axis=1), 1, atol=1e-3):
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return asked @ known.T


def expected(scores, ids, positives, corpus):
    """Ids and scores of the nearest documents that keep the margin, by query; ties in the order of the corpus."""
    rows = {name: row for row, name in enumerate(corpus["_id"][:])}
    row = np.array([rows[name] for name in ids])
    for line, positive in zip(scores, positives, strict=True):
        best = [place for place in np.lexsort((row, -line)) if place != positive][:DEPTH]
        kept = [place for place in best if line[place] + MARGIN <= line[positive]][:5]
        yield [ids[place] for place in kept], line[kept], line[positive]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Documents whose rows are the vectors, and documents whose ids are labels, in another order."""
    order = np.random.default_rng(8).permutation(ROWS)
    plain = Dataset.from_dict({"_id": [f"d{row}" for row in range(ROWS)], "text": [f"text {i}" for i in range(ROWS)]})
    named = Dataset.from_dict({"_id": LABELS[order].astype(str), "text": [f"text {i}" for i in order]})
    return {"plain": plain, "own labels": named}, str(tmp_path_factory.mktemp("indexes"))


@pytest.mark.parametrize("labelled", ["plain", "own labels"])
@pytest.mark.parametrize("vectors", ["unit", "of any length"])
@pytest.mark.parametrize(("factory", "metric", "cell"), factories(refused=False))
@pytest.mark.filterwarnings("ignore:.*documents nearest to a document:UserWarning")
def test_what_comes_out_is_brute_force_over_what_the_index_knows(factory, metric, cell, vectors, labelled, corpora):
    index = filled(factory, metric, UNIT if vectors == "unit" else BASE, None if labelled == "plain" else LABELS)
    by_kind, cache = corpora
    ids = [f"d{row}" for row in range(ROWS)] if labelled == "plain" else LABELS.astype(str).tolist()
    places = 10 * np.arange(QUERIES)
    miner = HardNegatives(
        by_kind[labelled],
        Strategy([Dense(DEPTH)], [AbsoluteMargin(MARGIN)]),
        index=index,
        columns={"query_vector": "vector"},
        num_negatives=5,
        cache_dir=cache,
    )
    batch = {
        "query": [f"q{row}" for row in range(QUERIES)],
        "positive_ids": [[ids[place]] for place in places],
        "vector": ASKED.tolist(),
    }
    rows = miner(batch)
    for number, (names, scores, positive) in enumerate(expected(brute_force(index), ids, places, by_kind[labelled])):
        assert rows["negative_ids"][number] == names
        np.testing.assert_allclose(rows["negative_scores"][number], scores, rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(rows["positive_scores"][number], [positive], rtol=2e-4, atol=2e-5)
    recall = miner.retrieval.searcher.recall
    assert recall is None if cell.startswith("exact") else recall > 0.9


@pytest.mark.parametrize(("factory", "metric", "cell"), factories(refused=True))
def test_what_cannot_be_right_is_refused_by_name(factory, metric, cell, corpora):
    try:
        index = filled(factory, metric, BASE)
    except RuntimeError as error:
        assert "FAISS builds none" in cell, error
        return
    reason = cell.removeprefix("refused: ")
    with pytest.raises(ConfigError, match=rf"got Index\w+, which cannot be used: .*{reason}.*columns=.'vector'"):
        Dense().bind(sources(corpora[0]["plain"], index))


def sources(dataset, index, **options):
    return Sources(dataset=dataset, corpus=open_corpus(dataset), index=index, **options)


def test_the_table_names_every_kind_of_index():
    assert len(TABLE) >= 25 and len({factory for factory, *_ in TABLE}) == len(TABLE)


def named_corpus(ids):
    return Dataset.from_dict({"_id": [str(one) for one in ids], "text": [f"text {row}" for row in range(len(ids))]})


def flat(vectors, labels=None, kind=faiss.IndexFlatIP):
    index = kind(vectors.shape[1])
    if labels is None:
        index.add(vectors)
        return index
    named = faiss.IndexIDMap2(index)
    named.add_with_ids(vectors, np.asarray(labels))
    return named


def nearest(dataset, index, vector, k=3, **options):
    searcher = Dense(**options).bind(sources(dataset, index))
    prepared = searcher.index.queries(vector[None])
    hits = searcher.search(prepared, np.array([k]))
    return dataset.select(hits.doc)["_id"][:], hits.score.tolist()


def test_labels_are_rows_in_any_order_or_ids():
    order = np.random.default_rng(1).permutation(ROWS)
    best = np.argsort(-(UNIT @ UNIT[7]))[:3]
    words = named_corpus([f"x{row}" for row in range(ROWS)])
    assert nearest(words, flat(UNIT, order), UNIT[7])[0] == [f"x{order[place]}" for place in best]
    inside = faiss.IndexPreTransform(faiss.NormalizationTransform(WIDTH), flat(UNIT, order))
    assert nearest(words, inside, UNIT[7])[0] == [f"x{order[place]}" for place in best]
    lists = faiss.index_factory(WIDTH, "IVF4,Flat", IP)
    lists.train(UNIT)
    lists.nprobe = 4
    lists.add_with_ids(UNIT, LABELS)
    assert nearest(named_corpus(LABELS[order]), lists, UNIT[7])[0] == LABELS[best].astype(str).tolist()
    with pytest.warns(HardNegWarning, match="may be row numbers or ids of the corpus.*they are read as ids"):
        assert nearest(named_corpus(order), flat(UNIT, np.arange(ROWS)), UNIT[7])[0] == best.astype(str).tolist()
    with pytest.warns(HardNegWarning, match="they are read as row numbers"):
        found = nearest(named_corpus(order), flat(UNIT), UNIT[7])[0]
    assert found == order[best].astype(str).tolist()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.arange(ROWS) + 1,
            "no documents of the corpus, such as 300; labels must be the row numbers 0 to 299",
        ),
        (LABELS, "labels that are no documents of the corpus, such as 1000000000000, .*name the column of its labels"),
        (np.arange(ROWS) // 2, "holds label 0 more than once"),
        (-1 - np.arange(ROWS), "such as -300, -299, -298"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        adopt_faiss(open_corpus(named_corpus([f"x{row}" for row in range(ROWS)])), flat(UNIT, labels))


def test_an_index_of_other_documents_is_refused():
    corpus = open_corpus(named_corpus(range(ROWS)))
    removed = flat(UNIT, np.arange(ROWS))
    removed.remove_ids(np.array([3, 17]))
    with pytest.raises(DataError, match=r"holds 298 vectors, .* 300 documents \(it has none for rows 3, 17, ...\)"):
        adopt_faiss(corpus, removed)
    with pytest.raises(DataError, match=r"holds 302 vectors, the corpus 300 documents\. Build the index"):
        adopt_faiss(corpus, flat(np.concatenate([UNIT, UNIT[:2]])))
    broken = UNIT.copy()
    broken[5, 2] = np.nan
    with pytest.raises(
        DataError, match="1 of the vectors of your index hold NaN, infinite or missing values.* in rows 5"
    ):
        adopt_faiss(corpus, flat(broken))


def test_what_is_no_index_of_vectors_is_refused(tmp_path):
    dataset = named_corpus(range(ROWS))
    bits = faiss.IndexBinaryFlat(64)
    bits.add(np.zeros((ROWS, 8), np.uint8))
    faiss.write_index_binary(bits, str(tmp_path / "bits.faiss"))
    shards = faiss.IndexShards(WIDTH)
    shards.add_shard(flat(UNIT))
    for index, reason in (
        (bits, "got IndexBinaryFlat, which cannot be used: it is no faiss.Index"),
        (str(tmp_path / "bits.faiss"), "bits.faiss, which cannot be used: it is a binary index, of bits"),
        (shards, "got IndexShards, which cannot be used: FAISS cannot save it"),
        (UNIT, "got ndarray, which cannot be used: it is no faiss.Index"),
        (faiss.IndexFlat(WIDTH, faiss.METRIC_L1), "its metric is METRIC_L1, and scores are inner products or L2"),
        (faiss.index_factory(WIDTH, "HNSW16", faiss.METRIC_Canberra), "its metric is METRIC_Canberra"),
        (faiss.index_factory(WIDTH, "Residual4,PQ4x4"), "got Index2Layer, .* FAISS does not search it by itself"),
    ):
        with pytest.raises(ConfigError, match=f"{reason}.*Give an index of vectors over inner product or L2"):
            Dense().bind(sources(dataset, index))
    with pytest.raises(ConfigError, match="index= and columns=.'vector': 'v'. were both given"):
        Dense().bind(sources(dataset, flat(UNIT), vector_column="v"))


def test_cosines_are_asked_of_vectors_of_any_length():
    dataset, lengths = named_corpus(range(ROWS)), np.linalg.norm(BASE, axis=1)
    cosines = BASE @ BASE[7] / lengths / lengths[7]
    names, scores = nearest(dataset, flat(BASE), 10 * BASE[7], similarity="cosine")
    assert names == np.argsort(-cosines)[:3].astype(str).tolist()
    np.testing.assert_allclose(scores, np.sort(cosines)[::-1][:3], rtol=1e-5)
    names, scores = nearest(dataset, flat(BASE), 10 * BASE[7])
    np.testing.assert_allclose(scores, 10 * np.sort(BASE @ BASE[7])[::-1][:3], rtol=1e-5)
    with pytest.raises(ConfigError, match="needs vectors of unit length, and your index gives back one of length"):
        nearest(dataset, filled("HNSW16", IP, BASE), BASE[7], similarity="cosine")
    with pytest.raises(ConfigError, match="similarity='cosine' was given, but the index was built for 'l2'"):
        nearest(dataset, flat(BASE, kind=faiss.IndexFlatL2), BASE[7], similarity="cosine")


def test_search_settings_are_the_users_and_what_they_find_is_said(corpora):
    dataset = corpora[0]["plain"]
    index = filled("IVF8,Flat", IP, UNIT)
    index.nprobe = 1
    with pytest.warns(HardNegWarning, match=r"IndexIVFFlat, nprobe=1 of 8\) finds \d\d% of the 100 documents nearest"):
        searcher = Dense().bind(sources(dataset, index))
    found = [set(line[line >= 0]) for line in index.search(UNIT, 100)[1]]
    exact = np.argsort(-(UNIT @ UNIT.T), axis=1)[:, :100]
    share = np.mean([len(mine & set(line)) / 100 for mine, line in zip(found, exact, strict=True)])
    assert searcher.recall == pytest.approx(share, abs=0.01) and searcher.measurement["factory"].startswith("IndexIVF")
    assert index.direct_map.type == faiss.DirectMap.NoMap, "the user's own object stays as it is"
    with pytest.warns(HardNegWarning, match="nprobe=1 of 8"):
        again = Dense().bind(sources(dataset, index))
    assert again.index.directory == searcher.index.directory


@pytest.mark.parametrize("factory", ["L2norm,Flat", "PCA16,L2norm,IVF8,Flat", "SQ8"])
def test_documents_and_positives_outside_the_corpus_are_scored_alike(factory, corpora):
    searcher = Dense().bind(sources(corpora[0]["plain"], filled(factory, IP, BASE)))
    index, rows = searcher.index, np.arange(0, ROWS, 10)
    inside = index.vectors(rows)
    outside = index.queries(BASE[rows], what="positive vectors")
    np.testing.assert_allclose(inside, outside, atol=0.03)
    asked, pair = index.queries(ASKED), np.zeros(len(rows), np.int64)
    by_row, by_vector = index.score_rows(asked, pair, rows), index.score_vectors(asked, pair, inside)
    assert by_row.tobytes() == by_vector.tobytes()
    for size in (1, 4):
        parts = [index.queries(ASKED[start : start + size]) for start in range(0, QUERIES, size)]
        assert np.concatenate(parts).tobytes() == asked.tobytes()
    assert index.query_width == WIDTH and index.width == inside.shape[1]


def test_file_object_and_name_are_one_index(tmp_path):
    corpus = named_corpus(range(ROWS))
    index = filled("L2norm,HNSW16", IP, BASE)
    faiss.write_index(index, str(tmp_path / "own.faiss"))
    corpus.add_faiss_index_from_external_arrays(np.empty((0, WIDTH), np.float32), "own", custom_index=index)
    ways = [index, "own", str(tmp_path / "own.faiss"), tmp_path / "own.faiss", corpus.get_index("own")]
    assert len({Dense().bind(sources(corpus, way)).index.directory for way in ways}) == 1


def test_a_string_factory_of_datasets(tmp_path):
    pairs = Dataset.from_dict({"query": ["a", "b"], "positive_ids": [["0"], ["10"]], "vector": ASKED[:2].tolist()})
    corpus = named_corpus(range(ROWS)).add_column("v", UNIT.tolist())
    corpus.add_faiss_index("v", string_factory="IVF4,Flat", train_size=ROWS, metric_type=IP)
    corpus.get_index("v").faiss_index.nprobe = 4
    mined = mine(pairs, corpus, "positive_aware", index="v", columns={"query_vector": "vector"}, safeguards=False)
    scores = ASKED[:2] / np.linalg.norm(ASKED[:2], axis=1, keepdims=True) @ UNIT.T
    for row, line, positive in zip(mined, scores, (0, 10), strict=True):
        kept = [place for place in np.argsort(-line) if place != positive and line[place] <= 0.95 * line[positive]]
        assert row["negative_ids"] == [str(place) for place in kept[:4]]
        np.testing.assert_allclose(row["positive_scores"], [line[positive]], rtol=1e-5)
