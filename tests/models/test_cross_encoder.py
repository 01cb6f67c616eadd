import json
import multiprocessing
import pickle
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from hf_hardneg.errors import ConfigError, DataError, HardNegWarning, ModelError
from hf_hardneg.models import forward
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.scorers import TransformersScorer, probabilities
from tests.cross_encoders import MINILM, cross_encoder

pytestmark = pytest.mark.slow

IDENTITY = torch.nn.Identity()
rng = np.random.default_rng(0)
WORDS = ["mouse", "of", "protein", "x1", "immunohistochemistry", "東京", "wing"]
DOCUMENTS = ["", *(" ".join(rng.choice(WORDS, n)) for n in range(1, 160, 5))]
QUERIES = [" ".join(rng.choice(WORDS, 1 + i % 40)) for i in range(len(DOCUMENTS))]
PAIRS = list(zip(QUERIES, DOCUMENTS, strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return cross_encoder(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def scorer(folder):
    return load_cross_encoder(folder, cache_dir=folder, device="cpu")


@pytest.mark.parametrize("labels", [1, 2])
def test_scores_equal_those_of_sentence_transformers(tmp_path, labels):
    folder = str(cross_encoder(tmp_path, labels))
    expected = CrossEncoder(folder, device="cpu").predict(PAIRS, activation_fn=IDENTITY)
    expected = expected[:, 1] - expected[:, 0] if labels == 2 else expected
    found = load_cross_encoder(folder, cache_dir=tmp_path, device="cpu").score(QUERIES, DOCUMENTS)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert found.dtype == np.float32 and found.std() > 0.05


@pytest.mark.parametrize("threads", [1, 2])
def test_a_score_does_not_depend_on_what_is_scored_with_it(scorer, threads, monkeypatch):
    whole, before = scorer.score(QUERIES, DOCUMENTS), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert np.array_equal(scorer.score(QUERIES[::-1], DOCUMENTS[::-1])[::-1], whole)
        assert np.array_equal(np.concatenate([scorer.score([q], [d]) for q, d in PAIRS]), whole)
        for budget in (1, 300, 5000):
            monkeypatch.setitem(forward.BATCH_TOKENS, "cpu", budget)
            assert np.array_equal(scorer.score(QUERIES, DOCUMENTS), whole)
    finally:
        torch.set_num_threads(before)
    assert scorer.score([], []).shape == (0,)


@pytest.mark.parametrize(("activation", "max_length"), [(None, None), (torch.nn.Identity(), 24)])
def test_a_live_cross_encoder_travels_as_a_path_and_gives_raw_logits(tmp_path, folder, activation, max_length):
    live = CrossEncoder(str(folder), device="cpu", activation_fn=activation, max_length=max_length)
    scorer = load_cross_encoder(live, cache_dir=tmp_path)
    assert type(scorer) is TransformersScorer and scorer.kind == "ce_logit"
    expected = live.predict(PAIRS, activation_fn=IDENTITY)
    np.testing.assert_allclose(scorer.score(QUERIES, DOCUMENTS), expected, atol=2e-5)
    with torch.no_grad():
        next(live.parameters()).add_(1.0)
    assert load_cross_encoder(live, cache_dir=tmp_path).digest != scorer.digest


@pytest.mark.slow
def test_a_scorer_travels_as_a_path(scorer):
    assert len(pickle.dumps(scorer)) < 2048
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).score(['a'], ['b']).tolist()[0].hex())"
    output = subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], input=pickle.dumps(scorer))
    assert float.fromhex(output.split()[-1].decode()) == scorer.score(["a"], ["b"])[0]


def test_a_live_cross_encoder_with_a_prompt_is_run_by_sentence_transformers(tmp_path, folder):
    live = CrossEncoder(str(folder), device="cpu", prompts={"ask": "is it about: "}, default_prompt_name="ask")
    expected = live.predict(PAIRS, activation_fn=IDENTITY)
    assert not np.allclose(expected, CrossEncoder(str(folder), device="cpu").predict(PAIRS, activation_fn=IDENTITY))
    scorer = load_cross_encoder(live, cache_dir=tmp_path)
    np.testing.assert_allclose(scorer.score(QUERIES, DOCUMENTS), expected, atol=2e-5)


class Judge:
    """Shaped as AnswerDotAI's rerankers (0.10) shape a ranker: `rank` sorts by score, `doc_id` comes back."""

    digest = "a judge"

    def __init__(self):
        self.asked = []

    def score(self, query, doc):
        return len(set(query) & set(doc)) / 26

    def rank(self, query, docs, doc_ids=None):
        self.asked.append(query)
        results = [
            SimpleNamespace(document=SimpleNamespace(doc_id=name), score=self.score(query, doc))
            for name, doc in zip(doc_ids, docs, strict=True)
        ]
        return sorted(results, key=lambda result: -result.score)


def test_rerankers_models_are_asked_query_by_query(tmp_path):
    judge = Judge()
    scorer = load_cross_encoder(judge, cache_dir=tmp_path)
    queries, documents = ["abc", "xyz", "abc"], ["cd", "zzz", "a b"]
    assert scorer.kind == "ce_prob"
    np.testing.assert_array_equal(scorer.score(queries, documents), np.float32([1 / 26, 1 / 26, 2 / 26]))
    assert judge.asked == ["abc", "xyz"]


def test_a_rerankers_classifier_is_run_here(tmp_path, folder):
    rerankers = pytest.importorskip("rerankers")
    ranker = rerankers.Reranker(str(folder), model_type="cross-encoder", device="cpu", dtype="float32", verbose=0)
    scorer = load_cross_encoder(ranker, cache_dir=tmp_path)
    assert type(scorer) is TransformersScorer and scorer.kind == "ce_logit"
    short = [pair for pair in PAIRS if len(pair[1].split()) < 40][:12]
    ranked = {r.document.doc_id: r.score for query, text in short for r in ranker.rank(query, [text], doc_ids=[query])}
    found = scorer.score(*zip(*short, strict=True))
    np.testing.assert_allclose(found, [ranked[query] for query, _ in short], atol=2e-5)


def test_callables(tmp_path):
    def overlap(queries, documents):
        return torch.tensor([[float(q in d)] for q, d in zip(queries, documents, strict=True)])

    scorer = load_cross_encoder(overlap, cache_dir=tmp_path)
    assert scorer.kind == "ce_prob" and scorer.score(["a", "b"], ["abc", "xyz"]).tolist() == [1, 0]
    assert load_cross_encoder(overlap, cache_dir=tmp_path, activation="sigmoid").kind == "ce_logit"
    overlap.kind = "ce_logit"
    assert load_cross_encoder(overlap, cache_dir=tmp_path).kind == "ce_logit"
    assert load_cross_encoder(scorer, cache_dir=tmp_path) is scorer


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda q, d: [0.5], r"shape \(1,\) for 2 pairs"),
        (lambda q, d: ["a", "b"], "returned no numbers"),
        (lambda q, d: [1.0, np.inf], r"\+inf for 1 pairs"),
    ],
)
def test_callables_are_checked(tmp_path, function, text):
    with pytest.raises(DataError, match=text):
        load_cross_encoder(function, cache_dir=tmp_path).score(["a", "b"], ["c", "d"])


@pytest.mark.parametrize(
    ("place", "name", "kind"),
    [
        ("config_sentence_transformers.json", "torch.nn.modules.linear.Identity", "ce_logit"),
        ("config_sentence_transformers.json", "torch.nn.modules.activation.Sigmoid", "ce_logit"),
        ("sentence_transformers", "torch.nn.modules.linear.Identity", "ce_logit"),
        ("sbert_ce_default_activation_function", "torch.nn.modules.linear.Identity", "ce_logit"),
        ("sentence_transformers", "torch.nn.modules.activation.Tanh", None),
        ("sbert_ce_default_activation_function", "my.Own", None),
    ],
)
def test_the_activation_of_every_generation_of_files(tmp_path, place, name, kind):
    cross_encoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    if place.endswith(".json"):
        (tmp_path / place).write_text(json.dumps({"activation_fn": name}))
    else:
        config[place] = {"activation_fn": name} if place == "sentence_transformers" else name
        (tmp_path / "config.json").write_text(json.dumps(config))
    if kind is None:
        with pytest.raises(ModelError, match=f"ends in the activation {name.rpartition('.')[2]}; Sigmoid and Identity"):
            load_cross_encoder(tmp_path, cache_dir=tmp_path)
    else:
        assert load_cross_encoder(tmp_path, cache_dir=tmp_path).kind == kind
    assert load_cross_encoder(tmp_path, cache_dir=tmp_path, activation="identity").kind == "ce_prob"
    assert load_cross_encoder(tmp_path, cache_dir=tmp_path, activation="sigmoid").kind == "ce_logit"


def test_probabilities_are_exact_sigmoids_and_refuse_logits():
    logits = np.array([-2.197224577336219, 0.0, 2.197224577336219, -1e4, 1e4, np.nan])
    np.testing.assert_allclose(probabilities(logits, "ce_logit"), [0.1, 0.5, 0.9, 0, 1, np.nan], atol=1e-16)
    given = np.float32([0, 0.25, 1, np.nan])
    np.testing.assert_array_equal(probabilities(given, "ce_prob"), given)
    with pytest.raises(DataError, match=r"2 scores outside \[0, 1\], such as -3; .*pass activation=\"sigmoid\""):
        probabilities(np.float32([-3, 0.5, 1.5]), "ce_prob")


def test_models_that_cannot_score(tmp_path):
    with pytest.raises(
        ModelError, match="bare', an encoder of one vector; a trained.*has no trained head.*train-denoiser"
    ):
        load_cross_encoder(_bare(tmp_path / "bare"), cache_dir=tmp_path)
    with pytest.raises(ModelError, match="model', an encoder of one vector; .*train-denoiser"):
        load_cross_encoder(MINILM, cache_dir=tmp_path)
    with pytest.raises(ModelError, match="has 3 labels; one .* or two"):
        load_cross_encoder(cross_encoder(tmp_path / "nli", labels=3), cache_dir=tmp_path)
    with pytest.raises(ModelError, match="(?s)no model 'no-such/model'.*a CrossEncoder"):
        load_cross_encoder("no-such/model", cache_dir=tmp_path)
    with pytest.raises(ConfigError, match="cross_encoder= got a int; allowed are"):
        load_cross_encoder(3, cache_dir=tmp_path)
    with pytest.raises(ConfigError, match="Unknown activation 'softmax'; known are auto, identity, sigmoid"):
        load_cross_encoder(MINILM, cache_dir=tmp_path, activation="softmax")
    with pytest.raises(ConfigError, match=r"max_length=2\) .* a whole number of at least 8"):
        load_cross_encoder(MINILM, cache_dir=tmp_path, max_length=2)
    lock = multiprocessing.get_context("fork").Lock()
    with pytest.warns(HardNegWarning, match="The cross-encoder .* refers to `lock`, .*Give it an attribute `digest`"):
        load_cross_encoder(lambda q, d: lock, cache_dir=tmp_path)


def _bare(folder):
    cross_encoder(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    return folder


def test_a_head_without_weights_is_refused(tmp_path):
    from transformers import BertForSequenceClassification

    cross_encoder(tmp_path)
    BertForSequenceClassification.from_pretrained(tmp_path).bert.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(ModelError, match="no weights for classifier.bias, classifier.weight: they would be random"):
        load_cross_encoder(tmp_path, cache_dir=tmp_path).score(["a"], ["b"])


def test_weights_changed_in_place_are_another_model(tmp_path):
    before = load_cross_encoder(cross_encoder(tmp_path, seed=1), cache_dir=tmp_path)
    after = load_cross_encoder(cross_encoder(tmp_path, seed=2), cache_dir=tmp_path)
    assert after.digest != before.digest
    assert load_cross_encoder(tmp_path, cache_dir=tmp_path, max_length=16).digest != after.digest
    with pytest.raises(ModelError, match="changed since it was chosen"):
        before.score(["a"], ["b"])


def _score_in_child(queue, scorer):
    try:
        queue.put(scorer.score(QUERIES, DOCUMENTS))
    except ConfigError as error:
        queue.put(str(error))


def test_a_fork_right_after_the_parent_used_all_threads_and_cuda_in_it(scorer):
    context, expected = multiprocessing.get_context("fork"), scorer.score(QUERIES, DOCUMENTS)
    for one in (scorer, replace(scorer, device="cuda:0")):
        queue = context.Queue()
        child = context.Process(target=_score_in_child, args=(queue, one))
        child.start()
        found = queue.get(timeout=60)
        child.join()
        if one is scorer:
            assert np.array_equal(found, expected)
        else:
            assert "num_proc > 1 with a model on cuda:0: a worker cannot use CUDA" in found
