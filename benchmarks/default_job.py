"""Where does the time of the default job go, `mine(pairs, corpus, "bm25")`, here and in another checkout?

    python benchmarks/default_job.py CORPUS.parquet CHECKOUT [--queries 60000] [--workers 2] [--busy] [--cache DIR]

Queries are other documents cut to 7 words, 5 negatives each; the index is built before. Each side has a process of its
own, and they take turns. Of each step stand the seconds on the clock and those of the processors, workers included;
`same_rows` says whether both sides mined the same. `--busy` says in the result that other programs ran.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SIDE = """
import hashlib, json, os, resource, shutil, sys, time
from pathlib import Path
import numpy as np
from datasets import Dataset, disable_progress_bars, load_dataset
from hf_hardneg import HardNegatives, mine
from hf_hardneg.store import directories

STEPS = {"positives": "known positives", "candidates": "search", "signals": "rescoring", "negatives": "selection"}
DIGESTED = ("negative_ids", "negative_scores", "positive_scores", "mining")

def seconds():
    whole = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([time.perf_counter(), sum(used.ru_utime + used.ru_stime for used in whole)])

def timed(obtain):
    def run(cache, kind, *arguments, **options):
        before = seconds()
        result = obtain(cache, kind, *arguments, **options)
        if kind.name in STEPS:
            spent[STEPS[kind.name]] = spent.get(STEPS[kind.name], 0) + seconds() - before
        return result
    return run

disable_progress_bars()
directories.obtain = timed(directories.obtain)
dataset, cache = load_dataset("parquet", data_files=sys.argv[1], split="train"), Path(sys.argv[2])
rows = np.arange(0, len(dataset), len(dataset) // int(sys.argv[3]))[: int(sys.argv[3])]
part = dataset.select(rows)
texts = [" ".join(f"{title} {text}".split()[:7]) for title, text in zip(part["title"][:], part["text"][:])]
pairs = Dataset.from_dict({"query": texts, "positive_ids": [[_id] for _id in part["_id"][:]]})
spent = {}
HardNegatives(dataset, "bm25", cache_dir=str(cache))
mine(pairs.select(range(1000)), dataset, "bm25", cache_dir=str(cache), num_proc=int(sys.argv[4]))
print(flush=True)
for _ in sys.stdin:
    for kind in STEPS:
        for folder in cache.rglob(f"{kind}-*"):
            shutil.rmtree(folder, ignore_errors=True)
    spent, before = {}, seconds()
    mined = mine(pairs, dataset, "bm25", num_negatives=5, cache_dir=str(cache), num_proc=int(sys.argv[4]))
    whole = seconds() - before
    spent["plan, loading and the rest"] = whole - sum(spent.values())
    spent["whole"] = whole
    rows = hashlib.blake2b(json.dumps([mined[name][:] for name in DIGESTED]).encode(), digest_size=8).hexdigest()
    figures = {step: dict(zip(("wall", "cpu"), both.tolist())) for step, both in spent.items()}
    print(json.dumps({"rows": rows, "load": os.getloadavg()[0], "steps": figures}), flush=True)
"""


class Side:
    """A process with one checkout's code that mines when it is asked."""

    def __init__(self, checkout, options, cache):
        environment = {**os.environ, "PYTHONPATH": str(checkout), "HF_DATASETS_CACHE": cache}
        how = [str(options.corpus.resolve()), cache, str(options.queries), str(options.workers)]
        command, pipe = [sys.executable, "-W", "ignore", "-c", SIDE, *how], subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, cwd=checkout, stdin=pipe, stdout=pipe, text=True)
        self.process.stdout.readline()

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def commit(checkout):
    return subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True).strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--queries", type=int, default=60_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--cache", help="a folder in which the indexes of both sides stay")
    options = parser.parse_args()
    checkouts = {"here": Path(__file__).parents[1], "other": options.checkout}
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or temporary
        sides = {name: Side(checkout.resolve(), options, f"{cache}/{name}") for name, checkout in checkouts.items()}
        rounds = [{name: side.ask() for name, side in sides.items()} for _ in range(options.rounds)]
        for side in sides.values():
            side.end()
    steps = rounds[0]["here"]["steps"]
    best = {
        step: {
            name: {clock: min(told[name]["steps"][step][clock] for told in rounds) for clock in ("wall", "cpu")}
            for name in sides
        }
        for step in steps
    }
    result = {
        "machine": "busy" if options.busy else "quiet",
        "commits": {name: commit(checkout) for name, checkout in checkouts.items()},
        "queries": options.queries,
        "workers": options.workers,
        "same_rows": len({told[name]["rows"] for told in rounds for name in sides}) == 1,
        "seconds": best,
        "other_to_here": {
            step: {clock: sides["other"][clock] / sides["here"][clock] for clock in ("wall", "cpu")}
            for step, sides in best.items()
        },
        "rescoring_to_search": {
            name: best["rescoring"][name]["cpu"] / best["search"][name]["cpu"] for name in ("here", "other")
        },
        "rounds": rounds,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in result if name != "rounds"}, indent=2))


if __name__ == "__main__":
    main()
