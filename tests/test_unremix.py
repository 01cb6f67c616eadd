import numpy as np
import pytest

from hf_hardneg.unremix import representativeness, uncertainty

QUERIES = np.array([[1.0, 0.0], [0.0, 1.0]])
DOCUMENTS = np.array([[0.96, 0.28], [0.6, 0.8], [0.8, 0.6]])


def test_the_published_signals():
    found = uncertainty(DOCUMENTS, QUERIES, temperature=0.5)
    assert found == pytest.approx([0.2888394055, 0.5675413538, 0.5675413538], rel=1e-8)
    found = representativeness(DOCUMENTS, np.array([0, 3]))
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


def test_groups_do_not_see_one_another():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(7, 3))
    found = representativeness(vectors, np.array([0, 4, 4, 5, 7]))
    for start, end in ((0, 4), (4, 5), (5, 7)):
        for row in range(start, end):
            others = [np.linalg.norm(vectors[row] - vectors[k]) for k in range(start, end) if k != row]
            assert found[row] == pytest.approx(np.mean(others) if others else 0.0, rel=1e-12)
