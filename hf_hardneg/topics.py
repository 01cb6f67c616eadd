"""Topics: clusters of query vectors."""

from __future__ import annotations

import numpy as np

from hf_hardneg.index.dense import load_faiss

BLOCK = 8192
ROUNDS = 25
PER_TOPIC = 256
"""Queries that k-means learns from, for each topic; FAISS takes no more."""


def centroids_of(vectors: np.ndarray, topics: int, *, seed: int, unit: bool) -> np.ndarray:
    """Centroids of a k-means, (topics, d) float32.

    Args:
        vectors (`np.ndarray`): (n, d) float32, at least as many as topics.
        topics (`int`): how many.
        seed (`int`): of the first centroids.
        unit (`bool`): whether centroids are of unit length, as the vectors are.
    """
    faiss = load_faiss("topics of queries")
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": PER_TOPIC}
    kmeans = faiss.Kmeans(vectors.shape[1], topics, niter=ROUNDS, seed=seed, spherical=unit, **limits)
    kmeans.train(np.ascontiguousarray(vectors, np.float32))
    return kmeans.centroids


def topic_of(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each vector, (n,) int64; of equally near ones the first."""
    centers = centroids.astype(np.float64)
    nearest = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), BLOCK):
        products = vectors[start : start + BLOCK].astype(np.float64) @ centers.T
        nearest[start : start + BLOCK] = ((centers**2).sum(axis=1) - 2 * products).argmin(axis=1)
    return nearest
