"""What was pushed, mined again."""

import dataclasses

import pytest
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import snapshot_download

from hf_hardneg import HardNegatives, Recipe, Strategy, mine, recipe_of
from hf_hardneg.errors import ConfigError, DataError, HardNegWarning, HubError
from hf_hardneg.filters import RankWindow, RelativeMargin
from hf_hardneg.hub import push_mined_dataset, reproduce
from hf_hardneg.retrievers import BM25, Dense
from hf_hardneg.samplers import Uniform
from tests.hub.conftest import ADA
from tests.worlds import encode, shared_words

pytestmark = pytest.mark.slow


@pytest.fixture
def again(tmp_path):
    """`reproduce` without what was built before."""

    def run(name, **options):
        return reproduce(name, token=ADA, cache_dir=str(tmp_path / "fresh"), **options)

    return run


def push(mined, name, **options):
    push_mined_dataset(mined, name, token=ADA, **options)


def test_pairs_and_corpus_from_the_dataset_itself(hub, name, data, again):
    _, corpus, mined = data
    push(mined, name, configs=["triplet", "list"], corpus=corpus)
    result = again(name)
    assert result.identical and (result.rows, result.differing, result.changes) == (36, {}, ())
    assert str(result) == f"{name} at {result.sha[:12]}: all 36 rows are identical."


def test_the_code_on_the_card_runs_as_it_stands(hub, name, data, tmp_path, monkeypatch):
    pairs, corpus, mined = data
    monkeypatch.chdir(tmp_path)
    halves = DatasetDict({"train": pairs.select(range(20)), "test": pairs.select(range(20, 36))})
    for made in (mined, mine(halves, corpus, "bm25", num_negatives=2)):
        push(made, name, configs=["triplet", "list"], corpus=corpus)
        code = hub.readme(name).split("### How it was made")[1].split("```")[1].removeprefix("python\n")
        assert "yours" not in code
        scope = {}
        exec(compile(code, "card", "exec"), scope)
        wanted = made if isinstance(made, DatasetDict) else {"": made}
        again = scope["mined"] if isinstance(made, DatasetDict) else {"": scope["mined"]}
        for split, rows in wanted.items():
            names = [one for one in again[split].column_names if one in rows.column_names]
            assert {"negatives", "negative_scores", "mining"} < set(names)
            assert again[split].select_columns(names).to_dict() == rows.select_columns(names).to_dict()
    push(made["test"], name, configs="triplet")  # the corpus is there from before, the pairs are elsewhere
    code = hub.readme(name).split("### How it was made")[1].split("```")[1]
    assert f'corpus = load_dataset("{name}", "corpus", split="train")' in code and "yours" in code


def test_each_config_keeps_its_recipe(hub, name, data, again):
    pairs, corpus, mined = data
    other = mine(pairs, corpus, "bm25", num_negatives=1, seed=3)
    push(mined, name, configs=["list", "triplet"], corpus=corpus)
    with pytest.warns(HardNegWarning, match=f"{name} keeps the configs list, which were made otherwise"):
        push(other, name, configs=["triplet", "n-tuple"])
    text = hub.readme(name)
    assert Recipe.from_card(text) == Recipe.from_card(text, "n-tuple") == recipe_of(other)
    assert Recipe.from_card(text, "list") == recipe_of(mined)
    assert again(name).identical
    with pytest.raises(DataError, match="no recipe of the config 'corpus'"):
        Recipe.from_card(text, "corpus")
    with pytest.warns(HardNegWarning, match="which were made otherwise"):
        push(Dataset.from_list(mined.to_list()), name, configs="n-tuple")  # without a recipe
    text = hub.readme(name)
    assert Recipe.from_card(text, "triplet") == recipe_of(other) and again(name).identical
    with pytest.raises(DataError, match="no recipe of the config 'n-tuple'"):
        Recipe.from_card(text, "n-tuple")
    push(other, name, configs=["list", "n-tuple"])
    assert hub.readme(name).count("<!-- hf_hardneg:recipe -->") == 1 and again(name).identical


def test_corpus_on_the_hub_by_its_commit(hub, name, data, again):
    pairs, corpus, _ = data
    corpus.push_to_hub(f"{name}-documents", token=ADA)
    documents = load_dataset(f"{name}-documents", split="train", token=ADA)
    push(mine(pairs, documents, Strategy([BM25(20)], [], Uniform()), num_negatives=2, seed=3), name)
    corpus.select(range(50)).push_to_hub(f"{name}-documents", token=ADA)  # the newest is another
    assert again(name).identical


def test_splits_and_texts_of_positives_that_mining_added(hub, name, data, again):
    pairs, corpus, _ = data
    pairs = pairs.remove_columns("positive")
    splits = DatasetDict({"train": pairs.select(range(20)), "test": pairs.select(range(20, 36))})
    push(mine(splits, corpus, "bm25", num_negatives=2), name, corpus=corpus)
    result = again(name)
    assert result.identical and result.rows == 36
    with pytest.raises(ConfigError, match="one Dataset, and what was mined together is a DatasetDict of test, train"):
        again(name, pairs=pairs)
    push(mine(pairs.select(range(5)), corpus, "bm25", num_negatives=2), name, corpus=corpus)  # into one split
    result = again(name)
    assert (
        result.identical and result.rows == 5 and result.changes == ("split 'test': of another mining, not compared",)
    )


def test_models_are_asked_for_and_named(hub, name, data, again):
    pairs, corpus, _ = data
    strategy = Strategy([Dense(20)], [RankWindow(1)])
    mined = mine(pairs, corpus, strategy, encoder=encode, cross_encoder=shared_words, num_negatives=2)
    push(mined, name, corpus=corpus)
    with pytest.raises(ConfigError, match="the encoder 'encode', which is not on the Hub.*give it as encoder="):
        again(name)
    models = {"encoder": encode, "cross_encoder": shared_words}
    assert again(name, **models).identical

    def other(texts):
        return encode([text[::-1] for text in texts])

    other.digest = "reversed"
    result = again(name, **models | {"encoder": other})
    assert not result.identical and [one.partition(":")[0] for one in result.changes] == ["encoder"]
    assert "encode of digest" in result.changes[0] and "weights or settings are others" in str(result)


def test_a_model_on_the_hub_by_its_commit(hub, name, data, again, tmp_path):
    from tests.models.test_encoder import tiny  # brings torch

    pairs, corpus, _ = data
    model = f"{name}-model"
    folders = [tiny(tmp_path / str(seed), seed=seed)[1] for seed in (0, 1)]
    upload(hub, model, folders[0])
    mined = mine(pairs, corpus, Strategy([Dense(20)]), encoder=model, num_negatives=2)
    push(mined, name, corpus=corpus)
    upload(hub, model, folders[1])
    commit = recipe_of(mined).encoder.revision
    with pytest.raises(ConfigError, match=f"encoder '{model}', at {commit} on the Hub.*A card does not choose"):
        again(name)
    assert again(name, encoder=snapshot_download(model, revision=commit)).identical
    result = again(name, encoder=str(folders[1]))
    assert not result.identical and result.changes[0].startswith(f"encoder: {model} of digest ")


def upload(hub, name, folder):
    for path in folder.rglob("*"):
        if path.is_file():
            hub.write(name, str(path.relative_to(folder)), path.read_bytes())


def test_what_changed_is_named(hub, name, data, again):
    pairs, corpus, mined = data
    push(mined, name)
    with pytest.raises(ConfigError, match="does not say where its corpus of 60 documents is.*Give corpus="):
        again(name)
    edited = corpus.map(lambda row: {"text": row["text"] + (" word3" if row["_id"] == "d9" else "")})
    result = again(name, corpus=edited)
    digests = [recipe_of(mine(pairs, one)).corpus.digest for one in (corpus, edited)]
    assert not result.identical and result.columns["negative_scores"] > 0
    assert result.changes == (f"corpus: 60 rows of digest {digests[0]} then, 60 of {digests[1]} now",)
    assert f"of 36 rows differ.\n  train: rows {result.differing['train'][0]}" in str(result)
    result = again(name, corpus=corpus.select(range(40)))
    assert result.rows == 0 and [one.partition(":")[0] for one in result.changes] == ["mining", "corpus"]
    assert "are not in the corpus" in str(result)
    result = again(name, corpus=corpus.rename_columns({"_id": "i", "text": "t"}))
    assert result.rows == 0 and [one.partition(":")[0] for one in result.changes] == ["mining", "corpus"]
    result = again(name, corpus=corpus, pairs=pairs.select(range(30)))
    assert [one.partition(":")[0] for one in result.changes] == ["pairs"]
    assert set(range(30, 36)) <= set(result.differing["train"])


def test_rows_that_differ_are_found(hub, name, data, again):
    """One value of each column that mining made is changed by hand, in a row of its own."""
    _, corpus, mined = data
    rows = mined.to_list()
    rows[3]["negatives"][0] += "!"
    rows[5]["negative_scores"][1] *= 1.0000002
    rows[8]["negative_ranks"][0] += 1
    rows[8]["mining"]["kept"] -= 1
    push(Dataset.from_list(rows, features=mined.features), name, recipe=recipe_of(mined), corpus=corpus)
    result = again(name)
    assert result.differing == {"train": (3, 5, 8)}
    assert result.columns == {"negatives": 1, "negative_scores": 1, "negative_ranks": 1, "mining": 1}
    assert result.changes == () and "it is of other rows, or machines differ" in str(result)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda recipe: {"versions": recipe.versions | {"numpy": "1.0"}}, "version of numpy: 1.0 then, "),
        (lambda recipe: {"versions": recipe.versions | {"gone": "1.0"}}, "version of gone: 1.0 then, none now"),
    ],
)
def test_other_versions_are_named(hub, name, data, again, change, says):
    _, corpus, mined = data
    recipe = recipe_of(mined)
    push(mined, name, corpus=corpus, recipe=dataclasses.replace(recipe, **change(recipe)))
    result = again(name)
    assert result.identical and len(result.changes) == 1 and says in result.changes[0] and says in str(result)


@pytest.mark.parametrize("made", ["Sorcery", "custom"])
def test_a_strategy_that_nobody_knows_is_named(hub, name, data, again, made):
    _, corpus, mined = data
    recipe = recipe_of(mined)
    strategy = recipe.strategy | {"filters": [{"class": made, "name": "Sorcery", "depth": 3}]}
    push(mined, name, corpus=corpus, recipe=dataclasses.replace(recipe, strategy=strategy))
    result = again(name)
    assert not result.identical and result.rows == 0 and "cannot be mined again" in str(result)
    assert result.changes[0].startswith("mining: ") and "'Sorcery'" in result.changes[0]
    given = again(name, strategy=Strategy([BM25()]))
    assert given.rows == 36 and "strategy: another one was given" in given.changes


def test_a_mapped_miner(hub, name, data, again):
    pairs, corpus, _ = data
    miner = HardNegatives(corpus, "bm25", num_negatives=2)
    mined = pairs.map(miner, batched=True)
    for recipe in (Recipe.of(miner, pairs=pairs), Recipe.of(miner)):
        push(mined, name, recipe=recipe, corpus=corpus)
        assert again(name).identical
    assert mine(pairs, corpus, "bm25", num_negatives=2).to_list() != mined.to_list()  # it knows less


def test_rows_that_mining_dropped_must_be_given(hub, name, data, again):
    pairs, corpus, _ = data
    strategy = Strategy([BM25(20)], [RelativeMargin(0.0)])
    mined = mine(pairs, corpus, strategy, num_negatives=2, on_shortage="drop_row")
    assert 0 < len(mined) < len(pairs)
    push(mined, name, corpus=corpus)
    assert "pairs: 36 rows" in str(again(name))
    assert again(name, pairs=pairs).identical


def test_what_cannot_be_reproduced_at_all(hub, name, mined):
    with pytest.raises(HubError, match="There is none of that name or revision"):
        reproduce(name, token=ADA)
    hub.write(name, "notes.md", "x")
    with pytest.raises(DataError, match="has no card"):
        reproduce(name, token=ADA)
    hub.write(name, "README.md", "---\nlicense: mit\n---\n\nNo recipe.\n")
    with pytest.raises(DataError, match="holds no recipe"):
        reproduce(name, token=ADA)
    push(mined, name, configs="triplet")
    with pytest.raises(DataError, match="has no config 'list'.*it has triplet"):
        reproduce(name, token=ADA)


def test_a_card_cannot_make_it_read_or_write_elsewhere(hub, name, data, again, tmp_path):
    _, corpus, mined = data
    push(mined, name, corpus=corpus)
    card = hub.readme(name)
    for option, value in (("cache_dir", tmp_path / "theirs"), ("encoder", "evil/model"), ("index", "/etc/passwd")):
        hub.write(name, "README.md", card.replace('"seed": 42', f'"seed": 42, "{option}": "{value}"', 1))
        assert str(value) in hub.readme(name)
        with pytest.raises(DataError, match="no recipe that can be read"):
            again(name)
    assert not (tmp_path / "theirs").exists()


CHOSEN = {
    "a model": ("filters", [{"class": "Denoised", "model": "evil/judge"}], "the model; a recipe chooses"),
    "a device": ("filters", [{"class": "Denoised", "device": "cuda"}], "the device; a recipe chooses"),
    "where vectors are compared": ("retrievers", [{"class": "Dense", "device": "cuda"}], "gives Dense the device"),
    "a huge index": ("retrievers", [{"class": "Dense", "factory": "IVF123456789,Flat"}], "numbers of at most 7 digits"),
    "many parts": ("retrievers", [{"class": "BM25"}] * 101, "parts; 100 are allowed"),
}


@pytest.mark.parametrize("what", CHOSEN)
def test_a_recipe_chooses_strategies_and_numbers_alone(hub, name, data, again, what):
    part, value, says = CHOSEN[what]
    _, corpus, mined = data
    recipe = recipe_of(mined)
    push(mined, name, corpus=corpus, recipe=dataclasses.replace(recipe, strategy=recipe.strategy | {part: value}))
    result = again(name, encoder=encode, cross_encoder=shared_words)
    assert result.rows == 0 and says in result.changes[0]


def test_a_corpus_is_a_hub_dataset_at_a_commit_and_no_folder(hub, name, data, again, tmp_path, monkeypatch):
    pairs, corpus, _ = data
    corpus.push_to_hub(f"{name}-documents", token=ADA)
    documents = load_dataset(f"{name}-documents", split="train", token=ADA)
    mined = mine(pairs, documents, "bm25", num_negatives=2)
    recipe = recipe_of(mined)
    for wrong in ({"revision": "main"}, {"hub_id": "../documents"}, {"hub_id": "https://evil.example/x"}):
        push(mined, name, recipe=dataclasses.replace(recipe, corpus=dataclasses.replace(recipe.corpus, **wrong)))
        with pytest.raises(ConfigError, match=r"without the commit|is not the name of a Hub dataset"):
            again(name)
    push(mined, name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / recipe.corpus.hub_id).mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"There is a folder {recipe.corpus.hub_id} here"):
        again(name)


def test_known_positives_beside_the_pairs_are_asked_for(hub, name, data, again):
    pairs, corpus, plain = data
    others = pairs.map(lambda row, place: {"positive_ids": plain[place]["negative_ids"][:1]}, with_indices=True)
    others = others.select_columns(["query", "positive_ids"])
    mined = mine(pairs, corpus, "bm25", num_negatives=2, known_positives=[others])
    push(mined, name, configs="list", corpus=corpus)
    without = again(name)
    assert not without.identical
    (change,) = without.changes
    assert change.startswith("known_positives beside the pairs: of digest ") and change.endswith(" then, none now")
    assert again(name, known_positives=[others]).identical
