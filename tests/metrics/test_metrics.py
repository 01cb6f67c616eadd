import doctest
import http.server
import importlib
import math
import threading
from functools import partial
from pathlib import Path

import evaluate
import numpy as np
import pytest
import pytrec_eval
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

import hf_hardneg.metrics
from hf_hardneg import report
from hf_hardneg.arrays.statistics import alignment, uniformity, wilson_interval
from hf_hardneg.errors import ConfigError, DataError, UnknownNameError
from hf_hardneg.metrics import load
from hf_hardneg.metrics.retrieval.retrieval import Retrieval

FOLDER = Path(hf_hardneg.metrics.__file__).parent
NAMES = ["alignment_uniformity", "false_negative_rate", "hardness", "retrieval"]
CUTS = [1, 3, 10, 100]
TREC = {"ndcg": "ndcg_cut", "recall": "recall", "precision": "P", "map": "map_cut"}


@pytest.fixture(autouse=True, scope="module")
def own_folders(tmp_path_factory):
    """Where `evaluate` keeps modules, inputs and downloads; the modules' stays on `sys.path`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_MODULES_CACHE", "HF_METRICS_CACHE", "DOWNLOADED_EVALUATE_PATH"):
            patch.setattr(f"evaluate.config.{name}", tmp_path_factory.mktemp(name))
        yield


def collection(queries=30, seed=0):
    """Runs with many ties, some only as float32, and graded judgements, some below 1, some of nothing relevant."""
    rng = np.random.default_rng(seed)
    run, judged = {}, {}
    for number in range(queries):
        documents = [f"d{one}é" if one % 7 else f"D{one}" for one in rng.permutation(60)]
        scores = rng.integers(0, 12, 60) / 4 + rng.choice([0, 1e-12, -1e-12], 60)
        run[f"q{number}"] = dict(zip(documents[: rng.integers(1, 60)], scores.tolist(), strict=False))
        grades = rng.integers(-1, 4, 15) if number % 5 else np.zeros(15, int)
        judged[f"q{number}"] = dict(zip(rng.permutation(documents)[:15].tolist(), grades.tolist(), strict=True))
    return run, judged


def trec_eval(run, judged, cuts=CUTS, level=1):
    """Means over queries, by pytrec_eval; reciprocal ranks of runs that are cut in its order."""
    names = {f"{name}.{','.join(map(str, cuts))}" for name in TREC.values()}
    found = pytrec_eval.RelevanceEvaluator(judged, names, relevance_level=level).evaluate(run)
    made = {
        f"{ours}@{k}": np.mean([one[f"{theirs}_{k}"] for one in found.values()])
        for ours, theirs in TREC.items()
        for k in cuts
    }
    reciprocal = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}, relevance_level=level)
    ranks = [one["recip_rank"] for one in reciprocal.evaluate(run).values()]
    for k in cuts:
        made[f"mrr@{k}"] = np.mean([one if one * k > 1 - 1e-9 else 0.0 for one in ranks])
    return made


def slowly(run, judged, k, level=1):
    """Every measure of one query from its definition."""
    order = sorted(run, key=lambda one: (np.float32(run[one]), one), reverse=True)[:k]
    gains = [max(judged.get(one, 0), 0) for one in order]
    best = sorted((max(one, 0) for one in judged.values()), reverse=True)[:k]
    dcg, ideal = (sum(one / math.log2(place + 2) for place, one in enumerate(part)) for part in (gains, best))
    total = sum(one >= level for one in judged.values())
    right = [one in judged and judged[one] >= level for one in order]
    precisions = [sum(right[: place + 1]) / (place + 1) for place, hit in enumerate(right) if hit]
    return {
        f"ndcg@{k}": dcg / ideal if ideal else 0.0,
        f"mrr@{k}": 1 / (right.index(True) + 1) if any(right) else 0.0,
        f"recall@{k}": sum(right) / total if total else 0.0,
        f"precision@{k}": sum(right) / k,
        f"map@{k}": sum(precisions) / total if total else 0.0,
    }


@pytest.mark.parametrize("level", [1, 2])
def test_retrieval_is_trec_eval(level):
    run, judged = collection()
    found = load("retrieval").compute(predictions=run, references=judged, k=CUTS, relevance_level=level)
    expected = trec_eval(run, judged, level=level)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert found["queries"] == 30 and found["queries_without_relevant"] >= 6
    assert len(found) == len(expected) + 2


documents = st.text("abé", min_size=1, max_size=3)
runs = st.dictionaries(documents, st.floats(-3, 3, width=16), max_size=12)
judgements = st.dictionaries(documents, st.integers(-1, 3), max_size=8)


@given(run=runs, judged=judgements, k=st.integers(1, 15), level=st.integers(1, 3))
def test_retrieval_of_one_query_is_its_definition(run, judged, k, level):
    found = load("retrieval").compute(predictions=[run], references=[judged], k=k, relevance_level=level)
    expected = slowly(run, judged, k, level)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_a_ranking_is_the_run_in_the_order_of_trec_eval():
    found = load("retrieval").compute(predictions=[{"a": 1.0, "b": 1.0 + 1e-9, "c": 2}], references=[["b"]], k=[1, 2])
    assert found["mrr@1"] == 0.0 and found["mrr@2"] == 0.5
    listed = load("retrieval").compute(predictions=[["c", "b", "a"]], references=[{"b": 1}], k=[1, 2])
    assert listed == found
    numbers = load("retrieval").compute(predictions=[[3, 2, 1]], references=[(2,)], k=[1, 2])
    assert numbers == found


def test_a_query_without_a_ranking_counts_as_zero():
    found = load("retrieval").compute(predictions={"q": ["a"]}, references={"q": ["a"], "r": ["a"]}, k=1)
    assert found["recall@1"] == 0.5 and found["queries"] == 2


@pytest.mark.parametrize("keep_in_memory", [True, False])
def test_batches_equal_one_call(keep_in_memory, tmp_path):
    run, judged = collection()
    whole = load("retrieval").compute(predictions=run, references=judged, k=CUTS)
    metric = load("retrieval", keep_in_memory=keep_in_memory, cache_dir=str(tmp_path))
    names = list(judged)
    for name in names[:5]:
        metric.add(prediction=run[name], reference=judged[name])
    for start in range(5, 30, 7):
        batch = names[start : start + 7]
        metric.add_batch(predictions=[run[one] for one in batch], references=[judged[one] for one in batch])
    assert metric.compute(k=CUTS) == whole
    assert bool(list(tmp_path.rglob("*.lock"))) is not keep_in_memory


@pytest.mark.parametrize(
    ("predictions", "references", "options", "message"),
    [
        ([["a"]], [["a"]], {"k": 0}, "k=0.*whole numbers from 1"),
        ([["a"]], [["a"]], {"k": [2.5]}, "whole numbers"),
        ([["a", "b", "a"]], [["a"]], {}, "hold 'a' 2 times"),
        (["abc"], [["a"]], {}, "are 'abc'; allowed are a list"),
        ([["a"]], [None], {}, "references of query 0 are None"),
        ([{"a": float("nan")}], [["a"]], {}, "have NaN, for 'a'"),
        ([{"a": "high"}], [["a"]], {}, "cannot be read as numbers"),
        ([["a"], ["b"]], [["a"]], {}, "2 predictions for 1 references"),
        ([["a"]], {"q": ["a"]}, {}, "both dicts from query"),
        ([["a"]], None, {}, "references a NoneType"),
        ({"q": ["a"], "r": []}, {"q": ["a"]}, {}, "1 queries that references lack, such as 'r'"),
        ([], [], {}, "got no query"),
    ],
)
def test_what_retrieval_cannot_read_is_an_error(predictions, references, options, message):
    with pytest.raises((ConfigError, DataError), match=message):
        load("retrieval").compute(predictions=predictions, references=references, **options)


def test_false_negative_rate_by_hand():
    negatives = [["a", "b", "c"], ["d"], [], {"e": 0.3, "f": 0.1}]
    known = [["b", "z"], ["d"], ["x"], {"e": 0, "f": -1}]
    assert load("false_negative_rate").compute(predictions=negatives, references=known) == {
        "false_negative_rate": pytest.approx(2 / 6),
        "low": pytest.approx(0.0967714, abs=1e-6),
        "high": pytest.approx(0.7000067, abs=1e-6),
        "negatives": 6,
        "false_negatives": 2,
        "queries": 4,
        "affected_queries": 2,
        "starving_queries": 2,
    }
    with pytest.raises(ConfigError, match="between 0 and 1"):
        load("false_negative_rate").compute(predictions=negatives, references=known, confidence=95)
    with pytest.raises(DataError, match="1 queries without a negative"):
        load("false_negative_rate").compute(predictions=[[]], references=[["a"]])


@given(trials=st.integers(1, 500), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_limits_are_where_the_score_test_turns(trials, share, confidence):
    """At a limit p the observed share is z standard errors of p away."""
    successes = round(share * trials)
    z = {0.8: 1.2815515655446004, 0.95: 1.959963984540054, 0.99: 2.5758293035489004}[confidence]
    for limit in wilson_interval(successes, trials, confidence=confidence):
        if 1e-9 < limit < 1 - 1e-9:
            distance = abs(successes / trials - limit) / math.sqrt(limit * (1 - limit) / trials)
            assert distance == pytest.approx(z, rel=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_alignment_and_uniformity_are_those_of_unit_vectors():
    rng = np.random.default_rng(5)
    queries, documents = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in rng.normal(size=(2, 40, 6)))
    metric = load("alignment_uniformity")
    found = metric.compute(predictions=3 * queries, references=(0.5 * documents).tolist())
    assert found == {
        "alignment": pytest.approx(alignment(queries, documents)),
        "query_uniformity": pytest.approx(uniformity(queries)),
        "document_uniformity": pytest.approx(uniformity(documents)),
        "pairs": 40,
    }
    metric.add_batch(predictions=queries[:7], references=documents[:7])
    metric.add_batch(predictions=queries[7:], references=documents[7:])
    part = metric.compute(sample=10)
    assert part["alignment"] == pytest.approx(found["alignment"])
    assert part == load("alignment_uniformity").compute(predictions=queries, references=documents, sample=10)
    assert part["query_uniformity"] != pytest.approx(found["query_uniformity"])


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([[1.0, 0.0]], [[1.0, 0.0]], "of 1 pairs"),
        ([[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0]] * 2, "predictions have 1 vectors of length zero.*row 1"),
        ([[1.0, 0.0]] * 2, [[1.0]] * 2, "width 2 and references 1"),
        ([[1.0, 0.0], [1.0]], [[1.0]] * 2, "several widths"),
    ],
)
def test_vectors_without_direction_or_of_another_width_are_an_error(predictions, references, message):
    with pytest.raises((ConfigError, DataError), match=message):
        load("alignment_uniformity").compute(predictions=predictions, references=references)


def test_hardness_by_hand():
    found = load("hardness").compute(
        predictions=[[0.9, 0.78, 0.5, float("nan")], [0.1]], references=[[0.8, 0.2], [0.4]]
    )
    assert found["mean_score"] == pytest.approx((0.9 + 0.78 + 0.5 + 0.1) / 4)
    assert found["mean_margin"] == pytest.approx((-0.1 + 0.02 + 0.3 + 0.3) / 4)
    assert found["above_positive"] == 0.25 and found["negatives"] == 4
    assert (found["easy"], found["moderate"], found["hard"]) == (0.25, 0.25, 0.5)
    with pytest.raises(DataError, match="no pair of a scored positive"):
        load("hardness").compute(predictions=[[]], references=[0.5])
    assert load("hardness").compute(predictions=[[0.5, -0.5]], references=[0.0])["hard"] == 0.5


def test_hardness_is_that_of_the_report():
    rng = np.random.default_rng(4)
    negatives, positives = rng.uniform(-0.5, 1, (20, 6)).tolist(), rng.uniform(0, 1, (20, 2)).tolist()
    mined = Dataset.from_dict(
        {
            "negatives": [["text"] * 6] * 20,
            "negative_scores": [[*scores[:5], None] for scores in negatives],
            "negative_ranks": [list(range(6))] * 20,
            "negative_sources": [["dense"] * 6] * 20,
            "positive_scores": positives,
            "mining": [{"retrieved": 6, "kept": 6, "short": 0}] * 20,
        }
    )
    made = report(mined)
    found = load("hardness").compute(predictions=mined["negative_scores"][:], references=mined["positive_scores"][:])
    assert found["margin_quantiles"] == made.margins and found["negatives"] == 100
    assert {name: found[name] for name in ("easy", "moderate", "hard")} == made.hardness.shares
    assert found["above_positive"] == made.hardness.above > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_module_loads_by_path_and_its_examples_run(name, tmp_path):
    metric = evaluate.load(str(FOLDER / name), cache_dir=str(tmp_path))
    assert metric.name == name == load(name).name
    assert metric.features == load(name).features
    example = doctest.DocTestParser().get_doctest(metric.inputs_description, {}, name, None, 0)
    assert doctest.DocTestRunner().run(example) == (0, len(example.examples)) and example.examples


def test_a_module_loads_from_the_hub(tmp_path, monkeypatch):
    """A Space is its files under `/spaces/NAME/resolve/REVISION/`."""
    space = tmp_path / "spaces/me/retrieval/resolve/main"
    space.mkdir(parents=True)
    (space / "retrieval.py").write_text((FOLDER / "retrieval/retrieval.py").read_text())
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/spaces/{{path}}/resolve/{{revision}}/{{name}}"
        monkeypatch.setattr("evaluate.config.HUB_EVALUATE_URL", address)
        monkeypatch.setattr("evaluate.config.HF_UPDATE_DOWNLOAD_COUNTS", False)
        metric = evaluate.load("me/retrieval", revision="main", keep_in_memory=True, cache_dir=str(tmp_path))
        server.shutdown()
    assert metric.compute(predictions=[["a"]], references=[["a"]], k=1)["ndcg@1"] == 1.0
    assert type(metric) is not Retrieval


def test_metrics_combine():
    both = evaluate.combine([load("retrieval"), load("false_negative_rate")])
    both.add_batch(predictions=[["a", "b"]], references=[["b"]])
    found = both.compute()
    assert found["mrr@10"] == found["false_negative_rate"] == 0.5


def test_an_unknown_metric_is_named():
    with pytest.raises(UnknownNameError, match="known are alignment_uniformity.*mean 'retrieval'"):
        load("retrival")


def test_every_module_is_listed():
    folders = sorted(one.name for one in FOLDER.iterdir() if (one / f"{one.name}.py").exists())
    assert folders == NAMES
    for name in NAMES:
        importlib.import_module(f"hf_hardneg.metrics.{name}")
