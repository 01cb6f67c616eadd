#!/usr/bin/env bash
# One would guess that faiss.index_factory(d, "HNSW16_PQ8", METRIC_INNER_PRODUCT) searches by inner product, as it does
# for "HNSW16" and "HNSW16_SQ8".
# What happens: the metric is dropped without a word. The index is of L2, so its scores are distances of which the
# smallest are best, and over vectors of several lengths it finds other neighbours.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import faiss
import numpy as np

rng = np.random.default_rng(0)
vectors = (rng.normal(size=(2000, 16)) * rng.uniform(0.2, 3, (2000, 1))).astype("float32")
queries = rng.normal(size=(50, 16)).astype("float32")
truth = np.argmax(queries @ vectors.T, axis=1)
asked, metrics = faiss.METRIC_INNER_PRODUCT, {}
print("faiss", faiss.__version__)
for factory in ("HNSW16", "HNSW16_SQ8", "HNSW16_PQ8"):
    index = faiss.index_factory(16, factory, asked)
    index.train(vectors)
    index.add(vectors)
    scores, found = index.search(queries, 10)
    metrics[factory] = index.metric_type
    share = np.mean([row in hits for row, hits in zip(truth, found)])
    order = "falling" if (np.diff(scores) <= 0).all() else "rising"
    print(f"{factory:11} asked for metric {asked}, has {index.metric_type}; scores {order}; best found {share:.0%}")
assert metrics == {"HNSW16": asked, "HNSW16_SQ8": asked, "HNSW16_PQ8": faiss.METRIC_L2}, "the metric is kept now"
PYTHON
