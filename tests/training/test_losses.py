import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor, tensor

from hf_hardneg.errors import ConfigError, DataError, HardNegWarning, UnknownNameError
from hf_hardneg.training import (
    CrossBatchLoss,
    Guide,
    Keys,
    MoCHi,
    cross_batch_loss,
    in_batch_margin_mse_loss,
    kl_loss,
    lambda_loss,
    margin_mse_loss,
    pairwise_loss,
    star_loss,
)
from hf_hardneg.training.guidance import thresholds
from hf_hardneg.training.losses import infonce
from tests.training.worlds import draw, vectors


@pytest.fixture(autouse=True)
def exact():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def close(found, expected):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=1e-8, atol=0)


SCORES = tensor([[0.9, 0.5, 0.6], [0.2, 0.8, 0.1], [0.7, 0.3, 0.75]], dtype=torch.float64)
GUIDE = tensor([[0.80, 0.85, 0.40], [0.10, 0.70, 0.69], [0.30, 0.20, 0.60]], dtype=torch.float64)
IDENTITY = torch.eye(3).double()
SHARP = CrossBatchLoss(similarity="dot", temperature=0.05)


def guide(margin, strategy):
    return Guide(queries=IDENTITY, positives=GUIDE.T, margin=margin, margin_strategy=strategy, similarity="dot")


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, 0.10538971375905092),
        ({"guide": guide(0.0, "absolute")}, 0.105278188033033),
        ({"guide": guide(0.05, "absolute")}, 0.10527791085861153),
        ({"guide": guide(0.05, "relative")}, 0.10527791085861153),
    ],
)
def test_in_batch_vectors(options, expected):
    close(SHARP(IDENTITY, SCORES.T, **options), expected)


def test_a_duplicate_of_the_positive_is_masked():
    document = tensor([1, 2, 1])
    keys = Keys(queries=tensor([7, 8, 9]), positives=document, known=document.unsqueeze(1))
    close(SHARP(IDENTITY, SCORES.T, keys=keys), 0.00015526142645373007)


def test_cross_batch_vector():
    positives, negatives = tensor([[0.9, 0.1], [0.2, 0.8]]), tensor([[[0.7, 0.3]], [[0.6, 0.4]]])
    rows = SHARP.rows(torch.eye(2), positives, negatives)
    close(rows[0], 0.020581953536817448)
    close(rows.mean(), 0.010481787398272425)


def test_relative_margins_lower_negative_thresholds():
    close(thresholds(tensor([0.5, -0.5]), 0.1, "relative"), tensor([0.45, -0.55]))


TEACHER = tensor([[5.2, 1.1, -3.0]], dtype=torch.float64)
STUDENT = (torch.ones(1, 1).double(), tensor([[12.0]]).double(), tensor([[[9.5], [4.0]]]).double())


def test_distillation_vectors():
    close(margin_mse_loss(*STUDENT, TEACHER), 1.3)
    close(kl_loss(*STUDENT, TEACHER), 0.03636174026155959)
    both = {"temperature": 2.0, "teacher_temperature": 2.0}
    close(kl_loss(*STUDENT, TEACHER, rescale=False, **both), 0.03902357007975655)
    close(kl_loss(*STUDENT, TEACHER, **both), 0.1560942803190262)


def test_in_batch_margin_mse_equals_a_loop_over_documents_of_other_rows():
    rows, (queries, documents), (seen, known) = draw(6, 4), vectors(1), vectors(2, width=3)
    batch = queries[rows.query], documents[rows.positive], documents[rows.negative]
    given = torch.cat([rows.positive, rows.negative.flatten()])
    found = in_batch_margin_mse_loss(*batch, seen[rows.query] @ known[given].T, negative_mask=rows.mask)
    errors = []
    for row, query in enumerate(rows.query):
        for other in set(range(6)) - {row}:
            for doc in [rows.positive[other], *rows.negative[other][rows.mask[other]]]:
                own = rows.positive[row]
                student = queries[query] @ (documents[own] - documents[doc])
                errors.append((student - seen[query] @ (known[own] - known[doc])) ** 2)
    close(found, torch.stack(errors).mean())


def test_in_batch_margin_mse_of_one_row_alone_is_zero():
    row = torch.randn(1, 3, requires_grad=True)
    assert in_batch_margin_mse_loss(row, row, None, torch.randn(1, 1)) == 0
    with pytest.raises(DataError, match=r"scores has shape \(1, 2\); this batch needs \(1, 1\)"):
        in_batch_margin_mse_loss(row, row, None, torch.randn(1, 2))


def test_star_vector():
    positives, negatives = tensor([[2.0, 0.5], [1.0, 1.5]]), tensor([[[1.8, 0.3]], [[0.2, 1.6]]])
    keys = Keys(
        queries=tensor([7, 8]), positives=tensor([1, 2]), negatives=tensor([[3], [4]]), known=tensor([[1], [3]])
    )
    close(star_loss(torch.eye(2), positives, negatives, keys=keys), 0.4244073030035366)


@pytest.mark.parametrize(
    "scores, relevant, cut, expected",
    [
        ([3, 2.5, 2, 1, 0.5], [0, 1, 0, 0, 1], 5, 0.4925125637760841),
        ([3, 2.5, 2, 1, 0.5], [0, 1, 0, 0, 1], 3, 0.6354642425663747),
        ([3, 2, 1, 0.5, 0.2, -0.4], [0, 0, 0, 0, 0, 1], 6, 0.8195435531271299),
        ([3, 2, 1, 0.5, 0.2, -0.4], [0, 0, 0, 0, 0, 1], 5, 1.1468343483843046),
    ],
)
def test_lambda_loss_vectors(scores, relevant, cut, expected):
    documents, labels = tensor(scores, dtype=torch.float64).view(1, -1, 1), tensor([relevant]).bool()
    close(lambda_loss(torch.ones(1, 1), documents, labels, metric_cut=cut), expected)
    padded = torch.cat([documents, torch.full((1, 2, 1), 9.0)], dim=1)
    mask = torch.arange(len(scores) + 2).unsqueeze(0) < len(scores)
    more = torch.cat([labels, tensor([[True, False]])], dim=1)
    close(lambda_loss(torch.ones(1, 1), padded, more, metric_cut=cut, mask=mask), expected)


def test_lambda_loss_without_a_pair_is_zero_and_a_cut_is_needed():
    documents = torch.randn(2, 3, 4)
    queries = torch.randn(2, 4, requires_grad=True)
    loss = lambda_loss(queries, documents, torch.ones(2, 3).bool(), metric_cut=3)
    loss.backward()
    assert loss == 0 and not queries.grad.any()
    for cut in (None, 0):
        with pytest.raises(ConfigError, match="whole number of at least 1"):
            lambda_loss(queries, documents, torch.ones(2, 3).bool(), metric_cut=cut)


def test_pairwise_loss_is_the_log_softmax_of_each_pair():
    query, positive, negatives = torch.randn(2, 4), torch.randn(2, 4), torch.randn(2, 3, 4)
    mask = tensor([[True, True, False], [True, False, False]])
    losses = []
    for row in range(2):
        for place in range(3):
            if mask[row, place]:
                pair = torch.stack([query[row] @ positive[row], query[row] @ negatives[row, place]])
                losses.append(-pair.log_softmax(0)[0])
    close(pairwise_loss(query, positive, negatives, negative_mask=mask), torch.stack(losses).mean())


OPTIONS = [
    {},
    {"similarity": "dot", "temperature": 2.0},
    {"multi_positive": "sum"},
    {"mask_repeats": True},
    {"mask_repeats": True, "multi_positive": "sum"},
    {"contrast_queries": True},
    {"contrast_documents": True},
    {"contrast_queries": True, "contrast_documents": True, "multi_positive": "sum", "mask_repeats": True},
    *(
        {"hardness_mode": mode, "hardness_strength": 5.0}
        for mode in ("in_batch_negatives", "hard_negatives", "all_negatives")
    ),
]


def slow(rows, query, document, options, guide=None, margin=0.0):
    """InfoNCE of a batch by loops over texts, the mean; `guide` gives vectors of the guide's queries and documents."""
    cosine = options.get("similarity", "cosine") == "cosine"
    temperature = options.get("temperature", 0.05)

    def similarity(a, b, cosine=cosine):
        return float(a @ b / (a.norm() * b.norm() if cosine else 1))

    columns = [(row, int(one), False) for row, one in enumerate(rows.positive)]
    columns += [
        (row, int(rows.negative[row, place]), True)
        for row in range(len(rows.query))
        for place in range(rows.negative.shape[1])
        if rows.mask[row, place]
    ]
    losses = []
    for row, q in enumerate(rows.query):
        siblings = {int(p) for other, p in zip(rows.query, rows.positive, strict=True) if other == q}
        positives = siblings | set(rows.known[row].tolist())
        own, top, rest, seen = int(rows.positive[row]), [], [], set()
        if guide is not None:
            limit = similarity(guide[0][q], guide[1][own], True) - margin
        for owner, doc, mined in columns:
            s = similarity(query[q], document[doc])
            label = owner == row and not mined
            repeat = doc in seen
            seen.add(doc)
            mode = options.get("hardness_mode")
            hard = {
                None: False,
                "in_batch_negatives": owner != row,
                "hard_negatives": owner == row and mined,
                "all_negatives": not label,
            }[mode]
            logit = s / temperature + (options["hardness_strength"] * s if hard else 0)
            if label or (options.get("multi_positive") == "sum" and doc in positives):
                top.append(logit)
            elif doc in positives or (options.get("mask_repeats") and repeat):
                continue
            elif guide is None or similarity(guide[0][q], guide[1][doc], True) <= limit:
                rest.append(logit)
        for other, doc in zip(rows.query, rows.positive, strict=True):
            if other == q or int(doc) in positives:
                continue
            if options.get("contrast_queries") and (
                guide is None or similarity(guide[0][q], guide[0][other], True) <= limit
            ):
                rest.append(similarity(query[q], query[other]) / temperature)
            if options.get("contrast_documents") and (
                guide is None or similarity(guide[1][own], guide[1][doc], True) <= limit
            ):
                rest.append(similarity(document[own], document[doc]) / temperature)
        losses.append(math.log(sum(map(math.exp, top + rest))) - math.log(sum(map(math.exp, top))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("guided", [False, True])
def test_equals_loops_over_texts(options, guided):
    for seed in range(5):
        rows, (query, document) = draw(9, seed), vectors(seed)
        guides = vectors(seed + 100, width=3) if guided else None
        given = (
            Guide(
                queries=guides[0][rows.query],
                positives=guides[1][rows.positive],
                negatives=guides[1][rows.negative],
                margin=0.1,
            )
            if guided
            else None
        )
        loss = cross_batch_loss(
            query[rows.query],
            document[rows.positive],
            document[rows.negative],
            negative_mask=rows.mask,
            keys=rows.keys(),
            guide=given,
            **options,
        )
        torch.testing.assert_close(loss.item(), slow(rows, query, document, options, guides, 0.1), rtol=1e-9, atol=0)


@pytest.mark.parametrize("mode", [None, "in_batch_negatives", "hard_negatives", "all_negatives"])
@pytest.mark.parametrize("queries", [False, True])
def test_equals_sentence_transformers_where_nothing_is_masked(mode, queries):
    query, positive, first, second = torch.randn(4, 6, 5)
    strength = 0.0 if mode is None else 5.0
    directions = ("query_to_doc", "query_to_query") if queries else ("query_to_doc",)
    peer = MultipleNegativesRankingLoss(None, directions=directions, hardness_mode=mode, hardness_strength=strength)
    expected = peer.compute_loss_from_embeddings([query, positive, first, second], None)
    ours = CrossBatchLoss(contrast_queries=queries, hardness_mode=mode, hardness_strength=strength)
    close(ours(query, positive, torch.stack([first, second], dim=1)), expected)


def test_scores_of_negatives_that_fill_up_do_not_matter():
    rows, (query, document) = draw(6, 1), vectors(1)
    batch = [query[rows.query].requires_grad_(), document[rows.positive], document[rows.negative]]
    scores = torch.where(torch.cat([torch.ones(6, 1).bool(), rows.mask], dim=1), rows.scores, torch.nan)
    for loss in (margin_mse_loss, kl_loss):
        value = loss(*batch, scores, negative_mask=rows.mask)
        value.backward()
        expected = []
        for row in range(6):
            keep = rows.mask[row]
            one = [batch[0][row : row + 1], batch[1][row : row + 1], batch[2][row : row + 1, keep]]
            kept = torch.cat([scores[row : row + 1, :1], scores[row : row + 1, 1:][:, keep]], dim=1)
            expected.append(loss(*one, kept) * (int(keep.sum()) if loss is margin_mse_loss else 1))
        close(value, sum(expected) / (rows.mask.sum() if loss is margin_mse_loss else 6))
    assert batch[0].grad.isfinite().all()


def test_all_negatives_masked_gives_loss_zero_and_no_gradient():
    query = torch.randn(2, 3, requires_grad=True)
    document = tensor([[1, 1]]).T
    keys = Keys(queries=tensor([7, 8]), positives=document[:, 0], known=document, negatives=document)
    loss = cross_batch_loss(query, torch.randn(2, 3), torch.randn(2, 1, 3), keys=keys)
    loss.backward()
    assert loss == 0 and not query.grad.any()


def test_one_query_alone_warns():
    with pytest.warns(HardNegWarning, match="has loss 0"):
        assert cross_batch_loss(torch.randn(1, 3), torch.randn(1, 3)) == 0
    assert cross_batch_loss(torch.randn(1, 3), torch.randn(1, 3), torch.randn(1, 1, 3)) > 0


def test_scores_of_16_bit_vectors_are_of_32():
    rows, vectors_of = draw(9, 3), [one.bfloat16() for one in vectors(3)]
    batch = [vectors_of[0][rows.query], vectors_of[1][rows.positive], vectors_of[1][rows.negative]]
    options = {"mixing": MoCHi(start1=0, start2=0), "keys": rows.keys(), "negative_mask": rows.mask}
    with torch.autocast("cpu", torch.bfloat16):
        found = cross_batch_loss(*batch, **options)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, cross_batch_loss(*(one.float() for one in batch), **options))


def test_gradient_of_hidden_and_own_documents():
    rows, (query, document) = draw(4, 3), vectors(3)
    gap = infonce(torch.zeros(1, 3), tensor([[True, False, False]]), tensor([[False, False, True]]))
    close(gap, tensor([math.log(2)]))
    inputs = [one.requires_grad_() for one in (query[rows.query], document[rows.positive], document[rows.negative])]
    assert torch.autograd.gradcheck(
        lambda *vectors: cross_batch_loss(*vectors, negative_mask=rows.mask, keys=rows.keys()), inputs
    )


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"similarity": "euclid"}, UnknownNameError, "cosine, dot"),
        ({"multi_positive": "mean"}, UnknownNameError, "mask, pairs, random, sum"),
        ({"temperature": 0.0}, ConfigError, "a number above 0"),
        ({"hardness_strength": 5.0}, ConfigError, "Give both"),
        ({"hardness_mode": "all_negatives"}, ConfigError, "Give both"),
        ({"multi_positive": "sum"}, ConfigError, "keys= is None"),
        ({"mask_repeats": True}, ConfigError, "keys= is None"),
        ({"negatives": torch.ones(2, 3)}, DataError, r"\(2, 3\).*unflatten"),
        ({"negatives": torch.ones(2, 1, 3), "negative_mask": torch.ones(2, 2)}, DataError, "negative_mask has shape"),
        (
            {"guide": Guide(queries=torch.ones(2, 3), positives=torch.ones(2, 3)), "negatives": torch.ones(2, 1, 3)},
            DataError,
            "vectors of the guide",
        ),
    ],
)
def test_what_cannot_work_says_so(options, error, message):
    with pytest.raises(error, match=message):
        cross_batch_loss(torch.ones(2, 3), torch.ones(2, 3), **options)


def test_unknown_margin_strategy():
    with pytest.raises(UnknownNameError, match="absolute, relative"):
        Guide(queries=Tensor(), positives=Tensor(), margin_strategy="half")


def test_vectors_of_two_precisions_are_compared_in_the_finer():
    torch.manual_seed(0)
    queries, positives, negatives = torch.randn(3, 4), torch.randn(3, 4).double(), torch.randn(3, 2, 4)
    scores = torch.randn(3, 3)
    for loss, more in ((cross_batch_loss, ()), (star_loss, ()), (pairwise_loss, ()), (margin_mse_loss, (scores,))):
        expected = loss(queries.double(), positives, negatives.double(), *more)
        torch.testing.assert_close(loss(queries, positives, negatives, *more), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        pairwise_loss,
        lambda q, p, n: margin_mse_loss(q, p, n, torch.ones(3, 3)),
        lambda q, p, n: kl_loss(q, p, n, torch.ones(3, 3)),
        lambda q, p, n: lambda_loss(q, n, torch.ones(3, 2) > 0, metric_cut=2),
    ],
)
def test_rows_are_never_compared_with_those_of_others(loss):
    """Nothing is stretched where a batch of one meets a batch of three."""
    queries, positives, negatives = torch.ones(3, 4), torch.ones(3, 4), torch.ones(3, 2, 4)
    for given in ((queries[:1], positives, negatives), (queries, positives, negatives[:, 0])):
        with pytest.raises(DataError, match="has shape|of shape"):
            loss(*given)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"teacher_temperature": -1.0}])
def test_a_temperature_of_nothing(options):
    with pytest.raises(ConfigError, match="allowed is a number above 0"):
        kl_loss(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 1, 3), torch.ones(2, 2), **options)
