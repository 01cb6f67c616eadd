"""A plan costs little, builds nothing, knows what is there, and follows its own laws."""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars, enable_progress_bars

from hf_hardneg import HardNegatives, mine, plan
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ConfigError, CostError, HardNegError, StoreError
from hf_hardneg.models import embeddings
from hf_hardneg.planning import jobs, plans, probes
from hf_hardneg.planning.costs import Law, Stage, over_documents, over_rows, proportional, sorting
from hf_hardneg.planning.plans import Plan
from hf_hardneg.planning.probes import (
    MOST_REPEATS,
    REPEATS,
    SHORT,
    Cost,
    Sample,
    encode_rate,
    measured,
    repeated,
    stratified,
)
from hf_hardneg.runtime.units import data_size, duration, processors
from hf_hardneg.store.inventory import inventory, prune
from tests.worlds import SMALL, WIDTH, encode, needed, world

pytestmark = pytest.mark.slow


class Counted:
    digest = "counted"

    def __init__(self):
        self.texts = 0

    def __call__(self, texts):
        self.texts += len(texts)
        return encode(texts)


def kinds(root):
    return {entry.kind for entry in inventory(root)}


def steps(made):
    return {step.name: step for step in made.steps}


def made_by_hand(**changes):
    stages = (
        Stage(name="build index", wall=Law(document=0.01), memory=Law(document=50), disk=Law(document=8), basis="a"),
        Stage(name="search", wall=Law(pair=1e-3), cpu=Law(pair=2e-3), memory=Law(row=7), basis="b", in_workers=True),
    )
    fields = {"recipe": "r", "documents": 1000, "rows": 500, "num_proc": 1, "stages": stages, "held": 10}
    return Plan(**{**fields, "cache": Path("/"), **changes})


@pytest.mark.parametrize("name", SMALL)
def test_a_plan_of_every_strategy_builds_nothing_and_changes_nothing(name, tmp_path):
    pairs, corpus = world(2)
    options = needed(SMALL[name])
    expected = mine(pairs, corpus, SMALL[name], cache_dir=str(tmp_path / "one"), **options)[:]
    made = plan(pairs, corpus, SMALL[name], cache_dir=str(tmp_path / "two"), **options)
    assert kinds(tmp_path / "two") <= {"corpus"}
    assert made.seconds > 0 and made.memory > 0 and made.disk > 0 and (made.documents, made.rows) == (60, len(pairs))
    assert mine(pairs, corpus, SMALL[name], cache_dir=str(tmp_path / "two"), **options)[:] == expected


def test_the_text_says_what_it_takes_and_how_it_is_known(tmp_path):
    pairs, corpus = world(2)
    text = str(plan(pairs, corpus, "dense", encoder=encode, cache_dir=str(tmp_path)))
    assert re.search(r"60 documents, 36 pairs: about .* s, .* of memory, .* of disk", text)
    assert re.search(r"encode corpus .* measured on \d+ texts stratified by length, linear", text)
    assert re.search(r"build index .* measured on 60 documents\n", text)
    assert "cheaper: not needed" in text
    assert "measured on: 60 of 60 documents and 36 of 36 pairs\n" in text


@pytest.mark.parametrize("strategy", ["bm25", "dense"])
def test_what_the_cache_has_is_said_to_be_reused(strategy, tmp_path):
    pairs, corpus = world(2)
    options = {"cache_dir": str(tmp_path), **({"encoder": encode} if strategy == "dense" else {})}
    first = plan(pairs, corpus, strategy, **options)
    assert not any(step.reused for step in first.steps)
    mine(pairs, corpus, strategy, **options)
    again = plan(pairs, corpus, strategy, **options)
    reused = {step.name for step in again.steps if step.reused}
    assert reused == {"text keys", "build index", "known positives"}
    assert "encode corpus" in steps(first) or strategy == "bm25"
    assert "encode corpus" not in steps(again)
    assert all(step.seconds == step.memory == step.disk == 0 for step in again.steps if step.reused)
    prune(tmp_path, kinds=["positives"])
    assert {step.name for step in plan(pairs, corpus, strategy, **options).steps if step.reused} == reused - {
        "known positives"
    }
    assert not any(step.reused for step in again.at(documents=10_000).steps)


@pytest.mark.parametrize("strategy", ["bm25+unremix", "bm25+disagreement"])
def test_vectors_beside_a_bm25_index_are_planned_until_they_are_there(strategy, tmp_path):
    pairs, corpus = world(2)
    options = {"cache_dir": str(tmp_path)}
    mine(pairs, corpus, "bm25", **options)
    options["encoder"] = encode
    assert "encode corpus" in steps(plan(pairs, corpus, strategy, **options))
    mine(pairs, corpus, "dense", **options)
    assert "encode corpus" not in steps(plan(pairs, corpus, strategy, **options))


def test_finished_shards_count_as_reused(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD", 10)
    pairs, corpus = world(2)
    options = {"encoder": encode, "cache_dir": str(tmp_path)}
    mine(pairs, corpus, "dense", **options)
    prune(tmp_path, kinds=["dense"])
    shards = sorted(tmp_path.glob("vectors-*/*.npy"))
    assert len(shards) == 6
    for shard in shards[2:]:
        shard.unlink()
    step = steps(plan(pairs, corpus, "dense", **options))["encode corpus"]
    assert step.basis.endswith("; 33% is in the cache") and not step.reused


def test_only_a_sample_is_encoded(tmp_path):
    texts = [f"word{row} " * (1 + row % 50) for row in range(5000)]
    corpus = Dataset.from_dict({"text": texts})
    pairs = Dataset.from_dict({"query": texts[:900], "positive": texts[:900]})
    encoder = Counted()
    plan(pairs, corpus, "dense", encoder=encoder, cache_dir=str(tmp_path))
    assert 100 < encoder.texts <= 2 * (REPEATS * 16 * 16 + 4)


def test_vectors_in_columns_need_no_encoding(tmp_path):
    pairs, corpus = world(2)
    corpus = corpus.add_column("v", encode(corpus["text"]).tolist())
    pairs = pairs.add_column("w", encode(pairs["query"]).tolist())
    made = plan(pairs, corpus, "dense", columns={"vector": "v", "query_vector": "w"}, cache_dir=str(tmp_path))
    assert not any(name.startswith("encode") for name in steps(made))


def test_an_index_of_the_users_own_is_searched_itself(tmp_path):
    import faiss

    pairs, corpus = world(2)
    pairs = pairs.add_column("w", encode(pairs["query"]).tolist())
    index = faiss.IndexHNSWFlat(WIDTH, 8, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = 64
    index.add(encode(corpus["text"]))
    made = plan(pairs, corpus, "dense", index=index, columns={"query_vector": "w"}, cache_dir=str(tmp_path))
    assert "36 queries on the index itself" in steps(made)["search"].basis and steps(made)["build index"].reused


def test_splits_are_planned_together(tmp_path):
    pairs, corpus = world(2)
    splits = DatasetDict({"a": pairs.select(range(6)), "b": pairs.select(range(6, len(pairs)))})
    assert plan(splits, corpus, "bm25", cache_dir=str(tmp_path)).rows == len(pairs)


@pytest.mark.parametrize(
    ("changes", "strategy", "options"),
    [
        ({}, "bm26", {}),
        ({}, "dense", {}),
        ({}, "bm25", {"columns": {"text": "body"}}),
        ({}, "bm25", {"num_negatives": 0}),
        ({}, "bm25", {"columns": {"query": "question"}}),
        ({}, "dense", {"columns": {"query": "question"}, "encoder": encode}),
        ({"positive_ids": ["nowhere"]}, "bm25", {}),
        ({"query": None}, "bm25", {}),
    ],
)
def test_a_plan_fails_as_mining_would(changes, strategy, options, tmp_path):
    pairs, corpus = world(2)
    pairs = pairs.map(lambda row: {**row, **changes})
    with pytest.raises(HardNegError) as planned:
        plan(pairs, corpus, strategy, cache_dir=str(tmp_path), **options)
    with pytest.raises(type(planned.value)):
        mine(pairs, corpus, strategy, cache_dir=str(tmp_path), **options)


def test_a_job_above_the_budget_needs_to_be_confirmed(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "SHOWN_ABOVE", 0.0)
    monkeypatch.setattr(plans, "BUDGET", 1e-3)
    pairs, corpus = world(2)
    with pytest.raises(CostError, match=r"take at least .* s, .*; more than 0.0 s must be .* \(--confirm-cost on the"):
        mine(pairs, corpus, "bm25", cache_dir=str(tmp_path))
    assert issubclass(CostError, ConfigError) and kinds(tmp_path) <= {"corpus"}
    assert len(mine(pairs, corpus, "bm25", cache_dir=str(tmp_path), confirm_cost=True)) == len(pairs)


def test_the_plan_is_shown_where_the_bars_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plans, "SHOWN_ABOVE", 0.0)
    pairs, corpus = world(2)
    mine(pairs, corpus, "bm25", cache_dir=str(tmp_path / "one"))
    silent = capsys.readouterr()
    enable_progress_bars()
    try:
        mine(pairs, corpus, "bm25", cache_dir=str(tmp_path / "two"))
    finally:
        disable_progress_bars()
    shown = capsys.readouterr()
    assert "known from" not in silent.err and "known from" in shown.err and not shown.out + silent.out


def test_short_and_cached_jobs_are_not_measured(tmp_path, monkeypatch):
    pairs, corpus = world(2)
    encoder = Counted()
    options = {"encoder": encoder, "cache_dir": str(tmp_path)}
    HardNegatives(corpus, "dense", known_positives=[pairs], **options)
    built = encoder.texts
    assert built == len(set(corpus["text"]))
    splits = [pairs]
    plans.guard(splits, corpus, "dense", options, num_proc=None, confirm_cost=False)
    assert encoder.texts == built
    monkeypatch.setattr(plans, "SHOWN_ABOVE", 4.0)
    plans.guard(splits, corpus, "dense", options, num_proc=None, confirm_cost=False)
    assert encoder.texts == built
    prune(tmp_path, everything=True)
    plans.guard(splits, corpus, "dense", options, num_proc=None, confirm_cost=False)
    assert encoder.texts > built


def test_laws_go_through_what_was_measured():
    points = [(100, 5.0), (400, 8.0), (1000, 14.0)]
    law = over_documents(points)
    assert [law(documents, 9) for documents, _ in points] == pytest.approx([5, 8, 14])
    assert law(8_800_000, 0) == pytest.approx(4 + 0.01 * 8_800_000)
    assert over_rows(points)(1000, 7) == pytest.approx(98)
    slower = over_rows([(100, 1.0), (1000, 2.0), (100_000, 2.0 * 100**0.3)])
    assert slower.power == pytest.approx(0.3) and slower(10**8, 5) == pytest.approx(10 * 10**1.5)
    assert over_rows([(10, 3.0)])(40, 2) == pytest.approx(24) and over_rows([(10, 3.0), (20, 2.0)])(10**6, 1) == 2
    assert over_rows([(10, 1.0), (20, 9.0)])(40, 1) == pytest.approx(18) and over_rows([(10, 0.0)])(10, 1) == 0
    assert sorting(points)(1000, 0) == pytest.approx(14) and sorting(points)(10**6, 0) == pytest.approx(4 + 2e4)
    assert proportional(points)(500, 3) == pytest.approx(7)
    assert over_documents([(10, 3.0)])(20, 0) == pytest.approx(6)
    assert over_documents([(10, 9.0), (20, 3.0)])(20_000, 0) == pytest.approx(3)
    assert over_documents([(10, 1.0), (20, 9.0)])(0, 0) == pytest.approx(0)
    disturbed = over_documents([(100, 5.0), (400, 13.9), (1000, 14.0)])
    assert disturbed(10_000, 0) == pytest.approx(4 + 0.01 * 10_000)


def test_a_job_that_mining_plans_first_takes_the_time_of_that_too(monkeypatch, tmp_path):
    pairs, corpus = world(2)
    assert "plan" not in steps(plan(pairs, corpus, "bm25", cache_dir=str(tmp_path)))
    monkeypatch.setattr(plans, "SHOWN_ABOVE", 0.0)
    assert steps(plan(pairs, corpus, "bm25", cache_dir=str(tmp_path)))["plan"].seconds > 0


def test_a_plan_adds_up_its_steps():
    made = made_by_hand()
    assert made.seconds == pytest.approx(10 + 500) and made.memory == 10 + 50_000 and made.disk == 8000
    workers = made_by_hand(num_proc=2)
    share = 1000 / min(2, processors())
    assert workers.seconds == pytest.approx(10 + share + plans.WORKER_SECONDS)
    larger = made.at(documents=8_800_000, rows=10)
    assert larger.seconds == pytest.approx(88_000 + 88_000) and larger.disk == 8 * 8_800_000
    assert made.at() == made


def test_a_plan_says_how_far_it_extrapolates():
    made = made_by_hand(measured=(100, 50))
    assert "  measured on: 100 of 1,000 documents and 50 of 500 pairs\n" in str(made)
    assert "weak" not in str(made.at(documents=100 * plans.FAR))
    assert "  measured on: 100 of 8,800,000 documents and 50 of 500 pairs; weak: 88,000 times what was" in str(
        made.at(documents=8_800_000)
    )
    assert "weak: 200 times what was measured, more than 100\n" in str(made.at(rows=10_000))


def test_the_cheaper_way_is_the_one_that_holds_for_the_job():
    long = made_by_hand()
    assert long.cheaper == "a sample of 50 of the pairs: about 1 min 0 s"
    single = tuple(
        Stage(name=stage.name, wall=stage.wall, cpu=stage.wall, basis="", in_workers=stage.in_workers)
        for stage in long.stages
    )
    if processors() > 1:
        assert made_by_hand(stages=single).cheaper.startswith(f"num_proc={processors()}: about ")
    short = made_by_hand(documents=10)
    assert short.cheaper == "not needed"
    encoding = Stage(name="encode corpus", wall=Law(document=3.0), basis="c")
    dense = made_by_hand(stages=(encoding,), lexical=short)
    assert dense.cheaper == "'bm25' instead of a dense strategy: about 5.1 s"
    assert dense.at(documents=2000).cheaper == "'bm25' instead of a dense strategy: about 17 min 0 s"
    alone = made_by_hand(stages=(encoding,))
    assert alone.cheaper == "none; but what is built stays: a second run takes about 0.0 s"


def test_texts_are_drawn_from_every_class_of_length():
    sizes = np.random.default_rng(3).permutation(np.arange(1000)) ** 2
    chosen = sizes[stratified(sizes, 4, 10)]
    ordered = sorted(sizes)
    for number in range(4):
        low, high = ordered[250 * number], ordered[250 * number + 249]
        inside = sorted(size for size in chosen if low <= size <= high)
        place = ordered.index(inside[0])
        assert inside == ordered[place : place + 10] and abs(place + 5 - (250 * number + 125)) <= 1
    assert sorted(stratified(np.arange(3), 16, 16)) == [0, 1, 2]


def test_an_encoder_that_waits_is_timed():
    def slow(texts):
        time.sleep(0.002 * len(texts))
        return encode(texts)

    class Waiting:
        digest = "waiting"

        def encode(self, texts, *, kind):
            return slow(texts)

    rate = encode_rate(Waiting(), [f"text {row}" for row in range(400)], kind="document")
    assert rate.wall >= 0.002 > rate.cpu and rate.slower >= 1
    assert 0 < rate.texts <= 256 and rate.vectors.shape == (rate.texts, WIDTH)


def test_memory_is_that_of_the_peak():
    def work():
        held = np.ones(20_000_000)
        time.sleep(0.05)
        return held[:1].sum()

    _, cost = measured(work)
    assert 150e6 < cost.memory < 250e6 and cost.wall >= 0.05


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12.4, "12 s"), (61, "1 min 1 s"), (3599.6, "1 h 0 min"), (7260, "2 h 1 min"), (1e6, "12 days")],
)
def test_times_are_readable(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1500, "2 kB"), (8_000_000, "8 MB"), (13.5e9, "13.5 GB")])
def test_sizes_are_readable(size, text):
    assert data_size(size) == text


def test_a_probe_that_was_held_up_widens_the_spread_and_leaves_the_estimate():
    probes = [
        Cost(wall=wall, slow=wall, cpu=cpu, memory=memory) for wall, cpu, memory in ((9, 4, 1), (2, 3, 5), (3, 2, 2))
    ]
    assert Cost.best(probes) == Cost(wall=2, cpu=2, slow=9, memory=5)
    assert Cost.best(probes).less(Cost(wall=1.5, cpu=3, slow=1.5)) == Cost(wall=0.5, cpu=0, slow=7.5, memory=5)
    assert Cost.best(probes).slower == 4.5 and Cost().slower == 1
    assert Cost(wall=1, cpu=2, slow=3, disk=4).more(Cost(wall=1, cpu=1, slow=1, disk=1)) == Cost(
        wall=2, cpu=3, slow=4, disk=4
    )
    calls = []
    assert repeated(lambda: calls.append(1) or len(calls))[0] == len(calls) == MOST_REPEATS
    assert repeated(lambda: calls.append(1) or burn(SHORT / REPEATS))[1].cpu >= SHORT / REPEATS
    assert len(calls) <= MOST_REPEATS + REPEATS


def burn(seconds):
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def test_waiting_for_a_processor_is_no_work(monkeypatch):
    waits = iter([5.0, 5.04])
    monkeypatch.setattr(probes, "waited", lambda: next(waits))
    _, cost = measured(lambda: time.sleep(0.06))
    assert cost.slow >= 0.06 and cost.slow - cost.wall == pytest.approx(0.04) and cost.slower > 1
    assert cost.charged == max(cost.wall, cost.slow / probes.PATIENCE)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system counts no waiting")
def test_a_probe_beside_a_busy_program_takes_the_time_of_its_work():
    code = """
import os, subprocess, sys
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from hf_hardneg.planning.probes import measured
from tests.planning.test_plans import burn
with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
    _, cost = measured(lambda: burn(0.5))
    other.kill()
assert cost.slow > 1.4 * cost.cpu > 1.2 * cost.wall, cost
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_what_is_paid_once_is_told_from_what_grows_however_slow_the_machine(tmp_path, monkeypatch):
    pairs, corpus = packages(6000)
    ask = {"grow": True, "options": {"cache_dir": str(tmp_path)}}
    opened = open_corpus(corpus, cache_dir=str(tmp_path))
    monkeypatch.setattr(probes, "SAMPLE_SECONDS", 0.0)
    start, taken = probes.samples(opened, corpus, pairs, "bm25", **ask)
    sizes = [sample.documents for sample in taken]
    assert start > 0 and len(sizes) == 2 and sizes[1] >= probes.LEAST_GROWTH * probes.FIRST_SAMPLE
    monkeypatch.setattr(probes, "SAMPLE_SECONDS", 1e9)
    _, taken = probes.samples(opened, corpus, pairs, "bm25", **ask)
    assert [sample.documents for sample in taken] == [sizes[0], 6000]
    _, taken = probes.samples(opened, corpus, pairs, "bm25", **{**ask, "grow": False})
    assert len(taken) == 1


def packages(documents):
    """Texts whose neighbours differ, and a pair for each of few."""
    texts = [f"package {row} reads format {row % 7} of tool {row % 11}" for row in range(documents)]
    few = texts[: 20 * 256 : 256]
    return Dataset.from_dict({"query": few, "positive": few}), Dataset.from_dict({"text": texts})


def test_the_next_sample_is_as_large_as_the_time_that_is_left_allows(monkeypatch):
    monkeypatch.setattr(probes, "SAMPLE_SECONDS", 6.0)
    growth = probes._growth
    assert growth([2048], [Cost(wall=0.5, slow=100)]) == probes.SECOND
    assert growth([2048], [Cost(wall=2)]) == 3 and growth([2048], [Cost(wall=60)]) == probes.LEAST_GROWTH
    assert growth([256, 2048], [Cost(wall=0.1), Cost(wall=1.9)]) == pytest.approx(1 + 2.1 * 1792 / 1.8 / 2048)
    assert growth([256, 2048], [Cost(wall=1), Cost(wall=1)]) == probes.MOST_GROWTH
    assert growth([256, 2048], [Cost(wall=1), Cost(wall=3)]) < probes.LEAST_GROWTH
    assert growth([256, 2048], [Cost(wall=1), Cost(wall=1, slow=100)]) < probes.LEAST_GROWTH


def test_positives_that_are_looked_up_once_are_not_counted_for_each_pair():
    costs = {"first positives": Cost(wall=1.08), "known positives": Cost(wall=1.5, slow=3.0)}
    sample = Sample(documents=9, rows=50, costs=costs, outside=0, queries=None)
    stage = jobs._known_positives(sample, reused=False)
    assert stage.wall(10**6, 50) == pytest.approx(1.5) and stage.wall(0, 5000) == pytest.approx(1 + 0.01 * 5000)
    assert stage.slower == 2 and not stage.in_workers
    assert jobs._known_positives(sample, reused=True).left == 0


def test_a_plan_says_the_spread_and_workers_share_it():
    stage = Stage(name="search", wall=Law(row=1), cpu=Law(row=2), slower=3, basis="b", in_workers=True)
    alone = made_by_hand(stages=(stage,))
    assert (alone.seconds, alone.slow) == (500, 1500) and "about 8 min 20 s to 25 min 0 s, " in str(alone)
    shared = made_by_hand(stages=(stage,), num_proc=2)
    assert shared.slow == pytest.approx(3 * shared.seconds)
    steady = made_by_hand(stages=(Stage(name="search", wall=Law(row=1), slower=1.1, basis="b"),))
    assert "about 8 min 20 s, " in str(steady) and steady.slow == pytest.approx(550)


def test_only_a_job_whose_best_probes_are_over_budget_is_refused(monkeypatch):
    pairs, corpus = world(2)
    slow = Stage(name="search", wall=Law(row=1), slower=1000, basis="b")
    monkeypatch.setattr(plans, "SHOWN_ABOVE", 0.0)
    monkeypatch.setattr(plans, "_planned", lambda *_, **__: made_by_hand(stages=(slow,), rows=36))
    ask = {"num_proc": None, "confirm_cost": False}
    monkeypatch.setattr(plans, "BUDGET", 37.0)
    plans.guard([pairs], corpus, "bm25", {}, **ask)
    monkeypatch.setattr(plans, "BUDGET", 35.0)
    with pytest.raises(CostError, match="at least 36 s"):
        plans.guard([pairs], corpus, "bm25", {}, **ask)


def test_a_job_that_the_disk_has_no_room_for_is_refused_before_the_work(monkeypatch):
    pairs, corpus = world(2)
    large = Stage(name="search", wall=Law(row=1), disk=Law(row=1e9), basis="b")
    monkeypatch.setattr(plans, "SHOWN_ABOVE", 0.0)
    monkeypatch.setattr(plans, "_planned", lambda *_: made_by_hand(stages=(large,), rows=36))
    monkeypatch.setattr(plans, "room_of", lambda folder: 37e9)
    plans.guard([pairs], corpus, "bm25", {}, num_proc=None, confirm_cost=False)
    monkeypatch.setattr(plans, "room_of", lambda folder: 35e9)
    with pytest.raises(StoreError, match=r"would write about 36.0 GB, and .* has 35.0 GB free\. Make room there"):
        plans.guard([pairs], corpus, "bm25", {}, num_proc=None, confirm_cost=False)
    plans.guard([pairs], corpus, "bm25", {}, num_proc=None, confirm_cost=True)
