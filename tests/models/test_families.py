"""What kind of model something is, by its files and as an object, and which argument takes it."""

import json
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartModel,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from hf_hardneg import mine
from hf_hardneg.errors import ConfigError, HardNegWarning, ModelError
from hf_hardneg.generate.generators import LocalGenerator
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.encoder import load_encoder
from tests.models.test_model_identity import QUERIES, TEXTS, small, small_body

VOCABULARY = 5 + 2 * 94 + 2
T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2, "d_kv": 16}


def saved(place, model, tokenizer):
    model.save_pretrained(place)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of each family."""
    root = tmp_path_factory.mktemp("families")
    torch.manual_seed(0)
    body = small_body(root / "bert", BertModel)
    bart = BartConfig(
        vocab_size=VOCABULARY, d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=32
    )
    llama = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    found = {
        "encoder": small(root / "st"),
        "reranker": small_body(root / "reranker", BertForSequenceClassification, num_labels=1),
        "masked": small_body(root / "masked", BertForMaskedLM),
        "tokens": small_body(root / "tokens", BertForTokenClassification),
        "T5 encoder": saved(root / "t5e", T5EncoderModel(T5Config(**T5)), body),
        "T5": saved(root / "t5", T5ForConditionalGeneration(T5Config(**T5)), body),
        "BART": saved(root / "bart", BartModel(bart), body),
        "causal": saved(root / "causal", LlamaForCausalLM(llama), body),
    }
    found["sparse"] = root / "sparse"
    SparseEncoder(str(found["masked"]), device="cpu").save_pretrained(str(found["sparse"]))
    static = StaticEmbedding(AutoTokenizer.from_pretrained(body).backend_tokenizer, embedding_dim=16)
    found["static"] = root / "static"
    SentenceTransformer(modules=[static], device="cpu").save(str(found["static"]))
    for name, file, content in (
        ("adapter", "adapter_config.json", {"base_model_name_or_path": "bert", "peft_type": "LORA"}),
        ("ColBERT", "artifact.metadata", {}),
        ("PyLate", "config_sentence_transformers.json", {"model_type": "ColBERT"}),
        ("MaxSim", "config_sentence_transformers.json", {"similarity_fn_name": "MaxSim"}),
        ("own code", "modules.json", [{"path": "", "type": "my_models.Transformer"}]),
    ):
        found[name] = root / name
        shutil.copytree(found["encoder"], found[name])
        (found[name] / file).write_text(json.dumps(content))
    for name, file in (("GGUF", "model.Q4_K_M.gguf"), ("ONNX", "onnx/model.onnx")):
        found[name] = root / name
        (found[name] / file).parent.mkdir(parents=True)
        (found[name] / file).write_bytes(b"weights")
    found["empty"] = root / "empty"
    found["empty"].mkdir()
    return found


def pairs_and_corpus():
    corpus = Dataset.from_dict({"_id": list("abcd"), "text": ["dark rock", "pale rock", "light lava", "soft chalk"]})
    return Dataset.from_dict({"query": ["dark lava"], "positive_ids": [["a"]]}), corpus


NOT_ENCODERS = {
    "reranker": "a cross-encoder, which scores pairs; a model of one vector .* Pass it as cross_encoder=",
    "sparse": 'a sparse encoder .SPLADE.*Mine with "splade"',
    "ColBERT": "a late-interaction model",
    "PyLate": "a late-interaction model",
    "MaxSim": "a late-interaction model",
    "adapter": "an adapter .LoRA. without its base model.*Merge it",
    "tokens": "a model for token classification",
    "BART": "an encoder-decoder, of which no vector of a text comes",
    "own code": "has code of its own .my_models.Transformer.*trust_remote_code=True",
    "GGUF": "holds GGUF weights only; safetensors or PyTorch's .bin are read",
    "ONNX": "holds ONNX weights only",
    "empty": "has no config.json in .*Give a complete model folder",
}


@pytest.mark.parametrize("name", NOT_ENCODERS)
def test_a_folder_that_is_no_encoder_is_refused_before_any_work(tmp_path, models, name):
    pairs, corpus = pairs_and_corpus()
    with pytest.raises(ModelError, match=f"(?s){NOT_ENCODERS[name]}"):
        mine(pairs, corpus, "dense", encoder=models[name], cache_dir=str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("vectors-*"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("encoder", "an encoder of one vector; a trained cross-encoder is allowed. It has no trained head"),
        ("masked", "a masked language model; .*train one from it"),
        ("causal", "a causal language model; .*train one from it"),
        ("sparse", "a sparse encoder"),
        ("ColBERT", "a late-interaction model"),
        ("adapter", "an adapter .LoRA."),
        ("tokens", "a model for token classification"),
        ("GGUF", "holds GGUF weights only"),
    ],
)
def test_a_folder_that_scores_no_pairs_is_refused(tmp_path, models, name, text):
    with pytest.raises(ModelError, match=text):
        load_cross_encoder(models[name], cache_dir=tmp_path)


def test_objects_of_another_family_are_refused_before_they_are_saved(tmp_path, models):
    sparse = SparseEncoder(str(models["sparse"]), device="cpu")
    reranker = CrossEncoder(str(models["reranker"]), device="cpu")
    encoder = SentenceTransformer(str(models["encoder"]), device="cpu")
    bare = BertModel.from_pretrained(models["encoder"])
    for model, text in (
        (sparse, "got a SparseEncoder, a sparse encoder"),
        (reranker, "got a CrossEncoder, a cross-encoder.*Pass it as cross_encoder="),
        (bare, "got a BertModel, a live transformers model.*pass a SentenceTransformer"),
    ):
        with pytest.raises(ConfigError, match=f"encoder= {text}"):
            load_encoder(model, cache_dir=tmp_path / "cache")
    for model, text in (
        (encoder, "got a SentenceTransformer, an encoder of one vector; .*train-denoiser"),
        (sparse, "got a SparseEncoder, a sparse encoder"),
        (bare, "got a BertModel, a live transformers model"),
    ):
        with pytest.raises(ConfigError, match=f"cross_encoder= {text}"):
            load_cross_encoder(model, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["T5 encoder", "T5", "masked", "causal", "static"])
def test_encoders_of_other_architectures_equal_those_of_sentence_transformers(tmp_path, models, name):
    if name in ("T5", "masked", "causal"):
        with pytest.warns(HardNegWarning, match="which no one trained to compare texts"):
            encoder = load_encoder(models[name], cache_dir=tmp_path, device="cpu")
    else:
        encoder = load_encoder(models[name], cache_dir=tmp_path, device="cpu")
    peer = SentenceTransformer(str(models[name]), device="cpu")
    if name == "causal":
        peer.tokenizer.pad_token = "[PAD]"
    for kind, texts, encode in (("query", QUERIES, peer.encode_query), ("document", TEXTS[:1], peer.encode_document)):
        own = encode(texts)
        np.testing.assert_allclose(encoder.encode(texts, kind=kind), own, atol=1e-4 * np.abs(own).max())


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    for load in (load_encoder, load_cross_encoder):
        with pytest.raises(ModelError, match="model.gguf' is a file; a model is a folder"):
            load(tmp_path / "model.gguf", cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["encoder", "reranker", "T5"])
def test_a_generator_is_a_causal_language_model(models, name):
    with pytest.raises(ModelError, match="a causal language model is allowed. Give a text-generation model"):
        LocalGenerator(model=str(models[name]))


def test_a_cross_encoder_with_a_prompt_is_the_same_by_path_and_live(tmp_path, models):
    live = CrossEncoder(str(models["reranker"]), device="cpu", prompts={"ask": "is it: "}, default_prompt_name="ask")
    live.save_pretrained(str(tmp_path / "saved"))
    scorers = [load_cross_encoder(model, cache_dir=tmp_path / "cache") for model in (live, tmp_path / "saved")]
    own = live.predict(list(zip(QUERIES, TEXTS, strict=True)), activation_fn=torch.nn.Identity())
    for scorer in scorers:
        np.testing.assert_allclose(scorer.score(QUERIES, TEXTS), own, atol=1e-4)


def test_a_snapshot_of_the_hub_is_told_by_its_files(tmp_path, models, monkeypatch):
    """The Hub's cache keeps files under their content and a folder of links for each commit."""
    root, commit = tmp_path / "hub" / "models--us--reranker", "0" * 40
    shutil.copytree(models["reranker"], root / "blobs")
    (root / "snapshots" / commit).mkdir(parents=True)
    for path in (root / "blobs").iterdir():
        (root / "snapshots" / commit / path.name).symlink_to(path)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="encoder= got 'us/reranker', a cross-encoder"):
        load_encoder("us/reranker", cache_dir=tmp_path)
    found = load_cross_encoder("us/reranker", cache_dir=tmp_path)
    assert found.digest == load_cross_encoder(models["reranker"], cache_dir=tmp_path).digest
