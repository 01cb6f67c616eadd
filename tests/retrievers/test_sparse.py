"""Mining by sparse vectors: from callables and columns, as a second view, resumed, refreshed, planned."""

import json

import numpy as np
import pytest

from hf_hardneg import BM25, Dense, Disagreement, HardNegatives, Hybrid, Sparse, Strategy, mine, plan, recipe_of
from hf_hardneg.errors import ColumnError, ConfigError, HardNegWarning
from hf_hardneg.models import embeddings
from hf_hardneg.samplers import TopicNegatives, Uniform
from hf_hardneg.store.inventory import inventory
from hf_hardneg.strategies import resolve
from hf_hardneg.training import Refresher, Schedule
from tests.worlds import encode, weigh, world

PAIRS, CORPUS = world(5)
VECTORS = {"vector": "weights", "query_vector": "query_weights"}
PLAIN = Strategy([Sparse(20)])


def dot(query, document):
    left, right = weigh([query, document])
    return sum(weight * right.get(word, 0.0) for word, weight in left.items())


def in_columns(as_json):
    write = json.dumps if as_json else dict
    pairs = PAIRS.add_column("query_weights", list(map(write, weigh(PAIRS["query"][:]))))
    return pairs, CORPUS.add_column("weights", list(map(write, weigh(CORPUS["text"][:]))))


@pytest.fixture(scope="module")
def mined():
    return mine(PAIRS, CORPUS, PLAIN, encoder=weigh, num_negatives=5)


def test_scores_are_inner_products_and_nothing_better_is_left_out(mined):
    texts = dict(zip(CORPUS["_id"], CORPUS["text"], strict=True))
    for row in mined:
        scores = [dot(row["query"], texts[name]) for name in row["negative_ids"]]
        np.testing.assert_allclose(row["negative_scores"], scores, rtol=1e-5)
        assert row["negative_scores"] == sorted(row["negative_scores"], reverse=True)
        listed = [dot(row["query"], text) for text in row["positive"]] + [
            dot(row["query"], texts[name]) for name in row["positive_ids"]
        ]
        assert row["positive_scores"] and all(np.isclose(listed, score, 1e-5).any() for score in row["positive_scores"])
    assert {source for row in mined["negative_sources"] for source in row} == {"sparse"}


@pytest.mark.parametrize("as_json", [False, True])
def test_columns_of_weights_give_what_a_model_gives(as_json, mined):
    pairs, corpus = in_columns(as_json)
    found = mine(pairs, corpus, PLAIN, columns=VECTORS, num_negatives=5)
    for name in ("negative_ids", "negative_scores"):
        assert found[name][:] == mined[name][:]


def test_a_model_of_its_own_beside_a_dense_one(mined):
    strategy = Strategy([Hybrid([Dense(20), Sparse(20, encoder=weigh)], quotas=(1, 1))])
    found = mine(PAIRS, CORPUS, strategy, encoder=encode, num_negatives=5)
    assert {"dense", "sparse", "dense+sparse"} >= {source for row in found["negative_sources"] for source in row}
    alone = mine(PAIRS, CORPUS, Strategy([Sparse(20, encoder=weigh)]), num_negatives=5)
    assert alone["negative_ids"][:] == mined["negative_ids"][:]
    indexes = {index["kind"]: index["scores"] for index in recipe_of(found).indexes}
    assert indexes == {"dense": "cosine", "sparse": "sparse"}
    assert recipe_of(alone).encoder.name == "weigh"


def test_it_is_the_second_view_that_is_asked_for():
    removed = []
    for view in (Sparse(encoder=weigh), Dense()):
        strategy = Strategy([BM25(20)], [Disagreement(0.5, 10, view=view)], Uniform())
        found = mine(PAIRS, CORPUS, strategy, encoder=encode if view.uses_vectors else None)
        removed.append(found["mining"][:])
        assert sum(map(len, found["negatives"]))
    assert removed[0] != removed[1]
    assert [type(stage).__name__ for stage in resolve("splade").filters] == ["NearQuery", "TooSimilar", "Disagreement"]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda: Strategy([Dense(), Sparse()]),
            "dense would read the encoder= of this strategy",
        ),
        (lambda: Strategy([Sparse()], [], TopicNegatives(1)), "would read the encoder= of this strategy"),
        (lambda: Strategy([Sparse()], [Disagreement(view=Sparse(encoder=weigh))]), "would compare sparse with itself"),
        (lambda: Disagreement(view=Sparse), "view="),
        (lambda: HardNegatives(CORPUS, "splade"), "needs vectors and got none"),
        (lambda: HardNegatives(CORPUS, "splade", encoder=weigh, index="mine"), "index= brings dense vectors or words"),
        (lambda: HardNegatives(CORPUS, Strategy([Sparse(encoder=weigh)]), encoder=weigh), "would change nothing"),
        (lambda: Refresher(PAIRS, CORPUS, "dense", encoder=weigh, directory="x", warm_start="splade"), "needs vectors"),
    ],
)
def test_what_cannot_work_is_refused_before_work(build, text):
    with pytest.raises(ConfigError, match=text):
        build()


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ColumnError, match="corpus has no column 'weights'"):
        mine(PAIRS, CORPUS, PLAIN, encoder=weigh, columns={"vector": "weights"})


def test_a_stopped_encoding_goes_on(tmp_path, monkeypatch, mined):
    monkeypatch.setattr(embeddings, "SHARD", 8)
    monkeypatch.setattr("hf_hardneg.models.sparse_vectors.SHARD", 8)
    encoded, stops = [], [3]

    def stopping(texts):
        if len(texts) <= 8 and stops and len(encoded) == stops[0]:
            stops.clear()
            raise KeyboardInterrupt
        encoded.append(texts)
        return weigh(texts)

    stopping.digest = weigh.digest
    with pytest.raises(KeyboardInterrupt):
        HardNegatives(CORPUS, PLAIN, encoder=stopping, cache_dir=str(tmp_path))
    HardNegatives(CORPUS, PLAIN, encoder=stopping, cache_dir=str(tmp_path))
    texts = [text for part in encoded for text in part]
    assert len(texts) == len(set(texts)) == len(set(CORPUS["text"]))
    assert {"sparse", "sparsevectors"} <= {entry.kind for entry in inventory(tmp_path)}
    found = mine(PAIRS, CORPUS, PLAIN, encoder=weigh, num_negatives=5, cache_dir=str(tmp_path))
    assert found["negative_ids"][:] == mined["negative_ids"][:]


def test_a_plan_builds_nothing_and_counts_what_is_encoded(tmp_path):
    for strategy, options in ((PLAIN, {"encoder": weigh}), (Strategy([Sparse(20, encoder=weigh)]), {})):
        cost = plan(PAIRS, CORPUS, strategy, **options, cache_dir=str(tmp_path))
        assert {"encode corpus", "build index", "encode queries", "search"} <= {stage.name for stage in cost.stages}
    assert not list(tmp_path.glob("sparse*"))
    mine(PAIRS, CORPUS, PLAIN, encoder=weigh, cache_dir=str(tmp_path))
    again = {stage.name: stage for stage in plan(PAIRS, CORPUS, PLAIN, encoder=weigh, cache_dir=str(tmp_path)).stages}
    assert "encode corpus" not in again or again["encode corpus"].reused


class Growing:
    """A model whose weights grow, and with them one word."""

    def __init__(self):
        self.steps = 0

    @property
    def digest(self):
        return f"after {self.steps}"

    def __call__(self, texts):
        return [{word: 2 if word == "word3" else 1 for word in each} if self.steps else each for each in weigh(texts)]


def test_a_refresh_changes_negatives_with_the_weights(tmp_path):
    model = Growing()
    refresher = Refresher(PAIRS, CORPUS, PLAIN, encoder=model, directory=tmp_path, warm_start="random", num_negatives=3)
    rows = []
    for step in (1, 2):
        assert refresher.at(step, Schedule(every=1))
        rows.append(PAIRS.with_transform(refresher.negatives)[:]["negative_ids"])
        model.steps += 1
    assert rows[0] != rows[1]
    assert not [entry for entry in inventory(tmp_path / "cache") if entry.kind.startswith("sparse")]


def test_a_refresh_of_a_model_of_other_vectors_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="uses no vectors"):
        Refresher(PAIRS, CORPUS, Strategy([Sparse(encoder=weigh)]), encoder=weigh, directory=tmp_path)


def test_documents_of_one_text_are_encoded_once_and_both_are_found(tmp_path):
    corpus = CORPUS.select([0, 0, 1, 2]).remove_columns("_id").add_column("_id", list("abcd"))
    index = HardNegatives(corpus, PLAIN, encoder=weigh, cache_dir=str(tmp_path)).retrieval.searcher.index
    held = index.vectors(np.arange(4))
    assert np.diff(held.pointers)[0] == np.diff(held.pointers)[1]


def test_empty_documents_are_told(tmp_path):
    corpus = CORPUS.map(lambda row: {"text": "!" if row["_id"] == "d9" else row["text"]}, load_from_cache_file=False)
    with pytest.warns(HardNegWarning, match="1 of the documents have no term, in rows 9"):
        HardNegatives(corpus, PLAIN, encoder=weigh, cache_dir=str(tmp_path))
