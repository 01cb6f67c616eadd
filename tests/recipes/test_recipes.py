import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets, load_from_disk

from hf_hardneg import (
    BM25,
    Dense,
    Disagreement,
    HardNegatives,
    Hybrid,
    RankWindow,
    Recipe,
    RelativeMargin,
    Reranked,
    ScoreBounds,
    Sparse,
    Strategy,
    attach_dense,
    mine,
    recipe_of,
    to_format,
)
from hf_hardneg.errors import ConfigError, DataError, UnknownNameError
from hf_hardneg.filters import Filter
from hf_hardneg.recipes.recipe import attach
from hf_hardneg.recipes.serialization import expression, models_in, plain, rebuilt
from hf_hardneg.runtime.versions import installed
from tests.worlds import SMALL, encode, needed, shared_words, weigh, world

FOREIGN = "hf_hardneg recipe: {}"


@pytest.fixture
def mined():
    return mine(*world(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_strategy_can_be_rebuilt_from_its_recipe(name):
    pairs, corpus = world(2)
    made = mine(pairs, corpus, SMALL[name], **needed(SMALL[name]), num_negatives=3)
    recipe = Recipe.from_json(recipe_of(made).to_json())
    assert recipe == recipe_of(made)
    model = next((stage.model for stage in SMALL[name].filters if hasattr(stage, "model")), None)
    again = mine(pairs, corpus, recipe.rebuilt(), **needed(SMALL[name]), cross_encoder=model, **recipe.options)
    assert again.to_dict() == made.to_dict() and recipe_of(again) == recipe


def test_it_says_what_decides_rows(mined):
    recipe = recipe_of(mined)
    pairs, corpus = world(1)
    assert recipe.versions["hf_hardneg"] == "0.1.0" and {"python", "datasets", "numpy", "bm25s"} <= set(recipe.versions)
    assert recipe.options["num_negatives"] == 4 and recipe.options["seed"] == 42 and "cache_dir" not in recipe.options
    assert (recipe.corpus.rows, recipe.corpus.columns) == (60, ("_id", "text"))
    assert list(recipe.pairs) == [""] and recipe.pairs[""].rows == len(pairs)
    assert recipe.pairs[""].columns == ("query", "query_id", "positive", "positive_ids")
    assert recipe.known == (recipe.pairs[""].digest,) and recipe.uses_mine
    assert [one["kind"] for one in recipe.indexes] == ["bm25"] and recipe.encoder is None
    other = recipe_of(mine(pairs.select(range(30)), corpus))
    assert other.corpus == recipe.corpus and other.pairs[""].digest != recipe.pairs[""].digest
    assert recipe_of(mine(pairs, corpus.select(range(59, -1, -1)))).corpus.digest != recipe.corpus.digest


def test_models_and_every_index_are_named():
    pairs, corpus = world(1)
    recipe = recipe_of(mine(pairs, corpus, SMALL["safe hybrid"], **needed(SMALL["safe hybrid"])))
    assert (recipe.encoder.name, recipe.encoder.kind) == ("encode", "live") and recipe.encoder.digest
    assert [one["kind"] for one in recipe.indexes] == ["bm25", "dense"]
    second = recipe_of(
        mine(pairs, corpus, SMALL["bm25 where vectors disagree"], **needed(SMALL["bm25 where vectors disagree"]))
    )
    assert second.encoder == recipe.encoder and second.indexes == recipe.indexes
    scored = recipe_of(mine(pairs, corpus, SMALL["denoised"])).cross_encoder
    assert (scored.name, scored.kind) == ("shared_words", "live")


NAMED = {
    "union": Strategy([Dense(20), Sparse(20, encoder=weigh)]),
    "first": Strategy([Sparse(20, encoder=weigh), Dense(20)]),
    "view": Strategy([Dense(20)], [Disagreement(view=Sparse(encoder=weigh))]),
    "reranked": Strategy([Reranked(Hybrid([BM25(20), Dense(20), Sparse(20, encoder=weigh)]), model=shared_words)]),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_sparse_model_beside_a_dense_one_is_named_and_never_chosen(name):
    made = mine(*world(1), NAMED[name], encoder=encode)
    recipe = recipe_of(made)
    assert Recipe.from_json(recipe.to_json()) == recipe and recipe.encoder.name == "encode"
    (model,) = models_in(recipe.strategy)
    assert (model["name"], model["digest"], model["kind"]) == ("weigh", weigh.digest, "live")
    assert [each.digest for each in recipe.encoders_of_parts] == [weigh.digest]
    with pytest.raises(ConfigError, match=f"the encoder 'weigh' of one part, digest '{weigh.digest}', and chooses no"):
        recipe.rebuilt()
    assert "encoder=...)" in recipe.code() and f'# your copy of "weigh", digest "{weigh.digest}"' in recipe.code()
    assert recipe_of(mine(*world(1), NAMED[name], encoder=encode)) == recipe


def test_a_sparse_model_alone_is_the_encoder_unless_a_column_would_be_read_instead():
    pairs, corpus = world(1)
    alone = Strategy([BM25(20)], [Disagreement(view=Sparse(encoder=weigh))])
    made = mine(pairs, corpus, alone)
    recipe = recipe_of(made)
    assert recipe.encoder.name == "weigh" and not [*models_in(recipe.strategy)]
    assert mine(pairs, corpus, recipe.rebuilt(), encoder=weigh, **recipe.options).to_dict() == made.to_dict()
    vectors = corpus.add_column("v", [{"a": 1.0}] * len(corpus)), pairs.add_column("w", [{"a": 1.0}] * len(pairs))
    columns = {"vector": "v", "query_vector": "w"}
    told = recipe_of(mine(vectors[1], vectors[0], Strategy([Sparse(20, encoder=weigh)]), columns=columns))
    assert told.encoder is None and [model["name"] for model in models_in(told.strategy)] == ["weigh"]


def test_a_part_with_a_model_of_the_hub_is_written_with_its_commit():
    at_commit = {"class": "model", "kind": "hub", "name": "org/splade", "revision": "c0ffee"}
    assert expression({"class": "Sparse", "depth": 9, "encoder": at_commit}) == (
        'Sparse(depth=9, encoder=snapshot_download("org/splade", revision="c0ffee"))'
    )
    for chosen, said in ((at_commit, "names the encoder 'org/splade'"), ("org/splade", "gives Sparse the encoder")):
        with pytest.raises(ConfigError, match=said):
            rebuilt({"class": "Sparse", "depth": 9, "encoder": chosen})


def test_an_approximate_index_brings_its_recall():
    pairs, corpus = world(1)
    recipe = recipe_of(mine(pairs, corpus, Strategy([Dense(20, factory="HNSW8")]), encoder=encode))
    (index,) = recipe.indexes
    assert index["factory"] == "HNSW8" and index["sample"] == "documents" and 0.98 <= index["recall"] <= 1


VIEWS = {
    "save_to_disk": lambda made, path: made.save_to_disk(path) or load_from_disk(path),
    "select": lambda made, path: made.select([0, 2]),
    "filter": lambda made, path: made.filter(lambda row: row["negatives"]),
    "filter in processes": lambda made, path: made.filter(lambda row: row["negatives"], num_proc=2),
    "map": lambda made, path: made.map(lambda row: {"more": 1}),
    "shuffle": lambda made, path: made.shuffle(seed=1).flatten_indices(),
    "split": lambda made, path: made.train_test_split(0.5, seed=1)["test"],
    "rename": lambda made, path: made.rename_column("query", "question"),
    "remove": lambda made, path: made.remove_columns("mining"),
    "triplets": lambda made, path: to_format(made, "triplet"),
    "itself twice": lambda made, path: concatenate_datasets([made, made]),
    "format": lambda made, path: made.with_format("numpy"),
}


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_it_stays_with_the_rows(mined, view, tmp_path):
    assert recipe_of(VIEWS[view](mined, str(tmp_path / "saved"))) == recipe_of(mined)


def test_splits_have_one_recipe(tmp_path):
    pairs, corpus = world(1)
    splits = DatasetDict(train=pairs.select(range(20)), test=pairs.select(range(20, len(pairs))))
    made = mine(splits, corpus)
    made.save_to_disk(tmp_path / "saved")
    recipe = recipe_of(load_from_disk(tmp_path / "saved"))
    assert recipe == recipe_of(made) == recipe_of(made["test"]) and recipe.uses_mine
    assert [(name, one.rows) for name, one in recipe.pairs.items()] == [("test", len(pairs) - 20), ("train", 20)]


def test_parts_of_several_recipes_are_refused(mined):
    other = mine(*world(1), seed=7)
    with pytest.raises(DataError, match="carries 2 recipes, .* pass the one that counts as recipe="):
        recipe_of(concatenate_datasets([mined, other]))
    with pytest.raises(DataError, match="carries 2 recipes"):
        recipe_of(DatasetDict(a=mined, b=other))


def test_attaching_changes_neither_rows_nor_fingerprint_nor_what_was_described(mined):
    pairs, corpus = world(1)
    pairs.info.description = "Pairs of mine.\nTwo lines."
    first = mine(pairs, corpus)
    assert first.info.description.startswith("Pairs of mine.\nTwo lines.\n\nhf_hardneg recipe: {")
    assert pairs.info.description == "Pairs of mine.\nTwo lines." and first.to_dict() == mined.to_dict()
    before = mined._fingerprint
    attach(mined, recipe_of(first))
    attach(mined, recipe_of(mine(pairs, corpus, seed=3)))
    assert mined._fingerprint == before and mined.info.description.count("recipe: ") == 1
    assert recipe_of(mined).options["seed"] == 3
    assert recipe_of(mine(first.select_columns(pairs.column_names), corpus, seed=4)).options["seed"] == 4


def test_a_finished_result_is_opened_without_hashing_twice(monkeypatch):
    pairs, corpus = world(1)
    mine(pairs, corpus)
    monkeypatch.setattr("hf_hardneg.corpus.documents.content_digest", lambda *given: pytest.fail("hashed again"))
    assert recipe_of(mine(pairs, corpus)).uses_mine


def test_versions_are_those_with_which_rows_were_made(tmp_path, monkeypatch):
    pairs, corpus = world(1)
    halves = DatasetDict({"train": pairs.select(range(20)), "test": pairs.select(range(20, 36))})
    now, cache = installed(), str(tmp_path)
    monkeypatch.setattr("hf_hardneg.steps.installed", lambda: {**now, "numpy": "1.0"})
    before = recipe_of(mine(halves, corpus, cache_dir=cache))
    monkeypatch.undo()
    assert before.versions == {**now, "numpy": "1.0"}
    assert recipe_of(mine(halves, corpus, cache_dir=cache)) == before
    other = recipe_of(mine(halves, corpus, cache_dir=cache, seed=1))  # candidates of then, selected now
    assert other.versions == {**now, "numpy": f"1.0, {now['numpy']}"}
    assert recipe_of(mine(halves, corpus, cache_dir=str(tmp_path / "fresh"))).versions == now


def test_what_was_mapped_gets_its_recipe_by_hand():
    pairs, corpus = world(1)
    miner = HardNegatives(corpus, "bm25")
    made = pairs.map(miner, batched=True)
    assert recipe_of(made) is None and recipe_of(pairs) is None
    recipe = Recipe.of(miner, pairs=pairs)
    assert not recipe.uses_mine and recipe.pairs == recipe_of(mine(pairs, corpus)).pairs
    assert not Recipe.of(miner).pairs


def run(recipe, folder, monkeypatch, **sources):
    for name, rows in sources.items():
        rows.save_to_disk(folder / name)
    monkeypatch.chdir(folder)
    scope = {}
    exec(compile(recipe.code(), "recipe", "exec"), scope)
    return scope["mined"]


def test_the_code_runs_and_makes_the_same_rows(tmp_path, monkeypatch):
    pairs, corpus = world(3)
    corpus = corpus.rename_column("text", 'it\'s "the"\ntext')
    strategy = Strategy([BM25(30)], [RankWindow(2), RelativeMargin(0.1), ScoreBounds(max_score=1e6)])
    options = {"num_negatives": 3, "seed": 9, "columns": {"text": ['it\'s "the"\ntext']}, "on_shortage": "pad_next"}
    made = mine(pairs, corpus, strategy, **options)
    again = run(recipe_of(made), tmp_path, monkeypatch, corpus=corpus, pairs=pairs)
    assert again.to_dict() == made.to_dict() and recipe_of(again).strategy == recipe_of(made).strategy


def test_the_code_runs_with_splits_and_with_map(tmp_path, monkeypatch):
    pairs, corpus = world(3)
    splits = DatasetDict({"train": pairs.select(range(9)), "te'st": pairs.select(range(9, 20))})
    made = mine(splits, corpus)
    sources = {"corpus": corpus, "pairs-0": splits["te'st"], "pairs-1": splits["train"]}
    again = run(recipe_of(made), tmp_path, monkeypatch, **sources)
    assert {name: rows.to_dict() for name, rows in again.items()} == {name: one.to_dict() for name, one in made.items()}
    miner = HardNegatives(corpus, "bm25", num_negatives=2)
    recipe = Recipe.of(miner, pairs=pairs)
    mapped = run(recipe, tmp_path, monkeypatch, pairs=pairs)
    assert mapped.to_dict() == pairs.map(miner, batched=True).to_dict()


class Mine(Filter):
    name = "mine"

    def keep(self, candidates):
        return candidates.rank >= 0


def test_a_class_of_the_user_is_named_and_never_rebuilt():
    recipe = recipe_of(mine(*world(1), Strategy([BM25()], [Mine()])))
    assert recipe.strategy["filters"] == [{"class": "custom", "name": "Mine"}]
    with pytest.raises(ConfigError, match="names 'Mine', which is not of hf_hardneg"):
        recipe.rebuilt()
    assert "strategy = Strategy(  # put classes of your own where dots are" in recipe.code()
    assert "filters=[...]," in recipe.code()


def test_an_own_index_and_an_own_function_are_left_to_the_user():
    pairs, corpus = world(1)
    attached = attach_dense(corpus, encoder=encode)
    code = recipe_of(mine(pairs, attached, SMALL["dense"], **needed(SMALL["dense"]), index="dense")).code()
    assert "index=...,  # your own index" in code and 'encoder=...,  # your copy of "encode"' in code


def test_what_is_no_plain_value():
    assert plain([np.int64(3), np.float32(0.5)]) == [3, 0.5]
    assert rebuilt(plain(float("-inf"))) == float("-inf") and plain(Mine) == {"class": "custom", "name": "Mine"}
    with pytest.raises(UnknownNameError, match="Unknown class of a recipe 'Popen'"):
        rebuilt({"class": "Popen", "args": ["id"]})
    with pytest.raises(ConfigError, match="gives BM25 arguments that it does not take .*'speed'.*Install the version"):
        rebuilt({"class": "BM25", "speed": 9})


CRAFTED = [
    {"class": ["list"]},
    {"class": "(", "x": 1},
    {"class": "Strategy", "retrievers": ["x"]},
    {"class": "float", "value": "x"},
    {"class": "float"},
    {"class": "RankWindow", "first": "x"},
    {"class": "Hybrid", "members": [{"class": "Top"}]},
]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CRAFTED)))
def test_what_somebody_made_up_is_a_clear_error(mined, number):
    with pytest.raises(ConfigError):
        rebuilt(CRAFTED[number])
    recipe = recipe_of(mined)
    crafted = replace(recipe, strategy={**recipe.strategy, "filters": [CRAFTED[number]]})
    compile(Recipe.from_json(crafted.to_json()).code(), "recipe", "exec")


BROKEN = {
    "no JSON": "{",
    "no object": "[]",
    "nothing": "{}",
    "later": lambda one: {**one, "format": 2},
    "an option that writes": lambda one: {**one, "options": {**one["options"], "cache_dir": "x"}},
    "another class": lambda one: {**one, "strategy": {"class": "Popen"}},
    "a strategy without parts": lambda one: {**one, "strategy": {"class": "Strategy"}},
    "rows in words": lambda one: {**one, "corpus": {**one["corpus"], "rows": "many"}},
    "a digest that is none": lambda one: {**one, "corpus": {**one["corpus"], "digest": None}},
    "a field too many": lambda one: {**one, "corpus": {**one["corpus"], "path": "x"}},
    "versions in numbers": lambda one: {**one, "versions": {"numpy": 2}},
    "too deep": "[" * 100_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_no_recipe_is_refused(mined, broken):
    change = BROKEN[broken]
    text = change if isinstance(change, str) else json.dumps(change(json.loads(recipe_of(mined).to_json())))
    with pytest.raises(DataError, match="This is no recipe that can be read"):
        Recipe.from_json(text)


def test_json_is_canonical_and_cannot_end_a_comment_or_a_fence(mined):
    pairs, corpus = world(1)
    name = "a-->b</script>&\u202e\x7f\n```\n"
    text = recipe_of(mine(pairs.rename_column("query", name), corpus, columns={"query": name})).to_json(indent=2)
    assert text.isascii() and not set("<>&`\x7f") & set(text) and "\n```" not in text
    assert Recipe.from_json(text).columns["query"] == name
    shuffled = dict(reversed(json.loads(text).items()))
    assert Recipe.from_json(json.dumps(shuffled)).to_json(indent=2) == text


def test_neither_paths_nor_tokens_get_in():
    pairs, corpus = world(1)
    token = "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"
    pairs = pairs.add_column(f"/home/anna/{token}", pairs["query"])
    recipe = recipe_of(mine(pairs, corpus, columns={"query": f"/home/anna/{token}"}))
    assert "anna" not in recipe.to_json() and token not in recipe.to_json() + recipe.code()


def at(folder, rows):
    """A dataset as `load_dataset` leaves it: an Arrow file in a folder of the cache."""
    folder.mkdir(parents=True)
    rows.save_to_disk(folder / "saved")
    (folder / "saved" / "data-00000-of-00001.arrow").rename(folder / "pairs-train.arrow")
    return Dataset.from_file(str(folder / "pairs-train.arrow"), split="train")


def test_rows_from_the_hub_are_known_by_their_commit(tmp_path, monkeypatch):
    pairs, corpus = world(1)
    commit = "0123456789abcdef0123456789abcdef01234567"
    loaded = at(tmp_path / "anna/ai___my_pairs/hard/0.0.0" / commit, pairs)
    source = recipe_of(mine(loaded, corpus)).pairs[""]
    assert (source.hub_id, source.revision, source.config, source.split) == ("ai/my_pairs", commit, "hard", "train")
    (tmp_path / "hub" / "datasets--AI--MyPairs" / "snapshots" / commit).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    recipe = recipe_of(mine(loaded.select(range(9)), corpus))
    assert recipe.pairs[""].hub_id == "AI/MyPairs" and not recipe.pairs[""].files
    line = f'pairs = load_dataset("AI/MyPairs", "hard", split="train", revision="{commit}")  # 9 rows, digest'
    assert line in recipe.code() and "anna" not in recipe.to_json()


def test_rows_from_elsewhere_are_known_by_their_files(tmp_path):
    pairs, corpus = world(1)
    source = recipe_of(mine(at(tmp_path / "anna", pairs), corpus)).pairs[""]
    assert source.files == ("pairs-train.arrow",) and source.hub_id is None
    listed = pairs.select(range(len(pairs)))
    listed.info.download_checksums = {f"hf://datasets/ai/pairs@{'a' * 40}/data/train.parquet": {}}
    assert recipe_of(mine(listed, corpus)).pairs[""].hub_id == "ai/pairs"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda said: said["options"].update(num_negatives=10**12), "num_negatives is 1000000000000, where"),
        (lambda said: said["strategy"]["retrievers"][0].update(depth=-(10**12)), "depth is -1000000000000, where"),
        (lambda said: said["options"].update(columns={"query": ["a"]}), "allowed is a string"),
        (lambda said: said["corpus"].update(hub_id="x" * 1_000_000), "where 1,000,000 are allowed"),
        (lambda said: said["indexes"].append({"deep": nested(40)}), "more than 32 levels"),
    ],
)
def test_what_no_recipe_holds_is_refused_before_anything_is_made(edit, says):
    pairs, corpus = world(1)
    said = json.loads(recipe_of(mine(pairs, corpus, "bm25", seed=2**40)).to_json())
    assert Recipe.from_json(json.dumps(said)).options["seed"] == 2**40
    edit(said)
    with pytest.raises(DataError, match=says):
        Recipe.from_json(json.dumps(said))


def nested(levels):
    return [nested(levels - 1)] if levels else 1


@pytest.mark.slow
@pytest.mark.parametrize("text", ['{"format": NaN}', '{"format": 1e999}', "[" * 100_000, "9" * 5000, None, b"\xff"])
def test_json_of_others_is_plain_and_finite(text):
    with pytest.raises(DataError, match="no recipe that can be read"):
        Recipe.from_json(text)
