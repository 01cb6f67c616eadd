"""Shards, each mined alone, give the bytes of one run; what cannot be merged is named, with what mends it."""

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets, load_from_disk

from hf_hardneg import Strategy, mine, recipe_of
from hf_hardneg.cli import main
from hf_hardneg.engines import shards
from hf_hardneg.engines.parts import Shard
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.retrievers import BM25
from tests.cli.test_stopping import SLOW, WITHIN, rows_searched
from tests.worlds import SMALL, encode, needed, world

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OF = 7


def columns_of(dataset):
    """The bytes of each column, whatever its chunks: those of an Arrow stream with the column in one piece."""
    written = {}
    for name in dataset.column_names:
        column = dataset.data.table.column(name).combine_chunks()
        whole = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
        sink = io.BytesIO()
        batch = pa.record_batch([whole], names=[name])
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        written[name] = sink.getvalue()
    return written


def in_shards(folder, pairs, corpus, strategy, *, of=OF, shared=True, **options):
    """Each shard after the other, the last one first; with one cache, or each with its own."""
    for number in range(of, 0, -1):
        cache = folder / ("cache" if shared else f"cache {number}")
        shards.mine(pairs, corpus, strategy, shard=(number, of), out=folder / "parts", cache_dir=cache, **options)
    return shards.merge(folder / "parts")


def with_vectors(pairs, corpus):
    return (
        pairs.add_column("asked", list(encode(pairs["query"]))),
        corpus.add_column("vector", list(encode(corpus["text"]))),
        {"columns": {"vector": "vector", "query_vector": "asked"}},
    )


@pytest.mark.parametrize(
    "name, shared",
    [("bm25", True), ("bm25", False), ("dense", False), ("denoised", True), ("simans", False), ("hybrid", True)],
)
def test_seven_shards_are_one_run_to_the_byte(name, shared, tmp_path):
    pairs, corpus = world(1)
    strategy = SMALL[name]
    whole = mine(pairs, corpus, strategy, cache_dir=tmp_path / "whole", **needed(strategy))
    merged = in_shards(tmp_path, pairs, corpus, strategy, shared=shared, **needed(strategy))
    assert columns_of(merged) == columns_of(whole) and merged.features == whole.features
    assert recipe_of(merged) == recipe_of(whole) and merged.info.description == whole.info.description


@pytest.mark.parametrize(
    "options", [{"on_shortage": "drop_row", "num_negatives": 9}, {"on_shortage": "pad_random", "num_negatives": 30}]
)
def test_vectors_in_columns_splits_and_rules_of_shortage(options, tmp_path):
    pairs, corpus, columns = with_vectors(*world(2))
    splits = DatasetDict({"train": pairs.select(range(20)), "test": pairs.select(range(20, len(pairs)))})
    strategy = SMALL["positive_aware"]
    whole = mine(splits, corpus, strategy, cache_dir=tmp_path / "whole", **columns, **options)
    merged = in_shards(tmp_path, splits, corpus, strategy, **columns, **options)
    assert list(merged) == ["train", "test"] and recipe_of(merged) == recipe_of(whole)
    for name, rows in whole.items():
        assert columns_of(merged[name]) == columns_of(rows)


def test_a_positive_in_another_shard_is_known(tmp_path):
    texts = [f"red apples number {row}" for row in range(6)]
    corpus = Dataset.from_dict({"_id": list("abcdef"), "text": texts})
    pairs = Dataset.from_dict({"query": ["red apples"] * 6, "positive_ids": [[name] for name in "abcdee"]})
    mined = in_shards(tmp_path, pairs, corpus, Strategy([BM25(20)]), of=6)
    assert mined["negative_ids"][:] == [["f"]] * 6


def test_more_shards_than_rows_and_rows_that_are_all_dropped(tmp_path):
    pairs, corpus = world(1)
    few = pairs.select(range(3))
    strategy = SMALL["bm25"]
    whole = mine(few, corpus, strategy, cache_dir=tmp_path / "whole")
    assert columns_of(in_shards(tmp_path / "few", few, corpus, strategy, of=5)) == columns_of(whole)
    options = {"on_shortage": "drop_row", "num_negatives": 1000}
    none = mine(few, corpus, strategy, cache_dir=tmp_path / "whole", **options)
    merged = in_shards(tmp_path / "none", few, corpus, strategy, of=5, **options)
    assert len(merged) == len(none) == 0 and merged.features == none.features


def test_shards_share_all_rows_once():
    for of in (1, 3, 7, 64):
        for count in (0, 1, 6, 7, 200):
            rows = [row for number in range(1, of + 1) for row in Shard(number, of).share(count)]
            assert rows == list(range(count))


@pytest.mark.parametrize(
    "words", ["0/7", "8/7", "3", "3/7/9", "a/b", "-1/7", "1/0", (0, 7), (1.5, 7), (True, 7), None, "1/100000"]
)
def test_what_is_no_shard_is_refused(words):
    with pytest.raises(ConfigError, match="counted from 1"):
        Shard.of_words(words)


def saved(folder, *more, pairs=None, corpus=None):
    made, documents = world(1)
    folder.mkdir(exist_ok=True)
    (pairs or made).to_parquet(folder / "pairs.parquet")
    (corpus or documents).to_parquet(folder / "corpus.parquet")
    files = [f"--{name}={folder}/{name}.parquet" for name in ("pairs", "corpus")]
    return ["mine", *files, "--strategy=bm25", f"--cache-dir={folder}/cache", f"--out={folder}/parts", *more]


def merged_by_command(folder, out="merged"):
    return main(["merge", f"{folder}/parts", f"--out={folder}/{out}", "-q"])


def commands_in(text):
    return [shlex.split(line)[1:] for line in re.findall(r"Run it again: (hf-hardneg .*)", text)]


def whole_run(folder, arguments):
    kept = [each for each in arguments if not each.startswith(("--out", "--cache-dir"))]
    assert main([*kept, f"--out={folder}/whole", f"--cache-dir={folder}/undisturbed"]) == 0
    return columns_of(load_from_disk(f"{folder}/whole"))


def test_what_cannot_be_merged_is_named_with_the_command_that_mends_it(tmp_path, capsys):
    """Of nine shards: one missing, one failed, one of another recipe, one of other pairs, one damaged."""
    arguments, parts = saved(tmp_path, "-q"), tmp_path / "parts"
    for number in (1, 3, 4, 5, 6, 7, 8, 9):
        more = ["--num-negatives=2"] if number == 4 else []
        assert main([*arguments, *more, "--shard", f"{number}/9"]) == 0
    others = saved(tmp_path / "other", "-q", pairs=world(1)[0].select(range(30)))
    assert main([*others, f"--out={parts}", "--shard=5/9", "--overwrite"]) == 0
    damaged = parts / "part-00006-of-00009/0/rows.arrow"
    damaged.write_bytes(damaged.read_bytes()[:-8] + b"\0" * 8)
    shutil.rmtree(parts / "part-00007-of-00009")
    without = [each for each in arguments if "corpus.parquet" not in each]
    assert main([*without, "--shard=7/9", "--corpus=gone.parquet"]) == 2
    capsys.readouterr()
    assert merged_by_command(tmp_path) == 2
    said = capsys.readouterr().err
    for words in (
        "shard 2/9 is missing. Run it again",
        "shard 4/9 differs from 1/9 in recipe. Run it again",
        "shard 5/9 differs from 1/9 in corpus and known positives, pairs, ",
        "shard 6/9 is damaged: ",
        "shard 7/9 failed: DataError: ",
    ):
        assert words in said, said
    assert len(commands_in(said)) == 5 and not (tmp_path / "merged").exists()
    for command in commands_in(said):
        assert main(command) == 0
    assert merged_by_command(tmp_path) == 0
    assert columns_of(load_from_disk(f"{tmp_path}/merged")) == whole_run(tmp_path, arguments)


def test_shards_that_stand_twice_and_shards_of_another_number(tmp_path, capsys):
    pairs, corpus = world(1)
    for folder, numbers in (("a", (1, 2)), ("b", (2, 3))):
        for number in numbers:
            shards.mine(pairs, corpus, shard=(number, 3), out=tmp_path / folder, cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match=r"shard 2/3 stands 2 times, in .*a/part-00002.* and .*b/part-00002"):
        shards.merge([tmp_path / "a", tmp_path / "b"])
    shutil.rmtree(tmp_path / "b/part-00002-of-00003")
    whole = mine(pairs, corpus, cache_dir=tmp_path / "cache")
    assert columns_of(shards.merge([tmp_path / "a", tmp_path / "b"])) == columns_of(whole)
    shutil.copytree(tmp_path / "b/part-00003-of-00003", tmp_path / "a/part-00003-of-00004")
    with pytest.raises(DataError, match=r"shard 3/3 stands 2 times"):
        shards.merge([tmp_path / "a", tmp_path / "b"])
    shutil.rmtree(tmp_path / "a/part-00003-of-00004")
    shards.mine(pairs, corpus, shard=(1, 2), out=tmp_path / "a", cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match=r"part-00001-of-00002 is of 2 shards, others are of 3: remove it"):
        shards.merge([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(DataError, match=r"empty holds no part of any shard"):
        (tmp_path / "empty").mkdir()
        shards.merge(tmp_path / "empty")
    with pytest.raises(DataError, match=r"nowhere is no folder"):
        shards.merge(tmp_path / "nowhere")


def test_another_index_is_told_by_its_name(tmp_path):
    pairs, corpus = world(1)
    for number, depth in ((1, 20), (2, 20), (3, 30)):
        strategy = Strategy([BM25(depth)])
        shards.mine(pairs, corpus, strategy, shard=(number, 3), out=tmp_path / "parts", cache_dir=tmp_path / "cache")
    with pytest.raises(
        DataError,
        match=r"shard 3/3 differs from 1/3 in recipe\. .*shard='3/3', out=\.\.\., overwrite=True\) with the same",
    ):
        shards.merge(tmp_path / "parts")
    fewer = corpus.select(range(len(corpus) - 1)), {"overwrite": True}
    known = [row for row, ids in enumerate(pairs["positive_ids"]) if ids != [corpus[-1]["_id"]]]
    shards.mine(
        pairs.select(known), fewer[0], Strategy([BM25(20)]), shard=(3, 3), out=tmp_path / "parts", overwrite=True
    )
    with pytest.raises(DataError, match=r"shard 3/3 differs from 1/3 in .*corpus and known positives, index\."):
        shards.merge(tmp_path / "parts")


def test_a_part_that_is_there_is_kept_and_one_of_another_job_is_not_replaced_unasked(tmp_path):
    pairs, corpus = world(1)
    first = shards.mine(pairs, corpus, shard="1/2", out=tmp_path / "parts")
    written = (first / "manifest.json").stat().st_mtime_ns
    assert shards.mine(pairs, corpus, shard=(1, 2), out=tmp_path / "parts") == first
    assert (first / "manifest.json").stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match="is of another job"):
        shards.mine(pairs, corpus, shard=(1, 2), out=tmp_path / "parts", num_negatives=2)
    shards.mine(pairs, corpus, shard=(1, 2), out=tmp_path / "parts", num_negatives=2, overwrite=True)
    assert (first / "manifest.json").stat().st_mtime_ns > written


@pytest.mark.filterwarnings("ignore:.*nothing tells whether:hf_hardneg.errors.HardNegWarning")
def test_a_model_that_nothing_identifies_is_refused(tmp_path):
    pairs, corpus = world(1)
    with open(tmp_path / "open", "w") as stream:

        def encoder(texts, held=stream):
            return encode(texts)

        with pytest.raises(ConfigError, match="cannot be identified.*attribute `digest`"):
            shards.mine(pairs, corpus, SMALL["dense"], encoder=encoder, shard=(1, 2), out=tmp_path / "parts")


def test_layouts_are_options_of_merge(tmp_path, capsys):
    arguments = saved(tmp_path, "-q")
    assert main([*arguments, "--shard=1/2", "--format=triplet"]) == 2
    assert "options of `hf-hardneg merge`" in capsys.readouterr().err
    for number in (1, 2):
        assert main([*arguments, f"--shard={number}/2"]) == 0
    assert main(["merge", f"{tmp_path}/parts", f"--out={tmp_path}/triplets", "--format=triplet", "-q"]) == 0
    assert load_from_disk(f"{tmp_path}/triplets").column_names == ["query", "positive", "negative"]


def test_passwords_do_not_reach_a_part(tmp_path):
    arguments = saved(tmp_path, "-q", "--num-negatives=2")
    secret = "postgresql://me:hunter2@db/pairs"  # of no server: it fails, and is noted
    assert main([*(each for each in arguments if "pairs.parquet" not in each), f"--pairs={secret}", "--shard=1/2"]) == 2
    assert not any(b"hunter2" in path.read_bytes() for path in (tmp_path / "parts").rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_killed_shard_is_run_again_alone(tmp_path, capsys):
    pairs, _ = world(1)
    arguments, log = saved(tmp_path, "-q", pairs=concatenate_datasets([pairs] * 20)), tmp_path / "log"
    for number in (1, 3):
        assert main([*arguments, f"--shard={number}/3"]) == 0
    command = [sys.executable, "-W", "ignore", "-c", SLOW, str(log), "0.3", *arguments, "--shard=2/3"]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + WITHIN
    while len(rows_searched(log)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert merged_by_command(tmp_path) == 2
    said = capsys.readouterr().err
    assert f"shard 2/3 was begun by process {process.pid} on" in said
    (again,) = commands_in(said)
    assert main(again) == 0 and merged_by_command(tmp_path) == 0
    assert columns_of(load_from_disk(f"{tmp_path}/merged")) == whole_run(tmp_path, arguments)


@pytest.mark.slow
def test_shards_that_begin_together_share_a_cache(tmp_path):
    arguments = saved(tmp_path, "-q")
    command = [sys.executable, "-W", "ignore", "-m", "hf_hardneg.cli", *arguments]
    started = [subprocess.Popen([*command, f"--shard={number}/2"]) for number in (1, 2, 2)]
    assert [process.wait(timeout=WITHIN) for process in started] == [0, 0, 0]
    assert merged_by_command(tmp_path) == 0
    assert columns_of(load_from_disk(f"{tmp_path}/merged")) == whole_run(tmp_path, arguments)
    kinds = [path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".")]
    assert kinds.count("bm25") == kinds.count("keys") == 1
