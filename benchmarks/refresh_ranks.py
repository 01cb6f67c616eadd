"""How much faster do two ranks refresh negatives than one, with one thread each?

    python -m benchmarks.refresh_ranks --model MODEL [--documents 3072]

Starts itself by torchrun, with one rank and with two in turn, on the documentation of Python's standard library. Ranks
share out whole shards of 512 documents, so give an even number of those. Timed: the encoding of the corpus, and the
whole refresh from the live weights to the generation that serves, by the clock, and in processor time of the rank that
had most. The best of the rounds counts, since each is slowed only by what else the machine does: where that is much,
the clock says little. Generations and indexes must be the same to the byte.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROUNDS = 2
LENGTH = 128
CLOCKS = ("the clock", "processor time")


def rank(options):
    """What each rank runs; it writes the seconds it took."""
    import accelerate
    import datasets
    from transformers import AutoModel, AutoTokenizer

    from examples.train_accelerate import data
    from hf_hardneg.models.embeddings import CorpusVectors
    from hf_hardneg.training import LiveModel, Refresher, Schedule

    datasets.disable_progress_bars()
    state = accelerate.PartialState(cpu=True)
    with state.main_process_first():
        train, _, corpus = data(options.documents)
    model = AutoModel.from_pretrained(options.model, add_pooling_layer=False)
    live = LiveModel(model=model, tokenizer=AutoTokenizer.from_pretrained(options.model), max_length=LENGTH)
    refresher = Refresher(train, corpus, encoder=live, directory=options.directory, on_shortage="pad_random")
    encoding, encode = [], CorpusVectors._encode

    def clocks():
        return np.array([time.perf_counter(), time.process_time()])

    def timed(vectors):
        started = clocks()
        encode(vectors)
        encoding.append(clocks() - started)

    CorpusVectors._encode = timed
    state.wait_for_everyone()
    started = clocks()
    refresher.at(0, Schedule(every=10**6, first=0))
    parts = {"encode": encoding[0], "refresh": clocks() - started}
    seconds = {f"{part} by {clock}": s for part, both in parts.items() for clock, s in zip(CLOCKS, both, strict=True)}
    made = {"seconds": seconds, "counts": {"documents": len(corpus), "queries": len(train)}}
    Path(options.directory, f"timed-{state.process_index}.json").write_text(json.dumps(made))


def launched(world, options, directory):
    """What a launch with so many ranks wrote: the slowest rank's times, counts, the bytes of negatives and index."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world), "-m"]
    given = ["--model", options.model, "--documents", str(options.documents), "--directory", directory]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, "benchmarks.refresh_ranks", *given], env=environment, check=True)
    made = [Path(directory, name).read_bytes() for name in ("gen-000001/negatives.npy", "index-000001/index.faiss")]
    ranks = [json.loads(path.read_text()) for path in Path(directory).glob("timed-*.json")]
    seconds = {name: max(one["seconds"][name] for one in ranks) for name in ranks[0]["seconds"]}
    return seconds, ranks[0]["counts"], made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--documents", type=int, default=3072)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.directory:
        return rank(options)
    rounds, bytes_made = {1: [], 2: []}, []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            for world, found in rounds.items():
                seconds, counts, made = launched(world, options, f"{folder}/{world}-{number}")
                found.append(seconds)
                bytes_made.append(made)
    best = {w: {name: min(one[name] for one in found) for name in found[0]} for w, found in rounds.items()}
    result = {
        **counts,
        "model": Path(options.model).name,
        "threads_of_each_rank": 1,
        "seconds_of_rounds": {f"{world} ranks": found for world, found in rounds.items()},
        "ratio": {name: round(best[1][name] / best[2][name], 3) for name in best[1]},
        "same_bytes": all(made == bytes_made[0] for made in bytes_made),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
