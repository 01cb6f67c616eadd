"""Row-for-row parity with sentence-transformers' `mine_hard_negatives`, given the same vectors."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from hf_hardneg import AbsoluteMargin, Dense, RankWindow, RelativeMargin, ScoreBounds, Strategy, Top, mine, to_format
from hf_hardneg.errors import ConfigError

pytestmark = pytest.mark.slow

LAYOUTS = ["triplet", "n-tuple", "labeled-pair", "labeled-list"]
NEGATIVES = 3


class Lookup(torch.nn.Module):
    """A sentence-transformers module that looks a text's vector up by the number it ends with."""

    def __init__(self, vectors):
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(vectors), requires_grad=False)
        self.modalities = ["text"]

    def preprocess(self, inputs, **_):
        return {"rows": torch.tensor([int(text.split()[-1]) for text in inputs])}

    tokenize = preprocess

    def forward(self, features, **_):
        return {**features, "sentence_embedding": self.table[features["rows"]]}

    def get_embedding_dimension(self):
        return self.table.shape[1]

    def save(self, *_, **__):
        raise AssertionError("not saved in this test")


class World:
    """Queries near their positives among other documents, in vectors that both miners share."""

    def __init__(self, seed, positives):
        rng = np.random.default_rng(seed)
        queries, documents = 25, 120
        centres = rng.normal(size=(queries, 12))
        near = centres[rng.integers(0, queries, documents)] + rng.normal(scale=1.1, size=(documents, 12))
        self.vectors = np.concatenate([centres, near]).astype(np.float32)
        self.queries = [f"query {row}" for row in range(queries)]
        self.documents = [f"document {queries + row}" for row in range(documents)]
        scores = normal(centres) @ normal(near).T
        order = np.argsort(-scores, axis=1)
        self.positives = [
            [self.documents[row] for row in rng.choice(order[q, :8], 1 + (q % positives), replace=False)]
            for q in range(queries)
        ]

    def encode(self, texts):
        return self.vectors[[int(text.split()[-1]) for text in texts]]

    def theirs(self, layout, scores, **options):
        model = SentenceTransformer(modules=[Lookup(self.vectors)], device="cpu")
        rows = [(q, p) for q, ps in zip(self.queries, self.positives, strict=True) for p in ps]
        pairs = Dataset.from_dict({"query": [q for q, _ in rows], "positive": [p for _, p in rows]})
        return mine_hard_negatives(
            pairs,
            model,
            corpus=self.documents,
            num_negatives=NEGATIVES,
            output_format=layout,
            output_scores=scores,
            verbose=False,
            **options,
        )

    def ours(self, layout, scores, *, range_min=0, range_max=None, filters=()):
        most = max(map(len, self.positives))
        last = range_max or range_min + NEGATIVES * (10 if filters else 1) + most
        self.encode.__func__.digest = f"lookup {hash(self.vectors.tobytes())}"
        strategy = Strategy(
            [Dense(last + most)],
            [RankWindow(0, last + most, "raw"), *filters, RankWindow(range_min, last, "survivors")],
            Top(),
        )
        mined = mine(
            Dataset.from_dict({"query": self.queries, "positive": self.positives}),
            Dataset.from_dict({"text": self.documents}),
            strategy,
            encoder=self.encode,
            dedupe="exact",
            num_negatives=NEGATIVES,
        )
        return to_format(mined, layout, scores="retriever" if scores else None, num_negatives=NEGATIVES)


def normal(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


SETTINGS = {
    "defaults": ({}, {}),
    "rank range": ({"range_min": 4, "range_max": 20}, {"range_min": 4, "range_max": 20}),
    "absolute margin": ({"absolute_margin": 0.1}, {"filters": [AbsoluteMargin(0.1)]}),
    "relative margin": ({"relative_margin": 0.05}, {"filters": [RelativeMargin(0.05)]}),
    "both margins": (
        {"absolute_margin": 0.02, "relative_margin": 0.1, "range_min": 1},
        {"filters": [AbsoluteMargin(0.02), RelativeMargin(0.1)], "range_min": 1},
    ),
    "score bounds": (
        {"min_score": 0.2, "max_score": 0.7},
        {"filters": [ScoreBounds(min_score=0.2, max_score=0.7)]},
    ),
    "strict": (
        {"absolute_margin": 0.3, "range_min": 2, "range_max": 9},
        {"filters": [AbsoluteMargin(0.3)], "range_min": 2, "range_max": 9},
    ),
}


def same(ours, theirs):
    assert ours.column_names == theirs.column_names
    assert len(ours) == len(theirs)
    for name in ours.column_names:
        for mine_, peer in zip(ours[name], theirs[name], strict=True):
            if name in ("score", "scores"):
                np.testing.assert_allclose(mine_, peer, atol=1e-5)
            else:
                assert mine_ == peer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("positives", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parity(layout, positives, setting):
    theirs, ours = SETTINGS[setting]
    for seed, scores in ((1, False), (2, True)):
        world = World(seed, positives)
        expected = world.theirs(layout, scores, **theirs)
        if len(expected):
            same(world.ours(layout, scores, **ours), expected)
        else:
            with pytest.raises(ConfigError, match="would be empty"):
                world.ours(layout, scores, **ours)


def circle(scores):
    """Unit vectors in the plane with the given cosines to (1, 0)."""
    return np.array([[s, math.sqrt(1 - s * s)] for s in scores], np.float32)


@pytest.mark.filterwarnings("ignore")
def test_we_differ_on_purpose_by_default():
    """Ours drops the query's own text and near-identical copies of a positive; theirs returns them as negatives."""
    documents = ["positive 1", "Positive  1", "query 0", "other 3", "other 4"]
    vectors = circle([1.0, 0.9, 0.8, 0.6, 0.5])
    model = SentenceTransformer(modules=[Lookup(vectors)], device="cpu")
    pairs = Dataset.from_dict({"query": ["query 0"], "positive": ["positive 1"]})
    theirs = mine_hard_negatives(pairs, model, corpus=documents, num_negatives=2, verbose=False)
    assert theirs["negative"][:] == ["query 0", "Positive  1"]

    def encode(texts):
        return vectors[[int(text.split()[-1]) for text in texts]]

    ours = mine(pairs, Dataset.from_dict({"text": documents}), "dense", encoder=encode, num_negatives=2)
    assert ours["negatives"][0] == ["other 3", "other 4"]


@pytest.mark.filterwarnings("ignore")
def test_a_rank_window_skips_unlabelled_documents_not_survivors():
    """Theirs counts ranks among survivors of what it fetched, ours among documents outside the exclusion set."""
    scores = [0.90, 0.84, 0.80, 0.78, 0.77, 0.755, 0.72, 0.60, 0.45, 0.20, -0.10]
    vectors = np.concatenate([circle([1.0]), circle(scores)])
    documents = [f"d{row} {row}" for row in range(1, 12)]
    pairs = Dataset.from_dict({"query": ["query 0"], "positive": ["d3 3"]})

    def encode(texts):
        return vectors[[int(text.split()[-1]) for text in texts]]

    for last, expected in ((6, ["d7 7"]), (10, ["d7 7", "d8 8", "d9 9", "d10 10", "d11 11"])):
        strategy = Strategy([Dense()], [RankWindow(2, last), AbsoluteMargin(0.05)])
        ours = mine(pairs, Dataset.from_dict({"text": documents}), strategy, encoder=encode, num_negatives=8)
        assert ours["negatives"][0] == expected
    model = SentenceTransformer(modules=[Lookup(vectors)], device="cpu")
    theirs = mine_hard_negatives(
        pairs, model, corpus=documents, num_negatives=8, range_min=2, range_max=10, absolute_margin=0.05, verbose=False
    )
    assert theirs["negative"][:] == ["d9 9", "d10 10", "d11 11"]
