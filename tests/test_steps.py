"""Stored candidates and negatives: when they are found again, and when they must not be."""

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets, disable_progress_bars, enable_progress_bars

from hf_hardneg import BM25, Denoised, HardNegatives, Strategy, mine
from hf_hardneg.filters import AbsoluteMargin, Filter, RelativeMargin
from hf_hardneg.pipeline.selection import ROW
from hf_hardneg.retrievers import Dense
from hf_hardneg.samplers import RankZone
from hf_hardneg.steps import Steps
from hf_hardneg.store import directories
from hf_hardneg.store.arrow_files import stored_rows
from tests.worlds import SMALL, encode, needed, shared_words, world

MINED = [
    "negatives",
    "negative_ids",
    "negative_scores",
    "negative_ranks",
    "negative_sources",
    "positive_scores",
    "mining",
]


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "store"


def stored(cache, kind):
    return sorted(path.name for path in cache.glob(f"{kind}-*"))


def mined(cache, pairs, corpus, strategy="bm25", **options):
    return mine(
        pairs,
        corpus,
        SMALL.get(strategy, strategy),
        **needed(SMALL.get(strategy, strategy)),
        cache_dir=str(cache),
        **options,
    )


def test_another_margin_sampler_or_seed_searches_nothing(cache, monkeypatch):
    pairs, corpus = world(3)
    dense_index = [Dense(200)]
    mined(cache, pairs, corpus, Strategy(dense_index))
    candidates = stored(cache, "candidates")

    def search(*_):
        raise AssertionError("searched again")

    monkeypatch.setattr("hf_hardneg.pipeline.retrieval.Retrieval.search", search)
    for stages, options in (
        (([AbsoluteMargin(0.1)],), {}),
        (([RelativeMargin(0.2)],), {}),
        (([], RankZone(1, 12)), {}),
        (([], RankZone(1, 12)), {"seed": 7}),
        (([],), {"num_negatives": 2}),
        (([],), {"on_shortage": "pad_random", "num_negatives": 20}),
    ):
        again = mined(cache, pairs, corpus, Strategy(dense_index, *stages), **options)
        assert len(again) == len(pairs) and stored(cache, "candidates") == candidates
    assert len(stored(cache, "negatives")) == 7


SECOND = """
import sys
from datasets import Dataset, disable_progress_bars
disable_progress_bars()
from hf_hardneg import Strategy, mine
from hf_hardneg.filters import RankWindow
from hf_hardneg.index.bm25 import bm25_index
from hf_hardneg.index.dense import dense_index
from hf_hardneg.retrievers import BM25, Dense
from tests.worlds import needed
folder, kind, first = sys.argv[1:]
corpus, pairs = (Dataset.load_from_disk(f"{folder}/{name}") for name in ("corpus", "pairs"))
strategy = Strategy([{"bm25": BM25, "dense": Dense}[kind](100)], [RankWindow(int(first))])
mine(pairs, corpus, strategy, **needed(strategy), cache_dir=f"{folder}/cache")
opened = bm25_index._opened.cache_info().misses + dense_index._opened.cache_info().misses
print(opened, *(name for name in ("torch", "faiss", "transformers", "sentence_transformers") if name in sys.modules))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bm25", "dense"])
def test_another_process_opens_no_index_and_no_model(tmp_path, kind):
    pairs, corpus = world(3)
    corpus.save_to_disk(tmp_path / "corpus")
    pairs.save_to_disk(tmp_path / "pairs")
    runs, names = [], []
    for first in ("0", "2"):
        command = [sys.executable, "-W", "ignore", "-c", SECOND, str(tmp_path), kind, first]
        runs.append(subprocess.check_output(command, text=True).split())
        names.append(stored(tmp_path / "cache", "candidates"))
    assert runs[0][0] == "1" and runs[1] == ["0"]
    assert names[0] == names[1] and len(stored(tmp_path / "cache", "negatives")) == 2


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("strategy", ["bm25", "positive_aware"])
def test_pairs_in_memory_and_on_disk_with_any_workers(tmp_path, cache, strategy, on_disk):
    pairs, corpus = world(5)
    if on_disk:
        pairs.save_to_disk(tmp_path / "pairs")
        pairs = Dataset.load_from_disk(str(tmp_path / "pairs"))
    one = mined(cache, pairs, corpus, strategy)
    names = stored(cache, "candidates"), stored(cache, "negatives")
    two = mined(cache, pairs, corpus, strategy, num_proc=2, batch_size=5)
    assert (stored(cache, "candidates"), stored(cache, "negatives")) == names
    fresh = mined(tmp_path / "other", pairs, corpus, strategy, num_proc=2, batch_size=5)
    direct = pairs.map(
        HardNegatives(
            corpus, SMALL[strategy], **needed(SMALL[strategy]), known_positives=[pairs], cache_dir=str(cache)
        ),
        batched=True,
    )
    assert one[:] == two[:] == fresh[:] == direct[:] and one.features == fresh.features
    assert one.column_names == direct.column_names


def other_encoder(texts):
    return encode(texts)[:, ::-1]


other_encoder.digest = "another"


@pytest.mark.parametrize("change", ["corpus", "query", "encoder", "depth", "known positive", "dedupe"])
def test_what_candidates_depend_on(cache, change):
    pairs, corpus = world(6)
    strategy, options = Strategy([Dense(20)]), {"encoder": encode}
    mine(pairs, corpus, strategy, cache_dir=str(cache), **options)
    table, texts = pairs.to_dict(), corpus.to_dict()
    if change == "corpus":
        texts["text"][9] += " more"
    if change == "query":
        table["query"][0] += " more"
    if change == "encoder":
        options = {"encoder": other_encoder}
    if change == "depth":
        strategy = Strategy([Dense(21)])
    if change == "known positive":
        table["positive_ids"][0] = [*table["positive_ids"][0], "d9"]
    if change == "dedupe":
        options["dedupe"] = "exact"
    pairs, corpus = Dataset.from_dict(table), Dataset.from_dict(texts)
    again = mine(pairs, corpus, strategy, cache_dir=str(cache), **options)
    assert len(stored(cache, "candidates")) == 2
    assert again[:] == mine(pairs, corpus, strategy, cache_dir=str(cache.parent / "fresh"), **options)[:]


def test_a_known_positive_of_another_split_is_another_search(cache):
    pairs, corpus = world(7)
    first, rest = pairs.select(range(6)), pairs.select(range(6, len(pairs)))
    mined(cache, first, corpus)
    both = mined(cache, DatasetDict({"a": first, "b": rest}), corpus)
    assert len(stored(cache, "candidates")) == 3
    assert [*both["a"]["negative_ids"], *both["b"]["negative_ids"]] == mined(cache, pairs, corpus)["negative_ids"][:]


@pytest.mark.parametrize("num_proc", [None, 2])
def test_rows_with_drop_rules(cache, num_proc):
    pairs, corpus = world(8)
    options = {"num_negatives": 6, "num_proc": num_proc}
    whole = mined(cache, pairs, corpus, "positive_aware", **options)
    full = [row for row in whole if len(row["negatives"]) == 6]
    assert 0 < len(full) < len(whole)
    assert list(mined(cache, pairs, corpus, "positive_aware", on_shortage="drop_row", **options)) == full
    none = mined(cache, pairs, corpus, "positive_aware", on_shortage="drop_row", num_negatives=59, num_proc=num_proc)
    assert not len(none) and none.features == whole.features


def test_columns_that_are_named_like_ours(cache):
    pairs, corpus = world(9)
    size = len(pairs)
    named = pairs.add_column("candidates", list(range(size))).add_column(ROW, ["mine"] * size)
    for on_shortage in ("keep_fewer", "drop_row"):
        plain = mined(cache, pairs, corpus, on_shortage=on_shortage)
        again = mined(cache, named, corpus, on_shortage=on_shortage)
        for name in MINED:
            assert again[name][:] == plain[name][:]
        numbers = dict(zip(map(repr, named.select_columns(pairs.column_names)), named["candidates"], strict=True))
        left = map(repr, again.select_columns(pairs.column_names))
        assert [numbers[row] for row in left] == again["candidates"][:] and set(again[ROW]) == {"mine"}


def test_only_what_mining_made_is_stored(cache):
    pairs, corpus = world(10)
    result = mined(cache, pairs, corpus)
    (negatives,) = stored(cache, "negatives")
    (candidates,) = stored(cache, "candidates")
    rows = concatenate_datasets(stored_rows(cache / negatives))
    assert rows.column_names == MINED and len(rows) == len(pairs)
    assert not set(stored_rows(cache / candidates)[0].column_names) & set(pairs.column_names)
    assert result.column_names == [*pairs.column_names, *MINED]


def test_pairs_without_rows(cache):
    pairs, corpus = world(10)
    splits = mined(cache, DatasetDict({"some": pairs, "none": pairs.select([])}), corpus)
    assert not len(splits["none"]) and len(splits["some"]) == len(pairs)


def _killed(cache, after):
    pairs, corpus = world(11)
    called = []
    search = Steps._stored

    def stored_then_die(self, kind, parameters, rows, function, desc):
        def dying(batch):
            called.append(1)
            if len(called) > after:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(batch)

        return search(self, kind, parameters, rows, dying, desc)

    Steps._stored = stored_then_die
    mined(cache, pairs, corpus, batch_size=10)


@pytest.mark.parametrize("after", [0, 2, 5, 7])
def test_a_killed_mine_leaves_nothing_half_published(cache, tmp_path, after):
    pairs, corpus = world(11)
    child = multiprocessing.get_context("fork").Process(target=_killed, args=(cache, after))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    for path in cache.glob("[!.]*"):
        directories.check(path)
    assert len(stored(cache, "candidates")) == (after >= 5) and not stored(cache, "negatives")
    assert mined(cache, pairs, corpus)[:] == mined(tmp_path / "clean", pairs, corpus)[:]
    assert not list(cache.glob(".*.partial"))


def every_other(first):
    @dataclass(frozen=True)
    class EveryOther(Filter):
        name = "every_other"

        def keep(self, candidates):
            return candidates.rank % 2 == first

    return EveryOther()


def test_a_filter_whose_code_changed_is_another_one_also_before_a_cross_encoder(cache):
    pairs, corpus = world(0)
    one, other = every_other(0), every_other(1)
    assert repr(one) == repr(other)
    for stage in (one, other):
        strategy = Strategy([BM25(20)], [stage, Denoised(shared_words, scored_depth=20)])
        rows, fresh = (mined(folder, pairs, corpus, strategy) for folder in (cache, cache / f"fresh {stage is one}"))
        assert rows[:] == fresh[:] and sum(map(len, rows["negatives"])) > 0


def test_rows_that_are_short_are_counted_aloud_unless_they_are_filled(tmp_path, capsys):
    pairs = Dataset.from_dict({"query": ["red rock", "zebra"], "positive": ["red rock lava", "striped horse"]})
    corpus = ["red rock lava", "striped horse", "red chalk"]
    said = (
        "2 of 2 rows have fewer than 2 negatives, 1 of them none. The search found 2 documents for all of them "
        "together; known_positive took most of these, 1 (50%). To have more, search in another way than by bm25, which "
        "finds no more, however deep, or fill up"
    )
    enable_progress_bars()
    try:
        mine(pairs, corpus, num_negatives=2, cache_dir=str(tmp_path))
        assert said in capsys.readouterr().err
        mine(pairs, corpus, num_negatives=1, cache_dir=str(tmp_path), on_shortage="pad_random")
        assert "rows have fewer" not in capsys.readouterr().err
    finally:
        disable_progress_bars()


def test_rows_that_name_no_positive_are_counted_aloud(tmp_path, capsys):
    corpus = {"a": "red rock", "b": "striped horse", "c": "red chalk"}
    pairs = [
        {"query": "rock", "positive_ids": []},
        {"query": "horse", "positive_ids": []},
        {"query": "chalk", "positive_ids": ["c"]},
    ]
    enable_progress_bars()
    try:
        mine(pairs, corpus, num_negatives=1, cache_dir=str(tmp_path))
        assert "2 of 3 rows name no positive" in capsys.readouterr().err
        texts = Dataset.from_dict({"query": ["rock", "chalk"], "positive": [[], ["red chalk"]]})
        mine(texts, corpus, num_negatives=1, cache_dir=str(tmp_path))
        assert "1 of 2 rows name no positive" in capsys.readouterr().err
        mine(pairs[2:], corpus, num_negatives=1, cache_dir=str(tmp_path))
        assert "name no positive" not in capsys.readouterr().err
    finally:
        disable_progress_bars()
