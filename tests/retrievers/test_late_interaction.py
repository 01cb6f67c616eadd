"""Mining by late interaction: from callables and columns, as a second view, resumed, refreshed, planned."""

import numpy as np
import pyarrow as pa
import pytest

from hf_hardneg import (
    BM25,
    Dense,
    Disagreement,
    HardNegatives,
    Hybrid,
    LateInteraction,
    Sparse,
    Strategy,
    mine,
    plan,
    recipe_of,
)
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegWarning
from hf_hardneg.models import embeddings
from hf_hardneg.models.token_encoder import load_token_encoder
from hf_hardneg.models.token_vectors import CorpusTokenVectors
from hf_hardneg.samplers import TopicNegatives, Uniform
from hf_hardneg.store.inventory import inventory
from hf_hardneg.strategies import resolve
from hf_hardneg.training import Refresher, Schedule
from tests.worlds import encode, split, weigh, world

PAIRS, CORPUS = world(5)
VECTORS = {"vector": "tokens", "query_vector": "query_tokens"}
PLAIN = Strategy([LateInteraction(20)])


def maxsim(query, document):
    asked, held = split([query, document])
    return (asked @ held.astype(np.float16).astype(np.float32).T).max(1).sum()


@pytest.fixture(scope="module")
def mined():
    return mine(PAIRS, CORPUS, PLAIN, encoder=split, num_negatives=5)


def test_scores_are_maxsim_and_nothing_better_is_left_out(mined):
    texts = dict(zip(CORPUS["_id"], CORPUS["text"], strict=True))
    for row in mined:
        scores = [maxsim(row["query"], texts[name]) for name in row["negative_ids"]]
        np.testing.assert_allclose(row["negative_scores"], scores, rtol=1e-5)
        assert row["negative_scores"] == sorted(row["negative_scores"], reverse=True)
        listed = [maxsim(row["query"], text) for text in row["positive"]] + [
            maxsim(row["query"], texts[name]) for name in row["positive_ids"]
        ]
        assert row["positive_scores"] and all(np.isclose(listed, score, 1e-5).any() for score in row["positive_scores"])
        known = {key for each in PAIRS if each["query"] == row["query"] for key in each["positive_ids"]}
        out = known | {
            name for name in texts if texts[name].lower().split() in [texts[k].lower().split() for k in known]
        }
        best = max(maxsim(row["query"], texts[name]) for name in texts.keys() - out)
        assert np.isclose(row["negative_scores"][0], best, 1e-5)
    assert {source for row in mined["negative_sources"] for source in row} == {"late_interaction"}


def test_columns_of_matrices_give_what_a_model_gives(mined):
    pairs = PAIRS.add_column("query_tokens", [matrix.tolist() for matrix in split(PAIRS["query"][:])])
    corpus = CORPUS.add_column("tokens", [matrix.tolist() for matrix in split(CORPUS["text"][:])])
    found = mine(pairs, corpus, PLAIN, columns=VECTORS, num_negatives=5)
    for name in ("negative_ids", "negative_scores"):
        assert found[name][:] == mined[name][:]


@pytest.mark.parametrize("sample", [(), ("word1 word2", "word3")])
def test_encodings_propose_what_maxsim_orders_and_their_recall_is_told(sample, mined):
    strategy = Strategy([LateInteraction(20, search="encodings", recall=0.9, sample=sample)])
    found = mine(PAIRS, CORPUS, strategy, encoder=split, num_negatives=5)
    assert found["negative_ids"][:] == mined["negative_ids"][:]
    (index,) = recipe_of(found).indexes
    assert index["recall"] >= 0.9 and index["sample"] == "given" and index["factory"] == "encodings"


def test_a_sample_without_a_token_is_refused():
    strategy = Strategy([LateInteraction(20, search="encodings", sample=[None])])
    with pytest.raises(ConfigError, match="No query of the sample has a token vector"):
        mine(PAIRS, CORPUS, strategy, encoder=split, num_negatives=5)


def test_a_model_of_its_own_beside_others(mined):
    parts = [Dense(20), LateInteraction(20, encoder=split), Sparse(20, encoder=weigh)]
    found = mine(PAIRS, CORPUS, Strategy([Hybrid(parts)]), encoder=encode, num_negatives=5)
    assert sum(map(len, found["negatives"]))
    indexes = {index["kind"]: index["scores"] for index in recipe_of(found).indexes}
    assert indexes == {"dense": "cosine", "sparse": "sparse", "late_interaction": "maxsim"}
    alone = mine(PAIRS, CORPUS, Strategy([LateInteraction(20, encoder=split)]), num_negatives=5)
    assert alone["negative_ids"][:] == mined["negative_ids"][:]
    assert recipe_of(alone).encoder.name == "split"


def test_it_is_the_second_view_that_is_asked_for():
    removed = []
    for view in (LateInteraction(encoder=split), Dense()):
        strategy = Strategy([BM25(20)], [Disagreement(0.5, 10, view=view)], Uniform())
        found = mine(PAIRS, CORPUS, strategy, encoder=encode if view.uses_vectors else None)
        removed.append(found["mining"][:])
        assert sum(map(len, found["negatives"]))
    assert removed[0] != removed[1]
    assert [type(stage).__name__ for stage in resolve("colbert").filters] == ["NearQuery", "TooSimilar", "Disagreement"]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Strategy([Dense(), LateInteraction()]), "dense would read the encoder= of this strategy"),
        (lambda: Strategy([Sparse(), LateInteraction()]), "as one of token vectors.*LateInteraction"),
        (lambda: Strategy([LateInteraction()], [], TopicNegatives(1)), "would read the encoder= of this strategy"),
        (
            lambda: Strategy([LateInteraction()], [Disagreement(view=LateInteraction(encoder=split))]),
            "would compare late_interaction with itself",
        ),
        (lambda: HardNegatives(CORPUS, "colbert"), "needs vectors and got none"),
        (lambda: HardNegatives(CORPUS, "colbert", encoder=split, index="mine"), "reads token vectors"),
        (
            lambda: HardNegatives(CORPUS, Strategy([LateInteraction(encoder=split)]), encoder=split),
            "would change nothing",
        ),
        (
            lambda: HardNegatives(CORPUS, Strategy([LateInteraction(pool_factor=2)]), columns={"vector": "text"}),
            "is for an encoder, and column 'text'",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_work(build, text):
    with pytest.raises(ConfigError, match=text):
        build()


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ColumnError, match="corpus has no column 'tokens'"):
        mine(PAIRS, CORPUS, PLAIN, encoder=split, columns={"vector": "tokens"})


@pytest.mark.parametrize(("bad", "text"), [(np.nan, "first in row 0"), (1e6, "too large")])
def test_vectors_that_are_not_finite_are_refused_by_name(bad, text, tmp_path):
    def broken(texts):
        return [matrix * bad if "word3" in each else matrix for each, matrix in zip(texts, split(texts), strict=True)]

    broken.digest = f"broken by {bad}"
    corpus = CORPUS.map(lambda row: {"text": row["text"] + " word3"}, load_from_cache_file=False)
    with pytest.raises(DataError, match=text):
        HardNegatives(corpus, PLAIN, encoder=broken, cache_dir=str(tmp_path))


def test_a_stopped_encoding_goes_on(tmp_path, monkeypatch, mined):
    monkeypatch.setattr(embeddings, "SHARD", 8)
    monkeypatch.setattr("hf_hardneg.models.token_vectors.SHARD", 8)
    encoded, stops = [], [3]

    def stopping(texts):
        if len(texts) <= 8 and stops and len(encoded) == stops[0]:
            stops.clear()
            raise KeyboardInterrupt
        encoded.append(texts)
        return split(texts)

    stopping.digest = split.digest
    with pytest.raises(KeyboardInterrupt):
        HardNegatives(CORPUS, PLAIN, encoder=stopping, cache_dir=str(tmp_path))
    HardNegatives(CORPUS, PLAIN, encoder=stopping, cache_dir=str(tmp_path))
    texts = [text for part in encoded for text in part]
    assert len(texts) == len(set(texts)) == len(set(CORPUS["text"]))
    assert {"tokens", "tokenvectors"} <= {entry.kind for entry in inventory(tmp_path)}
    found = mine(PAIRS, CORPUS, PLAIN, encoder=split, num_negatives=5, cache_dir=str(tmp_path))
    assert found["negative_ids"][:] == mined["negative_ids"][:]


def test_a_plan_builds_nothing_and_counts_what_is_encoded(tmp_path):
    for strategy, options in ((PLAIN, {"encoder": split}), (Strategy([LateInteraction(20, encoder=split)]), {})):
        cost = plan(PAIRS, CORPUS, strategy, **options, cache_dir=str(tmp_path))
        assert {"encode corpus", "build index", "encode queries", "search"} <= {stage.name for stage in cost.stages}
    assert not list(tmp_path.glob("token*"))


def test_a_plan_searches_the_index_that_is_there(mined):
    for strategy, options in (
        (PLAIN, {"encoder": split}),
        (Strategy([LateInteraction(20, encoder=split), BM25()]), {}),
    ):
        mine(PAIRS, CORPUS, strategy, **options)
        stages = {stage.name: stage for stage in plan(PAIRS, CORPUS, strategy, **options).stages}
        assert "on the index itself" in stages["search"].basis


@pytest.mark.parametrize("matrices", [[None, None], [None, np.ones((2, 3))]])
def test_texts_without_a_token_come_back_from_workers(matrices, tmp_path):
    encoder = load_token_encoder(lambda texts: matrices, cache_dir=tmp_path)
    table = CorpusTokenVectors._table(encoder, pa.table({"text": ["", "!"]}))
    rows, sizes = CorpusTokenVectors._of_table(table), [0 if matrix is None else len(matrix) for matrix in matrices]
    assert rows.sizes.tolist() == sizes and len(rows.vectors) == sum(sizes)


class Growing:
    """A model whose weights grow, and with them one word."""

    def __init__(self):
        self.steps = 0

    @property
    def digest(self):
        return f"after {self.steps}"

    def __call__(self, texts):
        matrices = split(texts)
        if self.steps:
            for text, matrix in zip(texts, matrices, strict=True):
                matrix[[word == "word3" for word in text.lower().split()[: len(matrix)]]] *= 2
        return matrices


def test_a_refresh_changes_negatives_with_the_weights(tmp_path):
    model = Growing()
    refresher = Refresher(PAIRS, CORPUS, PLAIN, encoder=model, directory=tmp_path, warm_start="random", num_negatives=3)
    rows = []
    for step in (1, 2):
        assert refresher.at(step, Schedule(every=1))
        rows.append(PAIRS.with_transform(refresher.negatives)[:]["negative_ids"])
        model.steps += 1
    assert rows[0] != rows[1]
    assert not [entry for entry in inventory(tmp_path / "cache") if entry.kind.startswith("token")]


def test_texts_without_tokens_are_told_find_nothing_and_are_not_found(tmp_path):
    def sparing(texts):
        return [matrix[: 0 if text == "!" else None] for text, matrix in zip(texts, split(texts), strict=True)]

    sparing.digest = "spares !"
    corpus = CORPUS.map(lambda row: {"text": "!" if row["_id"] == "d9" else row["text"]}, load_from_cache_file=False)
    with pytest.warns(HardNegWarning, match="1 of the documents have no token vector, in rows 9"):
        HardNegatives(corpus, PLAIN, encoder=sparing, cache_dir=str(tmp_path))
    pairs = PAIRS.map(
        lambda row: {"query": "!" if row["query_id"] == "q3" else row["query"]}, load_from_cache_file=False
    )
    with pytest.warns(HardNegWarning, match="have no token, such as '!'"):
        found = mine(pairs, corpus, PLAIN, encoder=sparing, cache_dir=str(tmp_path), safeguards=False)
    for row in found:
        assert bool(row["negative_ids"]) == (row["query"] != "!")
        assert "d9" not in row["negative_ids"]
