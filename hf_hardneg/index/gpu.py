"""Exact nearest neighbours by inner product in torch, on a GPU or wherever torch computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hf_hardneg.index.exact import score_pairs
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.process import in_child

BLOCK = 1 << 16
QUERIES = 512
SLACK = 32


def gpu() -> str | None:
    """The GPU to search on; none in a worker, which cannot use its parent's."""
    import torch

    return "cuda" if torch.cuda.is_available() and not in_child() else None


def placed(stored: np.ndarray, device: str) -> Any:
    """Stored vectors as a tensor: on the device if they fill at most half of its free memory, else where they are."""
    import torch

    tensor = torch.from_numpy(stored)
    fits = torch.device(device).type == "cuda" and 2 * stored.nbytes <= torch.cuda.mem_get_info(device)[0]
    return tensor.to(device) if fits else tensor


def nearest_on(device: str, vectors: np.ndarray, stored: np.ndarray, tensor: Any, k: np.ndarray) -> Hits:
    """The `k` documents of the largest inner product with each query, best first, ties in corpus order.

    Float32 products choose `k` documents and 32 more, for rounding and ties; these are scored as `nearest` scores.

    Args:
        device (`str`): where to multiply, such as `"cuda"`.
        vectors (`np.ndarray`): (n, d) float32 queries.
        stored (`np.ndarray`): (documents, d) float32.
        tensor (`torch.Tensor`): the same, as `placed`.
        k (`np.ndarray`): (n,) int64, how many, for each query.
    """
    found = [Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for start in range(0, len(vectors), QUERIES):
        part = np.arange(start, min(start + QUERIES, len(vectors)))
        docs = _likeliest(device, vectors[part], tensor, min(int(k[part].max()) + SLACK, len(stored)))
        query = np.repeat(part, docs.shape[1])
        found.append(Hits(query, docs.ravel(), score_pairs(vectors, stored, query, docs.ravel())))
    return best_first(Hits(*(np.concatenate(parts) for parts in zip(*found, strict=True))), k)


def _likeliest(device: str, vectors: np.ndarray, tensor: Any, depth: int) -> np.ndarray:
    """The `depth` documents of the largest float32 products with each query, (n, depth) int64, in no order."""
    import torch

    queries = torch.from_numpy(vectors).to(device)
    scores = torch.empty((len(queries), 0), device=device)
    docs = torch.empty((len(queries), 0), dtype=torch.int64, device=device)
    with _full_precision():
        for start in range(0, len(tensor), BLOCK):
            block = queries @ tensor[start : start + BLOCK].to(device).T
            best, places = block.topk(min(depth, block.shape[1]))
            scores, docs = torch.cat([scores, best], 1), torch.cat([docs, places + start], 1)
            scores, places = scores.topk(min(depth, scores.shape[1]))
            docs = docs.gather(1, places)
    return docs.cpu().numpy()


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Products of float32 in float32, not TF32, whatever the process has set."""
    import torch

    matmul: Any = torch.backends.cuda.matmul
    name, full = ("fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else ("allow_tf32", False)
    before = getattr(matmul, name)
    setattr(matmul, name, full)
    try:
        yield
    finally:
        setattr(matmul, name, before)
