"""`--set`, `--recipe` and `--save-recipe`: every option of every part is reached, and a file gives the same rows."""

from dataclasses import fields
from typing import get_args

import pytest
import yaml
from datasets import load_from_disk

from hf_hardneg import BM25, Dense, Hybrid, RankWindow, RankZone, Strategy
from hf_hardneg.cli import main
from hf_hardneg.cli.choices import default_strategy
from hf_hardneg.cli.settings import with_settings
from hf_hardneg.errors import ConfigError, UnknownNameError
from hf_hardneg.filters import FILTERS
from hf_hardneg.pipeline.padding import Shortage
from hf_hardneg.recipes.recipe import recipe_of
from hf_hardneg.recipes.recipe_files import read_recipe, save_recipe
from hf_hardneg.samplers import SAMPLERS, Importance, Mixture
from hf_hardneg.strategies import STRATEGIES, resolve
from tests.test_cli import saved


def options_of(stage):
    return [(option.name, getattr(stage, option.name)) for option in fields(stage) if option.init]


def as_yaml(value):
    return yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True)


def with_part(name):
    if name in FILTERS:
        return Strategy([Dense(20)], [FILTERS[name](*([0.1] if name == "score_bounds" else []))])
    return Strategy([Dense(20)], [], SAMPLERS[name]())


@pytest.mark.parametrize("name", [*FILTERS, *SAMPLERS])
def test_every_option_of_every_part_is_reached(name):
    strategy = with_part(name)
    stages = {stage.name: stage for stage in (*strategy.filters, strategy.sampler, *strategy.retrievers)}
    for option, value in options_of(stages[name]):
        if value is None or isinstance(value, bool | int | float | str | tuple):
            assert with_settings(strategy, [f"{name}.{option}={as_yaml(value)}"]) == strategy
            with pytest.raises(ConfigError, match=f"--set {name}.{option}: "):
                with_settings(strategy, [f"{name}.{option}={{a: {{b: c}}}}"])


@pytest.mark.parametrize(
    ("before", "settings", "after"),
    [
        ("margin", ["rank_window.first=5"], {"filters": [RankWindow(5, 200), STRATEGIES["margin"].filters[1]]}),
        ("bm25+rank_zone", ["rank_zone.start=2", "rank_zone.end=9"], {"sampler": RankZone(2, 9)}),
        ("bm25", ["bm25.depth=7", "bm25.config.k1=0.9"], {}),
        (
            "importance+mixture",
            ["importance.temperature=.5", "mixture.share=.5"],
            {"sampler": Mixture(0.5, Importance(0.5))},
        ),
        ("hybrid", ["dense.depth=20"], {"retrievers": [BM25(100), Dense(20)]}),
        ("hybrid", ["hybrid.quotas=[2, 1]"], {"retrievers": [Hybrid([BM25(100), Dense(100)], quotas=(2, 1))]}),
        (
            "hybrid",
            ["hybrid.quotas=[2, 1]", "bm25.depth=9"],
            {"retrievers": [Hybrid([BM25(9), Dense(100)], quotas=(2, 1))]},
        ),
    ],
)
def test_settings_change_what_they_name_and_nothing_else(before, settings, after):
    strategy = resolve(before, safeguards=False)
    changed = with_settings(strategy, settings)
    if not after:
        assert changed.retrievers[0].depth == 7 and changed.retrievers[0].config.k1 == 0.9
        after = {"retrievers": changed.retrievers}
    parts = {name: getattr(strategy, name) for name in ("retrievers", "filters", "sampler")}
    assert changed == Strategy(**{**parts, **after})


@pytest.mark.parametrize(
    ("setting", "kind", "said"),
    [
        ("rank_window", ConfigError, "allowed is PART.OPTION=VALUE"),
        ("rank_window=5", ConfigError, "allowed is PART.OPTION=VALUE"),
        ("rank_windo.first=5", ConfigError, "Did you mean 'rank_window'"),
        ("rank_window.frist=5", UnknownNameError, "Did you mean 'first'"),
        ("rank_window.first=soon", ConfigError, r"--set rank_window.first: RankWindow\(first='soon'\)"),
        ("rank_window.first.x=5", ConfigError, "which has no options of its own"),
        ("top.first=5", ConfigError, "top has no options. Leave it out"),
        ("rank_window.first=&a [1, *a]", ConfigError, "anchor or alias"),
        ("rank_window.first=!!python/name:os.system", ConfigError, "is no value"),
        ("simans.a=1", ConfigError, r"known are .*Add it to the strategy, as in --strategy NAME\+simans"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(setting, kind, said):
    with pytest.raises(kind, match=said):
        with_settings(resolve("margin"), [setting])


def mined(tmp_path, name, *arguments):
    common = [*saved(tmp_path), f"--cache-dir={tmp_path}/indexes", f"--out={tmp_path}/{name}", "-q"]
    assert main(["mine", *common, *arguments]) == 0
    return load_from_disk(str(tmp_path / name))


def test_a_recipe_gives_the_same_rows(tmp_path, capsys):
    file = tmp_path / "recipe.yaml"
    chosen = [
        "--strategy=bm25+rank_zone",
        "--set",
        "rank_zone.start=1",
        "rank_zone.end=20",
        "--num-negatives=3",
        "--seed=7",
    ]
    first = mined(tmp_path, "first", *chosen, f"--save-recipe={file}")
    assert {len(row) for row in first["negatives"]} == {3}
    again = mined(tmp_path, "again", f"--recipe={file}")
    assert again[:] == first[:] and recipe_of(again) == recipe_of(first)
    assert {len(row) for row in mined(tmp_path, "other", f"--recipe={file}", "--num-negatives=2")["negatives"]} == {2}
    (tmp_path / "of_rows.json").write_text(recipe_of(first).to_json())
    assert mined(tmp_path, "of rows", f"--recipe={tmp_path}/of_rows.json")[:] == first[:]
    (tmp_path / "short.yaml").write_text("strategy: bm25\noptions: {num_negatives: 1}\n")
    assert {len(row) for row in mined(tmp_path, "short", f"--recipe={tmp_path}/short.yaml")["negatives"]} == {1}


def test_without_a_strategy_it_is_that_of_mine(tmp_path, capsys):
    assert mined(tmp_path, "unnamed")[:] == mined(tmp_path, "named", "--strategy=bm25")[:]
    assert default_strategy("qdrant://localhost/docs", safeguards=True) == "dense"
    words = default_strategy("opensearch://localhost/docs", safeguards=False)
    assert (type(words.retrievers[0]).__name__, words.filters) == ("OpenSearch", ())


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_survives_a_file(name, tmp_path):
    file, strategy = str(tmp_path / "recipe.yaml"), resolve(name)
    save_recipe(file, strategy, {"num_negatives": 3, "seed": 5, "safeguards": True, "symmetric": None})
    assert read_recipe(file) == (strategy, {"num_negatives": 3, "seed": 5})


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("", ConfigError, "it must have a strategy"),
        ("strategy: 5", ConfigError, "it must have a strategy"),
        ("strategy: [", ConfigError, "cannot be read"),
        ("strategy: bm25\nencoder: some/model", UnknownNameError, "known are options, strategy"),
        ("strategy: bm25\noptions: {encoder: some/model}", UnknownNameError, "option of the recipe"),
        ("strategy: bm25\noptions: {cache_dir: /tmp}", UnknownNameError, "option of the recipe"),
        ("strategy: bm25\noptions: {num_negatives: many}", ConfigError, "num_negatives='many'"),
        ("strategy: bm25\noptions: [1]", ConfigError, "give names with values"),
        ("strategy: &a [*a]", ConfigError, "anchor or alias"),
        (
            "strategy: {class: Strategy, retrievers: [{class: Random}], filters: [{class: Denoised, model: x}]}",
            ConfigError,
            "never what",
        ),
        ("strategy: {class: Strategy, retrievers: [{class: os.system}]}", UnknownNameError, "class of a recipe"),
        ("strategy: {class: BM25}", ConfigError, "give one of class Strategy"),
        ("strategy: {class: Strategy, retrievers: [{class: BM25, depth: 99999999999}]}", ConfigError, "too large"),
    ],
)
def test_a_recipe_chooses_strategies_and_numbers_alone(text, kind, said, tmp_path):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(kind, match=said):
        read_recipe(str(tmp_path / "recipe.yaml"))


def test_choices_are_checked_before_anything_is_read(tmp_path, capsys):
    nowhere = [f"--{name}={tmp_path}/{name}.parquet" for name in ("pairs", "corpus")]
    (tmp_path / "recipe.yaml").write_text("strategy: bm25")
    for arguments, said in (
        (["--strategy=bm25x"], "bm25x"),
        (["--strategy=bm25", f"--recipe={tmp_path}/recipe.yaml"], "Drop one"),
        ([f"--recipe={tmp_path}/none.yaml"], "No such file"),
        (["--strategy=bm25", "--set", "bm25.dept=5"], "Did you mean 'depth'"),
        (["--strategy=bm25", "--num-negatives=0"], "num_negatives=0"),
        (["--strategy=bm25", f"--save-recipe={tmp_path}/recipe.yaml/x"], "cannot be written"),
        (["--strategy=bm25", "--columns", "qury=question"], "Did you mean 'query'"),
    ):
        assert main(["mine", *nowhere, f"--out={tmp_path}/out", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_rule_for_shortages_is_in_the_help_and_reaches_the_recipe(tmp_path, capsys):
    assert main(["mine", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(rule in told for rule in get_args(Shortage))
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,positive\nred rock,red rock lava\nzebra,striped horse\n")
    more = ["--on-shortage", "pad_random", "--num-negatives", "1", "--save-recipe", str(tmp_path / "recipe.yaml")]
    assert main(["mine", "--pairs", str(pairs), "--out", str(tmp_path / "mined"), *more]) == 0
    mined = load_from_disk(tmp_path / "mined")
    assert [len(negatives) for negatives in mined["negatives"]] == [1, 1]
    assert (
        recipe_of(mined).options["on_shortage"]
        == read_recipe(tmp_path / "recipe.yaml")[1]["on_shortage"]
        == "pad_random"
    )
    assert main(["mine", "--pairs", str(pairs), "--out", str(tmp_path / "other"), "--on-shortage", "fill"]) == 2
    assert "on_shortage" in capsys.readouterr().err
