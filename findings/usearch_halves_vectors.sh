#!/usr/bin/env bash
# One would guess that usearch.Index(ndim=d) keeps the float32 vectors that it is given, as FAISS and hnswlib do, so that
# index.get() gives them back.
# What happens: where the processor speeds up bfloat16 or float16, vectors are kept in that without a word, by default. What
# comes back is off by up to half a percent, and the same program writes another file on another machine. dtype="f32"
# keeps them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet usearch==2.26.6 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import usearch
from usearch.index import Index

vectors = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
keys = np.arange(len(vectors))
off = {}
print("usearch", usearch.__version__)
for dtype in (None, "f32"):
    index = Index(ndim=64, metric="l2sq", dtype=dtype)
    index.add(keys, vectors)
    back = np.stack(index.get(keys, "f32"))
    off[dtype] = float(np.abs(back - vectors).max())
    print("dtype", dtype, "is kept as", index.dtype.name, "and comes back", off[dtype], "off at most")
assert off["f32"] == 0
assert off[None] > 1e-4, "the default keeps float32 now"
PYTHON
