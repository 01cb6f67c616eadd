"""Hard vectors for real short texts: hashed character n-grams projected to a few hundred dimensions.

The benchmarks of dense search use them where encoding with a model would take hours: neighbours are texts that look
alike, and no direction holds much of the variance, so nothing can be cut away cheaply.
"""

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

FEATURES = 1 << 16
BLOCK = 20_000


def embed(texts, width=384, seed=0):
    """Unit vectors of texts, (n, width) float32."""
    hashed = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=FEATURES, norm="l2")
    directions = np.random.default_rng(seed).standard_normal((FEATURES, width), dtype=np.float32)
    vectors = np.empty((len(texts), width), np.float32)
    for start in range(0, len(texts), BLOCK):
        block = hashed.transform(texts[start : start + BLOCK]).astype(np.float32) @ directions
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        vectors[start : start + BLOCK] = block / np.where(lengths > 0, lengths, 1)
    return vectors


def shortened(text):
    """A query for a text: every second word of it."""
    words = text.split()
    return " ".join(words[::2]) if len(words) > 1 else text
