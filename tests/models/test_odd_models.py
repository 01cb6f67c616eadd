"""Folders of models whose files are hostile or broken: refused by name, in time, whatever software would read them."""

import json
import os
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch.nn import Linear

from hf_hardneg.errors import ConfigError, HardNegError, ModelError
from hf_hardneg.models.allocation import in_proportion
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.encoder import load_encoder
from tests.cross_encoders import cross_encoder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    return Path(cross_encoder(tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture
def folder(origin, tmp_path):
    shutil.copytree(origin, tmp_path / "model")
    return tmp_path / "model"


def loaded(folder):
    """What the files of a folder say, as an encoder and as a cross-encoder; what either is refused for."""
    refused = []
    for load in (load_encoder, load_cross_encoder):
        try:
            load(str(folder), cache_dir=folder.parent)
        except HardNegError as error:
            refused.append(error)
    return refused


MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
SAID = {
    "modules.json": [
        {},
        1,
        None,
        "x",
        [1],
        [{}],
        [{"type": 1, "path": ""}],
        [{"type": "a.Transformer"}],
        [[]],
        {"a": []},
    ],
    "config.json": [[], 1, None, "x", {"architectures": 5}, {"architectures": [[]]}, {"id2label": 7}],
    "config_sentence_transformers.json": [[], 1, {"prompts": []}, {"prompts": {"query": 5}}, {"truncate_dim": "x"}],
    "sentence_bert_config.json": [[], {"max_seq_length": -1}, {"max_seq_length": "x"}, {"max_seq_length": 1e400}],
    "tokenizer_config.json": [[], {"model_max_length": "x"}, {"model_max_length": []}],
    "folds.json": [[], {}, {"folds": 10**12}, {"folds": "x"}, {"folds": -1}],
    "late_interaction.json": [[], {}, {"encoder": 5, "files": {}}, {"encoder": ".", "files": {"x": 1}}],
}


@pytest.mark.parametrize(("name", "said"), [(name, said) for name, odd in SAID.items() for said in odd])
def test_what_no_model_says_is_refused_or_left_out(folder, name, said):
    if name == "late_interaction.json":
        (folder / "idf.npy").write_bytes(b"x")
    (folder / name).write_text(json.dumps(said))
    for error in loaded(folder):
        assert isinstance(error, ModelError | ConfigError)


@pytest.mark.parametrize("path", ["../elsewhere", "/elsewhere", "a/../../b", "a\\\\b"])
def test_modules_lie_in_their_folder(folder, path):
    (folder / "modules.json").write_text(json.dumps([{**MODULES[0], "path": path}]))
    assert len(loaded(folder)) == 2
    assert all("does not lie in its folder" in str(error) for error in loaded(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"])
def test_pipes_and_devices_are_refused_before_anybody_waits_for_them(folder, name):
    (folder / "1_Pooling").mkdir()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert [str(error).endswith("Do not load this folder.") for error in loaded(folder)] == [True, True]


LARGE = {
    "objects": b"[" + b"{}," * 3_300_000 + b"{}]",
    "open lists": b"[" * 100_000,
    "nested objects": b'{"a": ' * 50_000,
    "no text": b"\xff" * (10 << 20),
    "blanks": b" " * (10 << 20),
    "a string": b'{"architectures": ["' + b"x" * (10 << 20) + b'"]}',
}


@pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer_config.json", "notes.json"])
@pytest.mark.parametrize("content", LARGE.values(), ids=LARGE)
def test_ten_megabytes_of_anything_take_little_memory(folder, name, content):
    loaded(folder)
    (folder / name).write_bytes(content)
    tracemalloc.start()
    refused = loaded(folder)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused and all(len(str(error)) < 2000 for error in refused)
    assert most < 200 << 20


SIZES = {"vocab_size": 3_000_000, "intermediate_size": 1_000_000, "hidden_size": 10**9, "num_hidden_layers": 9_999}
COUNTS = [
    {"num_hidden_layers": 10**9},
    {"n_layer": 1e12},
    {"text_config": {"num_experts": 10**5}},
    {"num_labels": 10**8},
]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("architecture", ["BertModel", "BertForSequenceClassification"])
def test_a_configuration_does_not_make_a_model_larger_than_its_files(folder, name, architecture):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [architecture], name: SIZES[name]}))
    is_encoder = architecture == "BertModel"
    model = (load_encoder if is_encoder else load_cross_encoder)(str(folder), cache_dir=folder.parent)
    with pytest.raises(ModelError, match="asks for .* bytes of weights or more, where its files have"):
        model.encode(["a"], kind="query") if is_encoder else model.score(["a"], ["b"])


@pytest.mark.parametrize("said", COUNTS, ids=str)
def test_a_configuration_makes_no_lists_of_any_length(folder, said):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"], **said}))
    with pytest.raises(ModelError, match="config.json says .*=1.*; models have at most 10,000"):
        load_encoder(str(folder), cache_dir=folder.parent).encode(["a"], kind="query")


def test_only_what_its_own_thread_builds_counts(folder):
    other = ThreadPoolExecutor(1)
    with in_proportion(folder):
        large = other.submit(Linear, 10_000, 10_000, device="meta").result()
        with pytest.raises(ModelError, match="asks for 400,000,000 bytes of weights"):
            Linear(10_000, 10_000, device="meta")
    assert large.weight.shape == Linear(10_000, 10_000, device="meta").weight.shape
    other.shutdown()


def test_files_may_be_links_as_in_the_cache_of_the_hub(folder):
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    before = loaded(folder)
    for path in list(folder.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(blobs / path.name)
    assert list(map(str, loaded(folder))) == list(map(str, before))
