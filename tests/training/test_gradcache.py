import copy

import pytest
import torch

from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.training import cached_backward, cross_batch_loss
from tests.training.worlds import draw


class Encoder(torch.nn.Module):
    """A small network with dropout over token batches."""

    def __init__(self, dropout=0.3):
        super().__init__()
        torch.manual_seed(1)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Dropout(dropout), torch.nn.Linear(8, 5)
        ).double()
        self.sizes = []

    def forward(self, batch):
        tokens = batch["input"] if isinstance(batch, dict) else batch
        self.sizes.append(len(tokens))
        return self.layers(tokens)


def inputs(size=7, negatives=2):
    torch.manual_seed(2)
    sizes = (size, size, size * negatives)
    return [{"input": torch.randn(rows, 6).double(), "mask": torch.ones(rows)} for rows in sizes]


def loss(queries, positives, negatives):
    rows = draw(len(queries), 5, negatives=2)
    return cross_batch_loss(
        queries, positives, negatives.unflatten(0, (len(queries), -1)), negative_mask=rows.mask, keys=rows.keys()
    )


def plain(encoder, batch, chunk_size):
    """The same chunks in the same order, all in one graph."""
    vectors = []
    for one in batch:
        parts = [one["input"][start : start + chunk_size] for start in range(0, len(one["input"]), chunk_size)]
        vectors.append(torch.cat([encoder(part) for part in parts]))
    value = loss(*vectors)
    value.backward()
    return value


def gradients(encoder):
    return torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()])


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 50])
def test_the_gradient_is_the_plain_one_with_dropout_on(chunk_size):
    batch, first = inputs(), Encoder()
    second = copy.deepcopy(first)
    torch.manual_seed(3)
    expected = plain(first, batch, chunk_size)
    after = torch.rand(1)
    torch.manual_seed(3)
    value = cached_backward(second, batch, loss, chunk_size=chunk_size)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(second), gradients(first), rtol=1e-12, atol=1e-12)
    assert torch.rand(1) == after
    assert max(second.sizes) == min(chunk_size, 14)
    torch.manual_seed(4)
    assert not torch.allclose(plain(copy.deepcopy(second), batch, chunk_size), expected)


def test_without_dropout_any_chunks_give_the_gradient_of_the_whole_batch():
    first = Encoder(dropout=0.0)
    second = copy.deepcopy(first)
    plain(first, inputs(), 50)
    cached_backward(second, inputs(), loss, chunk_size=2)
    torch.testing.assert_close(gradients(second), gradients(first), rtol=1e-12, atol=1e-12)


def test_gradients_add_up_and_the_loss_may_be_scaled():
    encoder, batch = Encoder(dropout=0.0), inputs()
    cached_backward(encoder, batch, loss, chunk_size=4)
    once = gradients(encoder)
    cached_backward(encoder, batch, loss, chunk_size=4, backward=lambda value: (3 * value).backward())
    torch.testing.assert_close(gradients(encoder), 4 * once)


def test_an_input_that_the_loss_ignores():
    encoder, batch = Encoder(), inputs()
    cached_backward(encoder, batch, lambda q, p, n: (q - p).square().mean(), chunk_size=4)
    assert gradients(encoder).any()


def test_chunks_of_nothing():
    with pytest.raises(ConfigError, match="chunk_size=0"):
        cached_backward(Encoder(), inputs(), loss, chunk_size=0)


def test_tensors_of_one_input_that_do_not_fit():
    batch = inputs()
    batch[1]["mask"] = torch.ones(3)
    with pytest.raises(DataError, match="tensors of {'input': 7, 'mask': 3} rows; all need equally many"):
        cached_backward(Encoder(), batch, loss, chunk_size=2)
