"""Comparisons of strategies: what is held out, measured, stored and said."""

from dataclasses import replace

import numpy as np
import pytest
import pytrec_eval
from datasets import Dataset

from hf_hardneg import BM25, ConsistentPositive, Dense, HardNegatives, Sparse, Strategy, compare, mine, report
from hf_hardneg.audits.judging import Share
from hf_hardneg.errors import ConfigError, CostError, DataError, UnknownNameError
from hf_hardneg.planning import plans
from hf_hardneg.store.manifests import MANIFEST
from hf_hardneg.text.keys import normalized
from hf_hardneg.training import Trials
from hf_hardneg.training.comparison import comparing
from hf_hardneg.training.comparison.hidden_positives import HiddenPositives
from hf_hardneg.training.comparison.ranking_task import RankingTask
from hf_hardneg.training.comparison.strategy_comparison import NO_NEGATIVES, Contender, StrategyComparison
from hf_hardneg.training.comparison.trials import orders
from tests.cli.test_printing import of_json
from tests.models.test_encoder import tiny
from tests.training.comparison import PAIRS, QUICK, WORLD
from tests.worlds import encode, shared_words, weigh, world


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def compared(cache):
    return compare(*WORLD, strategies=["bm25", "dense"], model=encode, trials=QUICK, cache_dir=cache)


def task_of(pairs, corpus, **options):
    miner = HardNegatives(corpus, "bm25", known_positives=[pairs], **options)
    return RankingTask.of(pairs, miner.retrieval.reader, documents=10_000)


def trials_in(cache):
    from pathlib import Path

    return {path.parent.name for path in Path(cache).glob(f"trial-*/{MANIFEST}")}


def test_a_comparison_says_of_each_strategy_what_mining_says(compared, cache):
    by_name = {line.name: line for line in compared.lines}
    assert set(by_name) == {"bm25", "dense", NO_NEGATIVES}
    assert [line.mean for line in compared.lines] == sorted((line.mean for line in compared.lines), reverse=True)
    mined = mine(*WORLD, "dense", encoder=encode, cache_dir=cache)
    figures, line = report(mined), by_name["dense"]
    assert (line.per_row, line.short_rows) == (figures.negatives / figures.rows, figures.short_rows)
    vectors = {text: vector / np.linalg.norm(vector) for text in WORLD[1]["text"] for vector in encode([text])}
    queries = {text: vector / np.linalg.norm(vector) for text in PAIRS["query"] for vector in encode([text])}
    near = [queries[row["query"]] @ vectors[text] for row in mined for text in row["negatives"]]
    assert line.similarity == pytest.approx(np.mean(near), abs=1e-5)
    assert line.audit.negatives == figures.negatives and line.by_seed.shape == (1, len(compared.untrained))


def test_ndcg_of_the_model_as_it_is_equals_trec_evals(compared):
    task = task_of(*WORLD)
    documents = {text: encode([text])[0] for text in task.documents}
    runs, qrels = {}, {}
    for number, query in enumerate(task.queries):
        vector = encode([query])[0]
        cosines = {
            str(place): float(vector @ other / (np.linalg.norm(vector) * np.linalg.norm(other)))
            for place, other in enumerate(documents.values())
            if normalized(task.documents[place]) != normalized(query)
        }
        runs[query] = cosines
        places = task.relevant[task.relevant_query == number]
        qrels[query] = {str(place): 1 for place in places.tolist()}
    judged = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(runs)
    asked = [query for number, query in enumerate(task.queries) if task.part[number] == 0]
    expected = [judged[query]["ndcg_cut_10"] for query in asked]
    assert compared.untrained == pytest.approx(np.array(expected), abs=1e-6)


def test_queries_are_parted_evenly_and_shared_answers_are_known():
    rows = [("a", "d1"), ("b", "d1"), ("b", "d2"), ("c", "d2"), ("e", "d3"), ("A ", "d5")]
    rows += [(f"query {number}", f"d{number + 6}") for number in range(20)]
    pairs = Dataset.from_dict({"query": [query for query, _ in rows], "positive_ids": [[name] for _, name in rows]})
    corpus = Dataset.from_dict({"_id": [f"d{n}" for n in range(30)], "text": [f"text of {n}" for n in range(30)]})
    task = task_of(pairs, corpus)
    assert len(task.queries) == 24 and np.bincount(task.part).tolist() == [8, 8, 8]
    for number, query in enumerate(task.queries):
        answers = {name for text, name in rows if normalized(text) == normalized(query)}
        others = {text for text, name in rows if name in answers and normalized(text) != normalized(query)}
        parts = {task.part[task.queries.index(text)] for text in others}
        assert task.shared[number] == bool(parts - {task.part[number]})
    assert task.shared.any() and not task.shared.all()


def test_what_was_trained_is_not_trained_again(compared, cache):
    before = trials_in(cache)
    assert len(before) == 4
    options = {"model": encode, "cache_dir": cache}
    again = compare(*WORLD, strategies=["bm25", "dense"], trials=QUICK, **options)
    assert trials_in(cache) == before
    assert [(line.name, line.mean) for line in again.lines] == [(line.name, line.mean) for line in compared.lines]
    compare(*WORLD, strategies={"bm25": "bm25", "deep": Strategy([BM25(50)])}, trials=QUICK, **options)
    assert len(trials_in(cache)) == len(before) + 1
    more = compare(*WORLD, strategies=["bm25"], trials=replace(QUICK, seeds=2), **options)
    assert len(trials_in(cache)) == len(before) + 3 and more.lines[0].by_seed.shape[0] == 2


def test_a_comparison_that_is_stopped_goes_on(tmp_path, monkeypatch):
    from hf_hardneg.training.comparison.trials import Course

    whole, calls = Course.run, []

    def stopped(course, batches, seed):
        calls.append(seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(course, batches, seed)

    options = {"strategies": ["random"], "model": encode, "trials": QUICK, "cache_dir": str(tmp_path)}
    monkeypatch.setattr(Course, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(*WORLD, **options)
    compare(*WORLD, **options)
    assert len(calls) == 3 and len(trials_in(tmp_path)) == 3


def test_the_same_negatives_train_the_same_and_others_do_not(cache):
    same = {"first": Strategy([Dense()]), "second": Strategy([Dense()], []), "other": Strategy([BM25()])}
    lines = compare(*WORLD, strategies=same, model=encode, trials=QUICK, cache_dir=cache).lines
    by_name = {line.name: line.by_seed.tolist() for line in lines}
    assert by_name["first"] == by_name["second"]


def test_training_learns():
    """A few values of a vector tell a query its answer, the others are noise: a projection can leave those out."""
    rng, ids = np.random.default_rng(0), [f"d{number}" for number in range(120)]
    told, noise = rng.normal(size=(120, 4)), rng.normal(0, 1.2, size=(2, 120, 12))
    documents, queries = (np.concatenate([told, each], axis=1).astype(np.float32) for each in noise)
    corpus = {"_id": ids, "text": [f"text of {name}" for name in ids], "v": list(documents)}
    asked = {"query": [f"to {name}" for name in ids[:90]], "positive_ids": [[name] for name in ids[:90]]}
    data = Dataset.from_dict({**asked, "qv": list(queries[:90])}), Dataset.from_dict(corpus)
    columns = {"vector": "v", "query_vector": "qv"}
    trials = Trials(seeds=1, epochs=30, learning_rate=0.02)
    result = compare(*data, strategies=["dense"], columns=columns, trials=trials, safeguards=False)
    assert all(line.mean > result.untrained.mean() + 0.05 for line in result.lines)


def test_hidden_positives_are_counted_as_a_loop_counts_them():
    pairs, corpus = world(8, documents=50, queries=10)
    task = task_of(pairs, corpus)
    hidden = HiddenPositives.of(pairs, task, None, seed=1)
    answers = {}
    for row in pairs:
        texts = [*row["positive"], *(corpus["text"][int(name[1:])] for name in row["positive_ids"])]
        inside = {normalized(text) for text in texts} & {normalized(text) for text in corpus["text"]}
        answers.setdefault(normalized(row["query"]), set()).update(inside)
    assert len(hidden.pairs) == sum(len(texts) > 1 for texts in answers.values())
    negatives = [corpus["text"][place : place + 20] for place in range(len(hidden.pairs))]
    proven = 0
    for row, texts in zip(hidden.pairs, negatives, strict=True):
        (shown,) = row["positive"]
        kept = answers[normalized(row["query"])] - {normalized(shown)}
        assert normalized(shown) in answers[normalized(row["query"])]
        proven += sum(normalized(text) in kept for text in texts)
    assert hidden.among(negatives) == Share(proven, 20 * len(negatives)) and proven
    single = pairs.select([0])
    assert HiddenPositives.of(single, task_of(single, corpus), None, seed=1) is None


def test_every_row_is_seen_once_an_epoch_but_for_what_is_left_over():
    for count in (3, 16, 35):
        batches = list(orders(count, epochs=2, batch_size=16, seed=3))
        first = np.concatenate(batches[: len(batches) // 2])
        assert len(np.unique(first)) == len(first) == count // min(16, count) * min(16, count)


def result_of(means, spread=0.2, queries=300):
    """A comparison whose queries have values around these means, under the same luck for all lines."""
    rng = np.random.default_rng(5)
    luck = rng.uniform(0, 0.3, queries)
    lines = [
        Contender(name=name, by_seed=(mean + luck + rng.normal(0, spread, queries))[None], seconds=float(place))
        for place, (name, mean) in enumerate(means.items())
    ]
    ordered = tuple(sorted(lines, key=lambda line: -line.mean))
    figures = {"untrained": luck, "shared": np.arange(queries) % 2 == 0, "documents": 100, "rows": queries}
    return StrategyComparison(lines=ordered, trials=Trials(), **figures)


def test_what_is_recommended_and_how_sure_it_is():
    clear = result_of({"a": 0.6, "b": 0.3, NO_NEGATIVES: 0.2})
    assert clear.recommendation.startswith("Take a: better than every other. a is above b by 0.")
    assert "no answer was trained on, and there it is above b, no mined negatives too." in clear.recommendation
    assert "Nor is" not in clear.recommendation
    assert "Nor is training shown to help them: +0.0000." in replace(clear, untrained=clear.best.ndcg).recommendation
    tied = result_of({"slow": 0.605, "b": 0.6, NO_NEGATIVES: 0.2})
    assert tied.recommendation.startswith("No difference that the data can show between ")
    assert "means must differ by 0.0" in tied.recommendation and "do not show that mined" not in tied.recommendation
    assert f"above {NO_NEGATIVES} by 0." in tied.recommendation
    cached = replace(tied, lines=tuple(replace(line, seconds=-line.seconds) for line in tied.lines))
    assert cached.recommendation == tied.recommendation
    useless = result_of({"a": 0.001, NO_NEGATIVES: 0.0})
    assert "the data do not show that mined negatives help here" in useless.recommendation
    assert "Beware: training with" in useless.recommendation
    assert "Only a was tried." in result_of({"a": 0.5}).recommendation


def test_the_table_the_page_and_the_chart_show_every_line_and_escape_names(tmp_path):
    hostile = result_of({"<script>alert(1)</script>": 0.5, "b\x1b[31m": 0.45, NO_NEGATIVES: 0.4})
    text, page = str(hostile), hostile.html(tmp_path / "page.html").read_text()
    assert "\x1b" not in text and "the model as it is" in text and text.count("\n") == 6
    assert "<script>" not in page and "&lt;script&gt;" in page and NO_NEGATIVES in page
    assert page.count("<circle") == 3 and "Content-Security-Policy" in page
    assert "&lt;script&gt;" in hostile.plot()._repr_svg_()
    assert hostile.to_dict()["lines"][0]["to_the_best"]["mean"] == 0


def test_a_judge_and_a_cross_encoder_are_asked(cache):
    options = {"model": encode, "trials": QUICK, "cache_dir": cache, "cross_encoder": shared_words}
    result = compare(*WORLD, strategies=["bm25", "bm25+denoised"], judge=shared_words, **options)
    by_name = {line.name: line for line in result.lines}
    assert "Denoised" in by_name["bm25+denoised"].strategy and "Denoised" not in by_name["bm25"].strategy
    assert by_name["bm25"].audit.estimate.negatives.asked


@pytest.mark.slow
def test_all_layers_of_a_model_are_trained(cache, tmp_path):
    _, folder = tiny(tmp_path)
    trials = Trials(learner="model", seeds=1, epochs=1, max_length=16)
    result = compare(*WORLD, strategies=["random"], model=str(folder), trials=trials, cache_dir=cache)
    assert len(result.lines) == 2 and all(line.training > 0 for line in result.lines)
    assert not np.array_equal(result.lines[0].ndcg, result.untrained)
    with pytest.raises(ConfigError, match="only an encoder of one Transformer"):
        compare(*WORLD, strategies=["random"], model=encode, trials=trials, cache_dir=cache)


def test_dense_and_sparse_models_are_compared_where_each_is_named(cache):
    strategies = {"weighed": Strategy([Sparse(20, encoder=weigh)]), "near": Strategy([Dense(20)])}
    result = compare(*WORLD, strategies=strategies, model=encode, trials=QUICK, cache_dir=cache)
    assert {line.name for line in result.lines} == {"weighed", "near", NO_NEGATIVES}
    kept = {"kept": Strategy([BM25(20)], [ConsistentPositive(2, on_inconsistent="keep")]), "splade": "splade"}
    result = compare(*WORLD, strategies=kept, model=encode, encoder=weigh, trials=QUICK, cache_dir=cache)
    assert {line.name for line in result.lines} == {"kept", "splade", NO_NEGATIVES}


def test_each_strategy_is_guarded_before_anything_is_trained(tmp_path, monkeypatch):
    def strict_with_words(splits, corpus, strategy, options, **how):
        if strategy == "bm25":
            monkeypatch.setattr(plans, "SHOWN_ABOVE", 0.0)
            monkeypatch.setattr(plans, "BUDGET", 1e-3)
        plans.guard(splits, corpus, strategy, options, **how)

    monkeypatch.setattr(comparing, "guard", strict_with_words)
    with pytest.raises(CostError, match="confirm_cost=True"):
        compare(*WORLD, strategies=["dense", "bm25"], model=encode, trials=QUICK, cache_dir=str(tmp_path))
    assert not trials_in(tmp_path)


def test_what_cannot_work_is_refused_before_any_work(tmp_path):
    options = {"model": encode, "cache_dir": str(tmp_path / "cache")}
    refused = [
        ({"strategies": ["no such"]}, UnknownNameError, "Unknown strategy 'no such'"),
        ({"strategies": []}, ConfigError, "names none"),
        ({"strategies": ["bm25", "bm25"]}, ConfigError, "each under a name of its own"),
        ({"strategies": {NO_NEGATIVES: "bm25"}}, ConfigError, "stands beside them anyway"),
        ({"strategies": ["denoised"]}, ConfigError, "no cross_encoder=. Give it"),
        ({"encoder": encode}, ConfigError, r"encoder=\) would change nothing"),
        ({"cross_encoder": shared_words}, ConfigError, r"cross_encoder=\) would change nothing"),
        ({"on_shortage": "drop_row"}, ConfigError, "would train each strategy on other rows"),
        ({"strategies": {"c": Strategy([BM25()], [ConsistentPositive(2)])}}, ConfigError, "'c', which leaves rows out"),
        ({"strategies": ["bm25", "bm25+consistent_positive"]}, ConfigError, "positive', which leaves rows out"),
        ({"strategies": ["splade", "bm25"]}, ConfigError, "the training would read dense ones"),
        ({"strategies": ["splade", "dense"]}, ConfigError, "'splade', which reads sparse vectors"),
        ({"strategies": ["splade", "dense"], "encoder": weigh}, ConfigError, "and 'dense' would read dense ones"),
        ({"strategies": ["splade"], "model": None, "encoder": weigh}, ConfigError, "the training would read dense"),
        ({"num_negative": 3}, UnknownNameError, "num_negative"),
        ({"corpus": "bm25"}, ConfigError, r"strategies=\['bm25'\]"),
        ({"model": None}, ConfigError, "needs vectors and got none"),
        ({"trials": "quick"}, ConfigError, "Trials"),
        ({"verdicts": tmp_path / "none.jsonl"}, ConfigError, "no file of verdicts"),
    ]
    for change, error, said in refused:
        with pytest.raises(error, match=said):
            compare(**{"pairs": WORLD[0], "corpus": WORLD[1], "strategies": ["bm25"], **options, **change})
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ConfigError, match="a projection is of vectors"):
        Trials(max_length=64)
    with pytest.raises(DataError, match="Give more pairs"):
        compare(WORLD[0].select([0, 1]), WORLD[1], strategies=["bm25"], trials=QUICK, **options)


def test_the_command_says_what_the_function_says(compared, cache, tmp_path, capsys):
    _, model = tiny(tmp_path)
    for name, data in zip(("pairs", "corpus"), WORLD, strict=True):
        data.to_parquet(tmp_path / f"{name}.parquet")
    files = [f"--{name}={tmp_path}/{name}.parquet" for name in ("pairs", "corpus")]
    short = ["--seeds=1", "--rounds=1", "--epochs=1", f"--cache-dir={tmp_path}/indexes", f"--html={tmp_path}/page.html"]
    said = of_json(capsys, "compare", *files, *short, f"--model={model}", "--strategies", "bm25", "random")
    assert {line["name"] for line in said["lines"]} == {"bm25", "random", NO_NEGATIVES}
    assert said["recommendation"] and (tmp_path / "page.html").exists()
