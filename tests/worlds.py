"""Small corpora with every trap in them, and vectors that depend on the text alone."""

import re
from collections import Counter
from hashlib import blake2b

import numpy as np
from datasets import Dataset

from hf_hardneg import RankWindow, RankZone, RelativeMargin, SemiHard, Strategy
from hf_hardneg.filters import AbsoluteMargin, Denoised, Disagreement, NearDuplicate
from hf_hardneg.retrievers import BM25, Dense, Hybrid, LateInteraction, Random, Sparse
from hf_hardneg.samplers import (
    DistanceWeighted,
    Importance,
    Mixture,
    SimANS,
    Stratified,
    TopicNegatives,
    Uniform,
    UnReMix,
)
from hf_hardneg.strategies import STRATEGIES, resolve

WORDS = [f"word{number}" for number in range(24)]
WIDTH = 16


def encode(texts):
    """Bag of words in `WIDTH` dimensions: texts that share words are near, and nothing else matters."""
    vectors = np.zeros((len(texts), WIDTH), np.float32)
    for row, text in enumerate(texts):
        for word in re.findall(r"\w+", text.lower()):
            seed = int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "big")
            vectors[row] += np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
    return vectors


encode.digest = "bag of words"


def weigh(texts):
    """A {word: weight} for each text; a weight depends on the word, and on how often it is there."""
    counts = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    weights = {word: (blake2b(word.encode()).digest()[0] + 1) / 100 for each in counts for word in each}
    return [{word: weights[word] * count**0.5 for word, count in each.items()} for each in counts]


weigh.digest = "weighted words"


def split(texts):
    """A vector for each word of each text, of unit length."""
    return [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in map(_of_words, texts)]


def _of_words(text):
    return encode(re.findall(r"\w+", text.lower()) or ["nothing"])


split.digest = "words"


def shared_words(queries, documents):
    """Logits that grow with the words a query and a document share."""
    words = ([set(text.lower().split()) for text in texts] for texts in (queries, documents))
    shares = [len(query & document) / len(query) for query, document in zip(*words, strict=True)]
    return np.array(shares) * 8 - 4.5


shared_words.kind, shared_words.digest = "ce_logit", "shared words"

ENCODERS = {"dense": encode, "sparse": weigh, "tokens": split}
"""By which vectors a strategy takes."""

SMALL = {
    "bm25": Strategy([BM25(20)]),
    "dense": STRATEGIES["dense"],
    "splade": Strategy([Sparse(20)]),
    "colbert": Strategy([LateInteraction(20)]),
    "margin": Strategy([Dense()], [RankWindow(1, 20), AbsoluteMargin(0.02)]),
    "positive_aware": Strategy([Dense()], [RelativeMargin(0.02)]),
    "semi_hard": Strategy([Dense(20)], [SemiHard(0.5)]),
    "rank_zone": Strategy([Dense(20)], [], RankZone(2, 12)),
    "st": Strategy([Dense()], [RelativeMargin(0.02), RankWindow(1, 20, "survivors")]),
    "simans": Strategy([Dense(20)], [], SimANS(score_scale="auto")),
    "importance": Strategy([Dense(20)], [], Importance(0.1)),
    "stratified": Strategy([Dense(20)], [], Stratified()),
    "distance_weighted": Strategy([Dense(20)], [], DistanceWeighted(dim="intrinsic")),
    "unremix": Strategy([Dense(20)], [], UnReMix()),
    "topic_negatives": Strategy([Dense(20)], [], TopicNegatives(1)),
    "ance_offline": Strategy([Dense(20)], [], Uniform(20)),
    "hybrid": Strategy([BM25(20), Dense(20)]),
    "denoised": Strategy([BM25(20)], [Denoised(shared_words, scored_depth=10)]),
    "random": Strategy([Random()]),
    "quotas": Strategy([Hybrid([BM25(20), Dense(20), Random()], quotas=(2, 2, 1))]),
    "mixture": Strategy([BM25(20)], [Denoised(shared_words, scored_depth=10)], Mixture(0.4, Stratified())),
    "safe bm25": resolve("bm25"),
    "safe dense": resolve("dense"),
    "safe hybrid": resolve("hybrid"),
    "safe splade": resolve("splade"),
    "safe colbert": resolve("colbert"),
    "bm25 and sparse vectors": Strategy([BM25(20), Sparse(20)]),
    "bm25 where sparse vectors disagree": Strategy([BM25(20)], [Disagreement(0.8, 10, view=Sparse())], Uniform()),
    "bm25 where vectors disagree": Strategy([BM25(20)], [Disagreement(0.8, 10), NearDuplicate(0.5)], Uniform()),
    "bm25+positive_aware+rank_zone": Strategy([BM25(20)], [RelativeMargin(0.0)], RankZone(1, 15)),
}
"""Every strategy of the table, at the scale of a small corpus."""


def world(seed, documents=60, queries=12):
    """A corpus with duplicates and near-duplicates, and pairs with positives spread over rows, given in both ways."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 7))) for _ in range(documents)]
    texts[documents // 2] = texts[0]
    texts[documents // 2 + 1] = f"  {texts[1].upper()} "
    corpus = Dataset.from_dict({"_id": [f"d{i}" for i in range(documents)], "text": texts})
    rows = []
    for number in range(queries):
        positives = rng.choice(documents, 3, replace=False)
        query = texts[5] if number == 0 else " ".join([*texts[positives[0]].split()[:3], rng.choice(WORDS)])
        for positive in positives:
            as_text = rng.random() < 0.5
            rows.append(
                {
                    "query_id": f"q{number}",
                    "query": query,
                    "positive": [texts[positive]] if as_text else [f"{texts[positive]} outside"],
                    "positive_ids": [f"d{positive}"],
                }
            )
    return Dataset.from_list(rows), corpus


def needed(strategy, **options):
    """Options with the encoder, where a strategy looks at one."""
    resolved = resolve(strategy)
    encoder = ENCODERS[resolved.takes]
    return {"encoder": encoder, **options} if resolved.uses_vectors else options
