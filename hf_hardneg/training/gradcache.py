"""GradCache: the gradient of a large batch in the memory of a small one (Gao et al., arXiv 2101.06983)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import get_device_states, set_device_states

from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.runtime.arguments import AtLeastOne, checked

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]


@checked
def cached_backward(
    encode: Callable[[Inputs], Tensor],
    inputs: Sequence[Inputs],
    loss: Callable[..., Tensor],
    *,
    chunk_size: AtLeastOne,
    module: torch.nn.Module | None = None,
    backward: Callable[[Tensor], object] = torch.autograd.backward,
) -> Tensor:
    """Add the gradient of a loss to the parameters, with the activations of a chunk in memory; return the loss.

    All chunks are encoded without a graph, the loss gives the gradient of their vectors, and each chunk is encoded
    again, with the random state it had, to carry its part back. Ranks exchange rows within the loss alone, and average
    gradients once. Layers that change while they run forward, such as batch normalisation, change twice.

    Args:
        encode (`Callable`): from rows of an input to vectors, (rows, d), with a graph.
        inputs (`Sequence`): token batches of queries, positives, …: tensors, or mappings of them, of equally many rows.
        loss (`Callable`): from the vectors of each input to a scalar.
        chunk_size (`int`): rows at a time.
        module (`Module`, *optional*): the one wrapped by DistributedDataParallel, which averages gradients with the
            last chunk alone. Of two towers make one module, wrapped with `find_unused_parameters=True`: a chunk is of
            one of them.
        backward (`Callable`, *optional*): of the loss, such as `accelerator.backward`.

    Raises:
        ConfigError: chunks of no rows, or no inputs.
        DataError: tensors of one input with different numbers of rows.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(4, 2)
        >>> batch = [torch.ones(8, 4), torch.zeros(8, 4)]
        >>> loss = cached_backward(layer, batch, lambda q, d: ((q - d) ** 2).mean(), chunk_size=2)
        >>> layer.weight.grad.shape
        torch.Size([2, 4])
    """
    if not len(inputs):
        raise ConfigError(
            "cached_backward(inputs=[]): allowed are one or more token batches. Give those of queries and documents."
        )
    chunks = [list(_chunks(batch, chunk_size)) for batch in inputs]
    flat = [chunk for of_input in chunks for chunk in of_input]
    states, encoded = [], []
    with torch.no_grad():
        for chunk in flat:
            states.append(_RandomState(chunk))
            encoded.append(encode(chunk))
    parts = iter(encoded)
    leaves = [torch.cat([next(parts) for _ in of_input]).detach().requires_grad_() for of_input in chunks]
    value = loss(*leaves)
    backward(value)
    grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    split = [part for grad in grads for part in torch.split(grad, chunk_size)]
    for number, (chunk, state, grad) in enumerate(zip(flat, states, split, strict=True), start=1):
        silent = nullcontext if number == len(flat) else getattr(module, "no_sync", nullcontext)
        with silent(), state.restored():
            torch.autograd.backward(encode(chunk), grad)
    return value.detach()


def _chunks(inputs: Inputs, size: int) -> Iterator[Inputs]:
    if isinstance(inputs, Tensor):
        yield from torch.split(inputs, size)
        return
    rows = {name: len(values) for name, values in inputs.items()}
    if len(set(rows.values())) > 1:
        raise DataError(f"An input has tensors of {rows} rows; all need equally many. Take them from one token batch.")
    columns = {name: torch.split(values, size) for name, values in inputs.items()}
    for parts in zip(*columns.values(), strict=True):
        yield dict(zip(columns, parts, strict=True))


class _RandomState:
    """The state of the generators of the CPU and of the devices of a chunk."""

    def __init__(self, chunk: Inputs) -> None:
        tensors = [chunk] if isinstance(chunk, Tensor) else list(chunk.values())
        self.cpu = torch.get_rng_state()
        self.devices, self.states = get_device_states(*tensors)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Have the generators draw, inside, what they drew from this state on."""
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.cpu)
            set_device_states(self.devices, self.states)
            yield
