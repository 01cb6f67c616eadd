"""What does it cost to mine over several processes that know nothing of each other, beside `mine` with two workers?

    python benchmarks/engines.py DATA_FOLDER WORK_FOLDER [--engine shards] [--queries 200000] [--documents 0]

DATA_FOLDER holds `packages/corpus.parquet`; queries are the first six words of documents, evenly drawn. BM25, two
processes on the same two cores on both sides. The index is built before, and not counted; each side starts with a copy
of that cache, in fresh processes, so imports, the known positives of all pairs, and joining the rows are counted. For
shards: both at once, each on one core, then `merge`. Ray and Spark: two actors or tasks, once the engine is up and has
the pairs; the seconds until then are not counted. `private` is the most memory of one process that no other shares; of
Ray and Spark, of one worker.

Sides that WORK_FOLDER has the result of are not run again, so a run that was stopped goes on. The rows of both sides
are compared by a digest of every column. `load` is the machine's load average at the start and the end of a side.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np

TASK = "import sys; from benchmarks.engines import task; task(*sys.argv[1:])"
ROOT = Path(__file__).parents[1]


def data_of(work):
    from datasets import load_dataset

    return [load_dataset("parquet", data_files=f"{work}/{name}.parquet", split="train") for name in ("pairs", "corpus")]


def prepare(data, work, queries, documents):
    """The pairs and the corpus as files, and the index of the corpus."""
    from datasets import Dataset, load_dataset

    corpus = load_dataset("parquet", data_files=str(data / "packages/corpus.parquet"), split="train")
    corpus = corpus.select(range(documents)) if documents else corpus
    rows = np.linspace(0, len(corpus) - 1, queries).astype(int)
    few = corpus.select(rows)
    asked = [" ".join(text.split()[:6]) or name for text, name in zip(few["text"], few["_id"], strict=True)]
    Dataset.from_dict({"query": asked, "positive_ids": [[name] for name in few["_id"]]}).to_parquet(
        work / "pairs.parquet"
    )
    corpus.to_parquet(work / "corpus.parquet")
    start = time.perf_counter()
    run(work, "base", "index")
    (work / "prepared.json").write_text(json.dumps({"index_seconds": time.perf_counter() - start}))


def task(work, cache, what, *arguments):
    """Runs in a process of its own."""
    from datasets import disable_progress_bars

    from hf_hardneg import HardNegatives, mine
    from hf_hardneg.engines import shards

    disable_progress_bars()
    if what == "merge":
        print(digest_of(shards.merge(f"{cache}/parts")))
        return
    pairs, corpus = data_of(work)
    if what == "index":
        HardNegatives(corpus, "bm25", cache_dir=cache)
    elif what in ON:
        ON[what](pairs, corpus, {"workers": 2, "cache_dir": cache, "confirm_cost": True})
    elif what == "mine":
        print(digest_of(mine(pairs, corpus, "bm25", num_proc=2, cache_dir=cache, confirm_cost=True)))
    else:
        place = {"shard": arguments[0], "out": f"{cache}/parts", "cache_dir": cache}
        shards.mine(pairs, corpus, "bm25", confirm_cost=True, **place)


def on_ray(pairs, corpus, how):
    import ray

    from hf_hardneg.engines.ray import mine

    start = time.perf_counter()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    rows = ray.data.from_arrow(pairs.data.table).materialize()
    up = time.perf_counter() - start
    print(digest_of(mine(rows, corpus, "bm25", **how)), up)


def on_spark(pairs, corpus, how):
    from pyspark.sql import SparkSession

    from hf_hardneg.engines.spark import mine

    os.environ["PYSPARK_PYTHON"] = sys.executable
    start = time.perf_counter()
    said = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.log.level": "ERROR"}
    said["spark.ui.showConsoleProgress"] = "false"
    spark = SparkSession.builder.master("local[2]").config(map=said).getOrCreate()
    rows = spark.createDataFrame(pairs.data.table.combine_chunks()).cache()
    rows.count()
    up = time.perf_counter() - start
    print(digest_of(mine(rows, corpus, "bm25", **how)), up)
    spark.stop()


ON = {"ray": on_ray, "spark": on_spark}
WORKERS = {"ray": b"ray::_Actor", "spark": b"pyspark.daemon"}
"""What the command line of a worker has in it."""


def digest_of(rows):
    """Of every column, whatever its chunks."""
    import pyarrow as pa

    digest = blake2b(digest_size=16)
    for name in rows.column_names:
        for table in rows.with_format("arrow", columns=[name]).iter(10_000):
            sink, plain = io.BytesIO(), table.replace_schema_metadata(None).combine_chunks()
            with pa.ipc.new_stream(sink, plain.schema) as writer:
                writer.write_table(plain)
            digest.update(sink.getbuffer())
    return digest.hexdigest()


def started(work, cache, what, *arguments, core=None):
    pin = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pin, sys.executable, "-W", "ignore", "-c", TASK, str(work), str(work / cache), what, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(work / "datasets")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def run(work, cache, what, *arguments):
    """The output of a process, and the most private memory that it or a worker of it held."""
    return watched([started(work, cache, what, *arguments)])


def watched(processes, word=b""):
    most = 0
    while any(process.poll() is None for process in processes):
        pids = [pid for process in processes for pid in family(process.pid) if word in command_of(pid)]
        most = max([most, *map(private, pids)])
        time.sleep(0.2)
    if any(process.returncode for process in processes):
        raise SystemExit("a process failed")
    return [process.stdout.read().strip() for process in processes], most


def family(pid):
    try:
        children = [
            each for task in Path(f"/proc/{pid}/task").iterdir() for each in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return [pid, *(each for child in children for each in family(int(child)))]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def private(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))


def by_mine(work, cache):
    (digest,), most = run(work, cache, "mine")
    return digest, most


def by_shards(work, cache):
    cores = sorted(os.sched_getaffinity(0))[:2]
    _, most = watched([started(work, cache, "shard", f"{k + 1}/2", core=core) for k, core in enumerate(cores)])
    (digest,), merging = run(work, cache, "merge")
    return digest, max(most, merging)


def on(engine):
    """What mines on an engine in a process of its own; of the seconds it says itself which are not to be counted."""

    def mined(work, cache):
        (said,), most = watched([started(work, cache, engine)], WORKERS[engine])
        digest, up = said.split()[-2:]
        return digest, most, float(up)

    return mined


ENGINES = {"mine": by_mine, "shards": by_shards, **{name: on(name) for name in ON}}
"""What mines all pairs, and returns a digest of the rows, the most private memory of a process, seconds to deduct."""


def side(work, engine):
    """The measurement of one side, from the folder where it is there."""
    kept = work / f"{engine}.json"
    if not kept.exists():
        shutil.rmtree(work / engine, ignore_errors=True)
        subprocess.run(["cp", "-al", str(work / "base"), str(work / engine)], check=True)
        load, start = [os.getloadavg()[0]], time.perf_counter()
        digest, most, *up = ENGINES[engine](work, engine)
        seconds = time.perf_counter() - start - sum(up)
        load.append(os.getloadavg()[0])
        kept.write_text(
            json.dumps({"seconds": seconds, "private_megabytes": most / 2**20, "load": load, "rows": digest})
        )
    return json.loads(kept.read_text())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--engine", choices=[name for name in ENGINES if name != "mine"], default="shards")
    parser.add_argument("--queries", type=int, default=200_000)
    parser.add_argument("--documents", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "prepared.json").exists():
        prepare(options.data, work, options.queries, options.documents)
    sides = {name: side(work, name) for name in ("mine", options.engine)}
    result = json.loads(options.json.read_text()) if options.json.exists() else {}
    pairs, corpus = data_of(work)
    result[options.engine] = {
        "queries": len(pairs),
        "documents": len(corpus),
        **sides,
        "ratio": sides[options.engine]["seconds"] / sides["mine"]["seconds"],
        "rows_equal": sides[options.engine]["rows"] == sides["mine"]["rows"],
    }
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result[options.engine], indent=2))


if __name__ == "__main__":
    main()
