import numpy as np
import pytest

from hf_hardneg import BM25, Dense, HardNegatives, Strategy
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.dense.dense_index import normalized
from hf_hardneg.samplers import UnReMix
from hf_hardneg.signals.representativeness import representativeness, uncertainty
from hf_hardneg.text.keys import text_keys
from tests.worlds import encode, world

QUERIES = np.array([[1.0, 0.0], [0.0, 1.0]])
DOCUMENTS = np.array([[0.96, 0.28], [0.6, 0.8], [0.8, 0.6]])


def test_the_published_signals():
    found = uncertainty(DOCUMENTS, QUERIES, temperature=0.5)
    assert found == pytest.approx([0.2888394055, 0.5675413538, 0.5675413538], rel=1e-8)
    found = representativeness(DOCUMENTS)
    assert found == pytest.approx([0.4951132042, 0.4576491223, 0.3203067944], rel=1e-8)


def test_uncertainty_is_the_length_of_the_last_layers_gradient():
    """By finite differences of the cross-entropy over logits `W d`, whose weights `W` are the reference queries."""
    rng = np.random.default_rng(0)
    document, queries, t, step = rng.normal(size=5), rng.normal(size=(4, 5)), 0.7, 1e-6

    def loss(weights, label):
        logits = weights @ document / t
        return np.log(np.exp(logits).sum()) - logits[label]

    label = int((queries @ document).argmax())
    slopes = np.empty_like(queries)
    for place in np.ndindex(queries.shape):
        moved = np.zeros_like(queries)
        moved[place] = step
        slopes[place] = (loss(queries + moved, label) - loss(queries - moved, label)) / (2 * step)
    found = uncertainty(document[None], queries, temperature=t)[0]
    assert found / t == pytest.approx(np.linalg.norm(slopes), rel=1e-6)


def test_a_document_alone_has_no_others():
    assert representativeness(DOCUMENTS[:1]).tolist() == [0.0] and len(representativeness(DOCUMENTS[:0])) == 0


@pytest.mark.parametrize("retrievers", [[Dense(15)], [BM25(15)], [BM25(15), Dense(15)]])
def test_signals_of_mined_candidates(retrievers):
    """Against the formulas over whole matrices, on what each kind of retriever brings."""
    pairs, corpus = world(1)
    miner = HardNegatives(corpus, Strategy(retrievers, [], UnReMix()), encoder=encode, known_positives=[pairs])
    vectors = normalized(encode(corpus["text"])).astype(float)
    texts = sorted(set(pairs["query"]), key=lambda text: text_keys([text], "normalized")[0])
    references = normalized(encode(texts)).astype(float)
    rows = pairs.with_format("arrow")[:]
    queries = miner.retrieval.reader.read(dict(zip(rows.column_names, rows.columns, strict=True)))
    candidates = miner.rescoring.add(miner.retrieval.search(queries), queries).candidates
    softmax = np.exp(vectors @ references.T / 0.5)
    softmax /= softmax.sum(axis=1, keepdims=True)
    unclear = np.linalg.norm(softmax - (softmax == softmax.max(axis=1, keepdims=True)), axis=1)
    lengths = np.linalg.norm(vectors, axis=1)
    assert candidates.signals["uncertainty@0.5"] == pytest.approx((unclear * lengths)[candidates.doc], abs=1e-6)
    assert candidates.queries == len(pairs) and len(candidates) > 10 * len(pairs)
    for query in range(candidates.queries):
        own = vectors[candidates.doc[candidates.query == query]]
        distances = np.linalg.norm(own[:, None] - own, axis=2).sum(axis=1) / (len(own) - 1)
        assert candidates.signals["representativeness"][candidates.query == query] == pytest.approx(distances, abs=1e-6)


def test_words_alone_give_no_vectors():
    _, corpus = world(1)
    with pytest.raises(ConfigError, match="encoder"):
        HardNegatives(corpus, "bm25+unremix", safeguards=False)
