import pytest
import torch
from torch import tensor

from hf_hardneg.errors import ConfigError, UnknownNameError
from hf_hardneg.training import CrossBatchLoss, MoCHi
from hf_hardneg.training.mixing import different, mix

Q, N1, N2, P = (tensor(one, dtype=torch.float64) for one in ([1, 0], [0.6, 0.8], [0.8, -0.6], [0.96, 0.28]))


def close(found, expected):
    torch.testing.assert_close(found, tensor(expected, dtype=torch.float64), rtol=1e-8, atol=0)


def share(value):
    return tensor(value, dtype=torch.float64)


def test_vectors():
    first = mix(N1, N2, share(0.25))
    close(first, [0.9486832980505138, -0.31622776601683794])
    assert Q @ first > max(Q @ N1, Q @ N2)
    torch.testing.assert_close(mix(Q, N1, share(0.3)), tensor([0.7893522174, 0.6139406135]).double())
    torch.testing.assert_close(mix(P, N1, share(0.5)), tensor([0.8221921916, 0.5692099788]).double())


def world(rows=4, documents=12, width=6):
    torch.manual_seed(0)
    return [torch.randn(size, width).double() for size in (rows, rows, documents)]


def test_mixtures_are_of_the_hardest_allowed_negatives():
    query, positive, pool = world()
    allowed = torch.rand(4, 12) > 0.4
    mochi = MoCHi(n_hard=3, s1=5, s2=4, start1=0, start2=0)
    mixed, usable = mochi(query.requires_grad_(), positive, pool, allowed, step=7)
    assert mixed.shape == (4, 9, 6) and usable.all() and not mixed.requires_grad
    torch.testing.assert_close(mixed.norm(dim=-1), torch.ones(4, 9).double())
    units = torch.nn.functional.normalize(pool, dim=1)
    for row in range(4):
        unit = torch.nn.functional.normalize(query[row].detach(), dim=0)
        order = [int(one) for one in (units @ unit).argsort(descending=True) if allowed[row, one]][:3]
        for place in range(9):
            basis = torch.cat([units[order], unit.unsqueeze(0)]).T
            parts = torch.linalg.lstsq(basis, mixed[row, place]).solution
            used = parts.abs() > 1e-9
            assert (parts[used] > 0).all() and used.sum() == 2 and used[3] == (place >= 5)
            if place >= 5:
                assert parts[3] < parts[:3].max()


def test_draws_depend_on_step_and_place_alone():
    query, positive, pool = world()
    allowed = torch.ones(4, 12).bool()
    mochi = MoCHi(start1=0, start2=0)
    whole, _ = mochi(query, positive, pool, allowed, step=3)
    part, _ = mochi(query[2:], positive[2:], pool, allowed[2:], step=3, first=2)
    torch.testing.assert_close(part, whole[2:], rtol=0, atol=0)
    for other in (
        MoCHi(start1=0, start2=0, seed=1)(query, positive, pool, allowed, step=3),
        mochi(query, positive, pool, allowed, step=4),
    ):
        assert not torch.allclose(other[0], whole)


def test_each_kind_begins_at_its_step():
    query, positive, pool = world()
    allowed = torch.ones(4, 12).bool()
    sizes = [MoCHi(s1=3, s2=2)(query, positive, pool, allowed, step=step)[0].shape[1] for step in (4999, 5000, 10000)]
    assert sizes == [0, 3, 5]


def test_one_negative_is_mixed_with_the_query_alone_and_none_with_nothing():
    query, positive, pool = world()
    allowed = torch.zeros(4, 12).bool()
    allowed[1, 4], allowed[2, :2] = True, True
    _, usable = MoCHi(s1=2, s2=3, start1=0, start2=0)(query, positive, pool, allowed, step=0)
    assert usable.int().tolist() == [[0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]


def test_opposite_vectors_give_nothing():
    assert mix(N1, -N1, share(0.5)).tolist() == [0, 0]
    query, positive, _ = world(rows=1, width=2)
    away = -torch.nn.functional.normalize(query)
    half = MoCHi(s1=0, s2=200, start2=0)
    mixed, usable = half(query, positive, away, torch.ones(1, 1).bool(), step=0)
    assert mixed.isfinite().all() and usable.all()


def test_pairs_are_different_and_all_are_drawn():
    draws = torch.rand(2, 1, 4000).double()
    one, two = different(draws[0], draws[1], tensor([[3]]))
    counts = torch.bincount((3 * one + two).flatten(), minlength=9).view(3, 3) / 4000
    torch.testing.assert_close(counts, (1 - torch.eye(3)) / 6, atol=0.03, rtol=0)


def test_the_positive_is_mixed_in_at_less_than_half():
    query, positive, pool = world()
    mochi = MoCHi(s1=6, s2=0, start1=0, mode="positive")
    mixed, usable = mochi(query, positive, pool[:1], torch.ones(4, 1).bool(), step=0)
    assert usable.all()
    units = [torch.nn.functional.normalize(one, dim=1) for one in (positive, pool)]
    for row in range(4):
        parts = torch.linalg.lstsq(torch.stack([units[0][row], units[1][0]]).T, mixed[row].T).solution
        assert (parts > 0).all() and (parts[0] < parts[1]).all()


def test_the_loss_counts_mixtures_of_what_is_not_masked():
    query, positive, pool = world()
    negatives = pool[:8].view(4, 2, 6)
    mask = tensor([[True, False]] * 4)
    mochi = MoCHi(s1=3, s2=2, start1=0, start2=0)
    found = CrossBatchLoss(mixing=mochi).rows(query, positive, negatives, negative_mask=mask, step=2)
    documents = torch.cat([positive, pool[:8]])
    allowed = torch.cat([~torch.eye(4).bool(), mask.flatten().expand(4, -1)], dim=1)
    mixed, _ = mochi(query, positive, documents, allowed, step=2)
    units = [torch.nn.functional.normalize(one, dim=-1) for one in (query, documents)]
    logits = torch.cat([units[0] @ units[1].T, (mixed @ units[0].unsqueeze(2)).squeeze(2)], dim=1) / 0.05
    logits[:, 4:12] = logits[:, 4:12].masked_fill(~mask.flatten(), -torch.inf)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, torch.arange(4), reduction="none"))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"beta_max": 0.6}, ConfigError, "above 0 and up to 0.5"),
        ({"s1": 0, "s2": 0}, ConfigError, "(mixes nothing|of at least)"),
        ({"n_hard": 0}, ConfigError, "(mixes nothing|of at least)"),
        ({"mode": "mixgen"}, UnknownNameError, "negatives, positive"),
    ],
)
def test_what_cannot_work_says_so(options, error, message):
    with pytest.raises(error, match=message):
        MoCHi(**options)


def test_dot_products_are_not_mixed():
    with pytest.raises(ConfigError, match="use 'cosine'"):
        CrossBatchLoss(similarity="dot", mixing=MoCHi())
