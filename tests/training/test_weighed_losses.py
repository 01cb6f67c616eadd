"""Own scores as guide, several positives, both directions, weights of rows and negatives: loops and vectors."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import tensor

from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.training import CrossBatchLoss, Guide, Keys, cross_batch_loss
from tests.training.worlds import draw, vectors


@pytest.fixture(autouse=True)
def exact():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def close(found, expected):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=1e-8, atol=0)


IDENTITY = torch.eye(3).double()
OWN = tensor([[0.80, 0.92, 0.60], [0.30, 0.70, 0.79], [0.65, 0.10, 0.50]], dtype=torch.float64)
SHARP = CrossBatchLoss(similarity="dot", temperature=0.05)


@pytest.mark.parametrize(
    "guide, expected",
    [(None, 2.496662270090346), ("own_mask", 0.6571701764718737), ("own_weights", 1.8902542770454065)],
)
def test_vectors_of_own_scores(guide, expected):
    close(SHARP(IDENTITY, OWN.T, guide=guide), expected)


def test_presets_are_what_a_guide_does():
    mask = Guide(queries=IDENTITY, positives=OWN.T, margin=-0.1, similarity="dot")
    assert (~mask.forbids(IDENTITY, OWN.T)).int().tolist() == [[1, 0, 1], [1, 1, 1], [0, 1, 1]]
    close(SHARP(IDENTITY, OWN.T, guide=mask), 0.6571701764718737)
    weights = Guide(queries=IDENTITY, positives=OWN.T, margin=0.05, margin_strategy="relative", similarity="dot")
    halved = Guide(**{**vars(weights), "weight": 0.5})
    close(SHARP(IDENTITY, OWN.T, guide=halved), 1.8902542770454065)
    assert SHARP(IDENTITY, OWN.T, guide=weights) < SHARP(IDENTITY, OWN.T, guide=halved)


def test_own_scores_give_no_gradient_and_spare_the_positives():
    queries = IDENTITY.clone().requires_grad_()
    SHARP(queries, OWN.T, guide="own_mask").backward()
    own = queries.grad.clone()
    queries.grad = None
    fixed = Guide(queries=IDENTITY, positives=OWN.T, margin=-0.1, similarity="dot")
    SHARP(queries, OWN.T, guide=fixed).backward()
    close(own, queries.grad)


SEVERAL = {
    "queries": torch.ones(2, 1).double(),
    "positives": tensor([[0.9], [0.6]], dtype=torch.float64),
    "negatives": tensor([[[0.7], [0.5], [0.2]], [[0.0], [0.0], [0.0]]], dtype=torch.float64),
    "negative_mask": tensor([[True] * 3, [False] * 3]),
}
SEVERAL_KEYS = Keys(
    queries=tensor([1, 1]),
    positives=tensor([2, 3]),
    known=tensor([[2], [3]]),
    negatives=tensor([[4, 5, 6], [2, 2, 2]]),
)


@pytest.mark.parametrize(
    "multi_positive, expected",
    [("pairs", 1.4490437152953795), ("mask", 0.7779000273076266), ("sum", 0.13735254484244497)],
)
def test_vectors_of_several_positives(multi_positive, expected):
    loss = CrossBatchLoss(similarity="dot", temperature=0.1, multi_positive=multi_positive)
    close(loss(**SEVERAL, keys=SEVERAL_KEYS), expected)


def test_one_random_positive_is_drawn_alike_everywhere_and_each_as_often():
    loss = CrossBatchLoss(similarity="dot", temperature=0.1, multi_positive="random")
    single = [
        math.log(1 + sum(math.exp((negative - positive) / 0.1) for negative in (0.7, 0.5, 0.2)))
        for positive in (0.9, 0.6)
    ]
    drawn = Counter()
    for step in range(200):
        rows = loss.rows(**SEVERAL, keys=SEVERAL_KEYS, step=step)
        assert rows[0] == rows[1]
        place = int(np.argmin([abs(rows[0].item() - each) for each in single]))
        close(rows[0], single[place])
        drawn[place] += 1
    assert min(drawn.values()) > 70


@pytest.mark.parametrize("multi_positive", ["mask", "sum", "pairs", "random"])
@pytest.mark.parametrize("mode", ["in_batch_negatives", "hard_negatives", "all_negatives"])
def test_hardness_raises_negatives_alone(multi_positive, mode):
    """Rows of one query with two positives; row 0 has three negatives of its own, row 1 has the same in the batch."""
    loss = CrossBatchLoss(
        similarity="dot", temperature=0.1, multi_positive=multi_positive, hardness_mode=mode, hardness_strength=2.0
    )
    for row, losses in enumerate(loss.rows(**SEVERAL, keys=SEVERAL_KEYS)):
        is_hard = mode == "all_negatives" or (mode == "hard_negatives") == (row == 0)
        low = [negative / 0.1 + 2 * negative * is_hard for negative in (0.7, 0.5, 0.2)]
        high = [9.0, 6.0] if multi_positive != "mask" else [9.0 if row == 0 else 6.0]
        below = sum(map(math.exp, low))
        single = [math.log1p(below / math.exp(positive)) for positive in high]
        if multi_positive == "sum":
            single = [math.log1p(below / sum(map(math.exp, high)))]
        if multi_positive == "pairs":
            single = [math.log1p(sum(below / math.exp(positive) for positive in high))]
        assert min(abs(losses.item() - value) for value in single) < 1e-9


def test_pairs_without_a_negative_have_no_loss_and_a_finite_gradient():
    queries = torch.ones(1, 1, requires_grad=True)
    keys = Keys(queries=tensor([1]), positives=tensor([2]), known=tensor([[2]]), negatives=tensor([[2]]))
    loss = CrossBatchLoss(similarity="dot", multi_positive="pairs")
    value = loss(queries, torch.ones(1, 1), torch.ones(1, 1, 1), keys=keys)
    value.backward()
    assert value == 0 and queries.grad.isfinite().all()


@pytest.mark.parametrize("multi_positive", ["pairs", "random"])
def test_positives_of_texts_against_loops(multi_positive):
    for seed in range(5):
        rows, (query, document) = draw(9, seed), vectors(seed)
        loss = CrossBatchLoss(multi_positive=multi_positive)
        found = loss.rows(
            query[rows.query],
            document[rows.positive],
            document[rows.negative],
            negative_mask=rows.mask,
            keys=rows.keys(),
        )
        flat = [int(doc) for doc in rows.positive]
        flat += [int(doc) for doc, kept in zip(rows.negative.flatten(), rows.mask.flatten(), strict=True) if kept]
        for row, q in enumerate(rows.query):
            siblings = {int(p) for other, p in zip(rows.query, rows.positive, strict=True) if other == q}
            positives = siblings | set(rows.known[row].tolist())
            scores = (torch.nn.functional.normalize(document) @ query[q] / query[q].norm() / 0.05).tolist()
            high = [scores[doc] for doc in flat if doc in positives]
            low = [scores[doc] for doc in flat if doc not in positives]
            if multi_positive == "pairs":
                expected = [math.log(1 + sum(math.exp(n - p) for n in low for p in high))]
            else:
                expected = [math.log(1 + sum(math.exp(n - p) for n in low)) for p in high]
            assert min(abs(found[row].item() - each) for each in expected) < 1e-9 * max(1, max(expected))


def test_the_other_direction_is_that_of_sentence_transformers():
    queries, positives = (torch.randn(6, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    both = MultipleNegativesRankingLoss(
        None, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    expected = both.compute_loss_from_embeddings([queries, positives], None)
    close(cross_batch_loss(queries, positives, document_to_query=True), expected)


def test_a_positive_is_not_compared_with_other_queries_that_it_answers():
    queries, positives = (torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4))
    keys = Keys(queries=tensor([1, 2, 3]), positives=tensor([5, 6, 7]), known=tensor([[5], [5], [7]]))
    scores = torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(positives).T / 0.05
    forward = [[0, 1, 2], [1, 2], [0, 1, 2]]  # query 1 has document 0 as a positive too
    backward = [[0, 2], [0, 1, 2], [0, 1, 2]]
    expected = []
    for row in range(3):
        there = scores[row, forward[row]].logsumexp(0) - scores[row, row]
        back = scores[backward[row], row].logsumexp(0) - scores[row, row]
        expected.append((there + back) / 2)
    close(CrossBatchLoss(document_to_query=True).rows(queries, positives, keys=keys), torch.stack(expected))


def test_weights_of_rows_and_of_negatives():
    queries, positives, negatives = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 2, 4)
    loss = CrossBatchLoss()
    rows, weights = loss.rows(queries, positives, negatives), tensor([0.0, 1.0, 2.5])
    close(loss(queries, positives, negatives, weights=weights), (rows * weights).sum() / 3.5)
    close(loss(queries, positives, negatives, weights=torch.full((3,), 0.25)), rows.mean())
    assert loss(queries, positives, negatives, weights=torch.zeros(3)) == 0
    ones = torch.ones(3, 2)
    close(loss.rows(queries, positives, negatives, negative_weights=ones), rows)
    unit = torch.nn.functional.normalize
    logits = unit(queries) @ torch.cat([unit(positives), unit(negatives.flatten(0, 1))]).T / 0.05
    share = ones.clone()
    share[1] = tensor([0.0, 0.25])
    plain = [math.exp(value) for value in logits[1].tolist()]
    of_row_1 = [*plain[:3], *plain[3:5], 0.0, 0.25 * plain[6], *plain[7:]]
    found = loss.rows(queries, positives, negatives, negative_weights=share)
    close(found[1], math.log(sum(of_row_1)) - logits[1, 1].item())
    close(found[[0, 2]], rows[[0, 2]])


def test_what_cannot_be_weighed_says_so():
    queries, positives, negatives = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 2, 4)
    with pytest.raises(DataError, match="weights has shape \\(2,\\)"):
        cross_batch_loss(queries, positives, weights=torch.ones(2))
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="weights holds numbers that are below 0 or not finite"):
            cross_batch_loss(queries, positives, weights=tensor([1.0, wrong, 1.0]))
    with pytest.raises(DataError, match="negative_weights has shape \\(3, 1\\); this batch needs \\(3, 2\\)"):
        cross_batch_loss(queries, positives, negatives, negative_weights=torch.ones(3, 1))
    with pytest.raises(DataError, match="not from 0 to 1"):
        cross_batch_loss(queries, positives, negatives, negative_weights=torch.full((3, 2), float("nan")))
    with pytest.raises(ConfigError, match="'own_mask' or 'own_weights'"):
        cross_batch_loss(queries, positives, guide="own")
    with pytest.raises(ConfigError, match="multi_positive='pairs'.* need to know which texts"):
        cross_batch_loss(queries, positives, multi_positive="pairs")
    with pytest.raises(ConfigError, match="Guide\\(weight=1.0\\)|Guide.weight=1.0"):
        Guide(queries=queries, positives=positives, weight=1.0)
