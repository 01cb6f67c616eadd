"""Retrieval within a step, against a brute-force search, and what it trains."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_hardneg import HardNegatives
from hf_hardneg.errors import ConfigError
from hf_hardneg.training import StepRetrieval, lambda_loss
from tests.worlds import WIDTH, world


def encode(texts):
    """Each text its own direction, so that no two have one score; repeated ones the same."""
    seeds = [list(" ".join(text.casefold().split()).encode()) for text in texts]
    return np.stack([np.random.default_rng(seed).normal(size=WIDTH) for seed in seeds]).astype(np.float32)


encode.digest = "a direction for each text"


def retrieval(pairs, corpus, **options):
    miner = HardNegatives(corpus, "dense", encoder=encode, known_positives=[pairs], safeguards=False)
    return StepRetrieval.of(miner, **options)


def slow(queries, pairs, corpus, topk):
    """The same by loops over all documents: (row, relevant) of each query."""

    def key(text):
        return " ".join(text.casefold().split())

    texts, ids = corpus["text"][:], corpus["_id"][:]
    vectors = encode(texts).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    positives = {}
    for row in pairs:
        mine = positives.setdefault(key(row["query"]), set())
        mine |= {key(text) for text in row["positive"]} | {key(texts[ids.index(one)]) for one in row["positive_ids"]}
    found = []
    for query, text in zip(queries, pairs["query"], strict=True):
        known, seen, listed = positives[key(text)], set(), []
        scores = vectors @ (query / np.linalg.norm(query))
        for doc in sorted(range(len(texts)), key=lambda doc: (-np.float32(scores[doc]), doc)):
            own = key(texts[doc])
            if own in seen or (own == key(text) and own not in known):
                continue
            seen.add(own)
            listed.append((texts[doc], own in known))
        listed = listed[:topk]
        if not any(label for _, label in listed):
            first = {key(one): one for one in reversed(texts)}
            listed += [(first[one], True) for one in known if one in first]
        found.append(listed)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("topk", [1, 3, 10, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_it_equals_a_loop_over_all_documents(seed, topk):
    pairs, corpus = world(seed)
    vectors = np.random.default_rng(seed).normal(size=(len(pairs), WIDTH))
    found = retrieval(pairs, corpus, neg_topk=topk)(torch.tensor(vectors), pairs[:])
    texts = corpus["text"][:]
    for row, expected in enumerate(slow(vectors, pairs, corpus, topk)):
        size = int(found.mask[row].sum())
        mine = [(texts[doc], bool(label)) for doc, label in zip(found.rows[row], found.relevant[row], strict=True)][
            :size
        ]
        assert mine[:topk] == expected[:topk] and set(mine) == set(expected)
        assert (found.rows[row, size:] == -1).all() and not found.mask[row, size:].any()
        assert not found.relevant[row, size:].any()


def test_vectors_are_those_of_the_documents():
    pairs, corpus = world(1)
    found = retrieval(pairs, corpus, neg_topk=5)(torch.tensor(encode(pairs["query"][:])), pairs[:])
    own = encode(corpus["text"][:])
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    np.testing.assert_allclose(found.documents[found.mask], own[found.rows[found.mask.numpy()]], atol=1e-6)
    assert found.documents.dtype == torch.float32 and not found.documents.requires_grad


@pytest.mark.filterwarnings("ignore:.* stand in the corpus:hf_hardneg.errors.HardNegWarning")
def test_a_batch_of_one_and_a_query_with_no_positive_in_the_corpus():
    corpus = Dataset.from_dict({"text": ["one two", "three four", "five six"]})
    pairs = Dataset.from_dict({"query": ["one"], "positive": ["elsewhere"]})
    found = retrieval(pairs, corpus)(torch.tensor(encode(["one"])), pairs[:])
    assert sorted(found.rows[0].tolist()) == [0, 1, 2]
    assert not found.relevant.any() and found.mask.all()


def test_it_trains_a_query_encoder():
    """A linear query encoder that begins at random finds the positives of frozen documents."""
    pairs, corpus = world(2, documents=40, queries=8)
    retrieve, features = retrieval(pairs, corpus, neg_topk=20), torch.tensor(encode(pairs["query"][:]))
    torch.manual_seed(0)
    model = torch.nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    ranks = []
    for _ in range(60):
        queries = torch.nn.functional.normalize(model(features), dim=-1)
        found = retrieve(queries, pairs[:])
        loss = lambda_loss(queries, found.documents, found.relevant, mask=found.mask, metric_cut=20)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ranks.append(found.relevant.float().argmax(1).float().mean().item())
    assert np.mean(ranks[-5:]) < 0.4 * np.mean(ranks[:5])


def test_a_miner_without_vectors_is_refused():
    pairs, corpus = world(1)
    with pytest.raises(ConfigError, match="has no vectors; only a miner with a dense retriever has"):
        StepRetrieval.of(HardNegatives(corpus, "bm25", known_positives=[pairs], safeguards=False))
    with pytest.raises(ConfigError, match=r"neg_topk=0\) .* a whole number of at least 1"):
        retrieval(pairs, corpus, neg_topk=0)
