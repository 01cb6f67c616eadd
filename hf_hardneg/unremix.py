"""What UnReMix (arXiv 2206.01197) knows of a candidate besides its score: uncertainty and representativeness."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hf_hardneg.diagnostics import squared_distances

BLOCK = 8192


def uncertainty(documents: np.ndarray, references: np.ndarray, *, temperature: float) -> np.ndarray:
    """Length of the gradient of the last layer, were each document labelled with its likeliest query, (n,) float64.

    `||P - onehot(argmax P)|| * ||d||` with `P = softmax(d . q / temperature)` over reference queries.

    Args:
        documents (`np.ndarray`): (n, d).
        references (`np.ndarray`): (r, d), at least 2 queries, the same ones for every batch.
        temperature (`float`): above 0.
    """
    queries = references.astype(np.float64)
    lengths = np.empty(len(documents))
    for start in range(0, len(documents), BLOCK):
        block = documents[start : start + BLOCK].astype(np.float64)
        logits = block @ queries.T / temperature
        residual = np.exp(logits - logits.max(axis=1, keepdims=True))
        residual /= residual.sum(axis=1, keepdims=True)
        residual[np.arange(len(block)), residual.argmax(axis=1)] -= 1
        lengths[start : start + BLOCK] = np.linalg.norm(residual, axis=1) * np.linalg.norm(block, axis=1)
    return lengths


def representativeness(documents: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Mean distance of each document to the others of its group, (n,) float64; 0 where it is alone.

    Args:
        documents (`np.ndarray`): (n, d), sorted by group.
        offsets (`np.ndarray`): (groups + 1,) where groups begin and end.
    """
    means = np.zeros(len(documents))
    for start, end in pairwise(offsets):
        if end - start > 1:
            distances = np.sqrt(squared_distances(documents[start:end]))
            means[start:end] = distances.sum(axis=1) / (end - start - 1)
    return means
