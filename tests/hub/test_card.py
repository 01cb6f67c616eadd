import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset, DatasetDict, concatenate_datasets
from huggingface_hub import DatasetCard, DatasetCardData

from hf_hardneg import Recipe, mine, to_format
from hf_hardneg.errors import ColumnError, ConfigError, DataError
from hf_hardneg.hub import mined_dataset_card
from hf_hardneg.hub.card import size_category
from hf_hardneg.recipes.recipe import attach
from hf_hardneg.reports.charts import round_edges
from hf_hardneg.reports.report import BINS
from tests.hub import cards
from tests.hub.mined import COMMIT, DENOISER, RECIPE, ROWS, mined
from tests.worlds import shared_words, world

KNOWN_SIZES = json.loads(files("datasets").joinpath("utils/resources/size_categories.json").read_text())
ROOT = Path(__file__).parents[2]


def card(rows=None, **options):
    return mined_dataset_card(mined() if rows is None else rows, **{"repo_id": "ada/set", "recipe": RECIPE, **options})


def table(text, heading):
    """The cells of the first table under a heading, without its head."""
    part = text.partition(f"\n### {heading}\n")[2]
    lines = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE).group().splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_every_number_as_worked_out_by_hand():
    made = card()
    text = str(made)
    assert "\n4 rows with 5 hard negatives, 1.25 per row, from 1,234 documents.\n" in text
    assert table(text, "What each filter took") == [
        ["retrieved", "20", "100.00 %"],
        ["known_positive", "5", "25.00 %"],
        ["margin", "10", "50.00 %"],
        ["kept", "5", "25.00 %"],
    ]
    assert "Negatives by where they came from: `bm25` 4, `bm25+dense` 1.\n" in text
    assert table(text, "Scores") == [
        ["ranks", "0.2", "1", "2", "3", "3.8"],
        ["negative_scores", "4.08", "4.4", "5", "7", "9.08"],
        ["positive_scores", "2.4", "4", "5", "8", "9.6"],
        ["margins", "-0.24", "0.4", "1", "4", "4.8"],
    ]
    assert "\n- easy: 40.00 %\n- moderate: 20.00 %\n- hard: 40.00 %\n" in text
    assert "hard is above 95 % of it (20.00 % above it), easy is at most 50 % of it." in text
    assert "- 20.00 % of the 5 negatives that have a score, as their positive has, score above" in text
    assert "- 2 of 4 rows have fewer negatives than asked, 1 of them none.\n" in text
    assert "- Search was exact" in text and "- Split `train`: 4 rows.\n" in text
    assert "\n- Corpus: 1,234 rows, digest `c0ffee`, from `ada/corpus`, split `train`, revision" in text
    assert "\n- Pairs: 4 rows, digest `decaf`, from files of the author: `pairs.parquet`.\n" in text
    assert f"\n- Cross-encoder: `ada/judge`, revision `{COMMIT}`, digest `bead`, `max_length` `128`.\n" in text
    assert "\n- Seed: `7`.\n- Versions: `hf_hardneg` `0.1.0`, `numpy` `2.4.6`.\n" in text


def test_the_estimate_of_false_negatives_as_worked_out_by_hand():
    """Mean of 0.1, 0.05, 0.02, 0.08 and 0; Wilson's interval for 0.25 of 5 with z = 1.96."""
    text = str(card())
    assert "negatives that are relevant: 5.00 %, 95 % interval 0.29 % to 48.81 %.\n" in text
    assert "gives the 5 of 5 negatives it has scored" in text and "let them pass (below 10.00 %)" in text
    logits = {**RECIPE.strategy, "filters": [{**DENOISER, "kind": "ce_logit"}]}
    assert "relevant: 51.25 %, " in str(card(recipe=replace(RECIPE, strategy=logits)))
    shares = {**RECIPE.strategy, "filters": [{**DENOISER, "threshold": None, "share": 0.3}]}
    assert "not among the 30 % of a query's best candidates" in str(card(recipe=replace(RECIPE, strategy=shares)))
    unscored = mined().remove_columns("negative_denoised_scores")
    for made in (card(unscored), card(recipe=replace(RECIPE, strategy={**RECIPE.strategy, "filters": []}))):
        assert "Not estimated: no cross-encoder scores are stored" in str(made) and "interval" not in str(made)


def test_the_pictures_count_what_is_there():
    made = card()
    scores, margins = (made.files[f"assets/hf_hardneg-{name}.svg"].decode() for name in ("scores", "margins"))
    counts = {bin: int(count) for bin, count in re.findall(r"<title>([^<]+): (\d+)</title>", scores)}
    assert counts == {"4 to 4.5": 2, "5 to 5.5": 1, "7 to 7.5": 1, "9.5 to 10": 1}
    assert "Shaded, 4 to 8: middle half of the positives." in scores
    counts = {bin: int(count) for bin, count in re.findall(r"<title>([^<]+): (\d+)</title>", margins)}
    assert counts == {"-0.2 to -0.1": 1, "0 to 0.05": 1, "0.1 to 0.2": 1, "0.5 to 0.6": 2}
    assert all(f"]({path})" in str(made) for path in made.files)


@pytest.mark.parametrize("scale", [1e-30, 3e-4, 1, 7e8, 1e30])
@pytest.mark.parametrize("values", [[0.3], [0.1, 0.7], [-0.7, 0.3, 0.1], [0.99999994, 1], [-5, 0]])
def test_bins_have_round_edges_and_leave_nothing_out(scale, values):
    scores = np.array(values, np.float32).astype(np.float64) * scale
    edges = round_edges(scores.min(), scores.max(), BINS)
    assert np.histogram(scores, edges)[0].sum() == len(scores) and 1 <= len(edges) - 1 <= 22
    assert len({f"{one:.4g}" for one in edges}) == len(edges) or np.ptp(values) < 1e-6
    assert round_edges(1.0, 1 + 2e-16, BINS)[0] < 1


def test_without_scores_there_is_no_table_of_them():
    nothing = [[None] * len(row) for row in ROWS["negatives"]]
    rows = {**ROWS, "negative_scores": nothing, "negative_ranks": nothing, "positive_scores": [[]] * 4}
    text = str(card(Dataset.from_dict(rows)))
    assert "### Scores\n\nNo score is stored.\n" in text and "| quantile |" not in text


def test_examples_are_cut_and_come_from_different_queries():
    rows = mined().select([0, 0, 3, 1])
    long = rows.map(lambda row: {"positive": ["x" * 200]})
    shown = str(card(long)).partition("```text\n")[2].partition("\n```")[0]
    assert shown.split("\n\n")[0].splitlines() == [
        "query               first query",
        f"positive        10  {'x' * 159}…",
        "negative       9.6  one",
        "negative         5  two",
    ]
    assert shown.count("\n\n") == 1 and "second query" in shown and "fourth" not in shown
    assert "### Examples" not in str(card(mined().rename_column("query", "question")))
    asked = replace(RECIPE, options={**RECIPE.options, "columns": {"query": "question"}})
    assert "### Examples" in str(card(mined().rename_column("query", "question"), recipe=asked))


def test_limits_follow_from_the_data():
    padded = mined().map(lambda row: {"negative_sources": ["pad_random"] * len(row["negatives"])})
    assert "- 5 negatives were filled up, not hard by any filter" in str(card(padded))
    rows = [{**row, "search_recall": 0.984375} for row in ROWS["mining"]]
    approximate = Dataset.from_dict({**ROWS, "mining": rows})
    assert "- Search was approximate, and by its own measurement found 0.9844 of the nearest." in str(card(approximate))
    own = replace(RECIPE, indexes=({"kind": "dense", "identity": "faiss-1"},), known=())
    assert "- Nothing was recorded of how exact the search was." in str(card(recipe=own))
    assert "- Only the positives of the row itself were excluded" in str(card(recipe=own))
    assert "- The recipe is for 4 rows and 2 are here" in str(card(mined().select([0, 1])))
    guarded = {**RECIPE.strategy, "filters": [{"class": "TooSimilar"}, {"class": "custom", "name": "Mine"}]}
    text = str(card(recipe=replace(RECIPE, strategy=guarded)))
    assert "were on: TooSimilar.\n" in text and "classes that are not of hf_hardneg" in text
    unscored = {"negative_scores": [[None] * len(one) for one in ROWS["negatives"]]}
    assert "- No negative has a score" in str(card(Dataset.from_dict({**ROWS, **unscored})))


def test_without_a_recipe_only_the_columns_speak():
    text = str(card(recipe=None))
    assert "The data carries no recipe" in text and "```json" not in text and "- Nothing was recorded" in text
    rows = mined()
    attach(rows, RECIPE)
    assert str(card(rows, recipe=None)) == str(card())
    other = mined()
    attach(other, replace(RECIPE, options={"seed": 8}))
    with pytest.raises(DataError, match="carries 2 recipes"):
        card(concatenate_datasets([rows, other]), recipe=None)


def test_the_recipe_is_read_back_from_the_card():
    assert Recipe.from_card(str(card())) == RECIPE
    assert Recipe.from_card(str(card()).replace("\n", "\r\n")) == RECIPE
    with pytest.raises(DataError, match="The card holds no recipe"):
        Recipe.from_card(str(card(recipe=None)))


def test_splits_are_counted_together_and_listed_apart():
    splits = DatasetDict(train=mined().select([0, 1]), test=mined().select([2, 3]))
    text = str(card(splits))
    assert "- Split `train`: 2 rows.\n- Split `test`: 2 rows.\n" in text and "4 rows with 5 hard negatives" in text
    assert table(text, "Scores") == table(str(card()), "Scores")


def test_metadata_by_convention():
    data = card(license="mit", language=["en"], pretty_name="A set").data
    assert data.to_dict() == {
        "language": ["en"],
        "license": "mit",
        "pretty_name": "A set",
        "size_categories": ["n<1K"],
        "source_datasets": ["ada/corpus"],
        "task_categories": ["text-retrieval", "sentence-similarity", "feature-extraction"],
        "annotations_creators": ["machine-generated"],
        "tags": ["hard-negatives", "sentence-transformers", "hf_hardneg"],
    }
    assert card(source_datasets=["bob/pairs"]).data.source_datasets == ["bob/pairs"]
    licensed = mined()
    licensed.info.license = "Apache-2.0"
    assert card(licensed).data.license == "apache-2.0"
    licensed.info.license = "You may use this\nif you like."
    assert card(licensed).data.license is None


@pytest.mark.parametrize("power", range(14))
def test_sizes_are_those_that_the_hub_knows(power):
    for rows in (10**power, 10 ** (power + 1) - 1):
        assert size_category(rows) in KNOWN_SIZES
    assert size_category(10**power) == size_category(10 ** (power + 1) - 1) or power < 2


def test_the_hub_finds_nothing_wrong(hub):
    made = card(license="mit", language="en")
    made.validate(repo_type="dataset")
    assert DatasetCard(str(made)).data.to_dict() == made.data.to_dict()
    assert isinstance(made.data, DatasetCardData) and made.text == DatasetCard(str(made)).text
    made.data.license = "apache-2.0"
    assert "license: apache-2.0" in str(made)


def test_half_a_character_is_replaced():
    made = card(pretty_name="a\ud800b")
    assert str(made).encode() and made.data.pretty_name == "a\ufffdb"


def test_only_mined_data_has_a_card():
    with pytest.raises(ColumnError, match="needs the columns of mined data"):
        card(Dataset.from_dict({"query": ["x"]}))
    with pytest.raises(ConfigError, match="got a DatasetDict without rows to describe"):
        card(DatasetDict({}))
    with pytest.raises(ConfigError, match="mined=.*of type dict"):
        card({})


@pytest.fixture
def layouts(tmp_path):
    pairs, corpus = world(1)
    made = mine(pairs, corpus, "denoised", cross_encoder=shared_words, num_negatives=2, cache_dir=str(tmp_path))
    made = made.filter(lambda row: len(row["negatives"]) == 2)
    named = ("triplet", "n-tuple", "labeled-pair", "labeled-list")
    found = {f"{name}{end}": to_format(made, name, scores=scores) for name in named for end, scores in SCORED.items()}
    texts = {"flagembedding": to_format(made, "flagembedding"), "corpus": corpus}
    return {"list": made, **found, **texts, "triplet-ids": found["triplet"], "more": Dataset.from_dict({"x": [1]})}


SCORED = {"": False, "-scored": "denoised"}
LOSSES = {
    "triplet": "MultipleNegativesRankingLoss",
    "triplet-scored": "MarginMSELoss",
    "n-tuple": "MultipleNegativesRankingLoss",
    "n-tuple-scored": "MarginMSELoss",
    "labeled-pair": "BinaryCrossEntropyLoss",
    "labeled-pair-scored": "MSELoss",
    "labeled-list": "LambdaLoss",
    "labeled-list-scored": "ListNetLoss",
}


def test_each_config_has_lines_that_run(layouts):
    """All but the download and the training: what is imported is there, and what is called takes those arguments."""
    text = str(card(layouts["list"], configs=layouts, recipe=None))
    subsets = re.findall(r"^#### `([^`]+)`\n(.*?)^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [name for name, _, _ in subsets] == list(layouts)
    for name, before, code in subsets:
        loading = f'load_dataset("ada/set", "{name}", split="train")'
        assert loading in code and f": {len(layouts[name]):,} rows" in before
        assert [row[0] for row in re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", before, re.MULTILINE)] == layouts[
            name
        ].column_names
        assert (re.findall(r"loss=(\w+)\(model\)", code) or [None])[0] == LOSSES.get(name)
        scope = {}
        exec("\n".join(line for line in code.splitlines() if "import" in line), scope)
        compile(code, name, "exec")
    assert (
        "The layout flagembedding of" in text and "Ids in the place of texts" in text and "Texts that the ids" in text
    )


@pytest.mark.filterwarnings("ignore:.* left out of the layout:hf_hardneg.errors.HardNegWarning")
def test_examples_are_as_committed(tmp_path):
    for path, content in cards.rendered(str(tmp_path)).items():
        assert (cards.FOLDER / path).read_bytes() == content, f"python -m tests.hub.cards writes {path} anew"


def test_the_committed_examples_are_whole():
    for path in cards.FOLDER.glob("*/README.md"):
        text = path.read_text(encoding="utf-8")
        assert Recipe.from_card(text).rebuilt() and yaml.safe_load(text.split("---\n")[1])["license"] == "cc0-1.0"
        for picture in re.findall(r"\]\((assets/[^)]+)\)", text):
            assert (path.parent / picture).exists()


def test_the_template_is_in_the_wheel(tmp_path):
    assert files("hf_hardneg.hub").joinpath("card.md.jinja").is_file()
    source = tmp_path / "source"
    shutil.copytree(ROOT / "hf_hardneg", source / "hf_hardneg", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "hf_hardneg/hub/card.md.jinja" in zipfile.ZipFile(wheel).namelist()
