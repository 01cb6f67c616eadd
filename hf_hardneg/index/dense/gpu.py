"""Search on a GPU: exact nearest neighbours by inner product in torch, wherever it computes, and FAISS' own indexes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from hf_hardneg.errors import ConfigError, MissingExtraError
from hf_hardneg.index.dense.exact import score_pairs
from hf_hardneg.index.hits import Hits, best_first
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.process import in_child

Device = Literal["auto", "cpu", "cuda"]
BLOCK = 1 << 16
QUERIES = 512
SLACK = 32
FAISS_LIMIT = 2048
"""The most neighbours, and the most lists, that FAISS searches on a GPU for a query."""

FAISS_CLASSES = ("IndexFlat", "IndexIVFFlat", "IndexIVFPQ", "IndexIVFScalarQuantizer")
"""What FAISS searches on a GPU, also behind a transform of the vectors."""


def gpu(device: Device = "auto") -> str | None:
    """The GPU to search on; by default none in a worker, which cannot use its parent's.

    Raises:
        ConfigError: `"cuda"` was asked for in a worker.
    """
    if device == "cpu":
        return None
    import torch

    if device == "cuda" and in_child():
        raise ConfigError("device='cuda' in a worker process, which cannot use CUDA. Use num_proc=1, or device='auto'.")
    return "cuda" if torch.cuda.is_available() and not in_child() else None


def check_device(device: Device, factory: str | None = None) -> None:
    """Raise if a search cannot run where it shall.

    Args:
        device (`str`): a `Device`.
        factory (`str`, *optional*): of a FAISS index to search there.

    Raises:
        ConfigError: there is no such device.
        MissingExtraError: FAISS is installed without its part for GPUs.
    """
    if device != "cuda":
        return
    if factory is not None:
        needed_by = f"device='cuda' with factory={factory!r}"
        if not hasattr(require("faiss", extra="gpu", needed_by=needed_by), "StandardGpuResources"):
            raise MissingExtraError(
                f"{needed_by} needs FAISS with its part for GPUs; the one installed is for CPUs. Run `pip uninstall "
                "faiss-cpu`, then `pip install 'hf-hardneg[gpu]'`, or give factory='exact', which torch searches."
            )
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            "device='cuda' was given and torch finds no GPU; 'auto' takes one where there is one. Use device='auto', "
            "or install a torch for CUDA on a machine with a GPU."
        )


def check_faiss_class(index: Any, factory: str) -> None:
    """Raise if FAISS has no such index on a GPU.

    Raises:
        ConfigError: naming those it has.
    """
    import faiss

    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    if type(inner).__name__.removesuffix("IP") not in FAISS_CLASSES:
        raise ConfigError(
            f"factory={factory!r} is an {type(inner).__name__}, which FAISS does not search on a GPU; it searches "
            f"{', '.join(FAISS_CLASSES)}. Give one of those, such as 'IVF1024,Flat', or device='auto'."
        )


def faiss_on_gpu(index: Any) -> Any:
    """A copy of a FAISS index in the memory of the first GPU."""
    import faiss

    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


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
    hits = [Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for start in range(0, len(vectors), QUERIES):
        part = np.arange(start, min(start + QUERIES, len(vectors)))
        docs = _likeliest(device, vectors[part], tensor, min(int(k[part].max()) + SLACK, len(stored)))
        query = np.repeat(part, docs.shape[1])
        hits.append(Hits(query, docs.ravel(), score_pairs(vectors, stored, query, docs.ravel())))
    return best_first(Hits(*(np.concatenate(parts) for parts in zip(*hits, strict=True))), k)


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
