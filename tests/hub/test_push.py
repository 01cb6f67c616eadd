"""Pushing to a Hub on loopback, and loading back."""

import copy
import io
import json
import logging
import re
import traceback

import pytest
import yaml
from datasets import Dataset, DatasetDict, Image, load_dataset
from huggingface_hub import DatasetCard, HfApi
from huggingface_hub.errors import HfHubHTTPError

from hf_hardneg import mine, to_format
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegWarning, HubError, UnknownNameError
from hf_hardneg.hub import push_mined_dataset, reproduce
from hf_hardneg.index.bm25.bm25_index import build_bm25
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.store import directories
from tests.calls import Given
from tests.hub.conftest import ADA, BOB
from tests.runtime.test_arguments import ON_THE_HUB, walk

pytestmark = pytest.mark.slow

HAND_WRITTEN = """---
license: mit
language:
- en
my_own_key: {nested: [1, 2]}
configs:
- config_name: mine
  description: by hand
  data_files: mine.parquet
  default: true
---

# My dataset

Text by hand, with `code` and *emphasis*.
"""


def push(mined, name, **options):
    return push_mined_dataset(mined, name, **{"token": ADA, **options})


def loaded(name, config, **options):
    return load_dataset(name, config, token=ADA, **{"split": "train", **options})


def same(one, other):
    """Whether features, columns and all values are equal, floats to the last bit."""
    return one.features == other.features and one.data.table.combine_chunks() == other.data.table.combine_chunks()


def parquet(columns):
    made = io.BytesIO()
    Dataset.from_dict(columns).to_parquet(made)
    return made.getvalue()


def data_of(hub, name):
    """The files of a repository but for its card."""
    files = hub.repos[name].files() if name in hub.repos else {}
    return {path: file for path, file in files.items() if path.endswith(".parquet")}


def configs_of(hub, name):
    return [one["config_name"] for one in DatasetCard(hub.readme(name)).data["configs"]]


def expected(mined, corpus):
    tables = to_format(mined, "pylate-kd", scores="retriever", corpus=corpus)
    ids = {"query_id": "query", "positive_ids": "positive", "negative_ids": "negatives"}
    by_ids = mined.select_columns(list(ids)).rename_columns(ids)
    return {
        "list": mined,
        "list-2": to_format(mined, "list", num_negatives=2),
        "triplet": to_format(mined, "triplet"),
        "triplet-3": to_format(mined, "n-tuple", num_negatives=3),
        "n-tuple-2": to_format(mined, "n-tuple", num_negatives=2),
        "labeled-pair": to_format(mined, "labeled-pair"),
        "labeled-list": to_format(mined, "labeled-list"),
        "flagembedding": to_format(mined, "flagembedding"),
        "triplet-ids": to_format(by_ids, "triplet"),
        "triplet-2-ids": to_format(by_ids, "n-tuple", num_negatives=2),
        "labeled-list-ids": to_format(by_ids, "labeled-list"),
        "scores-retriever": tables["train"],
        "queries": tables["queries"],
        "documents": tables["documents"],
        "corpus": corpus,
    }


def test_every_config_comes_back_as_it_was(hub, name, data):
    _, corpus, mined = data
    wanted = expected(mined, corpus)
    push(mined, name, configs=[one for one in wanted if one not in ("queries", "documents", "corpus")], corpus=corpus)
    for config, rows in wanted.items():
        assert same(loaded(name, config), rows), config
        streamed = loaded(name, config, streaming=True)
        assert streamed.features == rows.features and list(streamed) == list(rows), config
    assert same(loaded(name, None), mined)
    assert len(hub.repos[name].history()) == 2


def test_the_same_again_changes_nothing(hub, name, mined):
    first = push(mined, name)
    stored = len(hub.objects)
    assert push(mined, name).oid == first.oid
    assert len(hub.repos[name].history()) == 2 and len(hub.objects) == stored


def test_another_push_adds_and_replaces(hub, name, mined):
    push(mined, name, configs=["list", "triplet"])
    before = data_of(hub, name)
    push(mined.select(range(20)), name, configs=["triplet-2"])
    assert before.items() < data_of(hub, name).items()
    assert configs_of(hub, name) == ["list", "triplet", "triplet-2"]
    assert len(loaded(name, "triplet-2")) == 20 and same(loaded(name, "list"), mined)
    push(mined.select(range(10)), name, configs="list")
    assert same(loaded(name, "list"), Dataset.from_list(mined.to_list()[:10], features=mined.features))
    assert [path for path in hub.repos[name].files() if path.startswith("list/")] == [
        "list/train-00000-of-00001.parquet"
    ]


def test_configs_that_stay_and_were_made_otherwise_are_named(hub, name, data):
    pairs, corpus, mined = data
    push(mined, name, configs=["list", "triplet"])
    push(mined, name, configs=["triplet-2"])
    other = mine(pairs, corpus, "bm25", num_negatives=2)
    with pytest.warns(HardNegWarning, match=f"{name} keeps the configs list, triplet, which were made otherwise"):
        push(other, name, configs=["triplet-2"])


def test_shards_of_a_longer_push_go(hub, name, mined, monkeypatch):
    monkeypatch.setattr("hf_hardneg.hub.written_splits.SHARD", mined.data.nbytes / 3)
    push(mined, name, configs="list")
    assert sum(path.startswith("list/") for path in hub.repos[name].files()) == 3
    assert same(loaded(name, "list"), mined)
    monkeypatch.undo()
    push(mined, name, configs="list")
    assert sum(path.startswith("list/") for path in hub.repos[name].files()) == 1
    info = yaml.safe_load(hub.readme(name).split("---")[1])["dataset_info"]
    assert info["splits"][0]["num_examples"] == len(mined) and info["config_name"] == "list"
    assert info["download_size"] == len(hub.repos[name].files()["list/train-00000-of-00001.parquet"].content)


def test_files_that_rows_name_go_along(hub, name, mined, tmp_path):
    (tmp_path / "one.png").write_bytes(b"the bytes of a picture")
    pictured = mined.add_column("picture", [str(tmp_path / "one.png")] * len(mined))
    push(pictured.cast_column("picture", Image(decode=False)), name, configs="list")
    found = loaded(name, "list").cast_column("picture", Image(decode=False))[0]["picture"]
    assert found == {"bytes": b"the bytes of a picture", "path": "one.png"}


def test_splits(hub, name, data):
    _, corpus, mined = data
    halves = DatasetDict({"train": mined.select(range(20)), "test": mined.select(range(20, 36))})
    push(halves, name, configs=["list", "triplet-3", "scores-retriever"], corpus=corpus)
    back = loaded(name, "list", split=None)
    assert {split: len(rows) for split, rows in back.items()} == {"train": 20, "test": 16}
    push(mined.select(range(5)), name, configs="list")  # one split; the other stays
    assert {split: len(rows) for split, rows in loaded(name, "list", split=None).items()} == {"train": 5, "test": 16}
    push(DatasetDict({"train": mined}), name, configs="list")  # all splits
    assert list(loaded(name, "list", split=None)) == ["train"]
    assert list(loaded(name, "triplet-3", split=None)) == ["train", "test"]


def test_other_columns_beside_other_splits_are_refused(hub, name, mined):
    push(DatasetDict({"train": mined, "test": mined}), name, configs="n-tuple")
    with pytest.raises(ConfigError, match="the splits test with other columns.*Push a DatasetDict"):
        push(to_format(mined, "list", num_negatives=2), name, configs="n-tuple")
    short = DatasetDict({"train": mined, "test": to_format(mined, "list", num_negatives=2)})
    with pytest.raises(ConfigError, match="name it, such as triplet-3"):
        push(short, name, configs="n-tuple")


def test_a_card_somebody_wrote_is_kept(hub, name, mined):
    hub.write(name, "mine.parquet", parquet({"a": [1]}))
    hub.write(name, "README.md", HAND_WRITTEN)
    push(mined, name, configs=["triplet"])
    card = DatasetCard(hub.readme(name))
    assert card.data["my_own_key"] == {"nested": [1, 2]} and card.data["license"] == "mit"
    assert "Text by hand, with `code` and *emphasis*." in hub.readme(name)
    first = next(one for one in card.data["configs"] if one["config_name"] == "mine")
    assert first == {"config_name": "mine", "description": "by hand", "data_files": "mine.parquet", "default": True}
    assert len(loaded(name, None)) == 1 and len(loaded(name, "triplet")) > len(mined)
    push(mined, name, configs=["triplet"])
    assert len(hub.repos[name].history()) == 4


def test_odd_yaml_is_taken_as_far_as_it_goes(hub, name, mined):
    hub.write(name, "a.parquet", parquet({"a": [1]}))
    odd = "configs:\n- config_name: list\n  data_files: [a.parquet]\ndataset_info: {config_name: list, splits: [x]}"
    hub.write(name, "README.md", f"---\n# A comment\n{odd}\n---\n<!-- hf_hardneg:recipe -->\n")
    push(mined, name, configs="list")
    assert same(loaded(name, "list"), mined) and "# A comment" in hub.readme(name)
    for broken in ("configs: 3", "configs: [x]", "dataset_info: [x]"):
        hub.write(f"{name}-broken", "README.md", f"---\n{broken}\n---\n")
        with pytest.raises(DataError, match="must be a list of configs.*Repair it first"):
            push(mined, f"{name}-broken", configs="list")


def test_an_edit_between_reading_and_writing_is_not_lost(hub, name, mined):
    push(mined, name, configs="list")
    edits = iter(["First edit.", "Second edit."])

    def edit(method, path):
        if path.endswith("/commit/main"):
            hub.before = None if (text := next(edits)).startswith("Second") else edit
            hub.write(name, "README.md", hub.readme(name) + f"\n{text}\n")

    hub.before = edit
    push(mined, name, configs="triplet")
    assert "First edit." in hub.readme(name) and "Second edit." in hub.readme(name)
    assert same(loaded(name, "list"), mined) and len(loaded(name, "triplet"))
    assert len(hub.repos[name].history()) == 5


def test_private_revision_and_pull_request(hub, name, mined):
    push(mined, name, configs="list", private=True, revision="next")
    assert hub.repos[name].private and "README.md" not in hub.repos[name].files("main")
    assert same(loaded(name, "list", revision="next"), mined)
    for token in (BOB, False):
        with pytest.raises(HfHubHTTPError):
            HfApi(token=token).dataset_info(name)
    opened = push(mined, name, configs="triplet", create_pr=True)
    assert opened.pr_revision == "refs/pr/1" and "README.md" not in hub.repos[name].files("main")
    push(mined, name, configs="list")
    public = f"{name}-public"
    push(mined, public, configs="list")
    with pytest.raises(HubError, match="is public already, and private=True"):
        push(mined, public, configs="list", private=True)


def test_the_index_goes_along(hub, name, data, tmp_path):
    pairs, corpus, mined = data
    mine(pairs, corpus, "bm25", num_negatives=3, cache_dir=str(tmp_path / "here"))
    (folder,) = (tmp_path / "here").glob("bm25-*")
    push(mined, name, configs="list", index=folder)
    for path, file in hub.repos[name].files().items():
        if path.startswith("index/"):
            there = tmp_path / "there" / path
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(file.content)
    opened = open_corpus(corpus, cache_dir=str(tmp_path / "there/index"))
    with directories.without_building():
        found = build_bm25(opened, BM25Config())
    assert found.name == folder.name


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"repo_id": "no-owner"}, ConfigError, "not the name of a Hub dataset"),
        ({"repo_id": "ada/sp ace"}, ConfigError, "not the name of a Hub dataset"),
        ({"repo_id": "ada/x/y"}, ConfigError, "not the name of a Hub dataset"),
        ({"configs": ["triplets"]}, UnknownNameError, "Did you mean 'triplet'"),
        ({"configs": ["colbert"]}, UnknownNameError, "Unknown config 'colbert'"),
        ({"configs": ["flagembedding-ids"]}, UnknownNameError, "Unknown config"),
        ({"create_pr": True, "revision": "next"}, ConfigError, "Leave out one of them"),
        ({"configs": []}, ConfigError, "name at least one"),
        ({"configs": ["triplet-9"]}, ConfigError, "no row has more than 3, so 'n-tuple' would be empty"),
        ({"configs": ["scores"]}, ConfigError, "none but the retriever's"),
        ({"configs": ["scores-denoised"]}, ColumnError, "positive_denoised_scores"),
        ({"mined": lambda mined: mined.select([])}, DataError, "'train' has no rows"),
        ({"mined": lambda mined: DatasetDict()}, DataError, "has no splits"),
        ({"mined": lambda mined: DatasetDict({"train-a": mined})}, ConfigError, "of the split 'train-a', which cannot"),
        ({"mined": lambda mined: mined.to_iterable_dataset()}, ConfigError, "IterableDataset"),
        ({"mined": lambda mined: to_format(mined, "triplet")}, ColumnError, "layouts are made from it"),
        (
            {"mined": lambda mined: mined.remove_columns(["query_id"]), "configs": "triplet-ids"},
            ColumnError,
            "query_id",
        ),
        (
            {"corpus": Dataset.from_dict({"_id": ["d0"], "text": ["x"]})},
            DataError,
            "is not what was mined: 60 documents",
        ),
        ({"corpus": Dataset.from_dict({"x": ["x"]})}, DataError, "is not what was mined: 60 documents"),
        ({"corpus": Dataset.from_dict({"_id": [], "text": []})}, DataError, "corpus= has no rows"),
        ({"token": None}, HubError, "pass token="),
        ({"token": "hf_wrong"}, HubError, "pass token="),
        ({"token": BOB}, HubError, "may not write there: ask for access"),
        ({"index": "nowhere"}, Exception, "nowhere"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_uploaded(hub, name, mined, change, error, says):
    options = {"mined": lambda mined: mined, "repo_id": name} | change
    with pytest.raises(error, match=says):
        push(options.pop("mined")(mined), options.pop("repo_id"), **options)
    assert name not in hub.repos


def test_files_that_a_list_of_configs_would_hide_are_named(hub, name, mined):
    hub.write(name, "train.csv", "a\n1\n")
    with pytest.raises(HubError, match="has data that its card does not list, such as train.csv"):
        push(mined, name)
    hub.write(
        name, "README.md", "---\nconfigs:\n- config_name: a\n  data_files: [{split: train, path: 'train*'}]\n---\n"
    )
    with pytest.raises(HubError, match="lists data that is not Parquet, such as train.csv"):
        push(mined, name)
    hub.write(name, "README.md", "---\nbroken: [\n---\n")
    with pytest.raises(DataError, match="cannot be read.*Repair it first"):
        push(mined, name)


NEIGHBOURS = [
    ("data_dir: stuff", "stuff/a.csv", "lists data that is not Parquet, such as stuff/a.csv"),
    ("data_files: '*.csv'", "a.csv", "lists data that is not Parquet, such as a.csv"),
    ("data_files: '**/*.parquet'", "a.parquet", "fit a.parquet, and so would take in list/"),
    ("drop_labels: true", "data/a.parquet", "fit data/a.parquet, and so would take in list/"),
    ("data_dir: stuff", "stuff/a.parquet", None),
    ("data_files: '*.parquet'", "a.parquet", None),
    ("data_files: 'list/train-*'", "list/train-00000-of-00001.parquet", None),
]


@pytest.mark.parametrize(("entry", "path", "says"), NEIGHBOURS)
def test_a_config_of_somebody_else_holds_what_it_held(hub, name, mined, entry, path, says):
    hub.write(name, path, parquet({"a": [1]}) if path.endswith("parquet") else "a\n1\n")
    hub.write(name, "README.md", f"---\nconfigs:\n- config_name: theirs\n  {entry}\n  default: true\n---\n")
    if says:
        with pytest.raises(HubError, match=re.escape(says)):
            push(mined, name)
        assert len(hub.repos[name].history()) == 3
    else:
        for _ in range(2):
            push(mined, name)
        assert len(loaded(name, None)) == (len(mined) if path.startswith("list") else 1)
        assert same(loaded(name, "list"), mined)


def test_a_read_that_is_refused_is_told_from_a_write(hub, name, mined):
    push(mined, name, configs="list")
    hub.break_at(0, 403, from_then_on=True)
    with pytest.raises(HubError, match=r"may not read .* ask for access where it is gated"):
        reproduce(name, token=ADA)


def test_the_token_is_nowhere(hub, name, mined, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    push(mined, name, configs="list")
    texts = [hub.readme(name), caplog.text, *capfd.readouterr()]
    for number, how in ((0, 500), (1, 429), (2, 500)):
        hub.break_at(number, how, from_then_on=True)
        with pytest.raises(HubError) as caught:
            push(mined, name, configs="triplet")
        hub.mend()
        texts += ["".join(traceback.format_exception(caught.value)), repr(caught.value)]
    texts += [
        caplog.text,
        *capfd.readouterr(),
        json.dumps([str(file.content) for file in hub.repos[name].files().values()]),
    ]
    assert not any(ADA in text for text in texts)


@pytest.mark.parametrize("lasting", [True, False], ids=["for good", "once"])
@pytest.mark.parametrize("how", ["drop", "lose", 500])
def test_a_push_that_broke_off_at_any_request_can_be_repeated(hub, name, mined, how, lasting):
    """The line is cut at each request in turn; then all is well, and the push is repeated."""
    small, old = mined.select(range(6)), mined.select(range(6, 9))
    configs = ["triplet", "triplet-2"]  # not `list`, whose many columns make cards slow to read
    push(small, f"{name}-whole", configs=configs)
    push(old, f"{name}-old", configs="triplet")
    wanted = data_of(hub, f"{name}-whole")
    for filled in (False, True):
        broke = []
        for number in range(100):
            repo = f"{name}-{number}-{filled}"
            if filled:
                hub.repos[repo] = copy.deepcopy(hub.repos[f"{name}-old"])
            before, asked = data_of(hub, repo), len(hub.requests)
            hub.break_at(number, how, from_then_on=lasting)
            try:
                push(small, repo, configs=configs)
            except HubError:
                broke.append(number)
            reached = len(hub.requests) - asked > number
            hub.mend()
            assert data_of(hub, repo) in (before, wanted)  # never half-way
            push(small, repo, configs=configs)
            assert data_of(hub, repo) == wanted and len(hub.repos[repo].history()) == 2 + filled
            assert set(configs_of(hub, repo)) == set(configs)
            if not reached:
                break
        assert broke == list(range(number)) if lasting else 0 < len(broke) < number


@pytest.mark.filterwarnings("ignore::hf_hardneg.errors.HardNegWarning")
@pytest.mark.parametrize("function", sorted(ON_THE_HUB))
def test_odd_arguments_are_refused_by_what_needs_a_hub(hub, function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", ADA)
    walk(function, Given(tmp_path))
