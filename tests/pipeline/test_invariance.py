"""The same rows come out whatever way the callable is run."""

import multiprocessing
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features
from datasets.fingerprint import Hasher

from hf_hardneg import HardNegatives, mine, plan, recipe_of, sweep
from tests.worlds import SMALL, encode, needed, world

pytestmark = pytest.mark.slow

NAMES = ["bm25", "positive_aware", "rank_zone", "random", "safe splade"]
COLUMNS = (
    "negatives",
    "negative_ids",
    "negative_scores",
    "negative_ranks",
    "negative_sources",
    "positive_scores",
    "mining",
)


def outcome(rows):
    return [{name: row[name] for name in COLUMNS} for row in rows]


@pytest.fixture(params=NAMES)
def case(request):
    pairs, corpus = world(11)
    miner = HardNegatives(corpus, SMALL[request.param], **needed(SMALL[request.param]))
    return pairs, miner, outcome(pairs.map(miner, batched=True))


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_sizes(case, batch_size):
    pairs, miner, expected = case
    assert outcome(pairs.map(miner, batched=True, batch_size=batch_size, load_from_cache_file=False)) == expected


@pytest.mark.parametrize("num_proc", [2, 4])
def test_processes(case, num_proc):
    pairs, miner, expected = case
    assert outcome(pairs.map(miner, batched=True, num_proc=num_proc, load_from_cache_file=False)) == expected


def test_unbatched_streaming_transform_dict_and_formats(case):
    pairs, miner, expected = case
    assert outcome(pairs.map(miner)) == expected
    assert outcome(pairs.to_iterable_dataset().map(miner, batched=True, batch_size=5)) == expected
    assert outcome(pairs.to_iterable_dataset().map(miner)) == expected
    lazily = pairs.with_transform(miner)
    assert outcome(lazily[place] for place in range(len(pairs))) == expected
    assert lazily[0]["query"] == pairs[0]["query"]
    assert outcome(DatasetDict({"train": pairs}).map(miner, batched=True)["train"]) == expected
    assert outcome(pairs.with_format("arrow").map(miner, batched=True).with_format(None)) == expected
    assert outcome(pairs.with_format("numpy").map(miner, batched=True).with_format(None)) == expected
    assert outcome(pairs.with_format("pandas").map(miner, batched=True).with_format(None)) == expected


def test_shuffled(case):
    pairs, miner, expected = case
    order = np.random.default_rng(0).permutation(len(pairs))
    assert outcome(pairs.select(order).map(miner, batched=True, batch_size=5)) == [expected[i] for i in order]


def test_pickled(case):
    pairs, miner, expected = case
    again = pickle.loads(pickle.dumps(miner))
    assert outcome(pairs.map(again, batched=True, load_from_cache_file=False)) == expected
    assert Hasher.hash(again) == Hasher.hash(miner)


def test_types_are_the_same_when_no_row_has_a_negative():
    corpus = Dataset.from_dict({"_id": ["a"], "text": ["word1"]})
    pairs = Dataset.from_dict({"query": ["zebra"], "positive_ids": [["a"]]})
    full, usual = world(1)
    empty = pairs.map(HardNegatives(corpus), batched=True).features
    other = full.map(HardNegatives(usual), batched=True).features
    assert {name: empty[name] for name in COLUMNS} == {name: other[name] for name in COLUMNS}
    assert isinstance(empty, Features)


def _mine_in_child(queue, miner, batch):
    queue.put(miner(batch)["negative_ids"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_a_parent_that_searched_with_all_threads(method):
    """Fails by time-out where FAISS or torch hang after a fork."""
    import faiss

    pairs, corpus = world(11, documents=400, queries=40)
    miner = HardNegatives(corpus, "dense", encoder=encode)
    faiss.omp_set_num_threads(multiprocessing.cpu_count())
    batch = pairs[:60]
    expected = miner(batch)["negative_ids"]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_mine_in_child, args=(queue, miner, batch))
    child.start()
    try:
        assert queue.get(timeout=90) == expected
    finally:
        child.kill()
        child.join()


def test_threads_share_one_miner():
    pairs, corpus = world(11)
    miner = HardNegatives(corpus, SMALL["bm25"])
    expected = miner(pairs[:10])["negative_ids"]
    found = []
    workers = [threading.Thread(target=lambda: found.append(miner(pairs[:10])["negative_ids"])) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [expected] * 4


SECOND = """
import sys, builtins
from datasets import Dataset, config, disable_progress_bars
from datasets.fingerprint import Hasher
disable_progress_bars()
import hf_hardneg.index.bm25.bm25_index as bm25
from hf_hardneg import HardNegatives
folder = sys.argv[1]
corpus, pairs = (Dataset.load_from_disk(folder + "/" + name) for name in ("corpus", "pairs"))
miner = HardNegatives(corpus, "bm25", cache_dir=folder + "/cache")
mined = pairs.map(miner, batched=True, cache_file_name=None)
print(Hasher.hash(miner), mined._fingerprint, bm25._opened.cache_info().misses)
"""


@pytest.mark.slow
def test_a_second_process_hits_the_cache_and_never_opens_the_index(tmp_path):
    pairs, corpus = world(11)
    corpus.save_to_disk(tmp_path / "corpus")
    pairs.save_to_disk(tmp_path / "pairs")
    runs = [
        subprocess.check_output([sys.executable, "-W", "ignore", "-c", SECOND, str(tmp_path)], text=True).split()
        for _ in range(2)
    ]
    assert runs[0][:2] == runs[1][:2]
    assert [run[2] for run in runs] == ["1", "0"]


def test_pickle_is_a_few_kilobytes_for_any_corpus():
    pairs, corpus = world(2, documents=3000)
    miner = HardNegatives(corpus, "bm25")
    miner(pairs[:2])
    assert len(pickle.dumps(miner)) < 8192


def test_mine_equals_the_callable_with_known_positives_and_is_cached():
    pairs, corpus = world(5)
    mined = mine(pairs, corpus, SMALL["positive_aware"], **needed(SMALL["positive_aware"]))
    assert (
        mine(pairs, corpus, SMALL["positive_aware"], **needed(SMALL["positive_aware"]))._fingerprint
        == mined._fingerprint
    )
    split = DatasetDict({"a": pairs.select(range(10)), "b": pairs.select(range(10, len(pairs)))})
    parts = mine(split, corpus, SMALL["positive_aware"], **needed(SMALL["positive_aware"]), num_proc=2)
    assert outcome([*parts["a"], *parts["b"]]) == outcome(mined)


def test_mine_excludes_what_further_datasets_know():
    pairs, corpus = world(1)
    first = mine(pairs, corpus, SMALL["bm25"])
    hidden = Dataset.from_dict({"query": first["query"], "positive_ids": [ids[:1] for ids in first["negative_ids"]]})
    again = mine(pairs, corpus, SMALL["bm25"], known_positives=[hidden])
    direct = pairs.map(HardNegatives(corpus, SMALL["bm25"], known_positives=[pairs, hidden]), batched=True)
    assert again[:] == direct[:]
    known = {(query, one) for query, ids in zip(hidden["query"], hidden["positive_ids"], strict=True) for one in ids}
    assert known and not known & {(row["query"], one) for row in again for one in row["negative_ids"]}
    (setting,) = sweep(
        pairs, corpus, SMALL["bm25"], rank_window=[0], options={"known_positives": [hidden], "num_negatives": 4}
    )
    assert setting.report.negatives == sum(map(len, again["negatives"]))
    assert plan(pairs, corpus, SMALL["bm25"], known_positives=[hidden]).rows == len(pairs)
    assert "known_positives=[...],  # datasets of digest" in recipe_of(again).code()
