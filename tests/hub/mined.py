"""Mined rows and a recipe that are small enough to be worked out by hand."""

from datasets import Dataset

from hf_hardneg.recipes.provenance import Model, Source
from hf_hardneg.recipes.recipe import Recipe

NONE = {"not_a_number": 0}


def counted(margin, kept, short):
    return {"retrieved": 5, "known_positive": 5 - margin - kept, "margin": margin, "kept": kept, "short": short}


ROWS = {
    "query": ["first query", "second query", "third query", "fourth query"],
    "positive": [["a positive"], ["b positive"], ["c positive"], ["d positive", "e positive"]],
    "negatives": [["one", "two"], ["three", "four"], ["five"], []],
    "negative_ids": [["1", "2"], ["3", "4"], ["5"], []],
    "negative_scores": [[9.6, 5.0], [4.0, 7.0], [4.4], []],
    "negative_ranks": [[1, 3], [2, 0], [4], []],
    "negative_sources": [["bm25", "bm25"], ["bm25", "bm25+dense"], ["bm25"], []],
    "positive_scores": [[10.0], [8.0], [4.0], [5.0, 2.0]],
    "negative_denoised_scores": [[0.1, 0.05], [0.02, 0.08], [0.0], []],
    "mining": [counted(2, 2, 0), counted(2, 2, 0), counted(3, 1, 1), counted(3, 0, 2)],
}
"""Relative margins are 0.04 and 0.5, 0.5 and 0.125, -0.1; margins 0.4 and 5, 4 and 1, -0.4."""

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DENOISER = {"class": "Denoised", "threshold": 0.1, "kind": "ce_prob"}
RECIPE = Recipe(
    versions={"hf_hardneg": "0.1.0", "numpy": "2.4.6"},
    strategy={
        "class": "Strategy",
        "retrievers": [{"class": "BM25", "depth": 5}],
        "filters": [{"class": "RelativeMargin", "margin": 0.02}, DENOISER],
        "sampler": {"class": "Top"},
    },
    options={"num_negatives": 2, "seed": 7},
    corpus=Source(
        rows=1234, digest="c0ffee", columns=("_id", "text"), hub_id="ada/corpus", revision=COMMIT, split="train"
    ),
    pairs={"": Source(rows=4, digest="decaf", columns=("query", "positive"), files=("pairs.parquet",))},
    known=("decaf",),
    encoder=None,
    cross_encoder=Model(name="ada/judge", digest="bead", kind="hub", revision=COMMIT, settings={"max_length": 128}),
    indexes=({"kind": "bm25", "identity": "bm25-facade", "scores": "bm25"},),
)


def mined():
    return Dataset.from_dict(ROWS)
